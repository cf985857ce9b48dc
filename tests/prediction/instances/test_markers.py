"""Instances by seeds and a watershed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.morphology import h_maxima

from tests.prediction.instances.test_make import classes
from unet.prediction.instances import InstanceSettings, to_instances
from unet.prediction.instances.make import distance
from unet.prediction.instances.peaks import peaks


def by_markers(probabilities, **kwargs):
    one = {"sigma_px": 0.0, "height_px": 1.0, "seed_levels": (0.5,)}
    return to_instances(probabilities, InstanceSettings(rule="markers", **(one | kwargs)))


def dumbbell():
    """Two squares of 7 px joined by a bar of 3 px, five long, in the middle of their sides; probability 0.9."""
    cell = np.zeros((9, 21))
    cell[1:8, 1:8] = cell[1:8, 13:20] = cell[3:6, 8:13] = 0.9
    return cell


def test_peaks_by_hand():
    line = np.array([[0, 3, 1, 2, 0, 5, 4, 5, 0, -1]], np.float32)
    where, rises = peaks(line)
    found = dict(zip(where.tolist(), rises.tolist(), strict=True))
    # 3 and the first 5 end at 0; 2 ends at the saddle 1, the second 5 at 4
    assert found == {1: 3, 5: 5, 3: 1, 7: 1}
    assert [len(values) for values in peaks(np.zeros((3, 4), np.float32))] == [0, 0]
    flat, rise = peaks(np.full((3, 4), 2, np.float32))
    assert (flat.tolist(), rise.tolist()) == ([0], [2])
    corners = np.array([[4, 0], [0, 3]], np.float32)  # 8-connected: 3 is the flank of 4
    assert peaks(corners)[0].tolist() == [0]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.05, 0.1]))
def test_peaks_are_the_h_maxima_of_scikit_image(seed, height):
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.random(rng.integers(3, 30, 2)), 1).astype(np.float32)  # no two values equal
    where, rises = peaks(image)
    ours = np.zeros(image.size, bool)
    ours[where[rises >= height]] = True
    np.testing.assert_array_equal(ours.reshape(image.shape), h_maxima(image, height).astype(bool))


def test_the_mean_distance_by_hand():
    cell = np.array([[0.0, 0.5, 0.7, 0.9, 0.9]])
    np.testing.assert_allclose(distance(classes(cell).astype(np.float32), (0.4,)), [[0, 1, 2, 3, 4]])
    # above 0.6: 0 0 1 2 3; the edge of the image is no background
    np.testing.assert_allclose(distance(classes(cell).astype(np.float32), (0.4, 0.6)), [[0, 0.5, 1.5, 2.5, 3.5]])
    # no background at all: the longer side
    np.testing.assert_allclose(distance(classes(np.full((1, 5), 0.7)), (0.4, 0.6)), np.full((1, 5), 5))


def test_a_neck_is_cut_where_no_threshold_could():
    probabilities = classes(dumbbell())
    assert to_instances(probabilities, InstanceSettings()).max() == 1
    found = by_markers(probabilities)
    assert found.max() == 2
    np.testing.assert_array_equal(found > 0, dumbbell() > 0)
    assert len(np.unique(found[1:8, 1:9])) == 3 - 1  # the left square is one object (and background beside the bar)
    assert (found[1:8, 1:8] == found[4, 4]).all()
    assert (found[1:8, 13:20] == found[4, 16]).all()
    assert found[4, 4] != found[4, 16]


def test_a_seed_must_rise_and_a_small_object_goes():
    probabilities = classes(dumbbell())
    # the squares are 4 px deep, the bar 2: each rises 2 above the saddle between them
    assert by_markers(probabilities, height_px=1.9).max() == 2
    assert by_markers(probabilities, height_px=2.1).max() == 1
    assert by_markers(probabilities, height_px=4.1).max() == 0  # the highest rises 4 above the ground
    small = dumbbell()
    small[:, 12:] = 0
    small[4:6, 14:16] = 0.9
    assert by_markers(classes(small), min_area_px=4).max() == 2
    assert by_markers(classes(small), min_area_px=5).max() == 1


def test_the_border_belongs_to_the_cells_beside_it():
    cell = np.zeros((9, 15))
    cell[1:8, 1:7] = cell[1:8, 8:14] = 0.9
    border = np.zeros(cell.shape)
    cell[1:8, 7], border[1:8, 7] = 0.15, 0.8
    three = classes(cell, border)
    assert to_instances(three, InstanceSettings())[4, 7] == 0
    found = by_markers(three)  # 0.15 / (0.15 + 0.05) = 0.75
    assert found.max() == 2
    assert found[1:8, 7].all()
    assert not by_markers(three, threshold=0.8)[1:8, 7].any()


def test_holes_and_connectivity():
    ring = np.zeros((9, 9))
    ring[1:8, 1:8] = 0.9
    ring[4, 4] = 0
    assert by_markers(classes(ring), height_px=1.5)[4, 4] == 1
    assert by_markers(classes(ring), height_px=1.5, fill_holes=False)[4, 4] == 0
    corner = np.zeros((8, 8))  # two squares that meet at a corner; the small one is too flat for a seed
    corner[:6, :6] = corner[6:, 6:] = 0.9
    four, eight = (by_markers(classes(corner), height_px=3.0, connectivity=c) for c in (4, 8))
    assert (four[0, 0], four[7, 7]) == (1, 0)
    assert (eight[0, 0], eight[7, 7]) == (1, 1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 3)])
@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_uniform_probabilities(shape, value, sigma):
    found = by_markers(classes(np.full(shape, value)), sigma_px=sigma)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, np.full(shape, int(value)))
