"""Statistics of paired runs: intervals, tests, corrections; small samples, stated limits.

Arms are compared seed by seed (same initial weights, held-out frames and tiles, except where an arm changes them), so
everything here works on the differences of pairs. Arrays in, floats out; seeded, so that a table can be made again to
the last digit.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

EXACT_PAIRS = 13  # up to here all 2^n assignments of signs are counted
RANDOM_SIGNS = 99_999
LEVEL = 0.95  # of intervals


@dataclass(frozen=True)
class Summary:
    """n values: their mean and sample standard deviation (n - 1 in the denominator; NaN for one value)."""

    n: int
    mean: float
    std: float


class SignFlips(NamedTuple):
    """p: of the test. smallest_p: the smallest that any outcome of so many pairs could reach."""

    p: float
    smallest_p: float


class Interval(NamedTuple):
    """A 95 % confidence interval of the mean."""

    low: float
    high: float


def summary(values: ArrayLike) -> Summary:
    """Mean and standard deviation of one arm's runs; ValueError when there are none or when one is not finite."""
    x = _finite(values)
    return Summary(x.size, float(x.mean()), float(x.std(ddof=1)) if x.size > 1 else math.nan)


def sign_flip_test(differences: ArrayLike) -> SignFlips:
    """Permutation test of paired differences: the share of sign assignments with a |mean| at least as large.

    Exact for up to 13 pairs (all 2^n assignments); beyond, 99,999 random ones and the observed one. It assumes only
    that a difference is as likely to be +d as -d. The smallest reachable p is 2 / 2^n: 0.25 for 3 pairs, 0.0625 for 5,
    0.0078 for 8. Sums that differ by 1e-9 of the differences are equal: rounding parts them, and SciPy's
    permutation_test allows for that in parts of the observed sum, which may be near 0.
    """
    d = _finite(differences)
    if d.size == 1:
        return SignFlips(1.0, 1.0)
    exact = d.size <= EXACT_PAIRS
    if exact:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=d.size)))
    else:
        drawn = np.random.default_rng(0).choice((1.0, -1.0), (RANDOM_SIGNS, d.size))
        signs = np.vstack([np.ones(d.size), drawn])
    as_large = np.abs(signs @ d) >= abs(d.sum()) - 1e-9 * np.abs(d).sum()
    smallest = min(1.0, 2.0 ** (1 - d.size)) if exact else 1 / (1 + RANDOM_SIGNS)
    return SignFlips(float(as_large.mean()), smallest)


def t_test(differences: ArrayLike) -> float:
    """p of Student's two-sided paired t test: assumes that the differences are normally distributed.

    NaN for a single pair. Differences that are all the same: p = 1 when they are 0, else 0.
    """
    d = _finite(differences)
    if d.size < 2:
        return math.nan
    spread = d.std(ddof=1)
    if spread <= 1e-12 * np.abs(d).max():
        return float(not d.any())
    t = d.mean() / (spread / math.sqrt(d.size))
    return float(2 * scipy.stats.t.sf(abs(t), d.size - 1))


def block_test(scores: ArrayLike, arm: int, reference: int) -> float:
    """p of the test of two arms in the additive model score = arm + seed + error (randomised block design).

    scores: arms x seeds, NaN where a run is missing. The error is estimated from all arms, which gives more degrees of
    freedom than the pairs of two of them, and assumes that it is as large in every arm. NaN when none are left.
    Source: Fisher 1935, "The Design of Experiments"; least squares where runs are missing.
    """
    table = np.asarray(scores, dtype=np.float64)
    rows, columns = np.nonzero(np.isfinite(table))
    arms, seeds = table.shape
    design = np.zeros((rows.size, arms + seeds))
    design[np.arange(rows.size), rows] = design[np.arange(rows.size), arms + columns] = 1
    contrast = np.zeros(arms + seeds)
    contrast[arm], contrast[reference] = 1, -1
    pairs = int(np.isfinite(table[[arm, reference]]).all(axis=0).sum())
    freedom = rows.size - int(np.linalg.matrix_rank(design))
    inverse = np.linalg.pinv(design.T @ design)
    estimable = float(np.abs(contrast @ inverse @ design.T @ design - contrast).max()) < 1e-9
    if freedom < 1 or not pairs or not estimable:
        return math.nan
    effects = inverse @ design.T @ table[rows, columns]
    residual = table[rows, columns] - design @ effects
    error = math.sqrt(float(residual @ residual) / freedom * float(contrast @ inverse @ contrast))
    mean = float(contrast @ effects)
    if error <= 1e-12 * max(abs(mean), float(np.abs(table[rows, columns]).max())):
        return float(abs(mean) <= 1e-12)
    return float(2 * scipy.stats.t.sf(abs(mean) / error, freedom))


def t_interval(differences: ArrayLike) -> Interval:
    """Student's 95 % confidence interval of the mean; its ends are NaN for a single pair."""
    d = _finite(differences)
    if d.size < 2:
        return Interval(math.nan, math.nan)
    reach = float(scipy.stats.t.ppf((1 + LEVEL) / 2, d.size - 1) * d.std(ddof=1) / math.sqrt(d.size))
    return Interval(float(d.mean()) - reach, float(d.mean()) + reach)


def equivalence_test(differences: ArrayLike, margin: float) -> float:
    """Two one-sided t tests (Schuirmann 1987, doi:10.1007/BF01068419): p that the mean lies outside +-margin.

    A small p shows that the arms are the same up to the margin, which a large p of a difference test does not.
    """
    d = _finite(differences)
    if margin <= 0:
        raise ValueError(f"the margin must be positive, not {margin}")
    if d.size < 2:
        return math.nan
    mean, error = float(d.mean()), float(d.std(ddof=1)) / math.sqrt(d.size)
    if error <= 1e-12 * max(margin, float(np.abs(d).max())):
        return float(abs(mean) >= margin)
    above, below = (
        scipy.stats.t.sf((mean + margin) / error, d.size - 1),
        scipy.stats.t.cdf((mean - margin) / error, d.size - 1),
    )
    return float(max(above, below))


def probability_of_improvement(arm: ArrayLike, reference: ArrayLike) -> float:
    """Probability that a random run of `arm` is better (larger) than one of `reference`; ties count one half.

    Mann-Whitney; Agarwal et al. 2021, arXiv 2108.13264, equation 2.
    """
    x, y = _finite(arm)[:, None], _finite(reference)[None, :]
    return float(np.mean((x > y) + 0.5 * (x == y)))


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64).reshape(-1)
    if x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f"statistics need finite values, at least one; got {x.tolist()}")
    return x
