"""Which arm of a grid stands for the best: the one with the smallest training loss, fold by fold.

The choice sees the training part only. It is made once for every held-out fold, from the tuning seed that holds this
fold out, so that no frame is ever scored by a run whose setting was chosen with that frame among its training data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from unet.errors import RunError
from unet.study.design import TUNING, Arm, Job, Study, folds, make_job, resolve
from unet.study.evidence import Evidence

Runs = Mapping[tuple[str, str, int], Evidence]
"""Evidence by (arm, data set, seed)."""


def by_key(runs: Iterable[Evidence]) -> dict[tuple[str, str, int], Evidence]:
    """Evidence by (arm, data set, seed); RunError where there are two, of which one would have to be preferred."""
    found: dict[tuple[str, str, int], Evidence] = {}
    for run in runs:
        other = found.setdefault((run.arm, run.data, run.seed), run)
        if other is not run:
            raise RunError(f"{run.path} and {other.path} are the same run; keep one")
    return found


def chosen(study: Study, profile: str, arm: Arm, data: str, seed: int, runs: Runs) -> str | None:
    """The arm that stands for `arm.best_of` on this data set and seed; None while its grid is not complete.

    A diverged run is never chosen, and of equal losses the first arm named. When all of them diverged there is no best:
    the first arm named stands for it.
    """
    grid_seed = TUNING + seed % folds(resolve(study, profile, arm.best_of[0], data, seed))
    losses = {}
    for name in arm.best_of:
        run = runs.get((name, data, grid_seed))
        if run is None:
            return None
        losses[name] = run.values.get("train_loss", math.inf)
    return min(losses, key=lambda name: losses[name])


def chosen_jobs(study: Study, profile: str, seeds: int, runs: Runs) -> Iterator[Job]:
    """Runs of chosen arms, as far as the choice can be made."""
    for seed in range(seeds):
        for arm in study.arms:
            for data in study.data_of(arm) if arm.best_of else ():
                if seed >= study.seeds_of(profile, data, seeds):
                    continue
                name = chosen(study, profile, arm, data, seed, runs)
                if name is not None:
                    yield make_job(study, profile, name, data, seed)


def undecided(study: Study, profile: str, seeds: int, runs: Runs) -> list[tuple[str, Job]]:
    """Arms whose choice cannot be made yet, and stand-ins for their runs: of the first arm that may be chosen."""
    return [
        (arm.name, make_job(study, profile, arm.best_of[0], data, seed))
        for seed in range(seeds)
        for arm in study.arms
        if arm.best_of
        for data in study.data_of(arm)
        if seed < study.seeds_of(profile, data, seeds) and chosen(study, profile, arm, data, seed, runs) is None
    ]


def stands_for(study: Study, profile: str, runs: Runs) -> dict[tuple[str, str, int], tuple[str, ...]]:
    """The arms that a run stands for, by (arm, data set, seed) of the run, beside its own name."""
    found: dict[tuple[str, str, int], tuple[str, ...]] = {}
    for arm in (arm for arm in study.arms if arm.best_of):
        for name, data, seed in runs:
            if seed < TUNING and chosen(study, profile, arm, data, seed, runs) == name:
                found[name, data, seed] = (*found.get((name, data, seed), ()), arm.name)
    return found


def run_of(study: Study, profile: str, arm: Arm, data: str, seed: int, runs: Runs) -> Evidence | None:
    """The evidence that an arm is judged by at one data set and seed."""
    name = chosen(study, profile, arm, data, seed, runs) if arm.best_of else arm.name
    return None if name is None else runs.get((name, data, seed))
