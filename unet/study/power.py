"""Power of paired t tests: what a number of pairs can show, and how many pairs it takes.

Differences are taken as normal; sizes are in units of the score. Source: the noncentral t distribution (Cohen 1988,
"Statistical Power Analysis for the Behavioral Sciences"; for two one-sided tests Phillips 1990,
doi:10.1007/BF01063556, whose exact integral is replaced by its lower bound).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import scipy

POWER = 0.8
"""The chance of a verdict that numbers of pairs and smallest effects are given for."""

MOST_PAIRS = 10_000  # beyond it nobody runs a study: "more" is all there is to say


def power_of_difference(effect: float, std: float, pairs: int, level: float) -> float:
    """Chance that the two-sided paired t test of `pairs` differences with this mean and deviation has p < level."""
    if pairs < 2 or std <= 0 or not 0 < level < 1:
        raise ValueError(f"{pairs} pairs, std {std}, level {level}: use 2 pairs or more, std > 0, 0 < level < 1")
    critical = scipy.stats.t.isf(level / 2, pairs - 1)
    centre = effect * math.sqrt(pairs) / std
    return _above(critical, pairs - 1, centre) + _above(critical, pairs - 1, -centre)


def power_of_equality(effect: float, std: float, pairs: int, level: float, margin: float) -> float:
    """Least chance that two one-sided t tests show |mean| < margin with p < level, where the true mean is `effect`."""
    if pairs < 2 or std <= 0 or not 0 < level < 0.5 or margin <= 0:
        raise ValueError(f"{pairs} pairs, std {std}, level {level}, margin {margin}: not a test of equality")
    critical, scale = scipy.stats.t.isf(level, pairs - 1), math.sqrt(pairs) / std
    below = _above(critical, pairs - 1, (margin - effect) * scale)
    above = _above(critical, pairs - 1, (margin + effect) * scale)
    return max(0.0, below + above - 1)


def smallest_effect(std: float, pairs: int, level: float) -> float:
    """The difference that the paired t test finds with a chance of 80 %."""
    high = 2 * std
    while power_of_difference(high, std, pairs, level) < POWER:
        high *= 2

    def missing(effect: float) -> float:
        return power_of_difference(effect, std, pairs, level) - POWER

    return float(scipy.optimize.brentq(missing, 0.0, high, xtol=1e-6 * std))


def pairs_for_difference(effect: float, std: float, level: float) -> int | None:
    """Pairs that show a true difference of `effect` with a chance of 80 %; None: more than 10,000."""
    return _fewest(lambda n: power_of_difference(effect, std, n, level)) if effect else None


def pairs_for_equality(effect: float, std: float, level: float, margin: float) -> int | None:
    """Pairs that show equality up to the margin with a chance of 80 %; None: more than 10,000, or beyond the margin."""
    return _fewest(lambda n: power_of_equality(effect, std, n, level, margin)) if abs(effect) < margin else None


def _above(critical: float, freedom: int, centre: float) -> float:
    """Upper tail of the noncentral t distribution; 0 where SciPy finds it too small to compute (NaN)."""
    tail = float(scipy.stats.nct.sf(critical, freedom, centre))
    return 0.0 if math.isnan(tail) else tail


def _fewest(power: Callable[[int], float]) -> int | None:
    """The smallest number of pairs with enough power, which grows with it."""
    if power(MOST_PAIRS) < POWER:
        return None
    low, high = 1, 2
    while power(high) < POWER:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high
