"""data.split all: every labelled frame trains, nothing is scored, and everything behind the training knows it."""

import io
import json
import os
import sys

import pytest

from tests.commands.test_bad_input import TINY, refused, write_stack
from tests.runs.test_dashboard import FakeRun
from tests.training.test_loop import QUIET, configured, discs
from unet.cli import main
from unet.config import from_dict, to_yaml
from unet.report import run_page
from unet.report.run import read
from unet.runs.dashboard import Dashboard
from unet.runs.folder import METRICS, TIMING, RunFolder
from unet.study import evidence, worker
from unet.study.collect import collect
from unet.study.design import Job
from unet.training.loop import train

ALL = ["--data.split", "all", "--train.updates", "4", "--train.eval-every", "2"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a small EM stack."""
    write_stack(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNET_DATA", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def run(place, capsys):
    """A run on all ten frames."""
    assert main([*TINY, *ALL]) == 0
    return place / "run"


def test_every_frame_trains_and_one_line_says_why_there_are_no_scores(place, capsys):
    assert main([*TINY, *ALL]) == 0
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "run: all labelled frames were trained on, so there are no held-out scores; score the challenge's 30 test "
        "slices with: unet evaluate run --test",
        "checkpoint:    run/weights.safetensors",
        "record:        run/config.yaml",
    ]
    split = json.loads((place / "run" / "split.json").read_text())
    assert split == {"train": [f"train-volume[{i:02}]" for i in range(10)], "held_out": []}
    folder = RunFolder(place / "run")
    assert {row["part"] for row in folder.rows(METRICS)} == {"train"}
    assert [row["update"] for row in folder.rows(TIMING)] == [2, 4]
    assert not folder.file("scores.json").exists()


def test_there_is_nothing_to_evaluate(run, capsys):
    for words in ([str(run)], [str(run), str(run), "--out", "pooled"]):
        assert "no held-out scores; score the challenge's" in refused(capsys, "evaluate", *words)
    assert not (run.parent / "pooled").exists()


def test_of_other_data_no_test_set_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*TINY, *ALL, "--data.name", "synthetic-em", "--tile.input-px", "52"]) == 0
    assert capsys.readouterr().out.startswith(
        "run: all labelled frames were trained on, so there are no held-out scores\n"
    )


def test_it_is_resumed_and_made_again_to_the_same_bits(run, capsys):
    (run / "weights.safetensors").unlink()
    assert main(["train", "--resume", "--run", str(run), "--quiet"]) == 0
    assert "no held-out scores" in capsys.readouterr().out
    assert main(["reproduce", str(run), "--go", "--quiet"]) == 0
    assert capsys.readouterr().out.count("the same bits") == 3  # frames, rows, weights


def test_its_page_says_so(run, capsys):
    assert read(run).state == "nothing held out"
    assert main(["report", str(run)]) == 0
    text = (run / "report.html").read_text()
    assert text.count("very labelled frame was trained on") == 2
    assert "No frame was held out, so there are no held-out curves." in text
    assert "Training loss" in text


def test_show_names_the_empty_part(place, capsys):
    assert main(["data", "show", "em", "--data.split", "all"]) == 0
    assert "held_out:      none" in capsys.readouterr().out


def test_a_study_takes_it_for_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("unet.training.loop.load", lambda *_: discs())
    config = configured(data={"split": "all"}, train={"updates": 12, "eval_every": 6})
    monkeypatch.setattr(sys, "stdin", io.StringIO(to_yaml(config)))
    made, kept = tmp_path / "run", tmp_path / "kept"
    assert not evidence.has_ended(made)
    assert worker.main([str(made), str(os.getppid())]) == 0
    assert RunFolder(made).rows("attempts.jsonl")[-1]["outcome"] == "ended"
    assert evidence.has_ended(made)
    collect(made, Job("study", "smoke", "arm", "em", 0, config), kept)
    assert evidence.is_whole(kept)
    values = evidence.load(kept).values
    assert set(values) == {"spikes", "train_loss"}
    assert read(kept).state == "nothing held out"
    assert "Every labelled frame was trained on" in run_page.make(read(kept))
    (made / "weights.safetensors").unlink()
    assert not evidence.has_ended(made)


def test_the_mirror_has_rows_of_training_and_of_speed(tmp_path, monkeypatch):
    monkeypatch.setattr("unet.training.loop.load", lambda *_: discs())
    config = configured(data={"split": "all"}, train={"updates": 20, "eval_every": 10})
    mirrored, lines = FakeRun(), []
    with Dashboard(lines.append, connect=lambda _: mirrored) as dashboard:
        config = from_dict({"wandb": {"mode": "offline"}}, config)
        train(config, tmp_path / "run", resume=False, overwrite=False, terminal=QUIET, dashboard=dashboard)
    keys = {key.split("/")[0] for row in mirrored.rows for key in row}
    assert keys == {"weight_map", "train", "timing", "updates", "pixels_seen"}
    assert mirrored.calls[-1] == "finish 0"
    assert lines == []
