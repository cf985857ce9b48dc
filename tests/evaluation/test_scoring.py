"""Which scores a data set gets; scores of two files; the pictures of mistakes."""

import json
import math

import numpy as np
import pytest

from unet.config import DataConfig
from unet.data.load import load, references
from unet.data.stack import Frame, Normalisation, Stack
from unet.evaluation.frames import FramePrediction, cross_entropy, pixel_scores
from unet.evaluation.scoring import kind_of, picture_rows, quality, record, score
from unet.metrics.pixel import blog_iou, confusion, foreground_overlap
from unet.prediction.instances import Choice, InstanceSettings, choose_settings
from unet.views.mistakes import FOUND, MERGE, SPLIT, membrane_mistakes, object_mistakes, pixel_mistakes

OUTCOMES = ("found", "missed", "merged", "split", "spurious")


def grid(size=48, step=12, membrane=2):
    """Square cells parted by membranes."""
    label = np.ones((size, size), dtype=np.uint8)
    for start in range(0, size, step):
        label[start : start + membrane] = 0
        label[:, start : start + membrane] = 0
    return label


def stack_of(labels, instances=None, classes=2):
    frames = tuple(
        Frame(f"f{i}", "s", label[None].astype(np.float32), label, None if instances is None else instances[i])
        for i, label in enumerate(labels)
    )
    names = ("membrane", "cell") if classes == 2 and instances is None else ("background", "a", "b")[:classes]
    return Stack("made", frames, names, Normalisation(scale=1.0), "the test")


def predicted(frame, classes=2, sharpness=0.9):
    """A prediction that is right everywhere where something is known."""
    one_hot = np.stack([(frame.label == c) for c in range(classes)]).astype(np.float32)
    probabilities = one_hot * sharpness + (1 - sharpness) / classes
    probabilities /= probabilities.sum(axis=0)
    counts = confusion(frame.label, probabilities.argmax(axis=0).astype(np.uint8), classes)
    return FramePrediction(frame, probabilities, cross_entropy(probabilities, frame.label), counts)


def test_a_perfect_membrane_prediction():
    stack = stack_of([grid(), grid(step=16)])
    scores = score([predicted(f) for f in stack.frames], stack, {})
    assert kind_of(stack) == "membranes"
    for name in ("pixel_error", "rand_error", "warping_error", "warping_error_classic", "misclassification"):
        assert scores.values[name] == 0, name
    for name in ("pixel_accuracy", "mean_iou", "v_rand", "v_info"):
        assert scores.values[name] == pytest.approx(1), name
    assert scores.notes == []
    assert json.loads(json.dumps(record(scores)))["by_frame"]["f1"]["v_rand"] == pytest.approx(1)


def test_a_merge_is_seen_and_drawn_blue():
    label = grid()
    stack = stack_of([label])
    broken = predicted(stack.frames[0])
    broken.probabilities[:, 18, 12:14] = np.array([[0.05], [0.95]])  # a gap in one membrane
    scores = score([broken], stack, {})
    assert scores.values["rand_error"] > 0
    assert scores.values["warping_error"] > 0
    drawn = membrane_mistakes(label, broken.probabilities[1], 0.5)
    assert (drawn == MERGE).all(axis=2).any()
    assert not (drawn == SPLIT).all(axis=2).any()
    perfect = membrane_mistakes(label, label.astype(np.float32), 0.5)
    assert not (perfect == MERGE).all(axis=2).any()


def test_frames_with_unknown_pixels_get_no_challenge_scores_and_a_note():
    label = grid()
    label[5, 5] = 255
    stack = stack_of([label])
    scores = score([predicted(stack.frames[0])], stack, {})
    assert "v_rand" not in scores.values
    assert len(scores.notes) == 1


def test_objects_get_seg():
    instances = np.zeros((40, 40), dtype=np.int32)
    instances[5:15, 5:15], instances[20:35, 20:35] = 4, 9
    stack = stack_of([(instances > 0).astype(np.uint8)], [instances])
    assert kind_of(stack) == "objects"
    right = score([predicted(stack.frames[0])], stack, {"f0": instances})
    assert right.values["seg"] == 1
    assert right.values["pq"] == 1
    missed = predicted(stack.frames[0])
    missed.probabilities[:, 20:35, 20:35] = np.array([0.9, 0.1])[:, None, None]
    assert score([missed], stack, {"f0": instances}).values["seg"] == 0.5
    assert "seg" not in score([missed], stack, {}).values
    rows = picture_rows([missed], stack, {"f0": instances}, score([missed], stack, {"f0": instances}))
    assert "SEG 0.500" in rows[0].caption


def test_the_worst_frames_are_those_of_the_score_that_fits():
    assert quality({"mean_iou": 0.9, "seg": 0.2, "loss": 0.1}) == 0.2
    assert quality({"mean_iou": 0.9, "v_rand": 0.7}) == 0.7
    assert quality({"mean_iou": 0.9, "seg": None}) == 0.9
    assert quality({"loss": 0.1, "pixel_error": 0.3}) == math.inf  # less of these is better
    cells = np.zeros((40, 40), np.int32)
    cells[2:12, 2:12], cells[20:38, 20:38] = 1, 2
    stack = stack_of([(cells > 0).astype(np.uint8)] * 2, [cells] * 2)
    spilt, lost = (predicted(frame) for frame in stack.frames)
    spilt.probabilities[:, 20:38, 5:20] = np.array([0.1, 0.9])[:, None, None]  # 270 pixels beside the cell of 324
    lost.probabilities[:, 2:12, 2:12] = np.array([0.9, 0.1])[:, None, None]  # the cell of 100
    gold = {frame.name: cells for frame in stack.frames}
    predictions = [FramePrediction.of(p.frame, p.probabilities) for p in (spilt, lost)]
    scores = score(predictions, stack, gold)
    assert [scores.by_frame[f"f{i}"]["seg"] for i in (0, 1)] == pytest.approx([(1 + 324 / 594) / 2, 0.5])
    assert scores.by_frame["f0"]["mean_iou"] < scores.by_frame["f1"]["mean_iou"]
    assert [row.frame.name for row in picture_rows(predictions, stack, gold, scores)] == ["f1", "f0"]
    assert [row.frame.name for row in picture_rows(predictions, stack, gold, scores, most=1)] == ["f1"]


def test_cells_that_only_markers_part_are_scored_by_both_rules_and_counted():
    three = np.zeros((1, 9, 21), np.int32)
    three[0, 1:8, 1:8], three[0, 1:8, 13:20] = 1, 2
    instances = three[0]
    stack = stack_of([(instances > 0).astype(np.uint8)], [instances], classes=3)
    assert kind_of(stack) == "objects"
    joined = predicted(stack.frames[0], 3)
    joined.probabilities[:, 3:6, 8:13] = np.array([0.03, 0.94, 0.03])[:, None, None]  # a bar between the cells
    markers = InstanceSettings(rule="markers", sigma_px=0.0, height_px=1.0)
    scores = score([joined], stack, {"f0": instances}, {"f0": Choice(markers, InstanceSettings())})
    assert scores.values["seg"] == scores.by_frame["f0"]["seg"] > 0.8
    assert scores.values["seg_components"] == pytest.approx(49 / 113)  # one object of 113 px holds both, each of 49
    assert [scores.values[f"objects_{name}"] for name in OUTCOMES] == [2, 0, 0, 0, 0]
    assert [note.split(" (")[0] for note in scores.notes] == ["instances", "seg_components"]
    assert "rule markers" in scores.notes[0]
    plain = score([joined], stack, {"f0": instances})  # without settings: components above 0.5
    assert plain.values["seg"] == plain.values["seg_components"] == pytest.approx(49 / 113)
    assert [plain.values[f"objects_{name}"] for name in OUTCOMES] == [0, 0, 2, 0, 0]
    assert len(plain.notes) == 1
    rows = picture_rows([joined], stack, {"f0": instances}, scores, {"f0": markers})
    assert (rows[0].mistakes == FOUND).all(axis=2).any()
    assert not (rows[0].mistakes == SPLIT).all(axis=2).any()


def test_the_built_in_membranes_are_scored_as_membranes_although_their_cells_are_known():
    assert kind_of(load(DataConfig(name="synthetic-em"), lambda _: None)) == "membranes"
    assert kind_of(load(DataConfig(name="synthetic-hela"), lambda _: None)) == "objects"


def test_the_target_with_borders_is_scored_by_its_objects():
    config = DataConfig(name="synthetic-hela", target="cell-border")
    stack = load(config, lambda _: None)
    gold = references(config, stack)
    assert (kind_of(stack), stack.class_names) == ("objects", ("background", "cell", "border"))
    # a network that takes borders, which lie within 4 px of two cells, for cell rather than background
    seen = [predicted(frame, 3, sharpness=1.0) for frame in stack.frames[:2]]
    for p in seen:
        p.probabilities[:2] += np.array([0.1, 0.3])[:, None, None] * p.probabilities[2]
        p.probabilities[2] *= 0.6
    names = [p.frame.name for p in seen]
    choice = choose_settings([p.probabilities for p in seen], [gold[name] for name in names])
    scores = score(seen, stack, gold, dict.fromkeys(names, choice))
    assert choice.best.rule == "markers"
    assert scores.values["seg"] > 0.95  # borders are cut between the cells
    assert scores.values["seg_components"] < 0.93  # and lost here
    assert scores.values["objects_found"] == scores.values["objects"] == sum(len(np.unique(gold[n])) - 1 for n in names)


def test_several_classes_get_pixel_scores_only():
    label = grid()
    label[30:, 30:] = 2
    stack = stack_of([label], classes=3)
    scores = score([predicted(stack.frames[0], 3)], stack, {})
    assert kind_of(stack) == "classes"
    assert scores.values["iou_b"] == 1
    assert "pixel_error" not in scores.values


def test_colours_of_objects_and_pixels():
    gold = np.zeros((30, 30), dtype=np.int32)
    gold[2:10, 2:10], gold[15:25, 2:10] = 1, 2
    result = np.zeros_like(gold)
    result[2:10, 2:10], result[15:25, 18:28] = 7, 8
    drawn = object_mistakes(gold, result)
    for colour, inside in ((FOUND, (slice(2, 10), slice(2, 10))), (SPLIT, (slice(15, 25), slice(2, 10)))):
        assert (drawn[inside] == colour).all(axis=2).any()
    assert (drawn[15:25, 18:28] == MERGE).all(axis=2).any()
    unknown = np.zeros(gold.shape, bool)
    unknown[14:26, 17:29] = True
    excused = object_mistakes(gold, result, unknown)
    assert not (excused == MERGE).all(axis=2).any()
    np.testing.assert_array_equal(
        excused[~unknown & ~(drawn == MERGE).all(axis=2)], drawn[~unknown & ~(drawn == MERGE).all(axis=2)]
    )
    pixels = pixel_mistakes(np.array([[0, 1, 2, 255]], np.uint8), np.array([[1, 0, 1, 1]]))
    assert [tuple(p) for p in pixels[0]] == [MERGE, SPLIT, (255, 127, 14), (150, 150, 150)]


def test_pixel_scores_pool_over_frames_and_hold_no_nan():
    label = np.zeros((4, 4), np.uint8)
    unknown = np.full((4, 4), 255, np.uint8)
    stack = stack_of([label, unknown])
    scores = pixel_scores([predicted(f) for f in stack.frames], stack.class_names)
    assert scores["pixel_accuracy"] == 1
    assert scores["iou_cell"] is None  # occurs nowhere
    only_unknown = pixel_scores([predicted(stack.frames[1])], stack.class_names)
    assert only_unknown["pixel_accuracy"] is None
    assert only_unknown["loss"] is None


def test_cells_that_only_a_silver_label_knows_are_not_scored_against_the_gold_truth():
    silver = np.zeros((40, 40), dtype=np.int32)
    silver[5:15, 5:15], silver[20:35, 20:35] = 1, 2
    gold = np.where(silver == 1, 7, 0).astype(np.int32)
    stack = stack_of([(silver > 0).astype(np.uint8)], [silver])
    perfect = [predicted(stack.frames[0])]
    scores = score(perfect, stack, {"f0": gold})
    assert [scores.values[name] for name in ("seg", "pq", "ap", "foreground_iou")] == [1, 1, 1, 1]
    [row] = picture_rows(perfect, stack, {"f0": gold}, scores)
    assert row.legend.endswith("; gray: not annotated")
    wrong = [predicted(stack.frames[0])]
    wrong[0].probabilities[:, 20:24, 2:8] = np.array([0.1, 0.9])[:, None, None]  # where neither truth has a cell
    assert score(wrong, stack, {"f0": gold}).values["pq"] < 1


def test_the_blogs_score_is_of_the_foreground_image_by_image():
    assert foreground_overlap(np.array([[90, 0], [5, 5]])) == 0.5
    assert foreground_overlap(np.array([[10, 0, 0], [1, 5, 2], [0, 0, 4]])) == 11 / 12  # which class is not asked
    assert foreground_overlap(np.array([[100, 0], [0, 0]])) == 1  # nothing to find, nothing found
    labels = [np.zeros((10, 10), np.uint8) for _ in range(2)]
    labels[0][0], labels[1][:9] = 1, 1
    first, second = (predicted(frame) for frame in stack_of(labels).frames)
    half = np.array([[90, 0], [5, 5]])  # foreground 0.5, both classes 0.72
    frames = [FramePrediction(first.frame, first.probabilities, 0.1, half), second]
    assert pixel_scores(frames, ("background", "cell"))["blog_iou"] == pytest.approx((blog_iou(0.5) + 1) / 2)
