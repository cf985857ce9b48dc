"""Cross-entropy and the pooling of pixel scores, worked by hand."""

import math

import numpy as np
import pytest

from unet.data.stack import Frame, Normalisation, Stack
from unet.errors import DataError
from unet.evaluation.frames import FramePrediction, collapsed, cross_entropy, pixel_scores, predict_frames
from unet.metrics.pixel import confusion

LN_2, LN_4, LN_4_3 = 0.6931471805599453, 1.3862943611198906, 0.28768207245178085  # of 2, 4 and 4/3


def two_classes(foreground):
    """Probabilities 2 x H x W of the foreground given."""
    foreground = np.array(foreground, np.float32)
    return np.stack([1 - foreground, foreground])


def test_a_coin_toss_costs_ln_2_whatever_the_label():
    label = np.array([[0, 1, 1], [1, 0, 1]], np.uint8)
    assert cross_entropy(two_classes(np.full((2, 3), 0.5)), label) == pytest.approx(LN_2)


def test_the_probability_of_the_true_class_counts_pixel_by_pixel():
    # true classes have 3/4, 1/4, 1/4, 3/4
    found = cross_entropy(two_classes([[0.25, 0.75], [0.25, 0.75]]), np.array([[0, 0], [1, 1]], np.uint8))
    assert found == pytest.approx((LN_4_3 + LN_4) / 2)


def test_pixels_that_are_not_known_cost_nothing():
    label = np.array([[0, 255], [255, 255]], np.uint8)
    assert cross_entropy(two_classes([[0.5, 0.75], [0.25, 1.0]]), label) == pytest.approx(LN_2)
    assert math.isnan(cross_entropy(two_classes([[0.5]]), np.array([[255]], np.uint8)))


def test_a_true_class_of_probability_0_costs_a_finite_loss():
    assert cross_entropy(two_classes([[0.0]]), np.array([[1]], np.uint8)) == pytest.approx(30 * math.log(10))


# one known pixel, wrong; nine known pixels, the last of them wrong: the foreground has 3/4 where it is found
ONE = Frame("one", "a", np.zeros((1, 3, 3), np.float32), np.array([[1, 255, 255]] + [[255] * 3] * 2, np.uint8))
NINE = Frame("nine", "a", np.ones((1, 3, 3), np.float32), np.array([[0] * 3, [0] * 3, [1] * 3], np.uint8))
STACK = Stack("two", (ONE, NINE), ("ground", "cell"), Normalisation(), "made in the test")
PREDICTED = {
    0.0: two_classes([[0.25, 0.75, 0.75], [0.75] * 3, [0.25] * 3]),
    1.0: two_classes([[0.25] * 3, [0.25] * 3, [0.75, 0.75, 0.25]]),
}


@pytest.fixture
def predictions(monkeypatch):
    monkeypatch.setattr(
        "unet.evaluation.frames.predict_image", lambda _, image, *__, **___: PREDICTED[float(image[0, 0, 0])]
    )
    return predict_frames(None, STACK, [0, 1])


def test_scores_of_two_frames_are_pooled_pixel_by_pixel(predictions):
    scores = pixel_scores(predictions, STACK.class_names)
    assert scores["loss"] == pytest.approx((8 * LN_4_3 + 2 * LN_4) / 10)
    assert scores["pixel_accuracy"] == pytest.approx(8 / 10)
    assert scores["iou_ground"] == pytest.approx(6 / 8)
    assert scores["iou_cell"] == pytest.approx(2 / 4)
    assert scores["mean_iou"] == pytest.approx(5 / 8)


def test_scores_of_each_frame(predictions):
    one, nine = (pixel_scores([p], STACK.class_names) for p in predictions)
    assert (one["loss"], one["pixel_accuracy"], one["mean_iou"]) == (pytest.approx(LN_4), 0, 0)
    assert nine["loss"] == pytest.approx((8 * LN_4_3 + LN_4) / 9)
    assert nine["pixel_accuracy"] == pytest.approx(8 / 9)
    assert nine["mean_iou"] == pytest.approx((6 / 7 + 2 / 3) / 2)


def test_a_frame_without_a_label_cannot_be_scored():
    bare = Stack("bare", (Frame("bare", "a", ONE.image),), ("ground", "cell"), Normalisation(), "made in the test")
    with pytest.raises(DataError, match="bare has no label to be scored against"):
        predict_frames(None, bare, [0])


def prediction(foreground, label):
    probabilities, label = two_classes(foreground), np.array(label, np.uint8)
    counts = confusion(label, probabilities.argmax(axis=0).astype(np.uint8), 2)
    frame = Frame("f", "s", probabilities[1:], label)
    return FramePrediction(frame, probabilities, 0.0, counts)


RAMP = np.linspace(0.1, 0.4, 400).reshape(20, 20)
HALF = np.arange(400).reshape(20, 20) % 2


@pytest.mark.parametrize(
    ("foreground", "label", "expected"),
    [
        (np.full((20, 20), 0.7), HALF, True),
        (RAMP, HALF, True),  # it varies, but everything is background
        (1 - RAMP, HALF, True),
        (np.where(HALF, 0.9, 0.1), HALF, False),
        (np.where(np.arange(400).reshape(20, 20) < 2, 0.9, 0.1), HALF, False),  # 2 of 200: one in a hundred
        (np.where(np.arange(400).reshape(20, 20) < 1, 0.9, 0.1), HALF, True),
        (RAMP, np.zeros((20, 20)), False),  # truly of one class
        (np.where(HALF, 0.502, 0.498), HALF, True),  # all but a coin toss
    ],
)
def test_a_network_that_says_the_same_everywhere_has_collapsed(foreground, label, expected):
    assert collapsed([prediction(foreground, label)]) == expected
    assert not collapsed([prediction(foreground, label), prediction(np.where(HALF, 0.9, 0.1), HALF)])


def test_nothing_predicted_has_not_collapsed():
    assert not collapsed([])
