"""Medians, training losses and spikes on rows whose answer is known."""

import math

import pytest

from unet.study.curves import curve, final_training_loss, last_median, scores, spikes


def training(*pairs):
    """Rows of (mean loss, largest loss), ten updates each."""
    return [{"update": 10 * (i + 1), "part": "train", "loss": a, "loss_max": b} for i, (a, b) in enumerate(pairs)]


def test_the_last_five_evaluations_decide():
    rows = [{"update": i, "part": "held_out", "mean_iou": v} for i, v in enumerate([0.0, 0.9, 0.1, 0.8, 0.3, 0.4, 0.2])]
    assert last_median(rows, "mean_iou") == 0.3  # their mean is 0.36
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


def evaluations(*losses):
    """Rows of held-out losses, every hundred updates, between rows of training that leap as they like."""
    rows = [{"update": 100 * (i + 1), "part": "held_out", "loss": a} for i, a in enumerate(losses)]
    return [row for i, made in enumerate(rows) for row in (training((1.0 + 90 * (i % 2), 99.0))[0], made)]


CALM = [1.0] * 5


@pytest.mark.parametrize(
    ("losses", "count"),
    [
        (CALM, 0),
        ([*CALM, 1.9], 0),
        ([*CALM, 2.1], 1),
        ([*CALM, 9.0, 9.0, 1.0, 2.5], 2),  # neighbours are one
        ([1.0, 1.0, 50.0], 0),  # too little to compare with yet
        ([1.0, 1.0, 1.0, 50.0], 1),
        ([*[0.1] * 5, *[1.0] * 20], 1),  # a new level is a spike once
        ([*CALM, 9.0, *CALM, 2.2], 2),  # one outlier does not move the median
    ],
)
def test_spikes_are_those_of_the_loss_on_fixed_images(losses, count):
    assert spikes(evaluations(*losses)) == count


def test_the_scores_of_curves():
    rows = training(*[(float(i), 99.0) for i in range(1, 11)])
    rows += [{"update": 9, "part": "held_out", "mean_iou": v, "loss": 1 - v} for v in (0.1, 0.7, 0.4)]
    assert scores(rows) == {"spikes": 0.0, "train_loss": 10.0, "mean_iou_last5": 0.4, "loss_last5": 0.6}
    assert scores([]) == {"spikes": 0.0, "train_loss": math.inf}
