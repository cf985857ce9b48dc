"""Medians, training losses and spikes on rows whose answer is known."""

import math

import pytest

from unet.study.curves import curve, final_training_loss, last_median, spikes


def training(*pairs):
    """Rows of (mean loss, largest loss), ten updates each."""
    return [{"update": 10 * (i + 1), "part": "train", "loss": a, "loss_max": b} for i, (a, b) in enumerate(pairs)]


def test_the_last_five_evaluations_decide():
    rows = [{"update": i, "part": "held_out", "mean_iou": v} for i, v in enumerate([0.0, 0.9, 0.1, 0.5, 0.3, 0.4, 0.2])]
    assert last_median(rows, "mean_iou") == 0.3
    assert last_median(rows[:2], "mean_iou") == 0.45
    assert last_median([], "mean_iou") is None
    assert last_median([*rows, {"update": 9, "part": "held_out", "mean_iou": None}], "mean_iou") == 0.3


def test_curves_keep_the_parts_apart():
    rows = [*training((1.0, 2.0)), {"update": 10, "part": "held_out", "loss": 5.0}]
    assert curve(rows, "train", "loss") == ([10], [1.0])
    assert curve(rows, "held_out", "loss") == ([10], [5.0])


def test_the_final_training_loss_is_that_of_the_last_tenth():
    rows = training(*[(float(i), float(i)) for i in range(1, 31)])
    assert final_training_loss(rows) == pytest.approx((28 + 29 + 30) / 3)
    assert final_training_loss(training((2.0, 2.0))) == 2.0
    assert final_training_loss([]) == math.inf
    assert final_training_loss(training((1.0, 1.0), (math.nan, math.nan))) == math.inf


CALM = [(1.0, 1.5)] * 10


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        (CALM, 0),
        ([*CALM, (1.3, 2.9)], 0),
        ([*CALM, (1.3, 3.1)], 1),
        ([*CALM, (2.0, 9.0), (2.0, 9.0), (1.0, 1.0), (1.5, 4.0)], 2),  # neighbours are one
        ([(1.0, 50.0)] * 10, 0),  # nothing to compare with yet
        ([*[(0.1, 0.1)] * 10, *[(1.0, 1.0)] * 20], 1),  # a new level is a spike once
        ([*CALM, (9.0, 9.0), *CALM, (1.0, 3.5)], 2),  # one outlier does not move the median
    ],
)
def test_spikes(rows, count):
    assert spikes(training(*rows)) == count
