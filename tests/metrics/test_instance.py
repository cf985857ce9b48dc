"""SEG, DET, AP, PQ by hand, against sets of pixels, and against py-ctcmetrics where the definitions coincide."""

import math

import numpy as np
import pytest
import tifffile
from ctc_metrics.metrics.technical.det import det as their_det
from ctc_metrics.metrics.technical.seg import seg as their_seg
from ctc_metrics.utils.representations import count_acyclic_graph_correction_operations
from ctc_metrics.utils.representations import match as their_match
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unet.metrics.instance import (
    AP_THRESHOLDS,
    Match,
    Panoptic,
    average_precision,
    detection,
    foreground_iou,
    match_objects,
    panoptic_quality,
    seg,
)


def row(*values):
    return np.array([values], np.uint16)


def test_seg_and_det_by_hand():
    # object 1 (3 px): result 5 (4 px) holds 2 > 3/2: IoU 2 / (3 + 4 - 2); object 2 (2 px): held whole: IoU 2 / 4
    reference, result = row(1, 1, 1, 2, 2, 0), row(5, 5, 0, 5, 5, 0)
    assert match_objects(reference, result) == [Match(1, 5, 0.4), Match(2, 5, 0.5)]
    assert seg([reference], [result]) == pytest.approx(0.45)
    # one result object to split, nothing missing: C = 5, V = 2
    assert detection([reference], [result]) == (1 - 5 / 20, 1, 0, 0, 2)


def test_exactly_half_is_no_match():
    reference, result = row(1, 1), row(3, 0)
    assert match_objects(reference, result) == [Match(1, 0, 0.0)]
    assert seg([reference], [result]) == 0
    assert detection([reference], [result]) == (0.0, 0, 1, 1, 1)  # C = 11, cut at 10 V


def test_an_object_in_pieces_is_one_object():
    reference = row(1, 0, 1, 0, 1)
    assert seg([reference], [row(4, 0, 4, 0, 4)]) == 1
    assert seg([reference], [row(4, 0, 4, 0, 5)]) == pytest.approx(2 / 3)
    assert seg([reference], [row(4, 0, 5, 0, 6)]) == 0  # relabelled into pieces nothing matches


def test_false_positives_cost_det_but_not_seg():
    reference, result = row(1, 0, 0), row(1, 2, 3)
    assert seg([reference], [result]) == 1
    assert detection([reference], [result]) == (1 - 2 / 10, 0, 0, 2, 1)


def test_objects_of_all_frames_count_alike():
    # frame 1: 1 object found; frame 2: 3 objects, none found: 1/4, not the mean of the frames 1/2
    references, results = [row(1, 0, 0), row(1, 2, 3)], [row(7, 0, 0), row(0, 0, 0)]
    assert seg(references, results) == 0.25
    assert detection(references, results).det == pytest.approx(1 - 30 / 40)


def test_labels_have_no_meaning_beyond_identity():
    reference, result = row(1, 1, 2, 2, 0, 3), row(1, 1, 1, 2, 2, 0)
    renamed = np.array([0, 40000, 7, 65535], np.uint16)
    for a, b in [(renamed[reference], result), (reference, renamed[result]), (reference.T, result.T)]:
        assert seg([a], [b]) == seg([reference], [result])
        assert detection([a], [b]) == detection([reference], [result])
        assert average_precision([a], [b]) == average_precision([reference], [result])
    large = reference.astype(np.int64) * 2**40
    assert match_objects(large, result)[0] == Match(2**40, 1, pytest.approx(2 / 3))


def test_labels_that_floating_point_cannot_tell_apart_are_apart():
    mask = np.array([[2**53, 2**53 + 1, 1, 0], [2**63 - 1, 2**63 - 2, 1, 0]], np.uint64)
    assert seg([mask], [mask]) == detection([mask], [mask]).det == 1
    with pytest.raises(ValueError, match="reference holds the label 9223372036854775808; labels count from 0"):
        seg([np.array([[2**63, 0]], np.uint64)], [row(1, 0)])


@pytest.mark.parametrize("score", [seg, detection, foreground_iou, average_precision, panoptic_quality])
def test_a_mask_in_place_of_a_list_of_masks_is_refused(score):
    mask = np.zeros((6, 6), np.uint16)
    with pytest.raises(ValueError, match=r"reference frame has shape \(6,\), .* give a list of frames"):
        score(mask, mask)


def test_foreground_iou_by_hand():
    references, results = [row(1, 1, 2, 0), row(0, 0, 0, 0)], [row(9, 0, 9, 9), row(1, 0, 0, 0)]
    assert foreground_iou(references, results) == 2 / 5  # pooled: shared 2, union 4 + 1
    ignore = [np.array([[False, False, False, True]]), None]
    assert foreground_iou(references, results, ignore) == 2 / 4


def test_average_precision_by_hand():
    # object 1: IoU 3/4, which exceeds 0.5 .. 0.7 but not 0.75; object 2: IoU 1
    # 0.5 .. 0.7: 2 of 2; 0.75 .. 0.95: TP 1, FP 1, FN 1
    reference, result = row(1, 1, 1, 1, 2, 2, 0), row(3, 3, 3, 0, 4, 4, 0)
    precision = average_precision([reference], [result])
    assert tuple(precision) == AP_THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    assert list(precision.values()) == pytest.approx([1.0] * 5 + [1 / 3] * 5)
    # a frame in which nothing is found counts 0, one without objects 1
    two = average_precision([reference, reference, row(0)], [result, np.zeros_like(reference), row(0)])
    assert two[0.5] == pytest.approx((1 + 0 + 1) / 3)


def test_an_iou_of_one_half_is_no_match():
    reference, result = row(1, 1, 0), row(0, 2, 0)
    assert average_precision([reference], [result], thresholds=[0.5]) == {0.5: 0.0}
    assert panoptic_quality([reference], [result]) == Panoptic(0.0, 0.0, 0.0)


def test_panoptic_quality_by_hand():
    reference, result = row(1, 1, 1, 1, 2, 2, 0), row(3, 3, 3, 0, 4, 4, 0)
    assert panoptic_quality([reference], [result]) == Panoptic(0.875, 0.875, 1.0)
    # one more result object: TP 2, FP 1: recognition 2 / 2.5
    assert panoptic_quality([reference], [row(3, 3, 3, 0, 4, 4, 5)]).quality == pytest.approx(1.75 / 2.5)
    # pooled over frames, with a frame of one missed object: recognition 2 / (2 + 1/2)
    pooled = panoptic_quality([reference, row(1)], [result, row(0)])
    assert pooled == pytest.approx((0.875 * 0.8, 0.875, 0.8))


def test_unknown_pixels_are_left_out():
    # result 4 lies in unknown ground: no false positive; result 5 to exactly one half only: it counts
    reference, result = row(1, 1, 0, 0, 0, 0), row(3, 3, 4, 4, 5, 5)
    unknown = np.array([[False, False, True, True, True, False]])
    assert panoptic_quality([reference], [result], [unknown]).recognition == pytest.approx(1 / 1.5)
    assert average_precision([reference], [result], [unknown], [0.5]) == {0.5: 1 / 2}
    assert average_precision([reference], [result], None, [0.5]) == {0.5: 1 / 3}
    # pixels of a match in unknown ground count neither way
    reference, result = row(1, 1, 1, 0), row(2, 2, 2, 2)
    assert panoptic_quality([reference], [result], [np.array([[False, False, False, True]])]).segmentation == 1.0


@pytest.mark.parametrize("shape", [(1, 1), (3, 5)])
def test_degenerate_frames(shape):
    nothing, all_one = np.zeros(shape, np.uint16), np.ones(shape, np.uint16)
    assert math.isnan(seg([nothing], [all_one]))
    assert math.isnan(detection([nothing], [all_one]).det)
    assert math.isnan(foreground_iou([nothing], [nothing]))
    assert panoptic_quality([nothing], [nothing]) == Panoptic(1.0, 1.0, 1.0)
    assert panoptic_quality([nothing], [all_one]).quality == 0
    assert seg([all_one], [nothing]) == 0
    assert seg([all_one], [all_one]) == detection([all_one], [all_one]).det == 1  # no background pixel at all
    assert math.isnan(seg([], []))


@pytest.mark.parametrize(
    ("references", "results", "message"),
    [
        ([row(1)], [], "1 reference frames but 0 results"),
        ([row(1, 2)], [row(1)], r"\(1, 2\) and result \(1, 1\) differ"),
        ([row(1).astype(float)], [row(1)], "reference has type float64"),
        ([row(1)], [row(1) > 0], "result has type bool"),
        ([row(1)], [np.array([[-1]])], "result holds the label -1"),
    ],
)
def test_bad_arguments_are_named_in_one_line(references, results, message):
    for score in (seg, detection, foreground_iou, average_precision, panoptic_quality):
        with pytest.raises(ValueError, match=message):
            score(references, results)


def test_bad_ignore_masks_and_thresholds_are_refused():
    for bad, message in [
        ([None, None], "2 ignore masks"),
        ([row(1)], "ignore is uint16"),
        ([row(1, 2) > 0], "expected"),
    ]:
        with pytest.raises(ValueError, match=message):
            panoptic_quality([row(1)], [row(1)], bad)
    with pytest.raises(ValueError, match=r"must lie in \[0\.5, 1\)"):
        average_precision([row(1)], [row(1)], thresholds=[0.3])


MASKS = arrays(np.uint16, (5, 6), elements=st.integers(0, 3))
UNKNOWN = arrays(np.bool_, (5, 6))


def pixel_sets(mask):
    return {int(v): set(zip(*map(list, np.nonzero(mask == v)), strict=True)) for v in np.unique(mask) if v}


def counted(reference, result, unknown, threshold):
    """(sum of IoUs, TP, FP, FN) with objects as sets of pixels."""
    void = set(zip(*map(list, np.nonzero(unknown)), strict=True))
    truth = [s - void for s in pixel_sets(reference).values() if s - void]
    total, hits, false = 0.0, 0, 0
    for whole in pixel_sets(result).values():
        ious = [len(s & (whole - void)) / len(s | (whole - void)) for s in truth]
        best = max(ious, default=0.0)
        if best > threshold:
            total, hits = total + best, hits + 1
        elif len(whole & void) <= len(whole) / 2:
            false += 1
    return total, hits, false, len(truth) - hits


@settings(deadline=None, max_examples=150)
@given(MASKS, MASKS, UNKNOWN)
def test_recognition_agrees_with_sets_of_pixels(reference, result, unknown):
    result = np.where(unknown, result, np.where(result == 3, reference, result))  # so that matches happen
    total, hits, false, missed = counted(reference, result, unknown, 0.5)
    quality = panoptic_quality([reference], [result], [unknown])
    expected = total / (hits + false / 2 + missed / 2) if hits + false + missed else 1.0
    assert quality.quality == pytest.approx(expected)
    assert quality.quality == pytest.approx(quality.segmentation * quality.recognition)
    for t, value in average_precision([reference], [result], [unknown]).items():
        _, hits, false, missed = counted(reference, result, unknown, t)
        assert value == pytest.approx(hits / (hits + false + missed) if hits + false + missed else 1.0)


@settings(deadline=None, max_examples=50)
@given(MASKS)
def test_a_mask_scores_perfectly_against_itself(mask):
    if mask.any():
        renamed = np.array([0, 9, 5, 7], np.uint16)[mask]
        assert seg([mask], [renamed]) == detection([mask], [renamed]).det == foreground_iou([mask], [renamed]) == 1
        assert set(average_precision([mask], [renamed]).values()) == {1.0}
    assert panoptic_quality([mask], [mask]) == Panoptic(1.0, 1.0, 1.0)


def sequence(seed, frames=4):
    """Blocks of objects, and a result in which some are shifted, merged, lost or invented; both have background."""
    rng = np.random.default_rng(seed)
    references, results = [], []
    for _ in range(frames):
        coarse = rng.integers(0, 6, (5, 5))
        coarse[0, 0], coarse[0, 1] = 0, 1
        reference = np.kron(coarse, np.ones((4, 4), int)).astype(np.uint16)
        result = np.roll(reference, rng.integers(-1, 2, 2), (0, 1))
        result = rng.permutation(np.array([0, 11, 12, 12, 14, 15])[:: rng.choice([1, -1])])[result].astype(np.uint16)
        result[0, 0], result[0, -1] = 0, 15
        references.append(reference)
        results.append(result)
    return references, results


@pytest.mark.parametrize("seed", range(6))
def test_seg_and_det_are_those_of_py_ctcmetrics(tmp_path, seed):
    references, results = sequence(seed)
    matches = []
    for i, (reference, result) in enumerate(zip(references, results, strict=True)):
        paths = [str(tmp_path / f"{kind}{i:03}.tif") for kind in ("ref", "res")]
        for path, mask in zip(paths, (reference, result), strict=True):
            tifffile.imwrite(path, mask)
        matches.append(their_match(*paths))
    columns = [list(column) for column in zip(*matches, strict=True)]
    operations = count_acyclic_graph_correction_operations(None, None, *columns[:4])
    found = detection(references, results)
    assert seg(references, results) == pytest.approx(their_seg(columns[0], columns[4]), abs=1e-12)
    assert found.det == pytest.approx(their_det(**operations), abs=1e-12)
    assert found[1:] == tuple(int(operations[k]) for k in ("NS", "FN", "FP", "num_vertices"))
