"""Scores that fit one's own data, and warnings where a score says nothing: classes, constants, ends of a sweep."""

import numpy as np
import pytest

from tests.data import cases
from tests.evaluation.test_scoring import grid, predicted, stack_of
from unet.config import DataConfig
from unet.data import own
from unet.errors import ConfigError, DataError
from unet.evaluation.constant import missing_classes
from unet.evaluation.frames import FramePrediction, cross_entropy, pixel_scores
from unet.evaluation.scoring import kind_of, score
from unet.metrics.pixel import confusion
from unet.views.mistakes import BROKEN, CONFUSED, FOUND, MERGE, POOR, SPLIT, object_mistakes

CHALLENGE = {"v_rand", "v_info", "rand_error", "warping_error", "pixel_error"}


def read(folder, **settings):
    return own.read(folder, DataConfig(folder=str(folder), **settings), lambda _: None)


def said(frame, cell_HW):
    both = np.stack([1 - cell_HW, cell_HW]).astype(np.float32)
    counts = confusion(frame.label, both.argmax(axis=0).astype(np.uint8), 2)
    return FramePrediction(frame, both, cross_entropy(both, frame.label), counts)


@pytest.mark.parametrize("label_of", [cases.mask, cases.inverted, cases.all_background])
def test_own_masks_get_no_scores_of_the_em_challenge_unless_they_are_asked_for(tmp_path, label_of):
    stack = read(cases.write(tmp_path, label_of))
    assert kind_of(stack) == "classes"
    values = score([predicted(frame) for frame in stack.frames], stack, {}).values
    assert not CHALLENGE & values.keys()
    assert not {"blog_iou", "rand_error_before_2015"} & values.keys()
    asked = read(tmp_path, scores="membranes")
    assert kind_of(asked) == "membranes"


def test_own_scores_by_hand(tmp_path):
    stack = stack_of([np.array([[0, 0, 0, 0, 0, 0, 1, 1, 1, 1]], np.uint8)])
    wrong = said(stack.frames[0], np.array([[0, 0, 0, 0, 0, 1, 1, 1, 1, 0]], float))
    found = pixel_scores([wrong], ("background", "cell"), own=True)  # hits: 5 and 3; one error of each kind
    assert found["dice_cell"] == pytest.approx(6 / 8)
    assert found["precision_cell"] == pytest.approx(3 / 4)
    assert found["recall_cell"] == pytest.approx(3 / 4)
    assert found["dice_background"] == pytest.approx(10 / 12)
    assert found["iou_cell"] == pytest.approx(3 / 5)
    assert "blog_iou" not in found


def test_labels_of_one_class_give_no_perfect_table(tmp_path):
    stack = read(cases.write(tmp_path, cases.all_background))
    values = score([predicted(frame) for frame in stack.frames], stack, {}).values
    assert {name for name, value in values.items() if value is not None} == {"loss"}
    (line,) = missing_classes(stack.frames, stack.class_names, "held-out")
    assert "hold no pixel of foreground" in line
    assert missing_classes(read(cases.write(tmp_path / "m")).frames, stack.class_names, "training") == []


def test_the_low_value_can_be_the_foreground(tmp_path):
    usual, turned = (cases.write(tmp_path / name, kind) for name, kind in (("a", cases.mask), ("b", cases.inverted)))
    for one, other in zip(read(usual).frames, read(turned, foreground="low").frames, strict=True):
        np.testing.assert_array_equal(one.label, other.label)
    with pytest.raises(DataError, match="data.foreground low is for labels of two values"):
        read(usual, foreground="low", label_kind="instances")
    with pytest.raises(DataError, match="data.scores objects needs labels with a number per object"):
        read(usual, scores="objects")
    with pytest.raises(ConfigError, match="data.scores"):
        DataConfig(name="phc", scores="membranes")


def test_a_constant_prediction_is_told_by_its_baseline():
    label = np.zeros((10, 10), np.uint8)
    label[:3] = 1
    stack = stack_of([label], instances=[np.where(label, 4, 0).astype(np.int32)])
    constant = score([said(stack.frames[0], np.full((10, 10), 0.2))], stack, {"f0": stack.frames[0].instances})
    assert constant.constant == pytest.approx({"pixel_accuracy": 0.7, "mean_iou": 0.35, "seg": 0.3})
    (line,) = [note for note in constant.notes if note.startswith("warning")]
    assert "pixel_accuracy (0.7000), mean_iou (0.3500), seg (0.3000)" in line
    right = score([said(stack.frames[0], label * 0.9)], stack, {"f0": stack.frames[0].instances})
    assert not [note for note in right.notes if note.startswith("warning")]


def test_a_membrane_drawn_as_one_is_told_by_its_baseline_and_the_end_of_the_sweep():
    turned = 1 - grid()  # thin lines as foreground: whatever is predicted, one large region explains nearly all
    stack = stack_of([turned])
    found = score([said(stack.frames[0], np.full(turned.shape, 0.5))], stack, {})
    assert found.values["v_rand"] == found.constant["v_rand"]
    assert any("constant prediction" in note and "v_rand" in note for note in found.notes)
    faint = score([said(stack.frames[0], np.where(turned, 0.05, 0.0))], stack, {})
    assert any(note.startswith("pixel_error: best at threshold 0.0") for note in faint.notes)
    assert not [n for n in score([predicted(stack.frames[0])], stack, {}).notes if "best at" in n]


def test_a_blob_over_ten_cells_finds_none_of_them():
    reference, blob = np.zeros((12, 100), np.int32), np.zeros((12, 100), np.int32)
    for i in range(10):
        reference[2:8, 10 * i : 10 * i + 6] = i + 1
    blob[1:9] = 7
    drawn = object_mistakes(reference, blob)
    assert (drawn[2:8] == CONFUSED).all(axis=2).any()
    assert not (drawn == FOUND).all(axis=2).any()
    assert not (drawn == SPLIT).all(axis=2).any()


@pytest.mark.parametrize(
    ("result", "colour"),
    [
        ([(2, 12, 2, 12)], FOUND),
        ([(2, 28, 2, 28)], POOR),  # IoU 100 / 676, yet more than half of the reference
        ([(2, 7, 2, 12), (7, 12, 2, 12)], BROKEN),
        ([(20, 28, 20, 28)], SPLIT),
    ],
)
def test_colours_by_match(result, colour):
    gold, found = np.zeros((30, 30), np.int32), np.zeros((30, 30), np.int32)
    gold[2:12, 2:12] = 3
    for number, (top, bottom, left, right) in enumerate(result, start=1):
        found[top:bottom, left:right] = number
    drawn = object_mistakes(gold, found)
    seen = {c for c in (FOUND, POOR, BROKEN, SPLIT, CONFUSED) if (drawn == c).all(axis=2).any()}
    assert seen == {colour}
    assert (drawn == MERGE).all(axis=2).any() == (colour == SPLIT)
