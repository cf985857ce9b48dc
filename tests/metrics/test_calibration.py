"""Expected calibration error by hand, and against its definition pixel by pixel."""

import math

import numpy as np
import pytest

from unet.metrics.calibration import BINS, reliability


def of_two(confidence, right):
    """One row of pixels: class 1 with this probability; `right` says whether the label is 1."""
    p = np.array(confidence)[None]
    return np.array(right, np.uint8)[None], np.stack([1 - p, p])


def test_by_hand():
    """Four pixels at 0.9, three of them right, and two at 0.7, both right: (4 |0.75 - 0.9| + 2 |1 - 0.7|) / 6."""
    found = reliability([of_two([0.9] * 4 + [0.7] * 2, [1, 1, 1, 0, 1, 1])])
    assert found.error == pytest.approx((4 * 0.15 + 2 * 0.3) / 6)
    assert found.points() == [(pytest.approx(0.7), 1.0, 2), (pytest.approx(0.9), 0.75, 4)]


def test_a_confidence_on_an_edge_belongs_to_the_lower_bin():
    """12 / 15 is the upper edge of the twelfth bin and no part of the thirteenth, where 0.85 lies."""
    found = reliability([of_two([12 / 15, 0.85], [1, 1])])
    assert found.pixels.nonzero()[0].tolist() == [11, 12]


def test_frames_are_pooled_and_unknown_pixels_left_out():
    """Too sure in one frame, too unsure in the other: pooled they cancel out, which a mean over frames would not."""
    first, second = of_two([0.75] * 4, [1, 1, 0, 0]), of_two([0.75] * 4, [1, 1, 1, 1])
    assert reliability([first]).error == pytest.approx(0.25)
    assert reliability([first, second]).error == pytest.approx(0)
    unknown = of_two([0.75] * 4, [1, 1, 255, 255])
    assert reliability([unknown]).pixels.sum() == 2
    assert math.isnan(reliability([of_two([0.8], [255])]).error)


def test_the_definition_pixel_by_pixel():
    rng = np.random.default_rng(0)
    scores = rng.gamma(1, size=(3, 40, 50))
    probabilities, label = scores / scores.sum(axis=0), rng.integers(0, 3, (40, 50))
    bins = [[] for _ in range(BINS)]
    for y in range(40):
        for x in range(50):
            p = probabilities[:, y, x]
            place = next(b for b in range(BINS) if p.max() <= (b + 1) / BINS)
            bins[place].append((p.max(), p.argmax() == label[y, x]))
    wanted = sum(abs(sum(r for _, r in b) - sum(c for c, _ in b)) for b in bins) / 2000
    assert reliability([(label, probabilities)]).error == pytest.approx(wanted, rel=1e-12)


def test_a_sure_and_right_prediction_is_calibrated_and_a_sure_and_wrong_one_is_not():
    assert reliability([of_two([1.0] * 5, [1] * 5)]).error == 0
    assert reliability([of_two([1.0] * 5, [0] * 5)]).error == 1


@pytest.mark.parametrize(("shape", "value"), [((2, 3, 3), 0.5), ((2, 3, 4), 1.5)])
def test_mistakes(shape, value):
    with pytest.raises(ValueError, match="differ in height|must lie"):
        reliability([(np.zeros((3, 4), int), np.full(shape, value))])
