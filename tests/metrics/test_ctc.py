"""All object scores of a sequence: known values on the published truths, frames found by name."""

import numpy as np
import pytest
from scipy import ndimage

from unet.data.images.tiff import read_gray
from unet.metrics.ctc import ctc_scores
from unet.metrics.instance import average_precision, detection, foreground_iou, panoptic_quality, seg

REFERENCES = {"a": np.array([[1, 1, 0, 2]]), "b": np.array([[1, 0, 0, 0]])}
RESULTS = {"b": np.array([[1, 0, 2, 0]]), "c": np.array([[5, 5, 5, 5]]), "a": np.array([[3, 3, 0, 0]])}


def masks(folder):
    return {path.stem[-3:]: read_gray(path)[0] for path in sorted(folder.glob("*.tif"))}


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "sequence", "expected_seg", "expected_det"),
    [
        ("PhC-C2DH-U373", "01", 0.951133695, 1.0),
        ("PhC-C2DH-U373", "02", 0.888370461, 1.0),
        ("DIC-C2DH-HeLa", "01", 0.964753284, 0.985714286),
        ("DIC-C2DH-HeLa", "02", 0.964744380, 0.959223301),
    ],
)
def test_silver_truth_against_gold_truth(data_root, name, sequence, expected_seg, expected_det):
    folder = data_root / name
    gold, silver = masks(folder / f"{sequence}_GT" / "SEG"), masks(folder / f"{sequence}_ST" / "SEG")
    scores = ctc_scores(gold, silver, markers=masks(folder / f"{sequence}_GT" / "TRA"))
    assert scores["seg"] == pytest.approx(expected_seg, abs=5.1e-10)
    assert scores["det"] == pytest.approx(expected_det, abs=5.1e-10)


@pytest.mark.real_data
def test_foreground_without_separation(data_root):
    folder = data_root / "DIC-C2DH-HeLa"
    gold, silver = masks(folder / "01_GT" / "SEG"), masks(folder / "01_ST" / "SEG")
    joined = {key: ndimage.label(silver[key] > 0, np.ones((3, 3)))[0] for key in gold}
    scores = ctc_scores(gold, joined)
    assert scores["seg"] == pytest.approx(0.625522436, abs=5.1e-10)
    assert scores["foreground_iou"] == ctc_scores(gold, silver)["foreground_iou"]  # which cannot see the difference


def test_frames_are_found_by_name():
    scores = ctc_scores(REFERENCES, RESULTS)
    truth, found = list(REFERENCES.values()), [RESULTS["a"], RESULTS["b"]]
    precision = average_precision(truth, found)
    assert scores["seg"] == seg(truth, found) == pytest.approx(2 / 3)
    assert scores["foreground_iou"] == foreground_iou(truth, found)
    assert scores["ap"] == pytest.approx(np.mean(list(precision.values())))
    assert (scores["ap_50"], scores["ap_75"]) == (precision[0.5], precision[0.75])
    assert scores["pq"] == panoptic_quality(truth, found).quality
    assert scores["objects"] == 3
    assert "det" not in scores
    assert all(type(value) is float for value in scores.values())


def test_markers_add_det():
    markers = REFERENCES | {"c": np.array([[7, 0, 0, 0]])}
    scores = ctc_scores(REFERENCES, RESULTS, markers=markers)
    expected = detection(list(markers.values()), [RESULTS[key] for key in markers])
    names = ("det", "det_splits", "det_false_negatives", "det_false_positives")
    assert tuple(scores[name] for name in names) == expected[:4]
    assert scores["seg"] == ctc_scores(REFERENCES, RESULTS)["seg"]


def test_unknown_pixels_spare_false_positives():
    unknown = {"b": np.array([[False, True, True, True]])}
    assert ctc_scores(REFERENCES, RESULTS, ignore=unknown)["pq"] > ctc_scores(REFERENCES, RESULTS)["pq"]


def test_unknown_pixels_by_hand():
    # Object 8 is excused: three of its four pixels are unknown. What is left of it stays foreground.
    reference = np.array([[1, 1, 1, 1, 0, 0, 0, 0, 0, 0]])
    result = np.array([[7, 7, 7, 0, 0, 0, 8, 8, 8, 8]])
    unknown = np.arange(10)[None] > 6
    names = ("seg", "foreground_iou", "ap", "ap_50", "ap_75", "pq", "pq_segmentation", "pq_recognition")
    with_it = ctc_scores({"a": reference}, {"a": result}, ignore={"a": unknown})
    without = ctc_scores({"a": reference}, {"a": result})
    # IoU 3/4 is a match at five of the ten thresholds, 0.5 to 0.7
    assert [with_it[n] for n in names] == pytest.approx([3 / 4, 3 / 5, 5 / 10, 1, 0, 3 / 4, 3 / 4, 1])
    assert [without[n] for n in names] == pytest.approx([3 / 4, 3 / 8, 5 / 20, 1 / 2, 0, 1 / 2, 3 / 4, 2 / 3])


def test_unknown_pixels_are_those_of_their_frame():
    reference, result = np.array([[1, 1, 0, 0]]), np.array([[5, 5, 0, 6]])
    frames, unknown = {"a": reference, "b": reference}, np.array([[False, False, False, True]])
    scores = ctc_scores(frames, {"b": reference, "a": result}, ignore={"b": np.zeros((1, 4), np.bool_), "a": unknown})
    assert (scores["ap"], scores["foreground_iou"], scores["pq"]) == (1, 1, 1)
    scores = ctc_scores(frames, {"b": reference, "a": result}, ignore={"b": unknown})
    assert (scores["ap"], scores["foreground_iou"]) == (pytest.approx((1 / 2 + 1) / 2), 4 / 5)


def test_a_missing_result_is_named():
    with pytest.raises(ValueError, match=r"no result for frame b \(1 of 2 frames are missing\)"):
        ctc_scores(REFERENCES, {"a": RESULTS["a"]})
