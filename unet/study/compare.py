"""Arms against each other, pair by pair: differences, intervals, tests, verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from unet.errors import ConfigError
from unet.stats import (
    CLAIM_LEVEL,
    Interval,
    PairedTest,
    Summary,
    bootstrap_interval,
    holm,
    probability_of_improvement,
    sign_flip_test,
    summary,
    t_test,
)
from unet.study import choice
from unet.study.choice import Runs
from unet.study.evidence import Evidence, higher_is_better
from unet.study.matrix import Arm, Comparison, Job, Study

MIN_PAIRS = 3
Verdict = Literal["better", "worse", "open"]


@dataclass(frozen=True)
class Finding:
    """One comparison on one data set and score.

    difference: arm minus reference, one value per seed that both have. improvement: probability that a run of the arm
    is better than one of the reference. p: of the paired t test after Holm's correction over the study's table.
    """

    comparison: Comparison
    data: str
    score: str
    differences: tuple[float, ...]
    interval: Interval
    t: PairedTest
    flip: PairedTest
    improvement: float
    p: float = math.nan

    @property
    def mean(self) -> float:
        """Mean difference, arm minus reference."""
        return sum(self.differences) / len(self.differences)

    @property
    def enough(self) -> bool:
        """Whether anything can be claimed: three pairs or more, not all alike.

        Differences that are all the same stay open: the t test calls them certain, but counts (of spikes, say) are
        easily the same three times.
        """
        return len(self.differences) >= MIN_PAIRS and len(set(self.differences)) > 1

    @property
    def verdict(self) -> Verdict:
        """better or worse when p < 0.01 after correction and the interval leaves out 0, of `enough` pairs."""
        excluded = self.interval.low > 0 or self.interval.high < 0
        if not self.enough or not self.p < CLAIM_LEVEL or not excluded:
            return "open"
        return "better" if (self.mean > 0) == _more_is_better(self.score) else "worse"


def seeds_of(runs: Runs) -> int:
    """How many seeds there are, counted from 0."""
    return max((seed for _, _, seed in runs), default=-1) + 1


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


def paired(
    study: Study, profile: str, comparison: Comparison, data: str, score: str, runs: Runs
) -> tuple[list[float], list[float]]:
    """The score of both arms at the seeds that both have, trained in the same precision."""
    ours, theirs = _sides(study, profile, comparison, data, runs)
    a, b = values(ours, score), values(theirs, score)
    shared = [seed for seed in sorted(set(a) & set(b)) if _same_precision(ours[seed], theirs[seed])]
    return [a[seed] for seed in shared], [b[seed] for seed in shared]


def of_two_precisions(study: Study, profile: str, runs: Runs) -> int:
    """How many pairs of runs are not compared because processors with and without bfloat16 trained them."""
    sides = [_sides(study, profile, comparison, data, runs) for comparison in study.comparisons for data in study.data]
    return sum(
        not _same_precision(ours[seed], theirs[seed]) for ours, theirs in sides for seed in set(ours) & set(theirs)
    )


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


def _same_precision(a: Evidence, b: Evidence) -> bool:
    return bool(a.environment.get("precision") == b.environment.get("precision"))


def findings(study: Study, profile: str, runs: Runs) -> list[Finding]:
    """All comparisons of a study that have at least one pair, corrected for their number."""
    made = []
    for comparison in study.comparisons:
        for data in study.data:
            for name in study.tested.get(data, ("mean_iou_last5",)):
                score = study.arm(comparison.reference).score(study.arm(comparison.arm).score(name))
                ours, theirs = paired(study, profile, comparison, data, score, runs)
                if ours:
                    made.append(_finding(comparison, data, score, ours, theirs))
    corrected = holm([finding.t.p for finding in made])
    return [replace(finding, p=p) for finding, p in zip(made, corrected, strict=True)]


def _finding(comparison: Comparison, data: str, score: str, ours: Sequence[float], theirs: Sequence[float]) -> Finding:
    d = np.subtract(ours, theirs)
    sign = 1 if _more_is_better(score) else -1
    improvement = probability_of_improvement([sign * np.asarray(ours)], [sign * np.asarray(theirs)])
    return Finding(
        comparison, data, score, tuple(map(float, d)), bootstrap_interval(d), t_test(d), sign_flip_test(d), improvement
    )


def _more_is_better(score: str) -> bool:
    higher = higher_is_better(score)
    if higher is None:
        raise ConfigError(f"no verdict can be given on {score!r}: whether more of it is better is not known")
    return higher
