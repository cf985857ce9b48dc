"""That a mean lies beyond a margin: the counterpart of the equivalence test."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from unet.stats import equivalence_test, minimum_effect_test, t_test

BEYOND = np.array([0.031, 0.026, 0.029, 0.033, 0.024])


def test_it_is_a_t_test_against_the_margin_with_the_tail_beyond_the_other_side():
    tails = [scipy_stats.ttest_1samp(BEYOND, end, alternative="greater").pvalue for end in (0.01, -0.01)]
    assert minimum_effect_test(BEYOND, 0.01).p == pytest.approx(sum(tails))
    assert tails[1] < tails[0] / 10
    assert minimum_effect_test(-BEYOND, 0.01).p == minimum_effect_test(BEYOND, 0.01).p


def test_with_a_margin_near_0_it_is_the_t_test():
    assert minimum_effect_test(BEYOND, 1e-12).p == pytest.approx(t_test(BEYOND).p)


def test_a_mean_at_the_margin_is_neither_beyond_nor_within():
    at = np.array([0.0102, 0.0121, 0.0083, 0.0115, 0.0089, 0.0102])
    assert minimum_effect_test(at, 0.01).p == pytest.approx(0.375, abs=0.001)
    assert equivalence_test(at, 0.01).p > 0.5


def test_pairs_that_are_all_alike_or_alone_or_a_margin_of_0():
    assert (minimum_effect_test([0.5, 0.5], 0.01).p, minimum_effect_test([0.0, 0.0], 0.01).p) == (0, 1)
    assert math.isnan(minimum_effect_test([0.5], 0.01).p)
    with pytest.raises(ValueError, match="margin"):
        minimum_effect_test(BEYOND, 0)
