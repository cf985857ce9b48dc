"""Colours of labels and objects."""

import numpy as np

from unet.data.stack import IGNORE
from unet.views.display import IGNORE_COLOUR, label_colours, object_colours


def test_objects_have_colours_of_their_own_and_the_ground_is_black():
    instances = np.array([[0, 0, 7], [7, -3, 90000]])
    colours = object_colours(instances)
    assert colours.shape == (2, 3, 3)
    assert (colours[0, :2] == 0).all()
    np.testing.assert_array_equal(colours[0, 2], colours[1, 0])
    assert len({tuple(c) for c in colours.reshape(-1, 3)}) == 4
    assert (colours[instances != 0].max(axis=-1) > 0.25).all()
    np.testing.assert_array_equal(colours, object_colours(instances))


def test_labels_of_two_classes_are_black_and_white_and_what_is_ignored_violet():
    colours = label_colours(np.array([[0, 1, IGNORE]], np.uint8), 2)
    np.testing.assert_allclose(colours[0], [[0, 0, 0], [1, 1, 1], IGNORE_COLOUR])
    assert len({tuple(c) for c in label_colours(np.arange(5, dtype=np.uint8)[None], 5)[0]}) == 5
