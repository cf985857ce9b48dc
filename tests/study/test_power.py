"""Power of paired t tests against simulation and against known tables."""

import math

import numpy as np
import pytest

from unet.study.power import (
    pairs_for_difference,
    pairs_for_equality,
    power_of_difference,
    power_of_equality,
    smallest_effect,
)
from unet.study.stats import equivalence_test, t_test


@pytest.mark.parametrize(
    ("size", "level", "pairs"),
    [(0.5, 0.05, 34), (0.8, 0.05, 15), (0.2, 0.05, 199), (1.0, 0.01, 16), (0.5, 0.01, 51)],
)
def test_pairs_for_a_standardised_effect_are_those_of_the_tables(size, level, pairs):
    # G*Power 3, "difference from constant (one sample case)", two-sided, power 0.8.
    assert pairs_for_difference(size, 1.0, level) == pairs
    assert pairs_for_difference(-3 * size, 3.0, level) == pairs
    assert power_of_difference(size, 1.0, pairs, level) >= 0.8 > power_of_difference(size, 1.0, pairs - 1, level)


def test_power_is_the_share_of_samples_that_the_tests_find():
    rng = np.random.default_rng(0)
    found, same = 0, 0
    for _ in range(2000):
        d = rng.normal(0.012, 0.02, 12)
        found += t_test(d) < 0.01
        same += equivalence_test(d - 0.009, 0.02) < 0.01
    tolerance = 3 * math.sqrt(0.25 / 2000)
    assert found / 2000 == pytest.approx(power_of_difference(0.012, 0.02, 12, 0.01), abs=tolerance)
    assert same / 2000 == pytest.approx(power_of_equality(0.003, 0.02, 12, 0.01, 0.02), abs=tolerance)
    assert power_of_difference(0.0, 0.02, 12, 0.01) == pytest.approx(0.01)


def test_the_smallest_effect_has_the_power_it_is_named_for():
    for pairs, level in ((4, 0.0005), (8, 0.0095), (20, 0.0095), (500, 0.01)):
        effect = smallest_effect(0.013, pairs, level)
        assert power_of_difference(effect, 0.013, pairs, level) == pytest.approx(0.8, abs=1e-4)


def test_what_no_number_of_pairs_settles_is_none():
    assert pairs_for_difference(0.0, 1.0, 0.01) is None
    assert pairs_for_difference(1e-4, 1.0, 0.01) is None  # more than 10,000
    assert pairs_for_equality(0.02, 0.01, 0.01, 0.01) is None
    n = pairs_for_equality(0.0, 0.02, 0.0095, 0.01)
    assert n is not None
    assert power_of_equality(0.0, 0.02, n, 0.0095, 0.01) >= 0.8 > power_of_equality(0.0, 0.02, n - 1, 0.0095, 0.01)


@pytest.mark.parametrize("arguments", [(0.1, 0.0, 5, 0.01), (0.1, 1.0, 1, 0.01), (0.1, 1.0, 5, 1.0)])
def test_what_is_no_test_is_refused(arguments):
    with pytest.raises(ValueError, match="use 2 pairs"):
        power_of_difference(*arguments)
    with pytest.raises(ValueError, match="not a test of equality"):
        power_of_equality(*arguments, 0.1)
