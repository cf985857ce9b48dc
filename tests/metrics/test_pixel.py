"""Pixel by pixel: confusion, IoU, pixel error and misclassification rate."""

import math

import numpy as np
import pytest
from hypothesis import given, settings

from tests.metrics.strategies import pairs
from unet.metrics.pixel import (
    blog_iou,
    class_dice,
    class_ious,
    class_precisions,
    class_recalls,
    confusion,
    mean_iou,
    misclassification_rate,
    pixel_accuracy,
    pixel_error,
)
from unet.metrics.sweep import THRESHOLDS


def test_confusion_by_hand():
    # label row, predicted column; the pixel labelled 255 is not counted
    counts = confusion(np.array([[0, 0, 1, 1, 255]], np.uint8), np.array([[0, 1, 1, 1, 0]], np.uint8), 2)
    np.testing.assert_array_equal(counts, [[1, 1], [0, 2]])
    assert pixel_accuracy(counts) == 3 / 4
    assert class_ious(counts) == [1 / 2, 2 / 3]
    assert mean_iou(counts) == pytest.approx(7 / 12)


def test_shares_of_classes_by_hand():
    # three classes; the last is predicted once and never labelled
    counts = np.array([[5, 1, 0], [2, 3, 1], [0, 0, 0]])
    assert class_precisions(counts) == [5 / 7, 3 / 4, 0]
    recalls = class_recalls(counts)
    assert recalls[:2] == [5 / 6, 3 / 6]
    assert math.isnan(recalls[2])
    assert class_ious(counts) == [5 / 8, 3 / 7, 0]
    assert class_dice(counts) == [10 / 13, 6 / 10, 0]
    assert mean_iou(counts) == pytest.approx((5 / 8 + 3 / 7) / 3)
    never = np.array([[5, 1, 0], [2, 4, 0], [0, 0, 0]])  # a class on neither side is no part of the mean
    assert math.isnan(class_ious(never)[2])
    assert mean_iou(never) == pytest.approx((5 / 8 + 4 / 7) / 2)


def test_confusion_of_unequal_shapes_is_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        confusion(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 2)


@pytest.mark.parametrize(
    ("label", "predicted", "message"),
    [
        ([0, 0, 1], np.array([2, 0, 1]), "holds classes 0..2, expected 0..1"),
        ([0, 0, 1], np.array([255, 0, 1], np.uint8), "holds classes 0..255"),
        ([1, 0, 1], np.array([-1, 0, 1]), "holds classes -1..1"),
        ([0, 0, 1], np.array([0.0, 0.7, 1.0]), "prediction has type float64"),
        ([0.0, 0.7, 1.0], np.array([0, 0, 1]), "label has type float64"),
    ],
)
def test_a_class_that_cannot_be_is_refused(label, predicted, message):
    with pytest.raises(ValueError, match=message):
        confusion(np.array(label), predicted, 2)


@pytest.mark.parametrize("kind", [np.bool_, np.int8, np.uint8, np.uint64, np.int64])
def test_confusion_of_every_integer_type_is_the_same(kind):
    counts = confusion(np.array([0, 1, 1], kind), np.array([1, 1, 0], kind), 2)
    np.testing.assert_array_equal(counts, [[0, 1], [1, 1]])


def test_what_is_predicted_where_nothing_is_known_does_not_matter():
    np.testing.assert_array_equal(confusion(np.array([0, 255]), np.array([0, 7]), 2), [[1, 0], [0, 0]])


def test_scores_of_nothing_are_not_a_number():
    counts = confusion(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8), 2)
    assert math.isnan(pixel_accuracy(counts))
    assert math.isnan(mean_iou(counts))


@pytest.mark.parametrize(("iou", "score"), [(0.9, 0.8), (0.85, 0.7), (0.5, 0.0), (0.3, 0.0), (1.0, 1.0), (0.91, 0.9)])
def test_blog_iou(iou, score):
    # ceil(20 (0.9 - 0.5)) / 10 = 8 / 10; 0.91: ceil(8.2) = 9; clipped to 0..1
    assert blog_iou(iou) == pytest.approx(score)


def test_pixel_error_by_hand():
    # label 1 1 0 0
    # t = 0, .1, .2: foreground 1 1 1 0: tp 2, fp 1, fn 0: p = 2/3, r = 1, F = 0.8; one pixel of four is wrong
    # t = .3 to .6:  foreground 1 0 1 0: tp 1, fp 1, fn 1: F = 0.5; two wrong
    # t = .7, .8:    foreground 1 0 0 0: tp 1, fp 0, fn 1: p = 1, r = 1/2, F = 2/3; one wrong
    # t = .9, 1:     foreground 0 0 0 0: p = 1 (no fp), r = 0, F = 0; two wrong
    label, proposal = np.array([[1, 1, 0, 0]]), np.array([[0.85, 0.25, 0.65, 0.0]], np.float32)
    error, rate = pixel_error(label, proposal), misclassification_rate(label, proposal)
    np.testing.assert_allclose(error.values, [0.2] * 3 + [0.5] * 4 + [1 / 3] * 2 + [1.0] * 2, atol=1e-15)
    np.testing.assert_allclose(rate.values, [0.25] * 3 + [0.5] * 4 + [0.25] * 2 + [0.5] * 2, atol=1e-15)
    assert (error.value, error.threshold, error.empty) == (pytest.approx(0.2), 0.0, False)
    assert (rate.value, rate.threshold) == (0.25, 0.0)
    assert error.thresholds == THRESHOLDS


def test_counts_are_pooled_over_slices_not_averaged():
    # slice 1: tp 1, fp 3 (F = 0.4); slice 2: tp 4 (F = 1). Pooled: tp 5, fp 3: p = 5/8, r = 1, F = 10/13; mean 0.7
    label = np.array([[[1, 0, 0, 0]], [[1, 1, 1, 1]]])
    proposal = np.ones(label.shape, np.float32)
    assert pixel_error(label, proposal).value == pytest.approx(3 / 13)


def test_it_is_not_the_misclassification_rate():
    label = np.array([[1, 1, 1, 0]])
    proposal = np.ones((1, 4), np.float32)  # p = 3/4, r = 1, F = 6/7
    assert pixel_error(label, proposal).value == pytest.approx(1 / 7)
    assert misclassification_rate(label, proposal).value == 0.25


@pytest.mark.parametrize(
    ("cell", "found", "error", "rate"),
    [
        (1, 1.0, 0.0, 0.0),
        (0, 0.0, 0.0, 0.0),  # nothing to find, nothing found: p = r = 1
        (1, 0.0, 1.0, 1.0),
        (0, 1.0, 1.0, 1.0),  # the last threshold is below 1, so every pixel is a false positive at all of them
    ],
)
def test_uniform_slices(cell, found, error, rate):
    label, proposal = np.full((2, 3), cell), np.full((2, 3), found, np.float32)
    assert pixel_error(label, proposal).value == error
    assert misclassification_rate(label, proposal).value == rate
    assert pixel_error(label, proposal).empty == (found == 0)


@settings(deadline=None, max_examples=50)
@given(pairs())
def test_invariance(pair):
    cells, proposal = pair
    for score in (pixel_error, misclassification_rate):
        plain = score(cells, proposal)
        assert score(cells, cells).value == 0
        assert score(cells * np.uint8(255), proposal) == plain
        assert score(cells.T, proposal.T) == plain
        assert score(cells[::-1, ::-1], proposal[::-1, ::-1]) == plain
        assert score(np.stack([cells, cells]), np.stack([proposal, proposal])).values == pytest.approx(plain.values)
        assert 0 <= plain.value <= 1
    border = pixel_error(np.pad(cells, 2), np.pad(proposal, 2))
    assert border == pixel_error(cells, proposal)  # true negatives do not count
    wrong = misclassification_rate(np.pad(cells, 2), np.pad(proposal, 2)).value * np.pad(cells, 2).size
    assert wrong == pytest.approx(misclassification_rate(cells, proposal).value * cells.size)
