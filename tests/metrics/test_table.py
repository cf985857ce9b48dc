"""The table of scores: every score that is computed has a row, and the rows say which way they point."""

import numpy as np
import pytest

from unet.data.stack import Frame
from unet.evaluation.frames import FramePrediction, pixel_scores
from unet.metrics import table
from unet.metrics.ctc import ctc_scores
from unet.metrics.em import em_sweeps
from unet.metrics.outcomes import Outcomes
from unet.metrics.pixel import confusion
from unet.study.curves import scores as curve_scores

MORE = ("mean_iou_last5", "mean_iou", "pixel_accuracy", "blog_iou", "seg", "seg_components", "det", "foreground_iou",
        "ap", "ap_50", "ap_75", "pq", "v_rand", "v_info", "pq_segmentation", "pq_recognition",
        "objects_found", "foreground_dice")  # fmt: skip
LESS = ("pixel_error", "misclassification", "rand_error", "rand_error_before_2015", "warping_error",
        "warping_error_classic", "loss", "loss_last5", "train_loss", "spikes", "det_splits", "det_false_negatives",
        "det_false_positives", "vi_split", "vi_merge",
        "expected_calibration_error", "objects_missed", "objects_merged", "objects_split",
        "objects_spurious")  # fmt: skip


def test_every_score_has_its_direction():
    assert [name for name in MORE if table.higher_is_better(name) is not True] == []
    assert [name for name in LESS if table.higher_is_better(name) is not False] == []
    assert [table.higher_is_better(name) for name in ("iou_cell", "iou_membrane", "objects")] == [True, True, None]
    assert table.WORST["seg"] == 0
    assert table.WORST["warping_error"] == 1
    assert "loss" not in table.WORST
    assert (table.WORST["ap"], table.WORST["pixel_error"]) == (0.0, 1.0)


def computed():
    """A name of every score that some data gets, by the kind of data."""
    label = np.zeros((1, 24, 24), np.uint8)
    label[0, 4:12, 4:12] = 1
    frame = Frame("f", "s", np.zeros((1, 24, 24), np.float32), label[0])
    prediction = FramePrediction(frame, np.stack([1.0 - label[0], label[0]]), 0.1, confusion(label[0], label[0], 2))
    objects = {"f": label[0].astype(np.int32)}
    pixels = [*pixel_scores([prediction], ("background", "cell"), own=True), *pixel_scores([prediction], ("a", "b"))]
    rows = [
        {"part": "train", "update": 1, "loss": 1.0},
        {"part": "held_out", "update": 1, "loss": 1.0, "mean_iou": 0.5},
    ]
    return {
        "classes": pixels,
        "membranes": list(em_sweeps(label, label.astype(np.float32))),
        "objects": [*ctc_scores(objects, objects, markers=objects), *(f"objects_{name}" for name in Outcomes._fields)],
        "curves": list(curve_scores(rows)),
    }


@pytest.mark.parametrize("of", ["classes", "membranes", "objects", "curves"])
def test_every_score_that_is_computed_has_a_row_of_its_kind(of):
    names = computed()[of]
    assert names
    for name in names:
        row = table.find(name)
        assert row is not None, f"{name} has no row in unet/metrics/table.py"
        assert row.of == of, name


def test_rows_are_whole():
    assert len(table.SCORES) == len(table.TABLE)
    for row in table.TABLE:
        assert row.label, row.name
        assert row.source, row.name
        assert not row.tested or row.higher is not None, row.name
        assert row.worst in (None, 0 if row.higher else 1), row.name


def test_what_is_tested_and_shown_of_each_kind_of_data():
    assert table.tested("membranes")[0] == table.tested("objects")[0] == "mean_iou_last5"
    assert table.tested("membranes") == ("mean_iou_last5", "v_rand")
    assert table.tested("objects") == ("mean_iou_last5", "seg")
    assert table.tested("classes") == ("mean_iou_last5",)
    assert table.columns("objects")[:3] == ("mean_iou_last5", "seg", "det")
    assert table.columns("membranes")[:2] == ("mean_iou_last5", "pixel_error")
    assert table.on_page(["loss", "made_up", "pixel_error", "v_rand", "mean_iou"]) == [
        "v_rand", "mean_iou", "pixel_error", "loss",
    ]  # fmt: skip
    assert [table.label(name) for name in ("v_rand", "objects_found", "iou_cell")] == [
        "V_rand", "objects found", "iou cell",
    ]  # fmt: skip
    assert [table.decimals(name) for name in ("v_rand", "warping_error", "test_warping_error", "spikes", "new")] == [
        4, 6, 6, 1, 4,
    ]  # fmt: skip
