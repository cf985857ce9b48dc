"""One run as a process: what it leaves when training diverges, when its folder is in use, when its parent is gone."""

import io
import json
import os
import signal
import sys
import threading

import pytest

from tests.runs.new import new_run
from tests.training.test_loop import configured, discs
from unet.config import to_yaml
from unet.runs.folder import RunFolder
from unet.runs.lock import run_lock
from unet.study import worker
from unet.study.evidence import has_ended


@pytest.fixture(autouse=True)
def data(monkeypatch):
    monkeypatch.setattr("unet.training.loop.load", lambda *_: discs())
    monkeypatch.setattr("unet.evaluation.run.load", lambda *_: discs())


def work(monkeypatch, run, config):
    monkeypatch.setattr(sys, "stdin", io.StringIO(to_yaml(config)))
    return worker.main([str(run), str(os.getppid())])


SHORT = {"updates": 4, "eval_every": 2}


def test_a_run_is_trained_and_scored_and_its_time_kept(tmp_path, monkeypatch):
    assert work(monkeypatch, tmp_path / "run", configured(train=SHORT)) == 0
    assert has_ended(tmp_path / "run")
    (attempt,) = RunFolder(tmp_path / "run").rows("attempts.jsonl")
    assert attempt["outcome"] == "ended"
    assert attempt["seconds"] > 0


def test_without_a_configuration_nothing_is_trained(tmp_path, monkeypatch, capsys):
    """The engine was killed before it had written it: an empty one would be that of all defaults."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert worker.main([str(tmp_path / "run"), str(os.getppid())]) == 2
    assert "no configuration came" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_training_that_diverges_is_a_result(tmp_path, monkeypatch):
    """An error of another kind is none."""
    config = configured(optim={"name": "sgd", "lr": 900.0}, train={"updates": 40, "eval_every": 50})
    assert work(monkeypatch, tmp_path / "run", config) == 0
    said = json.loads((tmp_path / "run" / "failure.json").read_text())["diverged"]
    assert said.startswith("update ")
    assert RunFolder(tmp_path / "run").rows("attempts.jsonl")[-1]["outcome"] == "diverged"
    monkeypatch.setattr("unet.device.available_bytes", lambda _: 1000)
    assert work(monkeypatch, tmp_path / "other", config) == 2
    assert not has_ended(tmp_path / "other")


def test_weights_that_are_there_are_only_scored(tmp_path, monkeypatch):
    run = tmp_path / "run"
    assert work(monkeypatch, run, configured(train=SHORT)) == 0
    scores = (run / "scores.json").read_bytes()
    (run / "scores.json").unlink()
    monkeypatch.setattr("unet.training.loop.train", None)
    assert work(monkeypatch, run, configured(train=SHORT)) == 0
    assert (run / "scores.json").read_bytes() == scores


def test_a_folder_that_another_process_holds_is_left_alone(tmp_path, monkeypatch):
    run = tmp_path / "run"
    new_run(run, configured())
    with run_lock(run):
        assert work(monkeypatch, run, configured()) == worker.BUSY


def test_a_worker_stops_when_its_parent_is_gone(monkeypatch):
    killed = threading.Event()
    monkeypatch.setattr(os, "kill", lambda _, number: killed.set() if number == signal.SIGTERM else None)
    worker.watch(os.getppid())
    assert not killed.wait(0.2)
    worker.watch(2**30)
    assert killed.wait(5)


def test_scores_on_the_test_slices_are_kept_under_names_of_their_own(tmp_path):
    """A run that held nothing out has no scores.json; what was measured on the test slices stands in its evidence."""
    from unet.metrics.table import higher_is_better
    from unet.study.collect import UNSCORED, _on_test_slices

    assert _on_test_slices(tmp_path) == UNSCORED
    protocols = {"paper": {"scores": {"v_rand": 0.97, "pixel_error": 0.06}}, "archive": {"scores": {"v_rand": 0.5}}}
    written = {"protocols": protocols, "symmetries": 8}
    (tmp_path / "test-scores.json").write_text(json.dumps(written))
    kept = _on_test_slices(tmp_path)
    assert kept["scores"] == {"test_v_rand": 0.97, "test_pixel_error": 0.06}
    assert kept["test"] == written
    assert (higher_is_better("test_v_rand"), higher_is_better("test_pixel_error")) == (True, False)
