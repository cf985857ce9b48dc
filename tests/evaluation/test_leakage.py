"""Nothing of the frames that are scored decides how they are scored: instance settings come from training frames."""

import numpy as np
import pytest

from tests.runs.new import new_run
from tests.training.test_loop import QUIET, configured
from unet.data.stack import Frame, Normalisation, Stack
from unet.errors import RunError
from unet.evaluation import run as evaluation_run
from unet.evaluation.run import evaluate_run, predict_held_out
from unet.evaluation.scoring import score
from unet.prediction.instances import Choice, InstanceSettings

OBJECTS = np.zeros((32, 32), np.int32)  # two of 80 pixels, two pixels apart
OBJECTS[5:15, 4:12], OBJECTS[5:15, 14:22] = 1, 2


def frame(name: str, *, gap: float, rim: float, speck: int) -> Frame:
    """A frame whose gray values are the probabilities that are predicted for it.

    gap: probability between the objects. rim: on their outermost pixels; 48 are left inside. speck: how many rows of
    four pixels are taken for an object where there is none.
    """
    image = np.where(OBJECTS > 0, np.float32(rim), np.float32(0))
    image[6:14, 5:11] = image[6:14, 15:21] = 0.9
    image[5:15, 12:14], image[20 : 20 + speck, 25:29] = gap, 0.9
    return Frame(name, "a", image[None], (OBJECTS > 0).astype(np.uint8), OBJECTS)


TRAINING = {"gap": 0.58, "rim": 0.9, "speck": 3}  # best parted at 0.6, and without objects below 20 pixels
HELD_OUT = {"gap": 0.0, "rim": 0.38, "speck": 2}  # best at 0.35, where objects are complete, and from 10 pixels on
STACK = Stack(
    "objects",
    (frame("held", **HELD_OUT), frame("train0", **TRAINING), frame("bare", **HELD_OUT), frame("train1", **TRAINING)),
    ("ground", "object"),
    Normalisation(),
    "made in the test",
)
GOLD = dict.fromkeys(("held", "train0", "train1"), OBJECTS)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run that held one frame out, of a network that gives back the image."""
    metadata = {"normalisation": {"kind": "fixed"}, "tile_px": 0, "channels": 1, "class_names": STACK.class_names}
    monkeypatch.setattr(evaluation_run, "load", lambda *_: STACK)
    monkeypatch.setattr(evaluation_run, "references", lambda *_: GOLD)
    monkeypatch.setattr(evaluation_run, "load_ensemble", lambda *_: (None, metadata))
    monkeypatch.setattr(
        "unet.evaluation.frames.predict_image", lambda _, image, *__, **___: np.stack([1 - image[0], image[0]])
    )
    folder = new_run(tmp_path / "run", configured())
    folder.write_json("split.json", {"train": ["train0", "bare", "train1"], "held_out": ["held"]})
    return folder.path


def test_training_and_held_out_frames_of_this_test_ask_for_different_settings(run):
    of_frames = {p.frame.name: p for p in predict_held_out(run, QUIET).frames}
    assert evaluation_run.search_settings(list(of_frames.values()), GOLD).best == InstanceSettings(0.35, 10)


def test_instance_settings_are_searched_on_the_training_frames_that_have_a_truth(run, monkeypatch):
    asked = []
    original = evaluation_run.search_settings

    def watched(predictions, gold):
        asked.append([p.frame.name for p in predictions])
        return original(predictions, gold)

    monkeypatch.setattr(evaluation_run, "search_settings", watched)
    found = predict_held_out(run, QUIET)
    assert asked == [["train0", "train1"]]
    assert found.settings == Choice(InstanceSettings(0.6, 20), InstanceSettings(0.6, 20))
    assert [p.frame.name for p in found.frames] == ["held"]


def test_settings_of_an_ensemble_are_searched_on_what_all_of_it_was_trained_on(run, monkeypatch):
    other = new_run(run.with_name("other"), configured())
    other.write_json("split.json", {"train": ["bare", "train1"], "held_out": ["held"]})
    asked = []
    original = evaluation_run.search_settings
    monkeypatch.setattr(
        evaluation_run,
        "search_settings",
        lambda p, gold: asked.extend(one.frame.name for one in p) or original(p, gold),
    )
    assert predict_held_out([run, other.path], QUIET).settings.best == InstanceSettings(0.6, 20)
    assert asked == ["train1"]


def test_an_ensemble_of_runs_that_share_only_some_held_out_frames_is_refused(run):
    other = new_run(run.with_name("other"), configured())
    other.write_json("split.json", {"train": ["bare", "train1"], "held_out": ["held", "train0"]})
    for runs in ([run, other.path], [other.path, run]):
        with pytest.raises(RunError, match=r"did not hold the same frames out \(train0\)"):
            predict_held_out(runs, QUIET)


def test_the_scores_of_a_run_are_those_of_the_training_settings(run, monkeypatch):
    monkeypatch.setattr(evaluation_run, "draw_rows", lambda *_: None)  # takes longest
    saved = evaluate_run(run, QUIET)
    assert saved["frames"] == ["held"]
    assert (saved["instances"]["threshold"], saved["instances"]["min_area_px"]) == (0.6, 20)
    assert saved["scores"]["seg"] == pytest.approx(48 / 80)
    assert saved["scores"]["pq_recognition"] == 1  # the speck is dropped
    held = predict_held_out(run, QUIET).frames
    leaked = Choice(InstanceSettings(0.35, 10), InstanceSettings(0.35, 10))
    assert score(held, STACK, GOLD, {"held": leaked}).values["seg"] == 1  # what leakage would give
