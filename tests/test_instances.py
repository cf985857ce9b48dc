"""Instances of a probability, and the search for settings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unet.errors import ConfigError
from unet.instances import (
    MIN_AREAS,
    InstanceSettings,
    Tried,
    best_settings,
    choose_settings,
    search_settings,
    to_instances,
)
from unet.metrics.instance import seg


def grid(text):
    """Probability 0.9 where '#', 0.4 where '+', else 0."""
    return np.array([[{"#": 0.9, "+": 0.4}.get(c, 0.0) for c in line] for line in text.split()], np.float32)


def instances(text, **kwargs):
    return to_instances(grid(text), InstanceSettings(**kwargs)).tolist()


def test_threshold_and_numbers_by_hand():
    assert instances("#.# #.+") == [[1, 0, 2], [1, 0, 0]]
    assert instances("#.# #.+", threshold=0.3) == [[1, 0, 2], [1, 0, 2]]
    assert instances("+.. ..#", threshold=0.3) == [[1, 0, 0], [0, 0, 2]]


def test_the_threshold_is_strict():
    probability = np.array([[0.5, np.nextafter(np.float32(0.5), np.float32(1))]], np.float32)
    assert to_instances(probability, InstanceSettings()).tolist() == [[0, 1]]


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
    found = to_instances(np.full(shape, value, np.float32), InstanceSettings())
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, np.full(shape, int(value)))


def test_a_stack_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 3, 3\), expected H x W"):
        to_instances(np.zeros((2, 3, 3), np.float32), InstanceSettings())


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
    plain = to_instances(probability, InstanceSettings(0.4, area, connectivity, fill_holes=False))
    np.testing.assert_array_equal(plain, expected)
    filled = to_instances(probability, InstanceSettings(0.4, area, connectivity))
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


def blobs():
    """Two cells; probability falls from 0.95 inside to 0.3 at a bridge between them, specks of 4 px beside."""
    reference = np.zeros((30, 40), np.int32)
    reference[5:25, 3:18], reference[5:25, 21:37] = 1, 2
    probability = np.where(reference > 0, 0.95, 0.02).astype(np.float32)
    probability[10:15, 18:21] = 0.6
    probability[0:2, 0:2] = probability[28:30, 38:40] = 0.97
    return probability, reference


def test_the_search_separates_and_cleans():
    probability, reference = blobs()
    chosen = choose_settings([probability], [reference])
    # above 0.6 both cells are found exactly, 0.65 is nearest to 0.5; 10 px is the smallest area without specks
    assert chosen == InstanceSettings(0.65, 10, 4, True)
    assert seg([reference], [to_instances(probability, chosen)]) == 1
    assert seg([reference], [to_instances(probability, InstanceSettings())]) < 1


def test_every_setting_tried_has_the_score_it_leads_to():
    rng = np.random.default_rng(0)
    probability, reference = blobs()
    noisy = np.clip(probability + rng.normal(0, 0.25, probability.shape), 0, 1).astype(np.float32)
    frames = [probability, noisy], [reference, reference]
    tried = search_settings(*frames, thresholds=[0.3, 0.5, 0.7], min_areas=[0, 3, 20], connectivity=8, fill_holes=False)
    assert len(tried) == 9
    for one in tried:
        results = [to_instances(p, one.settings) for p in frames[0]]
        assert one.seg == pytest.approx(seg(frames[1], results))
        assert one.settings.connectivity == 8
        assert not one.settings.fill_holes
    assert best_settings(tried).threshold == max(tried, key=lambda o: o.seg).settings.threshold


def test_the_rule_among_equals():
    def tried(score, unmatched, threshold, area):
        return Tried(InstanceSettings(threshold, area), score, unmatched)

    tries = [tried(0.9, 9, 0.2, 0), tried(0.9 + 1e-12, 3, 0.2, 0), tried(0.9, 3, 0.6, 10), tried(0.9, 3, 0.6, 5)]
    assert best_settings(tries) == InstanceSettings(0.6, 5)
    assert best_settings([*tries, tried(0.91, 50, 0.9, 0)]) == InstanceSettings(0.9, 0)


def test_areas_above_half_the_smallest_object_are_not_tried():
    reference = np.zeros((20, 20), np.int32)
    reference[:5, :9] = 7  # 45 px
    tried = search_settings([(reference > 0).astype(np.float32)], [reference])
    assert {one.settings.min_area_px for one in tried} == {0, 10, 20}
    assert max(MIN_AREAS) > 22
    only = search_settings([(reference > 0).astype(np.float32)], [reference], min_areas=[1000])
    assert {one.settings.min_area_px for one in only} == {0}


@pytest.mark.parametrize(
    ("probabilities", "references", "message"),
    [
        ([np.zeros((2, 2), np.float32)], [], "1 probabilities but 0 instance masks"),
        ([np.zeros((2, 2), np.float32)], [np.zeros((2, 2), int)], "hold no object"),
        ([np.zeros((2, 3), np.float32)], [np.ones((2, 2), int)], "differ in shape"),
        ([np.zeros((2, 2, 2), np.float32)], [np.ones((2, 2), int)], "expected H x W"),
    ],
)
def test_bad_frames_are_refused(probabilities, references, message):
    with pytest.raises(ValueError, match=message):
        choose_settings(probabilities, references)


def test_settings_survive_a_plain_dictionary():
    chosen = InstanceSettings(0.35, 50, 8, False)
    plain = chosen.to_dict()
    assert plain == {"threshold": 0.35, "min_area_px": 50, "connectivity": 8, "fill_holes": False}
    assert InstanceSettings.from_dict(plain) == chosen
    assert InstanceSettings.from_dict({}) == InstanceSettings()
    assert InstanceSettings.from_dict({"threshold": 0}).threshold == 0


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
    ],
)
def test_bad_settings_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        InstanceSettings.from_dict(values)
