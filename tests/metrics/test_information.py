"""Variation of information by hand, in bits."""

import math

import numpy as np
import pytest

from unet.metrics.information import variation_of_information


def row(*values):
    return np.array([values])


@pytest.mark.parametrize(
    ("reference", "result", "split", "merge"),
    [
        (row(1, 1, 2, 2), row(7, 7, 9, 9), 0, 0),
        (row(1, 1, 2, 2), row(5, 5, 5, 5), 0, 1),  # two equal objects in one: a bit
        (row(1, 1, 1, 1), row(5, 5, 6, 6), 1, 0),
        (row(1, 1, 1, 1), row(5, 5, 0, 0), 1, 0),  # what is missing is a region too
        (row(1, 1, 2, 2, 0, 0), row(1, 1, 2, 2, 3, 4), 0, 0),  # the background does not count
        (row(1, 1, 1, 2), row(5, 5, 5, 5), 0, -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))),
        (row(2**40, 2**40, 2), row(1, 1, 2), 0, 0),
    ],
)
def test_by_hand(reference, result, split, merge):
    assert variation_of_information([reference], [result]) == pytest.approx((split, merge))
    assert variation_of_information([reference], [result], [reference == -1]) == pytest.approx((split, merge))


def test_frames_share_no_object():
    """Of frames with 4 and 2 object pixels: 4 pixels with one bit of merge, 2 with none."""
    references, results = [row(1, 1, 2, 2), row(1, 1, 0, 0)], [row(1, 1, 1, 1), row(1, 1, 0, 0)]
    assert variation_of_information(references, results) == pytest.approx((0, 4 / 6))
    unknown = [None, row(True, True, False, False)]
    assert variation_of_information(references, results, unknown) == pytest.approx((0, 1))


def test_without_objects_it_is_not_defined():
    assert all(map(math.isnan, variation_of_information([row(0, 0)], [row(1, 0)])))
    with pytest.raises(ValueError, match="differ in shape"):
        variation_of_information([row(1, 1)], [row(1)])
