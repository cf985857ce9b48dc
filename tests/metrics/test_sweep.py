"""Thresholds, checks of the arguments, and what a sweep reports."""

import numpy as np
import pytest

from unet.metrics.sweep import THRESHOLDS, above, check_stacks, f_score, highest, lowest


def test_thresholds_are_those_of_the_loop():
    expected, t = [], 0.0
    while t <= 1:
        expected.append(t)
        t += 0.1
    assert list(THRESHOLDS) == expected
    assert len(THRESHOLDS) == 11
    assert THRESHOLDS[-1] == 0.9999999999999999


def test_comparison_is_strict_and_in_doubles():
    # float32(0.1) = 0.100000001490... exceeds the double 0.1; 0.3 = 0.300000011920... exceeds 0.30000000000000004;
    # 0.7 = 0.699999988079... does not exceed the double 0.7; nothing exceeds itself.
    values = np.array([0.1, 0.3, 0.7, 0.5], np.float32)
    assert [bool(above(values[i : i + 1], t)[0]) for i, t in enumerate((0.1, THRESHOLDS[3], 0.7, 0.5))] == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((2, 4, 2), 2 / 3),  # p = 1/2, r = 1
        ((0, 0, 0), 1.0),  # nothing to find, nothing found
        ((0, 0, 5), 0.0),  # no false positive: p = 1; r = 0
        ((0, 5, 0), 0.0),
        ((0, 3, 4), 0.0),  # both 0
        ((7, 7, 7), 1.0),
    ],
)
def test_f_score(counts, expected):
    assert f_score(*counts) == pytest.approx(expected, abs=1e-15)


def test_the_lowest_of_equally_good_thresholds_is_reported():
    proposal = np.array([[[0.55]], [[0.95]]], np.float32)
    assert highest([0.5, 0.9, 0.9], proposal, (0.0, 0.1, 0.2)).threshold == 0.1
    assert lowest([0.5, 0.2, 0.2], proposal, (0.0, 0.1, 0.2)).threshold == 0.1
    assert highest([0.5, 0.9, 0.9], proposal, (0.0, 0.1, 0.2)).values == (0.5, 0.9, 0.9)


def test_slices_without_foreground_are_counted():
    proposal = np.array([[[0.55]], [[0.95]]], np.float32)
    sweep = lowest([0.9, 0.1], proposal, (0.5, 0.6))
    assert (sweep.empty_slices, sweep.empty) == (1, True)
    sweep = lowest([0.1, 0.9], proposal, (0.5, 0.6))
    assert (sweep.empty_slices, sweep.empty) == (0, False)


@pytest.mark.parametrize("cell", [1, 255, True, 1.0])
def test_labels_of_any_cell_value(cell):
    cells, _ = check_stacks(np.array([[0, cell]]), np.zeros((1, 2), np.float32))
    np.testing.assert_array_equal(cells, [[[False, True]]])
    assert cells.dtype == np.bool_


@pytest.mark.parametrize(
    ("proposal", "expected"),
    [
        (np.array([[0, 51, 255]], np.uint8), [0, 51 / 255, 1]),
        (np.array([[0, 13107, 65535]], np.uint16), [0, 13107 / 65535, 1]),
        (np.array([[False, True, True]]), [0, 1, 1]),
        (np.array([[0, 0.25, 1]], np.float64), [0, 0.25, 1]),
        (np.array([[0, 0.25, 1]], np.float16), [0, 0.25, 1]),
        (np.array([[-5e-7, 0.25, 1 + 5e-7]], np.float64), [0, 0.25, 1]),  # rounding errors of averaged maps
    ],
)
def test_proposals_become_float32_in_0_to_1(proposal, expected):
    _, converted = check_stacks(np.zeros(proposal.shape, np.uint8), proposal)
    assert converted.dtype == np.float32
    np.testing.assert_array_equal(converted[0, 0], np.array(expected, np.float32))


@pytest.mark.parametrize(
    ("label", "proposal", "message"),
    [
        (np.zeros((3, 4, 4)), np.zeros((2, 4, 4)), "label has 3 slices but proposal 2"),
        (np.zeros((4, 4)), np.zeros((4, 5)), r"\(4, 4\) and proposal \(4, 5\) differ"),
        (np.zeros((4, 4)), np.zeros((1, 4, 4)), "differ in shape"),
        (np.zeros(4), np.zeros(4), "expected slices"),
        (np.zeros((0, 4, 4)), np.zeros((0, 4, 4)), "expected slices"),
        (np.zeros((2, 0, 4)), np.zeros((2, 0, 4)), "expected slices"),
        (np.array([[0, 1, 255]]), np.zeros((1, 3)), "label holds 1 beside 0 and 255"),
        (np.array([[0, -1]]), np.zeros((1, 2)), "label holds -1"),
        (np.array([[-1, -1]]), np.zeros((1, 2)), "label holds -1"),
        (np.array([[np.nan, 1]]), np.zeros((1, 2)), "label holds nan"),
        (np.array([["a", "b"]]), np.zeros((1, 2)), "label has type"),
        (np.zeros((1, 2)), np.array([[0, 255.0]]), r"0\.\.255, expected probabilities"),
        (np.zeros((1, 2)), np.array([[-0.1, 0.5]]), r"-0\.1\.\.0\.5"),
        (np.zeros((1, 2)), np.array([[0, 1.001]]), r"0\.\.1\.001"),
        (np.zeros((1, 2)), np.array([[np.nan, 0.5]]), "nan"),
        (np.zeros((1, 2)), np.array([[0, 255]], np.int32), "proposal has type int32"),
    ],
)
def test_bad_arguments_are_named_in_one_line(label, proposal, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_stacks(label, proposal)
    assert "\n" not in str(caught.value)


def test_arguments_stay_untouched():
    label, proposal = np.array([[0, 255]], np.uint8), np.array([[7, 200]], np.uint8)
    check_stacks(label, proposal)
    np.testing.assert_array_equal(label, [[0, 255]])
    np.testing.assert_array_equal(proposal, [[7, 200]])
