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
    bootstrap_interval,
    equivalence_test,
    holm,
    minimum_effect_test,
    probability_of_improvement,
    sign_flip_test,
    summary,
    t_interval,
    t_test,
    wilcoxon_test,
)

DIFFERENCES = [0.031, 0.012, -0.004, 0.027, 0.018, 0.009]
BEYOND = np.array([0.031, 0.026, 0.029, 0.033, 0.024])
numbers = st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=2, max_size=8)


def test_summary_is_the_sample_mean_and_standard_deviation():
    known = summary([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    assert (known.n, known.mean) == (8, 5.0)
    assert known.std == pytest.approx(math.sqrt(32 / 7))
    assert math.isnan(summary([3.0]).std)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_values_that_are_no_sample_are_refused(values):
    for function in (summary, sign_flip_test, t_test, wilcoxon_test, bootstrap_interval):
        with pytest.raises(ValueError, match="finite values"):
            function(values)


@pytest.mark.parametrize(("pairs", "smallest"), [(1, 1.0), (3, 0.25), (5, 0.0625), (8, 0.0078125)])
def test_the_smallest_p_of_the_sign_flip_test_is_reached_by_equal_signs_and_never_passed(pairs, smallest):
    made = sign_flip_test(np.linspace(0.5, 1.5, pairs))
    assert (made.p, made.smallest_p) == (smallest, smallest)
    assert wilcoxon_test(np.linspace(0.5, 1.5, pairs)).smallest_p == smallest
    for signs in itertools.product((-1, 1), repeat=min(pairs, 5)):
        assert sign_flip_test(np.linspace(0.5, 1.5, len(signs)) * signs).p >= 2.0 ** (1 - len(signs))


def test_the_sign_flip_test_counts_assignments():
    # Sums of 1, 2, 4 with all signs: +-7, +-5, +-3, +-1. All 8 reach |1 + 2 - 4| = 1, four reach |-1 + 2 + 4| = 5.
    assert sign_flip_test([1, 2, -4]).p == 1.0
    assert sign_flip_test([-1, 2, 4]).p == 0.5
    assert sign_flip_test([0.0, 0.0, 0.0]).p == 1.0


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
    assert made.p == pytest.approx(t_test(d).p, abs=0.02)
    assert made.p == sign_flip_test(d).p  # seeded
    assert made.smallest_p == pytest.approx(1 / 100_000)
    assert sign_flip_test(np.ones(40)).p >= made.smallest_p  # only the observed signs are sure to be counted


@given(numbers)
@settings(max_examples=60, deadline=None)
def test_tests_do_not_depend_on_sign_order_or_scale(differences):
    d = np.array(differences)
    for test in (sign_flip_test, wilcoxon_test, t_test):
        p = test(d).p
        assert 0 <= p <= 1
        for other in (-d, d[::-1], 4 * d):
            assert test(other).p == pytest.approx(p, abs=1e-9)


def test_the_t_test_is_scipys():
    assert t_test(DIFFERENCES).p == pytest.approx(scipy_stats.ttest_1samp(DIFFERENCES, 0).pvalue, rel=1e-12)
    assert math.isnan(t_test([0.5]).p)
    assert t_test([0.0, 0.0]).p == 1
    assert t_test([0.2, 0.2, 0.2]).p == 0


def test_wilcoxon_is_scipys_where_there_are_no_ties():
    theirs = scipy_stats.wilcoxon(DIFFERENCES, method="exact").pvalue
    assert wilcoxon_test(DIFFERENCES).p == pytest.approx(theirs)
    assert wilcoxon_test([0.0, 0.0]).p == 1


def test_equivalence_is_shown_by_small_differences_only():
    small = np.array([0.001, -0.002, 0.0015, 0.0005, -0.001])
    lower = scipy_stats.ttest_1samp(small, -0.01, alternative="greater").pvalue
    upper = scipy_stats.ttest_1samp(small, 0.01, alternative="less").pvalue
    assert equivalence_test(small, 0.01).p == pytest.approx(max(lower, upper))
    assert equivalence_test(small, 0.01).p < 0.01
    assert equivalence_test(small + 0.02, 0.01).p > 0.99
    assert equivalence_test(small * 20, 0.01).p > 0.05  # too noisy to say
    assert (equivalence_test([0.0, 0.0], 0.01).p, equivalence_test([0.5, 0.5], 0.01).p) == (0, 1)
    with pytest.raises(ValueError, match="margin"):
        equivalence_test(small, 0)


def test_the_minimum_effect_test_is_a_t_test_against_the_margin_with_the_tail_beyond_the_other_side():
    tails = [scipy_stats.ttest_1samp(BEYOND, end, alternative="greater").pvalue for end in (0.01, -0.01)]
    assert minimum_effect_test(BEYOND, 0.01).p == pytest.approx(sum(tails))
    assert tails[1] < tails[0] / 10
    assert minimum_effect_test(-BEYOND, 0.01).p == minimum_effect_test(BEYOND, 0.01).p


def test_with_a_margin_near_0_the_minimum_effect_test_is_the_t_test():
    assert minimum_effect_test(BEYOND, 1e-12).p == pytest.approx(t_test(BEYOND).p)


def test_a_mean_at_the_margin_is_neither_beyond_nor_within():
    at = np.array([0.0102, 0.0121, 0.0083, 0.0115, 0.0089, 0.0102])
    assert minimum_effect_test(at, 0.01).p == pytest.approx(0.375, abs=0.001)
    assert equivalence_test(at, 0.01).p > 0.5


def test_minimum_effect_of_pairs_that_are_all_alike_or_alone_or_a_margin_of_0():
    assert (minimum_effect_test([0.5, 0.5], 0.01).p, minimum_effect_test([0.0, 0.0], 0.01).p) == (0, 1)
    assert math.isnan(minimum_effect_test([0.5], 0.01).p)
    with pytest.raises(ValueError, match="margin"):
        minimum_effect_test(BEYOND, 0)


def test_holm_on_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    with_gap = holm([0.01, math.nan, 0.02])
    assert math.isnan(with_gap[1])
    assert (with_gap[0], with_gap[2]) == (0.02, 0.02)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_the_raw_and_bonferronis(p_values):
    adjusted = holm(p_values)
    for p, a in zip(p_values, adjusted, strict=True):
        assert p <= a <= min(1.0, len(p_values) * p) + 1e-12
    in_order = [adjusted[i] for i in np.argsort(p_values, kind="stable")]
    assert in_order == sorted(in_order)


def test_the_bootstrap_of_two_pairs_by_hand():
    # Resamples of (0, 1): means 0, 1/2, 1/2, 1; quantiles at 2.5 % and 97.5 % interpolated between the four.
    made = bootstrap_interval([0.0, 1.0])
    assert (made.low, made.high) == pytest.approx((0.0375, 0.9625))


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_the_bootstrap_is_close_to_scipys(method):
    d = np.random.default_rng(0).exponential(1.0, 15)
    theirs = scipy_stats.bootstrap((d,), np.mean, n_resamples=100_000, method=method, rng=np.random.default_rng(1))
    made = bootstrap_interval(d, method=method, resamples=100_000)
    assert (made.low, made.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.03)
    assert made == bootstrap_interval(d, method=method, resamples=100_000)


def test_bca_moves_the_interval_of_skewed_values():
    d = np.random.default_rng(0).exponential(1.0, 15)
    assert bootstrap_interval(d, method="bca").high > bootstrap_interval(d).high


@given(numbers, st.floats(-5, 5).map(lambda x: round(x, 3)))
@settings(max_examples=40, deadline=None)
def test_the_bootstrap_interval_holds_the_mean_and_moves_with_the_values(differences, shift):
    d = np.array(differences)
    made, moved = bootstrap_interval(d, resamples=300), bootstrap_interval(d + shift, resamples=300)
    assert d.min() - 1e-9 <= made.low <= made.high <= d.max() + 1e-9
    assert (moved.low, moved.high) == pytest.approx((made.low + shift, made.high + shift), abs=1e-6)
    wider = bootstrap_interval(d, level=0.99, resamples=300)
    assert wider.low <= made.low + 1e-12
    assert wider.high >= made.high - 1e-12


def test_the_bootstrap_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="percentile or bca"):
        bootstrap_interval([1.0, 2.0], method="basic")
    with pytest.raises(ValueError, match="level"):
        bootstrap_interval([1.0, 2.0], level=1.5)


def test_probability_of_improvement_counts_pairs_and_halves_ties():
    assert probability_of_improvement([[1, 2, 3]], [[0, 0, 0]]) == 1
    assert probability_of_improvement([[1, 2]], [[1, 3]]) == pytest.approx((0.5 + 0 + 1 + 0) / 4)
    assert probability_of_improvement([[1, 2], [5]], [[0], [9, 9]]) == 0.5  # the mean over two tasks
    with pytest.raises(ValueError, match="tasks"):
        probability_of_improvement([[1]], [])


@given(numbers, numbers)
def test_probability_of_improvement_is_mann_whitneys_share(ours, theirs):
    u = scipy_stats.mannwhitneyu(ours, theirs).statistic
    assert probability_of_improvement([ours], [theirs]) == pytest.approx(u / (len(ours) * len(theirs)))
    assert probability_of_improvement([ours], [theirs]) + probability_of_improvement([theirs], [ours]) == pytest.approx(
        1
    )


def test_the_block_model_is_the_analysis_of_variance_of_two_ways():
    # A complete table by hand: F of the arms = mean square of arms / mean square of error; for two arms F = t^2.
    table = np.array([[1.0, 2.0, 4.0, 3.0], [2.0, 2.5, 5.5, 4.0], [0.0, 2.0, 3.0, 1.0]])
    residual = table - table.mean(0) - table.mean(1)[:, None] + table.mean()
    error = (residual**2).sum() / (2 * 3)
    t = (table[1].mean() - table[0].mean()) / math.sqrt(2 * error / 4)
    assert block_test(table, 1, 0).p == pytest.approx(2 * scipy_stats.t.sf(t, 6))
    assert block_test(table[:2], 1, 0).p == pytest.approx(t_test(table[1] - table[0]).p)  # two arms: the paired t test


def test_the_block_model_takes_missing_runs_and_needs_a_link_between_the_arms():
    table = np.array([[1.0, 2.0, 4.0, math.nan], [2.0, 2.5, 5.5, 4.0], [0.0, 2.0, math.nan, 1.0]])
    with_all = block_test(table, 1, 0)
    assert with_all.pairs == 3
    assert 0 < with_all.p < 1
    apart = np.array([[1.0, 2.0, math.nan, math.nan], [math.nan, math.nan, 3.0, 4.0]])
    assert math.isnan(block_test(apart, 0, 1).p)


def test_the_t_interval_is_scipys():
    theirs = scipy_stats.ttest_1samp(DIFFERENCES, 0).confidence_interval(0.95)
    ours = t_interval(DIFFERENCES)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert math.isnan(t_interval([0.1]).low)
