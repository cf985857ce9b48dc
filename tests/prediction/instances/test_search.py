"""The search for instance settings on training frames."""

import cv2
import numpy as np
import pytest

from tests.prediction.instances.test_make import classes
from unet.metrics.instance import seg
from unet.prediction.instances import InstanceSettings, choose_settings, search, searched_frames, to_instances
from unet.prediction.instances.search import (
    MARGIN,
    MIN_AREAS,
    MOST_FRAMES,
    MOST_PX,
    Tried,
    best,
    search_components,
    search_markers,
)


def blobs():
    """Two cells with a bridge of probability 0.6 between them and specks of 4 px beside; K x H x W and reference."""
    reference = np.zeros((30, 40), np.int32)
    reference[5:25, 3:18], reference[5:25, 21:37] = 1, 2
    probability = np.where(reference > 0, 0.95, 0.02).astype(np.float32)
    probability[10:15, 18:21] = 0.6
    probability[0:2, 0:2] = probability[28:30, 38:40] = 0.97
    return classes(probability), reference


def soft(noise=0.0):
    """Two discs that nearly touch, as a network sees them that is unsure about all rims; K x H x W and reference."""
    rows, columns = np.mgrid[:40, :64]
    reference = np.zeros((40, 64), np.int32)
    for number, centre in enumerate((18, 45), start=1):
        reference[(rows - 20) ** 2 + (columns - centre) ** 2 <= 13**2] = number
    cell = cv2.GaussianBlur((reference > 0).astype(np.float32), (0, 0), 3)
    cell += np.random.default_rng(1).normal(0, noise, cell.shape).astype(np.float32) if noise else 0
    return classes(np.clip(cell, 0, 1)), reference


def test_the_search_separates_and_cleans():
    probability, reference = blobs()
    chosen, components = choose_settings([probability], [reference])
    # above 0.6 both cells are found exactly, 0.65 is nearest to 0.5; 10 px is the smallest area without specks
    assert chosen == components == InstanceSettings(0.65, 10, 4, True)
    assert seg([reference], [to_instances(probability, chosen)]) == 1
    assert seg([reference], [to_instances(probability, InstanceSettings())]) < 1


def test_markers_part_soft_cells_that_no_level_can_without_stripping_them():
    probability, reference = soft()
    chosen, components = choose_settings([probability], [reference])
    assert (chosen.rule, components.rule) == ("markers", "components")
    ours, plain = (seg([reference], [to_instances(probability, s)]) for s in (chosen, components))
    assert ours > 0.9
    assert plain < 0.7


@pytest.mark.parametrize(("gain", "rule"), [(MARGIN - 0.001, "components"), (MARGIN + 0.001, "markers")])
def test_markers_must_be_better_by_a_margin(monkeypatch, gain, rule):
    probability, reference = blobs()
    monkeypatch.setattr(search, "search_components", lambda *_: [Tried(InstanceSettings(), 0.8, 0)])
    markers = InstanceSettings(rule="markers")
    monkeypatch.setattr(search, "search_markers", lambda *_: [Tried(markers, 0.8 + gain, 0)])
    chosen = choose_settings([probability], [reference])
    assert (chosen.best.rule, chosen.components.rule) == (rule, "components")


def test_every_setting_tried_has_the_score_it_leads_to():
    rng = np.random.default_rng(0)
    probability, reference = blobs()
    noisy = classes(np.clip(probability[1] + rng.normal(0, 0.25, reference.shape), 0, 1))
    frames = [probability, noisy], [reference, reference]
    tried = search_components(
        *frames, thresholds=[0.3, 0.5, 0.7], min_areas=[0, 3, 20], connectivity=8, fill_holes=False
    )
    assert len(tried) == 9
    for one in tried:
        results = [to_instances(p, one.settings) for p in frames[0]]
        assert one.seg == pytest.approx(seg(frames[1], results))
        assert one.settings.connectivity == 8
        assert not one.settings.fill_holes
    assert best(tried).settings.threshold == max(tried, key=lambda o: o.seg).settings.threshold


def test_what_matches_no_object_is_counted_once():
    """At 0.5 one result holds both cells, and two specks none; above the bridge each cell has its own."""
    probability, reference = blobs()
    merged, parted = search_components([probability], [reference], thresholds=[0.5, 0.65], min_areas=[0])
    assert (merged.unmatched, parted.unmatched) == (2, 2)
    assert merged.seg == pytest.approx((300 + 320) / 635 / 2)


def test_every_marker_setting_tried_has_the_score_it_leads_to():
    frames = zip(soft(), soft(noise=0.1), strict=True)
    probabilities, references = (list(values) for values in frames)
    tried = search_markers(probabilities, references, min_areas=[0, 30])
    assert len({one.settings for one in tried}) == len(tried) > 20
    for one in tried[::7]:
        results = [to_instances(p, one.settings) for p in probabilities]
        assert one.seg == pytest.approx(seg(references, results))
    seeds = {(one.settings.sigma_px, one.settings.height_px) for one in tried if one.settings.threshold == 0.5}
    assert len(seeds) == len(search.SIGMAS_PX) * len(search.HEIGHTS_PX)
    masks = {one.settings.threshold for one in tried if one.settings.sigma_px == best(tried).settings.sigma_px}
    assert masks == set(search.MASK_LEVELS)


def test_three_classes_are_searched_with_their_own_seed_levels():
    probability, reference = soft()
    border = np.zeros(reference.shape, np.float32)
    border[:, 31:33] = 0.5 * probability[1, :, 31:33]
    three = classes(probability[1] - border, border)
    assert {one.settings.seed_levels for one in search_markers([three], [reference])} == {search.SEED_LEVELS[3]}
    chosen, _ = choose_settings([three], [reference])
    assert seg([reference], [to_instances(three, chosen)]) > 0.95


def test_as_many_frames_are_searched_as_time_allows_spread_evenly():
    assert searched_frames([]) == []
    assert searched_frames([100] * 3) == [0, 1, 2]
    many = searched_frames([100] * 115)
    assert (len(many), many[0], many[-1]) == (MOST_FRAMES, 0, 114)
    assert set(np.diff(many)) == {6}
    assert searched_frames([MOST_PX // 3] * 7) == [0, 3, 6]
    assert searched_frames([2 * MOST_PX] * 7) == [0]


def test_the_rule_among_equals():
    def tried(score, unmatched, threshold, area):
        return Tried(InstanceSettings(threshold, area), score, unmatched)

    tries = [tried(0.9, 9, 0.2, 0), tried(0.9 + 1e-12, 3, 0.2, 0), tried(0.9, 3, 0.6, 10), tried(0.9, 3, 0.6, 5)]
    assert best(tries).settings == InstanceSettings(0.6, 5)
    assert best([*tries, tried(0.91, 50, 0.9, 0)]).settings == InstanceSettings(0.9, 0)


@pytest.mark.parametrize("rows", [4, 9])
def test_areas_above_half_the_smallest_object_are_not_tried(rows):
    reference = np.zeros((20, 20), np.int32)
    reference[:rows, :10] = 7  # 40 px: 20 are half of it; 90 px: 50 are more than half
    tried = search_components([classes((reference > 0).astype(np.float32))], [reference])
    assert {one.settings.min_area_px for one in tried} == {0, 10, 20}
    assert 50 in MIN_AREAS
    only = search_components([classes((reference > 0).astype(np.float32))], [reference], min_areas=[1000])
    assert {one.settings.min_area_px for one in only} == {0}


@pytest.mark.parametrize(
    ("probabilities", "references", "message"),
    [
        ([np.zeros((2, 2, 2))], [], "1 probabilities but 0 instance masks"),
        ([np.zeros((2, 2, 2))], [np.zeros((2, 2), int)], "hold no object"),
        ([np.zeros((2, 2, 3))], [np.ones((2, 2), int)], "differ in shape"),
        ([np.zeros((2, 2))], [np.ones((2, 2), int)], "expected K x H x W"),
    ],
)
def test_bad_frames_are_refused(probabilities, references, message):
    with pytest.raises(ValueError, match=message):
        choose_settings(probabilities, references)
