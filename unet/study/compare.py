"""Arms against each other, pair by pair: differences, intervals, tests.

All of this is exploratory: nothing here is corrected for the number of comparisons, and nothing gives a verdict, which
is for the plan of a study alone (unet.study.decide).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet.errors import ConfigError
from unet.metrics.table import higher_is_better
from unet.study import choice
from unet.study.choice import Runs
from unet.study.design import TUNING, Arm, Comparison, Job, Study
from unet.study.evidence import Evidence
from unet.study.stats import (
    Interval,
    SignFlips,
    Summary,
    block_test,
    probability_of_improvement,
    sign_flip_test,
    summary,
    t_interval,
    t_test,
)


@dataclass(frozen=True)
class Finding:
    """One comparison on one data set and score.

    seeds: those that both arms have, in the same precision. differences: arm minus reference, one per seed. interval:
    Student's, 95 %. t, flip, block: p of the paired t test, of sign flips, of the model of arm and seed over all arms.
    improvement: probability that a run of the arm is better than one of the reference.
    """

    comparison: Comparison
    data: str
    score: str
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    interval: Interval
    t: float
    flip: SignFlips
    block: float
    improvement: float

    @property
    def mean(self) -> float:
        """Mean difference, arm minus reference."""
        return sum(self.differences) / len(self.differences)


def seeds_of(runs: Runs) -> int:
    """How many seeds there are, counted from 0; those of tuning do not count."""
    return max((seed for _, _, seed in runs if seed < TUNING), default=-1) + 1


def arm_runs(study: Study, profile: str, arm: Arm, data: str, runs: Runs) -> dict[int, Evidence]:
    """The runs an arm is judged by on a data set, by seed; of a grid only what stands for an arm's best has all."""
    found = {}
    for seed in range(seeds_of(runs)):
        run = choice.run_of(study, profile, arm, data, seed, runs)
        if run is not None:
            found[seed] = run
    return found


def values(runs: dict[int, Evidence], score: str) -> dict[int, float]:
    """A score by seed, where runs have it."""
    return {seed: run.values[score] for seed, run in runs.items() if score in run.values}


def summarise(runs: dict[int, Evidence], score: str) -> Summary | None:
    """Mean and standard deviation of a score over the seeds whose runs did not diverge; None when no run has it."""
    known = [run.values[score] for run in runs.values() if score in run.values and not run.diverged]
    return summary(known) if known else None


def paired(ours: dict[int, Evidence], theirs: dict[int, Evidence], score: str) -> dict[int, tuple[float, float]]:
    """The score of both arms by the seeds that both have, trained in the same precision."""
    a, b = values(ours, score), values(theirs, score)
    shared = [seed for seed in sorted(set(a) & set(b)) if _same("precision", ours[seed], theirs[seed])]
    return {seed: (a[seed], b[seed]) for seed in shared}


def pairs_unlike(study: Study, profile: str, runs: Runs, entry: str) -> int:
    """How many pairs of runs differ in an entry of their environment, such as precision (not compared) or commit."""
    sides = [_sides(study, profile, comparison, data, runs) for comparison in study.comparisons for data in study.data]
    return sum(not _same(entry, ours[seed], theirs[seed]) for ours, theirs in sides for seed in set(ours) & set(theirs))


def without_partner(study: Study, waiting: Iterable[Job], runs: Runs, precision: str) -> int:
    """How many of the runs to do, trained in this precision, meet a partner that was trained in the other one."""
    found = 0
    for job in waiting:
        partners = {c.reference for c in study.comparisons if c.arm == job.arm}
        partners |= {c.arm for c in study.comparisons if c.reference == job.arm}
        theirs = [runs[key] for name in partners if (key := (name, job.data, job.seed)) in runs]
        found += any(run.environment.get("precision") != precision for run in theirs)
    return found


def _sides(
    study: Study, profile: str, comparison: Comparison, data: str, runs: Runs
) -> tuple[dict[int, Evidence], dict[int, Evidence]]:
    arm, reference = study.arm(comparison.arm), study.arm(comparison.reference)
    return arm_runs(study, profile, arm, data, runs), arm_runs(study, profile, reference, data, runs)


def _same(entry: str, a: Evidence, b: Evidence) -> bool:
    return bool(a.environment.get(entry) == b.environment.get(entry))


def findings(study: Study, profile: str, runs: Runs) -> list[Finding]:
    """All comparisons of a study that have at least one pair, and its plan's end points whatever they compare."""
    made = []
    for comparison, data, score in _asked(study, profile):
        ours, theirs = _sides(study, profile, comparison, data, runs)
        pairs = paired(ours, theirs, score)
        if pairs:
            made.append(finding(study, profile, comparison, data, score, pairs, runs))
    return made


def _asked(study: Study, profile: str) -> Iterable[tuple[Comparison, str, str]]:
    asked: dict[tuple[Comparison, str, str], None] = {}
    for comparison in study.comparisons:
        for data in study.data:
            for name in study.tested.get(data, ("mean_iou_last5",)):
                score = study.arm(comparison.reference).score(study.arm(comparison.arm).score(name))
                asked[comparison, data, score] = None
    for point in study.plan.order if study.plan is not None else ():
        if point.profile == profile:
            asked[Comparison(point.arm, point.reference), point.data, point.score] = None
    return asked


def finding(
    study: Study,
    profile: str,
    comparison: Comparison,
    data: str,
    score: str,
    pairs: Mapping[int, tuple[float, float]],
    runs: Runs,
) -> Finding:
    """What these pairs (arm, reference), by seed, say about a comparison."""
    ours, theirs = (np.array([pair[side] for pair in pairs.values()]) for side in (0, 1))
    d = ours - theirs
    sign = 1 if _more_is_better(score) else -1
    improvement = probability_of_improvement(sign * ours, sign * theirs)
    table, names = _table(study, profile, data, score, tuple(pairs), runs)
    block = block_test(table, names.index(comparison.arm), names.index(comparison.reference))
    found = tuple(map(float, d))
    return Finding(
        comparison, data, score, tuple(pairs), found, t_interval(d), t_test(d), sign_flip_test(d), block, improvement
    )


def _table(
    study: Study, profile: str, data: str, score: str, seeds: tuple[int, ...], runs: Runs
) -> tuple[NDArray[np.float64], list[str]]:
    """The score of all arms at these seeds, arms x seeds, NaN where there is none; and the names of the arms."""
    names = [arm.name for arm in study.arms if not arm.grid]
    table = np.full((len(names), len(seeds)), math.nan)
    for row, name in enumerate(names):
        own = values(arm_runs(study, profile, study.arm(name), data, runs), score)
        table[row] = [own.get(seed, math.nan) for seed in seeds]
    return table, names


def _more_is_better(score: str) -> bool:
    higher = higher_is_better(score)
    if higher is None:
        raise ConfigError(f"no verdict can be given on {score!r}: whether more of it is better is not known")
    return higher
