"""Statistics against known answers, SciPy, brute force, and the properties they must have."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from unet.study.stats import (
    block_test,
    equivalence_test,
    probability_of_improvement,
    sign_flip_test,
    summary,
    t_interval,
    t_test,
)

DIFFERENCES = [0.031, 0.012, -0.004, 0.027, 0.018, 0.009]
numbers = st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=2, max_size=8)


def test_summary_is_the_sample_mean_and_standard_deviation():
    known = summary([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    assert (known.n, known.mean) == (8, 5.0)
    assert known.std == pytest.approx(math.sqrt(32 / 7))
    assert math.isnan(summary([3.0]).std)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_values_that_are_no_sample_are_refused(values):
    for function in (summary, sign_flip_test, t_test):
        with pytest.raises(ValueError, match="finite values"):
            function(values)


@pytest.mark.parametrize(("pairs", "smallest"), [(1, 1.0), (3, 0.25), (5, 0.0625), (8, 0.0078125)])
def test_the_smallest_p_of_the_sign_flip_test_is_reached_by_equal_signs_and_never_passed(pairs, smallest):
    made = sign_flip_test(np.linspace(0.5, 1.5, pairs))
    assert (made.p, made.smallest_p) == (smallest, smallest)
    for signs in itertools.product((-1, 1), repeat=min(pairs, 5)):
        assert sign_flip_test(np.linspace(0.5, 1.5, len(signs)) * signs).p >= 2.0 ** (1 - len(signs))


def test_the_sign_flip_test_counts_assignments():
    # Sums of 1, 2, 4 with all signs: +-7, +-5, +-3, +-1. All 8 reach |1 + 2 - 4| = 1, four reach |-1 + 2 + 4| = 5.
    assert sign_flip_test([1, 2, -4]).p == 1.0
    assert sign_flip_test([-1, 2, 4]).p == 0.5
    assert sign_flip_test([0.0, 0.0, 0.0]).p == 1.0


def test_the_sign_flip_test_counts_ties_that_rounding_parts():
    assert sign_flip_test([0.1, 0.2, -0.3]).p == 1.0  # a mean of 0, which is 1e-17 in floats
    counts = np.array([84, -31, 47, -96, 22, 61, -75, 13, -40, 18])  # pixels: their sums have ties
    signs = np.array(list(itertools.product((1, -1), repeat=10)))
    expected = np.mean(np.abs(signs @ counts) >= abs(counts.sum()))
    base = np.array([0.002 + 1e-5 * k for k in range(10)])
    assert sign_flip_test((base + counts / 2**18) - base).p == pytest.approx(expected, abs=1e-12)


@given(numbers)
@settings(max_examples=60, deadline=None)
def test_the_sign_flip_test_counts_every_assignment(differences):
    d = np.array(differences)
    sums = np.array([np.dot(signs, d) for signs in itertools.product((-1, 1), repeat=d.size)])
    counted = np.mean(np.abs(sums) >= abs(d.sum()) - 1e-9)
    assert sign_flip_test(d).p == pytest.approx(counted, abs=1e-9)


def test_many_pairs_are_tested_with_random_signs_close_to_the_exact_answer():
    d = np.random.default_rng(3).normal(0.3, 1.0, 40)
    made = sign_flip_test(d)
    assert made.p == pytest.approx(t_test(d), abs=0.02)
    assert made.p == sign_flip_test(d).p  # seeded
    assert made.smallest_p == pytest.approx(1 / 100_000)
    assert sign_flip_test(np.ones(40)).p >= made.smallest_p  # only the observed signs are sure to be counted


@given(numbers)
@settings(max_examples=60, deadline=None)
def test_tests_do_not_depend_on_sign_order_or_scale(differences):
    d = np.array(differences)
    for test in (lambda d: sign_flip_test(d).p, t_test):
        p = test(d)
        assert 0 <= p <= 1
        for other in (-d, d[::-1], 4 * d):
            assert test(other) == pytest.approx(p, abs=1e-9)


def test_the_t_test_is_scipys():
    assert t_test(DIFFERENCES) == pytest.approx(scipy_stats.ttest_1samp(DIFFERENCES, 0).pvalue, rel=1e-12)
    assert math.isnan(t_test([0.5]))
    assert t_test([0.0, 0.0]) == 1
    assert t_test([0.2, 0.2, 0.2]) == 0


def test_equivalence_is_shown_by_small_differences_only():
    small = np.array([0.001, -0.002, 0.0015, 0.0005, -0.001])
    lower = scipy_stats.ttest_1samp(small, -0.01, alternative="greater").pvalue
    upper = scipy_stats.ttest_1samp(small, 0.01, alternative="less").pvalue
    assert equivalence_test(small, 0.01) == pytest.approx(max(lower, upper))
    assert equivalence_test(small, 0.01) < 0.01
    assert equivalence_test(small + 0.02, 0.01) > 0.99
    assert equivalence_test(small * 20, 0.01) > 0.05  # too noisy to say
    assert (equivalence_test([0.0, 0.0], 0.01), equivalence_test([0.5, 0.5], 0.01)) == (0, 1)
    assert equivalence_test([-0.5, -0.5], 0.5) == 1  # at the margin is not within it
    with pytest.raises(ValueError, match="margin"):
        equivalence_test(small, 0)


def test_probability_of_improvement_counts_pairs_and_halves_ties():
    assert probability_of_improvement([1, 2, 3], [0, 0, 0]) == 1
    assert probability_of_improvement([1, 2], [1, 3]) == pytest.approx((0.5 + 0 + 1 + 0) / 4)
    with pytest.raises(ValueError, match="finite values"):
        probability_of_improvement([1], [])


@given(numbers, numbers)
def test_probability_of_improvement_is_mann_whitneys_share(ours, theirs):
    u = scipy_stats.mannwhitneyu(ours, theirs).statistic
    assert probability_of_improvement(ours, theirs) == pytest.approx(u / (len(ours) * len(theirs)))
    assert probability_of_improvement(ours, theirs) + probability_of_improvement(theirs, ours) == pytest.approx(1)


def test_the_block_model_is_the_analysis_of_variance_of_two_ways():
    # A complete table by hand: F of the arms = mean square of arms / mean square of error; for two arms F = t^2.
    table = np.array([[1.0, 2.0, 4.0, 3.0], [2.0, 2.5, 5.5, 4.0], [0.0, 2.0, 3.0, 1.0]])
    residual = table - table.mean(0) - table.mean(1)[:, None] + table.mean()
    error = (residual**2).sum() / (2 * 3)
    t = (table[1].mean() - table[0].mean()) / math.sqrt(2 * error / 4)
    assert block_test(table, 1, 0) == pytest.approx(2 * scipy_stats.t.sf(t, 6))
    assert block_test(table[:2], 1, 0) == pytest.approx(t_test(table[1] - table[0]))  # two arms: the paired t test


def test_the_block_model_takes_missing_runs_and_needs_a_link_between_the_arms():
    table = np.array([[1.0, 2.0, 4.0, math.nan], [2.0, 2.5, 5.5, 4.0], [0.0, 2.0, math.nan, 1.0]])
    assert 0 < block_test(table, 1, 0) < 1
    apart = np.array([[1.0, 2.0, math.nan, math.nan], [math.nan, math.nan, 3.0, 4.0]])
    assert math.isnan(block_test(apart, 0, 1))


def test_the_t_interval_is_scipys():
    theirs = scipy_stats.ttest_1samp(DIFFERENCES, 0).confidence_interval(0.95)
    ours = t_interval(DIFFERENCES)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert math.isnan(t_interval([0.1]).low)
