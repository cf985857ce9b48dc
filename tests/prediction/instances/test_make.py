"""Instances of class probabilities by connected components, and settings as plain dictionaries."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unet.errors import ConfigError
from unet.prediction.instances import InstanceSettings, to_instances


def classes(cell, border=None):
    """K x H x W of background, cell and perhaps border; float32."""
    rest = [] if border is None else [border]
    return np.stack([1 - cell - sum(rest), cell, *rest]).astype(np.float32)


def grid(text):
    """Probability of cell 0.9 where '#', 0.4 where '+', else 0."""
    return np.array([[{"#": 0.9, "+": 0.4}.get(c, 0.0) for c in line] for line in text.split()], np.float32)


def instances(text, **kwargs):
    return to_instances(classes(grid(text)), InstanceSettings(**kwargs)).tolist()


def test_threshold_and_numbers_by_hand():
    assert instances("#.# #.+") == [[1, 0, 2], [1, 0, 0]]
    assert instances("#.# #.+", threshold=0.3) == [[1, 0, 2], [1, 0, 2]]
    assert instances("+.. ..#", threshold=0.3) == [[1, 0, 0], [0, 0, 2]]


def test_the_threshold_is_strict():
    probability = np.array([[0.5, np.nextafter(np.float32(0.5), np.float32(1))]], np.float32)
    assert to_instances(classes(probability), InstanceSettings()).tolist() == [[0, 1]]


def test_connectivity_by_hand():
    assert instances("#. .#") == [[1, 0], [0, 2]]
    assert instances("#. .#", connectivity=8) == [[1, 0], [0, 1]]


def test_minimal_area_by_hand():
    assert instances("#.## ..##", min_area_px=2) == [[0, 0, 1, 1], [0, 0, 1, 1]]
    assert instances("#.## ..##", min_area_px=4) == [[0, 0, 1, 1], [0, 0, 1, 1]]
    assert instances("#.## ..##", min_area_px=5) == [[0] * 4] * 2


def test_holes_by_hand():
    ring = "### #.# ###"
    assert instances(ring) == [[1] * 3] * 3
    assert instances(ring, fill_holes=False) == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    # open at the image border: no hole
    assert instances("#.# #.# ###") == [[1, 0, 1], [1, 0, 1], [1, 1, 1]]
    # open at a corner: background passes through between pixels that are not connected there
    assert instances("##. #.# ###")[1] == [1, 0, 1]
    assert instances(".## #.# ###", connectivity=8)[1] == [1, 1, 1]


def test_a_hole_with_another_object_in_it_stays():
    text = "##### #...# #.#.# #...# #####"
    found = np.array(instances(text))
    assert found[2, 2] == 2
    assert (found == 0).sum() == 8
    # but a speck that is dropped first does not keep the hole open
    assert instances(text, min_area_px=2) == [[1] * 5] * 5


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 3)])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_uniform_probabilities(shape, value):
    found = to_instances(classes(np.full(shape, value)), InstanceSettings())
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, np.full(shape, int(value)))


@pytest.mark.parametrize("shape", [(3, 3), (1, 3, 3), (4, 3, 3)])
def test_what_is_no_background_and_cell_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected K x H x W of background, cell and perhaps border"):
        to_instances(np.zeros(shape, np.float32), InstanceSettings())


def test_of_three_classes_the_components_are_those_of_the_cell():
    cell = np.array([[0.9, 0.3, 0.9, 0.2]])
    border = np.array([[0.1, 0.6, 0.0, 0.7]])
    assert to_instances(classes(cell, border), InstanceSettings()).tolist() == [[1, 0, 2, 0]]
    assert to_instances(classes(cell, border), InstanceSettings(0.25)).tolist() == [[1, 1, 1, 0]]


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**32 - 1), st.sampled_from([4, 8]), st.integers(0, 6))
def test_against_scipy(seed, connectivity, area):
    rng = np.random.default_rng(seed)
    probability = rng.random(rng.integers(1, 14, 2)).astype(np.float32)
    around = np.ones((3, 3)) if connectivity == 8 else None
    ids, count = ndimage.label(probability > 0.4, around)
    large = [k for k in range(1, count + 1) if (ids == k).sum() >= area]
    expected = np.zeros(ids.shape, int)
    for number, k in enumerate(large, start=1):
        expected[ids == k] = number
    plain = to_instances(classes(probability), InstanceSettings(0.4, area, connectivity, fill_holes=False))
    np.testing.assert_array_equal(plain, expected)
    filled = to_instances(classes(probability), InstanceSettings(0.4, area, connectivity))
    np.testing.assert_array_equal(filled[expected > 0], expected[expected > 0])
    for number in range(1, len(large) + 1):
        # everything this object encloses alone is its own; its hole with a second object in it is not
        holes, count = ndimage.label(expected == 0, None if connectivity == 8 else np.ones((3, 3)))
        inside = ndimage.binary_fill_holes(expected == number, None if connectivity == 8 else np.ones((3, 3)))
        for k in range(1, count + 1):
            hole = holes == k
            around_hole = set(expected[ndimage.binary_dilation(hole)].tolist()) - {0}
            own = hole[inside].sum() == hole.sum() and around_hole == {number}
            assert (filled[hole] == number).all() if own else not (filled[hole] == number).any()


def test_settings_survive_a_plain_dictionary():
    chosen = InstanceSettings(0.35, 50, 8, False)
    plain = {"threshold": 0.35, "min_area_px": 50, "connectivity": 8, "fill_holes": False}
    assert chosen.to_dict() == plain | {"rule": "components"}
    assert InstanceSettings.from_dict(chosen.to_dict()) == chosen
    assert InstanceSettings.from_dict(plain) == chosen  # as written before there was a choice of rules
    assert InstanceSettings.from_dict({}) == InstanceSettings()
    assert InstanceSettings.from_dict({"threshold": 0}).threshold == 0
    markers = InstanceSettings(0.7, 20, rule="markers", seed_levels=(0.2, 0.5), sigma_px=1.5, height_px=3.0)
    assert markers.to_dict()["seed_levels"] == [0.2, 0.5]
    assert InstanceSettings.from_dict(json.loads(json.dumps(markers.to_dict()))) == markers


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"treshold": 0.5}, "did you mean 'threshold'"),
        ({"threshold": 1.0}, "0 <= threshold < 1"),
        ({"threshold": float("nan")}, "0 <= threshold < 1"),
        ({"threshold": "0.5"}, "a value such as 0.5"),
        ({"min_area_px": -1}, "0 or more pixels"),
        ({"min_area_px": 2.5}, "a value such as 0"),
        ({"connectivity": 6}, "use 4 or 8"),
        ({"fill_holes": 1}, "a value such as True"),
        ({"rule": "marker"}, "use components or markers"),
        ({"seed_levels": []}, r"use levels in \[0, 1\)"),
        ({"seed_levels": [0.5, 1.0]}, r"use levels in \[0, 1\)"),
        ({"seed_levels": ["0.5"]}, "a value such as"),
        ({"sigma_px": float("nan")}, "use 0..100 pixels"),
        ({"height_px": 0.0}, "use more than 0 pixels"),
    ],
)
def test_bad_settings_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        InstanceSettings.from_dict(values)
