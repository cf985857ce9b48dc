"""Runs that go on after something about them has changed: their data's place, their data, their configuration."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data import cases
from unet.cli import main
from unet.config import load_yaml
from unet.runs.checkpoint import load_weights
from unet.training.trainer import Trainer

TINY = [
    "--model.base-channels", "2", "--model.depth", "2", "--tile.input-px", "52", "--train.batch", "1",
    "--train.eval-every", "2", "--train.checkpoint-every", "2", "--train.device", "cpu", "--train.threads", "1",
    "--train.workers", "0", "--wandb", "disabled",
]  # fmt: skip


def words(data, run, *more, updates=4):
    folder = ["--data.folder", str(data), "--run", str(run), "--train.updates", str(updates)]
    return ["train", *folder, *TINY, *map(str, more)]


@pytest.fixture
def stopped(tmp_path, monkeypatch, capsys):
    """A run that was killed after a checkpoint at update 2; its data is named by a relative path."""
    cases.write(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    original = Trainer._update

    def dies(self, stream):
        if self.state.update == 3:
            raise KeyboardInterrupt
        original(self, stream)

    monkeypatch.setattr(Trainer, "_update", dies)
    assert main(words("data", "run")) == 130
    monkeypatch.setattr(Trainer, "_update", original)
    capsys.readouterr()
    return tmp_path / "run"


def edit(run, old, new):
    text = (run / "config.yaml").read_text()
    assert text.count(old) == 1
    (run / "config.yaml").write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("  fold: 0\n", "  fold: 1\n", "data.fold was 0 and is 1"),
        ("  updates: 4\n", "  updates: 1\n", "train.updates was 4 and is 1"),
        ("  name: sgd\n", "  name: adam\n", "optim.name was 'sgd' and is 'adam'"),
    ],
)
def test_an_edited_configuration_is_refused_by_its_keys(stopped, capsys, old, new, told):
    edit(stopped, old, new)
    before = (stopped / "split.json").read_bytes()
    assert main(["train", "--resume", "--run", str(stopped)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"its configuration was edited ({told})" in error
    assert "--from" in error
    assert (stopped / "split.json").read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda _: None, "is gone since its checkpoint"),
        (lambda content: content.replace(b"held_out", b"held-out"), "was edited after its checkpoint"),
        (lambda content: content[:20], "is shorter than its checkpoint says"),
    ],
)
def test_other_metrics_stop_a_resume_unless_told_and_cost_no_bit_of_the_weights(stopped, capsys, damage, told):
    metrics = stopped / "metrics.jsonl"
    before = metrics.read_bytes()
    assert b"held_out" in before
    twin = shutil.copytree(stopped, stopped.with_name("twin"))
    changed = damage(before)
    metrics.unlink() if changed is None else metrics.write_bytes(changed)
    assert main(["train", "--resume", "--run", str(stopped)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"metrics.jsonl {told}; restore it, or go on without the rows so far with --lost-metrics" in error
    assert (metrics.read_bytes() if metrics.exists() else None) == changed
    assert main(["train", "--resume", "--run", str(stopped), "--lost-metrics"]) == 0
    assert {json.loads(line)["update"] for line in metrics.read_text().splitlines()} == {4}
    replaced = stopped / "metrics-replaced.jsonl"
    assert (replaced.read_bytes() if replaced.exists() else None) == changed
    assert main(["train", "--resume", "--run", str(twin)]) == 0
    assert (twin / "metrics.jsonl").read_bytes().startswith(before)
    weights, wanted = (load_weights(run / "weights.safetensors")[0] for run in (stopped, twin))
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)
    metrics.unlink()
    assert main(["evaluate", str(stopped), "--quiet"]) == 0  # trained weights need no metrics


def test_a_run_goes_on_from_another_directory_and_with_moved_images(stopped, tmp_path, monkeypatch, capsys):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_yaml(stopped / "config.yaml").data.folder == str(tmp_path / "data")
    shutil.move(tmp_path / "data", tmp_path / "moved")
    assert main(["train", "--resume", "--run", str(stopped)]) == 2
    assert "no such folder; if it has moved, name it anew with --data.folder" in capsys.readouterr().err
    assert main(["train", "--resume", "--run", str(stopped), "--data.folder", str(tmp_path / "moved")]) == 0
    assert load_yaml(stopped / "config.yaml").data.folder == str(tmp_path / "moved")
    shutil.move(tmp_path / "moved", tmp_path / "again")
    scores = (stopped / "scores.json").read_bytes()
    assert main(["evaluate", str(stopped)]) == 2
    assert main(["evaluate", str(stopped), "--data.folder", "../again", "--quiet"]) == 0
    assert json.loads((stopped / "scores.json").read_bytes())["scores"] == json.loads(scores)["scores"]
    shutil.move(tmp_path / "again", tmp_path / "third")
    capsys.readouterr()
    assert main(["reproduce", str(stopped), "--data.folder", "../third"]) == 0
    assert "--config-file" in capsys.readouterr().out
    assert load_yaml(stopped / "config.yaml").data.folder == str(tmp_path / "third")
    shutil.move(tmp_path / "third", tmp_path / "fourth")
    assert main(["report", str(stopped), "--data.folder", "../fourth", "--quiet"]) == 0
    assert load_yaml(stopped / "config.yaml").data.folder == str(tmp_path / "fourth")
    cases.write(tmp_path / "other", cases.inverted)
    assert main(["evaluate", str(stopped), "--data.folder", str(tmp_path / "other")]) == 2
    assert "holds other images or labels than" in capsys.readouterr().err
    assert load_yaml(stopped / "config.yaml").data.folder == str(tmp_path / "fourth")


def test_changed_images_stop_a_resume_unless_told(stopped, tmp_path, capsys):
    Image.fromarray(np.full((160, 192), 90, np.uint8)).save(tmp_path / "data" / "images" / "3.png")
    assert main(["train", "--resume", "--run", str(stopped)]) == 2
    assert "the images or labels are not those it was begun with" in capsys.readouterr().err
    assert main(["train", "--resume", "--run", str(stopped), "--changed-data", "--quiet"]) == 0


def test_held_out_frames_that_would_be_trained_on_stop_a_resume(stopped, tmp_path, capsys):
    for part in ("images", "labels"):
        shutil.move(tmp_path / "data" / part / "0.png", tmp_path / "data" / part / "9.png")
    assert main(["train", "--resume", "--run", str(stopped), "--changed-data"]) == 2
    assert "the train frames are others than before" in capsys.readouterr().err


@pytest.fixture
def parent(tmp_path):
    cases.write(tmp_path / "data")
    assert main([*words(tmp_path / "data", tmp_path / "parent"), "--quiet"]) == 0
    return tmp_path / "parent"


def test_a_frame_that_was_trained_on_is_not_scored(parent, capsys):
    parts = json.loads((parent / "split.json").read_text())
    moved = parts["train"].pop()
    parts["held_out"].append(moved)
    (parent / "split.json").write_text(json.dumps(parts))
    assert main(["evaluate", str(parent)]) == 2
    assert f"split.json and config.yaml disagree on the train frames ({moved})" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("normalise: auto", "normalise: minmax", "was trained with another normalisation"),
        ("  - 99.9", "  - 99.0", "was trained with another normalisation"),
        (
            "label_kind: auto",
            "label_kind: instances",
            "the classes background, foreground; its data",
        ),
        ("  base_channels: 2", "  base_channels: 4", "holds another architecture than config.yaml describes"),
    ],
)
def test_an_edited_configuration_is_not_scored(parent, capsys, old, new, told):
    edit(parent, old, new)
    assert main(["evaluate", str(parent)]) == 2
    assert told in capsys.readouterr().err


def test_scores_on_other_images_or_labels_say_so(parent, tmp_path, capsys):
    told = "warning: the images or labels are not those that the network was trained on"
    assert main(["evaluate", str(parent)]) == 0
    assert told not in capsys.readouterr().out
    Image.fromarray(np.zeros((160, 192), np.uint8)).save(tmp_path / "data" / "labels" / "0.png")
    assert main(["evaluate", str(parent)]) == 0
    assert told in capsys.readouterr().out
    assert told in json.loads((parent / "scores.json").read_text())["notes"]


def weights(run):
    return load_weights(run / "weights.safetensors")[0]


@pytest.mark.parametrize("named", ["parent", "parent/weights.safetensors"])
def test_a_warm_start_begins_with_the_weights_of_another_run(parent, tmp_path, named):
    still = ["--optim.lr", "1e-30", "--quiet", "--from", tmp_path / named]
    assert main(words(tmp_path / "data", tmp_path / "child", *still, updates=1)) == 0
    torch.testing.assert_close(weights(tmp_path / "child"), weights(parent), rtol=0, atol=0)
    told = json.loads((tmp_path / "child" / "environment.json").read_text())["parent"]
    assert told["path"] == str(parent / "weights.safetensors")
    assert told["at_random"] == []


def test_other_channels_and_classes_begin_at_random_and_are_said(parent, tmp_path, capsys):
    def three(labels, _seed):
        return np.select([labels == 0, labels < 6], [0, 1], 2).astype(np.uint8)

    cases.write(tmp_path / "rgb", three, image_of=lambda image: np.stack([image, 255 - image, image // 2], -1))
    more = ["--optim.lr", "1e-30", "--from", parent]
    assert main(words(tmp_path / "rgb", tmp_path / "child", *more, updates=1)) == 0
    said = capsys.readouterr()
    assert "has the input channels 1, this run 3: down.0.0 begins at random" in said.out + said.err
    assert "head begins at random" in said.out + said.err
    child, before = weights(tmp_path / "child"), weights(parent)
    assert child["head.weight"].shape[0] == 3
    assert child["down.0.0.weight"].shape[1] == 3
    for name in before:
        if not name.startswith(("head.", "down.0.0.")):
            torch.testing.assert_close(child[name], before[name], rtol=0, atol=0)


def test_a_warm_start_from_another_network_names_its_flags(parent, tmp_path, capsys):
    again = words(tmp_path / "data", tmp_path / "child", "--from", parent, "--model.base-channels", "3")
    assert main(again) == 2
    assert "to start from it say --model.base-channels 2" in capsys.readouterr().err
