"""What the dashboard shows of a run: bounded in size, true to the arrays, and nothing computed where none is active."""

from types import SimpleNamespace

import numpy as np
import pytest

from unet.config import from_dict
from unet.data.stack import IGNORE, Frame, Normalisation, Stack
from unet.evaluation.frames import FramePrediction
from unet.metrics.pixel import confusion
from unet.runs.final import best_values
from unet.training.wandb_panels import (
    EVALUATIONS,
    FRAMES,
    SIDE_PX,
    Panels,
    few,
    gray_values,
    is_shown,
    overlay_picture,
    place,
    probability_picture,
    same_size,
    weight_picture,
)
from unet.views.mistakes import error_kinds


class Recorder:
    """Stands for a dashboard: keeps what it is given."""

    def __init__(self, active=True):
        self.active, self.sent, self.rows = active, {}, []

    def later(self, _, work):
        work()

    def pictures(self, key, pictures, row):
        self.sent[key] = (pictures, row)

    def log(self, row):
        self.rows.append(row)


def predicted(label, probability, name="a", instances=None, image=None):
    """A prediction of a frame from its label and the probability of class 1."""
    image = np.zeros((1, *label.shape), np.float32) if image is None else image
    probabilities = np.stack([1 - probability, probability]).astype(np.float32)
    counts = confusion(label, probabilities.argmax(axis=0).astype(np.uint8), 2)
    return FramePrediction(Frame(name, "s", image, label, instances), probabilities, 0.0, counts)


def random_prediction(size, seed=0, name="a", **options):
    rng = np.random.default_rng(seed)
    label = (rng.random(size) > 0.4).astype(np.uint8)
    return predicted(label, rng.random(size), name, **options)


def stack_of(predictions, names=("membrane", "cell")):
    frames = tuple(p.frame for p in predictions)
    return Stack("made", frames, names, Normalisation(), "made in the test")


def test_errors_by_hand():
    label = np.array([[0, 0, 1, 1, 2, IGNORE]], np.uint8)
    assert error_kinds(label, np.array([[0, 1, 1, 0, 1, 1]])).tolist() == [[0, 2, 0, 1, 3, 0]]


def test_an_overlay_says_what_the_arrays_say():
    label = np.array([[0, 1], [1, IGNORE]], np.uint8)
    picture = overlay_picture(predicted(label, np.array([[0.04, 0.55], [0.2, 1.0]])), ("membrane", "cell"))
    levels, names = picture.overlays["probability"]
    assert levels.tolist() == [[0, 5], [1, 9]] or levels.tolist() == [[0, 5], [2, 9]]  # 0.2 is not exact
    assert names[5] == "0.5 to 0.6"
    assert picture.overlays["label"][0].tolist() == label.tolist()
    assert picture.overlays["label"][1] == {0: "membrane", 1: "cell", IGNORE: "not known"}
    assert picture.overlays["errors"][0].tolist() == [[0, 0], [1, 0]]


@pytest.mark.parametrize("size", [(1, 1), (37, 1001), (900, 41), (384, 384), (2000, 2000)])
def test_pictures_are_small_whatever_the_image(size):
    prediction = random_prediction(size)
    for picture in (overlay_picture(prediction, ("a", "b")), probability_picture(prediction)):
        assert picture.pixels.dtype == np.uint8
        assert max(picture.pixels.shape) == min(max(size), SIDE_PX)
        for values, _ in picture.overlays.values():
            assert values.shape == picture.pixels.shape[:2]
            assert values.dtype == np.uint8


def test_gray_values_of_any_range_and_number_of_channels():
    ramp = np.linspace(-3, 5, 10_000, dtype=np.float32).reshape(1, 100, 100)
    shown = gray_values(ramp)
    assert (shown.min(), shown.max(), shown.shape) == (0, 255, (100, 100))
    assert abs(int(shown[50, 0]) - 128) <= 1
    assert gray_values(np.repeat(ramp, 3, axis=0)).shape == (100, 100, 3)
    assert gray_values(np.repeat(ramp, 2, axis=0)).shape == (100, 100)
    assert np.ptp(gray_values(np.zeros((1, 4, 4), np.float32))) == 0  # a constant image


def test_a_weight_map_is_brightest_where_it_weighs_most_and_its_caption_has_the_numbers():
    weight = np.zeros((8, 9), np.float32)
    weight[2, 3] = 12.0
    picture = weight_picture("slice", weight)
    brightness = picture.pixels.sum(axis=2)
    assert np.unravel_index(brightness.argmax(), brightness.shape) == (2, 3)
    assert picture.caption == "slice: weight 0 .. 12, mean 0.167"
    assert weight_picture("none", np.zeros((2, 2), np.float32)).pixels.shape == (2, 2, 3)


def test_pictures_of_one_panel_have_one_size():
    pictures = [overlay_picture(random_prediction(size), ("a", "b")) for size in ((5, 9), (7, 4))]
    padded = same_size(pictures)
    assert {p.pixels.shape for p in padded} == {(7, 9)}
    assert {values.shape for p in padded for values, _ in p.overlays.values()} == {(7, 9)}
    np.testing.assert_array_equal(padded[0].pixels[:5, :9], pictures[0].pixels)
    assert same_size([]) == []


@pytest.mark.parametrize(("count", "expected"), [(0, []), (1, [0]), (3, [0, 1, 2]), (30, [0, 10, 19, 29])])
def test_the_frames_shown_are_few_and_fixed(count, expected):
    assert few(count) == expected
    assert len(few(count)) <= FRAMES


@pytest.mark.parametrize(("updates", "every"), [(4000, 200), (4000, 1000), (800, 80), (7, 3), (100_000, 10), (5, 200)])
def test_pictures_are_of_few_evaluations_and_of_the_last(updates, every):
    config = from_dict({"train": {"updates": updates, "eval_every": every}})
    evaluations = [u for u in range(1, updates + 1) if u % every == 0 or u == updates]
    shown = [u for u in evaluations if is_shown(u, config)]
    assert shown[-1] == updates
    assert len(shown) <= EVALUATIONS + 1
    if len(evaluations) <= EVALUATIONS:
        assert shown == evaluations


def test_pixels_seen_are_those_of_the_input_tiles():
    config = from_dict({"train": {"batch": 4, "accumulate": 2}, "tile": {"input_px": 508}})
    assert place(3, config) == {"updates": 3, "pixels_seen": 3 * 8 * 508 * 508}


def objects():
    """Two squares, one of them found."""
    instances = np.zeros((30, 30), np.int32)
    instances[3:10, 3:10], instances[15:25, 15:25] = 1, 2
    probability = np.where(instances == 1, 0.9, 0.1)
    return predicted((instances > 0).astype(np.uint8), probability, "a", instances)


def panels(recorder, predictions, names, monkeypatch, **config):
    stack = stack_of(predictions, names)
    source = SimpleNamespace(weight_map=lambda i: np.full(stack.frames[i].size, 1.0 + i, np.float32))
    return Panels(recorder, from_dict({"train": {"updates": 4}} | config), stack, stack, source)


def test_objects_get_pictures(monkeypatch):
    recorder, predictions = Recorder(), [objects()]
    panels(recorder, predictions, ("background", "cell"), monkeypatch).evaluation(4, predictions)
    (row,) = recorder.rows
    assert row["updates"] == 4
    assert row["timing/dashboard_s"] > 0
    assert recorder.sent["held_out/frames"][0][0].caption == "a"
    assert recorder.sent["held_out/probability"][1] == {"updates": 4, "pixels_seen": row["pixels_seen"]}


def test_only_frames_that_are_shown_are_kept(monkeypatch):
    predictions = [random_prediction((20, 24), seed, str(seed)) for seed in range(9)]
    recorder, kept = Recorder(), []
    made = panels(recorder, predictions, ("membrane", "cell"), monkeypatch)
    monkeypatch.setattr(made, "_send_evaluation", lambda _, held: kept.append([p.frame.name for p in held]))
    made.evaluation(4, predictions)
    assert kept == [["0", "3", "5", "8"]]


def test_weight_maps_of_frames_without_a_label_are_left_out(monkeypatch):
    recorder = Recorder()
    predictions = [random_prediction((20, 24), seed, str(seed)) for seed in range(3)]
    made = panels(recorder, predictions, ("membrane", "cell"), monkeypatch)
    bare = Frame("bare", "s", np.zeros((1, 20, 24), np.float32))
    made.train = Stack("made", (bare, *made.train.frames), ("membrane", "cell"), Normalisation(), "made in the test")
    made.source = SimpleNamespace(weight_map=lambda i: np.full((20, 24), float(i), np.float32))
    made.begin()
    captions = [picture.caption for picture in recorder.sent["weight_map"][0]]
    assert [caption.split(":")[0] for caption in captions] == ["0", "1", "2"]
    assert captions[0].endswith("weight 1 .. 1, mean 1")


def test_nothing_is_computed_without_a_dashboard(monkeypatch):
    recorder, predictions = Recorder(active=False), [objects()]
    monkeypatch.setattr("unet.training.wandb_panels.overlay_picture", pytest.fail)
    made = panels(recorder, predictions, ("background", "cell"), monkeypatch)
    made.source.weight_map = pytest.fail
    made.begin()
    made.evaluation(4, predictions)
    assert recorder.rows == []
    assert recorder.sent == {}


def test_best_values_know_which_way_is_up():
    rows = [
        {"update": 1, "part": "train", "loss": 0.0},
        {"update": 2, "part": "held_out", "loss": 0.5, "mean_iou": 0.7, "pixel_error": 0.2, "blog_iou": None},
        {"update": 4, "part": "held_out", "loss": 0.6, "mean_iou": 0.8, "pixel_error": 0.1, "blog_iou": None},
        {"update": 6, "part": "held_out", "loss": 0.7, "mean_iou": 0.8, "pixel_error": 0.3, "blog_iou": 0.4},
    ]
    assert best_values(rows) == {"best/loss": 0.5, "best/mean_iou": 0.8, "best/update": 4, "best/pixel_error": 0.1,
                                 "best/blog_iou": 0.4}  # fmt: skip
    assert best_values([]) == {}
