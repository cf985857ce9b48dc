"""What `score` hands on to the single scores, and what a study reads of the file they are saved in."""

import numpy as np
import pytest

from tests.evaluation.test_scoring import grid, predicted, stack_of
from unet.evaluation.scoring import record, score
from unet.files import write_json
from unet.study.evidence import Evidence

ONE = np.zeros((40, 40), np.int32)  # an object of 100 pixels
ONE[5:15, 5:15] = 4
EXTRA = np.s_[25:35, 25:35]  # where the predictions below have another one


def with_an_extra_cell(label, instances):
    stack = stack_of([label], [instances])
    prediction = predicted(stack.frames[0])
    prediction.probabilities[:, *EXTRA] = np.array([0.1, 0.9])[:, None, None]
    return prediction, stack


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (True, {"seg": 1, "foreground_iou": 1 / 2, "ap": 1 / 2, "ap_50": 1 / 2, "pq": 2 / 3, "pq_recognition": 2 / 3}),
        (False, {"seg": 1, "foreground_iou": 1, "ap": 1, "ap_50": 1, "pq": 1, "pq_recognition": 1}),
    ],
)
def test_a_cell_where_nothing_is_known_is_no_mistake(known, expected):
    label = (ONE > 0).astype(np.uint8)
    label[EXTRA] = 0 if known else 255
    prediction, stack = with_an_extra_cell(label, ONE)
    values = score([prediction], stack, {"f0": ONE}).values
    assert {name: values[name] for name in expected} == pytest.approx(expected)


def test_markers_give_det_and_a_note_on_how_many_there_are():
    two = ONE.copy()
    two[5:15, 25:35] = 9
    prediction, stack = with_an_extra_cell((two > 0).astype(np.uint8), two)
    prediction.probabilities[:, 5:15, 25:35] = np.array([0.9, 0.1])[:, None, None]  # the second one is missed
    markers = {"f0": np.where(np.arange(40) % 10 > 5, two, 0), "f7": two, "f8": two}
    with_markers, without = (score([prediction], stack, {"f0": two}, markers=m) for m in (markers, None))
    names = ("det", "det_splits", "det_false_negatives", "det_false_positives")
    assert [with_markers.values[name] for name in names] == [pytest.approx(1 - (10 + 1) / 20), 0, 1, 1]
    assert [note for note in with_markers.notes if note.startswith("det: over the 1 of 3 frames with tracking markers")]
    assert not [name for name in names if name in without.values]
    assert not [note for note in without.notes if note.startswith("det")]


def test_a_score_that_is_best_where_a_slice_is_empty_says_so_and_counts_as_the_worst(tmp_path):
    # Slice 0 has a gap in a membrane up to 0.6, slice 1 has cells up to 0.3 only: warping, for which a slice without
    # cells is perfect, is best at 0.7; the error of pixels is best at 0.1.
    label = grid(size=24)
    stack = stack_of([label, label])
    first, second = (predicted(frame) for frame in stack.frames)
    cells = np.where(label, 0.95, 0.05)
    cells[6, 12:14] = 0.65
    first.probabilities[:] = [1 - cells, cells]
    second.probabilities[:] = [1 - 0.35 * label, 0.35 * label]
    scores = score([first, second], stack, {})
    assert (scores.values["warping_error"], scores.thresholds["warping_error"]) == (0, pytest.approx(0.7))
    assert scores.values["pixel_error"] == pytest.approx(1 - 2 * 800 / (802 + 800))  # the gap's two pixels
    assert scores.thresholds["pixel_error"] == pytest.approx(0.1)
    expected = "warping_error: 1 slices have no cell at its best threshold; do not trust it"
    assert [note for note in scores.notes if note.startswith(("warping_error:", "pixel_error:"))] == [expected]
    write_json(tmp_path / "scores.json", record(scores))
    values = Evidence(tmp_path, "a", "em", 0).values
    assert values["warping_error"] == 1.0
    assert values["pixel_error"] == scores.values["pixel_error"]


def test_objects_get_dice_and_what_was_split_and_merged_outside_the_unknown(tmp_path):
    """Two equal objects that the prediction runs into one: one bit of merge, and Dice 2 x 200 / (200 + 220)."""
    two = np.zeros((40, 40), np.int32)
    two[5:15, 5:15], two[5:15, 17:27] = 4, 9
    stack = stack_of([(two > 0).astype(np.uint8)], [two])
    prediction = predicted(stack.frames[0])
    prediction.probabilities[:, 5:15, 15:17] = np.array([0.1, 0.9])[:, None, None]
    values = score([prediction], stack, {"f0": two}).values
    assert values["foreground_dice"] == pytest.approx(400 / 420)
    assert (values["vi_split"], values["vi_merge"]) == (0, pytest.approx(1))
    two_known = stack_of([np.where(two == 9, 255, two > 0).astype(np.uint8)], [two])
    known = predicted(two_known.frames[0])
    known.probabilities[:] = prediction.probabilities
    assert score([known], two_known, {"f0": two}).values["vi_merge"] == 0


def test_the_calibration_error_pools_known_pixels_and_its_points_are_kept():
    label = np.zeros((2, 10, 10), np.uint8)
    label[:, :5], label[1, 9] = 1, 255
    stack = stack_of(list(label))
    frames = [predicted(frame) for frame in stack.frames]
    for frame in frames:
        cell = np.where(frame.frame.label == 1, 0.8, 0.3)  # sure by 0.8 and 0.7, always right
        frame.probabilities[:] = [1 - cell, cell]
    scores = score(frames, stack, {})
    assert scores.values["expected_calibration_error"] == pytest.approx((100 * 0.2 + 90 * 0.3) / 190)
    wanted = [(pytest.approx(0.7), 1, 90), (pytest.approx(0.8), 1, 100)]
    assert scores.reliability == wanted
    assert record(scores)["reliability"] == [list(point) for point in wanted]
