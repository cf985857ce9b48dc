"""The verdicts of a plan: the primary end points in their order, look by look, from the planned seeds and no others.

Whatever is known later, a look sees the same seeds (the first ones), so that a verdict that fell at it stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from unet.errors import ConfigError
from unet.metrics.table import higher_is_better
from unet.study import choice, power
from unet.study.choice import Runs
from unet.study.design import Study
from unet.study.evidence import Evidence
from unet.study.plan import EndPoint, Plan
from unet.study.stats import equivalence_test, t_test

ROUNDING = 1e-9  # of a margin
Verdict = Literal["better", "worse", "equal", "open", "stopped", "waiting", "not tested"]


@dataclass(frozen=True)
class Decision:
    """What the plan's tests say about one end point.

    seeds, differences: of the pairs that the verdict rests on (arm minus reference). look: number of the look at which
    it fell, from 1 (0: none has been made). p: of the paired t test there; p_equal: of the two one-sided tests.
    level: what p had to be below. failed: runs among them that collapsed or diverged, of `runs`. reason: why there is
    no other verdict. within: different, but surely by less than the margin.
    """

    point: EndPoint
    verdict: Verdict
    look: int = 0
    seeds: tuple[int, ...] = ()
    differences: tuple[float, ...] = ()
    p: float = math.nan
    p_equal: float = math.nan
    level: float = 0.0
    failed: int = 0
    runs: int = 0
    reason: str = ""

    @property
    def mean(self) -> float:
        """Mean difference, arm minus reference."""
        return float(np.mean(self.differences)) if self.differences else math.nan

    @property
    def std(self) -> float:
        """Standard deviation of the differences; 0 where they are alike up to rounding."""
        if len(self.differences) < 2:
            return math.nan
        return 0.0 if alike(self.differences, self.point.margin) else float(np.std(self.differences, ddof=1))

    @property
    def within(self) -> bool:
        """Whether a difference that was found is surely smaller than the margin."""
        return self.verdict in ("better", "worse") and self.p_equal < self.level

    def detectable(self, level: float) -> float:
        """The difference that as many pairs find with a chance of 80 %; NaN where pairs are all alike."""
        return power.smallest_effect(self.std, len(self.differences), level) if self.std > 0 else math.nan

    def needed(self, level: float) -> int | None:
        """Pairs that would settle it with a chance of 80 %, were the truth what was seen; None: more than 10,000."""
        if not self.std > 0:
            return None
        ways = (
            power.pairs_for_difference(self.mean, self.std, level),
            power.pairs_for_equality(self.mean, self.std, level, self.point.margin),
        )
        return min((n for n in ways if n is not None), default=None)


def decisions(study: Study, runs_of: Mapping[str, Runs]) -> list[Decision]:
    """The verdicts of a study's plan. runs_of: what is known, by profile."""
    plan = study.plan
    if plan is None:
        raise ConfigError(f"{study.name}: has no plan, so that nothing can be decided")
    made: list[Decision] = []
    for point, share in zip(plan.order, plan.shares, strict=True):
        before = made[-1] if made else None
        sides = [_side(study, point, name, runs_of.get(point.profile, {})) for name in (point.arm, point.reference)]
        made.append(_decide(plan, point, share, before, *sides))
    return made


def due(study: Study, profile: str, runs_of: Mapping[str, Runs]) -> set[tuple[str, str, int]]:
    """Arm, data set and seed of the runs at this size that the next looks of the plan wait for, made or not.

    An end point that may still turn out not to be tested waits for none before the one before it is decided.
    """
    plan = study.plan
    made = decisions(study, runs_of)
    assert plan is not None
    found = set()
    for i, (decision, share) in enumerate(zip(made, plan.shares, strict=True)):
        point = decision.point
        tested = share > 0 or i == 0 or made[i - 1].verdict != "waiting"
        if decision.verdict != "waiting" or decision.look == len(plan.looks) or point.profile != profile or not tested:
            continue
        seeds = range(plan.pairs(point, plan.looks[decision.look]))
        found |= {(arm, point.data, seed) for arm in (point.arm, point.reference) for seed in seeds}
    return found


def _side(study: Study, point: EndPoint, name: str, runs: Runs) -> dict[int, Evidence]:
    """The runs of one side, at the planned seeds."""
    assert study.plan is not None
    seeds = range(study.plan.seeds[point.profile][point.data])
    found = {s: choice.run_of(study, point.profile, study.arm(name), point.data, s, runs) for s in seeds}
    return {seed: run for seed, run in found.items() if run is not None}


def _decide(
    plan: Plan,
    point: EndPoint,
    share: float,
    before: Decision | None,
    ours: dict[int, Evidence],
    theirs: dict[int, Evidence],
) -> Decision:
    """One end point: from look to look until a verdict falls."""
    if share <= 0 and before is not None and before.verdict not in ("better", "worse", "waiting"):
        return Decision(point, "not tested", reason="the order ended before it")
    inherited, since = _inherited(plan, before)
    made = Decision(point, "waiting")
    for number, look in enumerate(plan.looks, start=1):
        weight = share + (inherited if number >= since else 0.0)
        seeds = tuple(range(plan.pairs(point, look)))
        if missing := [s for s in seeds if s not in ours or s not in theirs]:
            reason = f"{len(seeds) - len(missing)} of the {len(seeds)} pairs of look {number}"
            return replace(made, verdict="waiting", reason=reason)
        made = _look(plan, point, number, weight * look.p, seeds, ours, theirs)
        if made.verdict != "open":
            break
    if made.verdict in ("open", "equal") and before is not None and before.verdict == "waiting":
        # What it may pass on would raise the level, at which a difference could be found after all.
        return replace(made, verdict="waiting", reason="the end point before it is not decided yet")
    return made


def _inherited(plan: Plan, before: Decision | None) -> tuple[float, int]:
    """Weight that passes on from the end point before, and the look from which it does."""
    if before is None or before.verdict not in ("better", "worse"):
        return 0.0, 1
    return before.level / plan.looks[before.look - 1].p, before.look


def _look(
    plan: Plan,
    point: EndPoint,
    number: int,
    level: float,
    seeds: tuple[int, ...],
    ours: dict[int, Evidence],
    theirs: dict[int, Evidence],
) -> Decision:
    """What one look says; "open" where neither a difference nor equality is shown."""
    pairs = [(ours[s], theirs[s]) for s in seeds]
    if mixed := [s for s, (a, b) in zip(seeds, pairs, strict=True) if _precision(a) != _precision(b)]:
        reason = f"the runs of seed {mixed[0]} were trained in different precision; train both in one"
        return Decision(point, "stopped", number, seeds, reason=reason)
    failed = sum(run.diverged or run.collapsed for pair in pairs for run in pair)
    d = tuple(_value(a, point.score) - _value(b, point.score) for a, b in pairs)
    found = {"failed": failed, "runs": 2 * len(pairs)}
    p, p_equal = t_test(d), equivalence_test(d, point.margin)
    verdict: Verdict = "open"
    reason = ""
    if failed > plan.most_collapsed * 2 * len(pairs):
        verdict, reason = "stopped", f"{failed} of {2 * len(pairs)} runs collapsed or diverged: fix the recipe"
    elif alike(d, point.margin):
        reason = "all pairs differ by the same, which no test can judge"
    elif p < level:
        verdict = "better" if (sum(d) > 0) == higher_is_better(point.score) else "worse"
    elif p_equal < level:
        verdict = "equal"
    return Decision(point, verdict, number, seeds, d, p, p_equal, level, reason=reason, **found)


def alike(differences: tuple[float, ...], margin: float) -> bool:
    """Whether differences vary by the rounding of scores alone, which no test may take for their spread."""
    return float(np.ptp(differences)) <= ROUNDING * margin


def _value(run: Evidence, score: str) -> float:
    if score not in run.values:
        raise ConfigError(f"{run.path.name}: has no score {score}, on which the plan decides")
    if not math.isfinite(run.values[score]):
        raise ConfigError(f"{run.path.name}: its {score} is {run.values[score]}, on which nothing can be decided")
    return run.values[score]


def _precision(run: Evidence) -> object:
    return run.environment.get("precision")
