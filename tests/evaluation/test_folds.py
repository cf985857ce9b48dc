"""A cross-validation scored as one set: every frame by the run that did not see it."""

import fcntl
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.runs.test_folder import is_free
from tests.training.test_loop import QUIET, configured, data, discs, start
from unet.cli import main
from unet.errors import RunError
from unet.evaluation import run as evaluation_run
from unet.evaluation.frames import pixel_scores
from unet.evaluation.run import evaluate_folds, evaluate_run, predict_held_out
from unet.metrics.em import em_sweeps
from unet.runs.lock import run_lock

__all__ = ["data"]  # the fixture that stands in for files


def fold(path: Path, number: int) -> Path:
    config = configured(train={"updates": 6, "eval_every": 6}, data={"split": "blocks", "folds": 5, "fold": number})
    return start(path / f"fold{number}", config).path


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [fold(tmp_path, number) for number in (2, 0)]


def test_all_frames_are_scored_as_one_set(runs, tmp_path):
    assert main(["evaluate", *map(str, runs), "--out", str(tmp_path / "all"), "--quiet"]) == 0
    saved = json.loads((tmp_path / "all" / "scores.json").read_text())
    parts = [predict_held_out(run, QUIET) for run in runs]
    frames = [prediction for part in parts for prediction in part.frames]
    assert saved["frames"] == ["disc2", "disc0"] == [p.frame.name for p in frames]
    assert saved["runs"] == [str(run) for run in runs]
    expected = pixel_scores(frames, ("ground", "disc"))
    assert {name: saved["scores"][name] for name in expected} == expected
    cells = np.stack([p.probabilities[1] for p in frames])
    pooled = em_sweeps(np.stack([p.frame.label for p in frames]) > 0, cells)
    assert saved["scores"]["v_rand"] == pooled["v_rand"].value
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "all" / "probabilities.tif"), cells)
    assert (tmp_path / "all" / "prediction.png").stat().st_size > 0


def test_one_run_pooled_is_that_run(runs, tmp_path):
    single = evaluate_run(runs[0], QUIET)
    pooled = evaluate_folds(runs[:1], tmp_path / "all", QUIET)
    assert pooled["scores"] == single["scores"]
    assert pooled["by_frame"] == single["by_frame"]


def test_a_run_in_use_is_not_scored(tmp_path, capsys):
    """Somebody trains it anew: the scores of the old weights would stand beside the new ones."""
    run = fold(tmp_path, 0)
    before = {path.name for path in run.iterdir()}
    with (run / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert main(["evaluate", str(run), "--quiet"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "in use by another process" in error
    assert {path.name for path in run.iterdir()} == before
    (run / "config.yaml").unlink()
    (run / ".lock").unlink()
    assert main(["evaluate", str(run), "--quiet"]) == 2
    assert "not a run folder" in capsys.readouterr().err
    assert not (run / ".lock").exists()


def test_nobody_can_take_a_run_that_is_being_scored(tmp_path, monkeypatch):
    run, seen = fold(tmp_path, 0), []
    original = evaluation_run.predict_held_out

    def watched(*arguments, **options):
        seen.append(is_free(run))
        return original(*arguments, **options)

    for name in (
        "unet.evaluation.run.write_json",
        "unet.evaluation.run.write_probabilities",
        "unet.evaluation.run.draw_rows",
    ):
        monkeypatch.setattr(name, lambda *_: seen.append(is_free(run)))
    monkeypatch.setattr(evaluation_run, "predict_held_out", watched)
    monkeypatch.setattr("unet.runs.final.send_scores", lambda *_: seen.append(is_free(run)))
    evaluate_run(run, QUIET)
    assert main(["evaluate", str(run), "--quiet"]) == 0
    assert seen == [False] * (4 + 5)
    assert is_free(run)
    with run_lock(run):  # and who has it already may score it
        evaluate_run(run, QUIET)
    assert seen[9:] == [False] * 4


def test_a_misaligned_network_is_scored_on_tiles_like_those_it_was_trained_on(tmp_path, monkeypatch):
    config = configured(
        train={"updates": 2, "eval_every": 2}, data={"split": "blocks", "folds": 5, "fold": 2}, tile={"input_px": 61},
        model={"allow_odd_pooling": True},
    )  # fmt: skip
    run, seen = start(tmp_path / "run", config).path, []
    original = evaluation_run.predict_frames

    def watched(network, stack, frames, how, **options):
        seen.append(how.tile_px)
        return original(network, stack, frames, how, **options)

    monkeypatch.setattr(evaluation_run, "predict_frames", watched)
    predict_held_out(run, QUIET)
    assert set(seen) == {61}


def test_results_are_not_overwritten(runs, tmp_path):
    evaluate_folds(runs, tmp_path / "all", QUIET)
    with pytest.raises(RunError, match="holds scores already"):
        evaluate_folds(runs, tmp_path / "all", QUIET)


def test_a_frame_is_never_scored_twice(runs, tmp_path):
    with pytest.raises(RunError, match="both held disc2 out"):
        evaluate_folds([runs[0], runs[0]], tmp_path / "all", QUIET)
    again = fold(tmp_path / "again", 2)
    with pytest.raises(RunError, match="fold2 and .*again.* both held disc2 out"):
        evaluate_folds([runs[0], again], tmp_path / "all", QUIET)
    assert not (tmp_path / "all").exists()


def test_a_damaged_split_is_one_line(runs, tmp_path):
    (runs[1] / "split.json").write_text("[]")
    with pytest.raises(RunError, match=r"split\.json: does not name the held_out frames"):
        evaluate_folds(runs, tmp_path / "all", QUIET)


def test_runs_of_other_data_are_refused(runs, tmp_path, monkeypatch):
    stacks = iter([discs(), replace(discs(), source="elsewhere")])
    monkeypatch.setattr("unet.evaluation.run.load", lambda *_: next(stacks))
    with pytest.raises(RunError, match="source is not that of"):
        evaluate_folds(runs, tmp_path / "all", QUIET)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["a", "b"], "--out DIR goes with several runs"), (["a", "--out", "c"], "--out DIR goes with several runs")],
)
def test_where_the_scores_go_must_be_clear(arguments, said, capsys):
    assert main(["evaluate", *arguments]) == 2
    assert said in capsys.readouterr().err
