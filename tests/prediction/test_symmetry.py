"""The symmetries of the square and where they take a rectangle."""

import numpy as np
import pytest

from unet.prediction.symmetry import Box, Symmetry, members, symmetries


@pytest.mark.parametrize("symmetry", members(8), ids=str)
@pytest.mark.parametrize("box", [Box(0, 0, 5, 7), Box(1, 2, 3, 1), Box(4, 0, 1, 7), Box(0, 6, 2, 1)])
def test_a_box_goes_where_its_pixels_go(symmetry, box):
    image = np.arange(35).reshape(5, 7)
    turned = symmetry.turn(image)
    y, x, height, width = symmetry.box(box, 5, 7)
    pixels = image[box.y : box.y + box.height, box.x : box.x + box.width]
    np.testing.assert_array_equal(turned[y : y + height, x : x + width], symmetry.turn(pixels))
    np.testing.assert_array_equal(symmetry.undo(turned), image)
    np.testing.assert_array_equal(symmetry.inverse.turn(turned), image)
    assert symmetry.inverse.box(Box(y, x, height, width), *turned.shape) == box


def test_another_symmetrys_box_would_show():
    box = Box(0, 1, 2, 1)
    assert len({s.box(box, 5, 7) for s in members(8)}) == 8


def test_only_the_first_leaves_an_image_as_it_is():
    image = np.arange(12).reshape(3, 4)
    assert [s.identity for s in members(8)] == [True] + [False] * 7
    assert [np.array_equal(s.turn(image), image) for s in members(8)] == [True] + [False] * 7
    assert Symmetry(False, 4).identity


def test_four_are_the_flips_and_eight_the_square():
    image = np.arange(12).reshape(3, 4)
    flips = (image, np.fliplr(image), np.flipud(image), np.rot90(image, 2))
    turns = tuple(np.rot90(flip, quarters) for flip in (image, np.fliplr(image)) for quarters in range(4))
    for count, wanted in ((1, flips[:1]), (4, flips), (8, turns)):
        found = {s.turn(image).tobytes() + bytes(s.turn(image).shape) for s in members(count)}
        assert found == {np.ascontiguousarray(one).tobytes() + bytes(one.shape) for one in wanted}
        assert len(found) == count


def test_turning_copies_nothing():
    image = np.zeros((2, 3, 4))
    assert all(np.shares_memory(turn(image), image) for turn, _ in symmetries(8))
    assert len(list(symmetries(1))) == 1
