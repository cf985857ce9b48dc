"""The engine: runs what is missing, at most n at a time, survives kills, keeps evidence, never runs a thing twice."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.study import helpers
from tests.study.helpers import GRID, QUIET, content, events, options, started
from unet.data import load
from unet.data.published.download import Unavailable
from unet.errors import DataError, RunError
from unet.signals import Interrupted
from unet.study import choice, evidence
from unet.study.claim import Claims
from unet.study.design import Arm, Study, make_job
from unet.study.runner import Runner


@pytest.fixture(autouse=True)
def brisk(monkeypatch):
    monkeypatch.setattr("unet.study.runner.POLL_S", 0.02)


STUDY = replace(helpers.STUDY, data=("em",))
NAMES = ["a-em-seed0", "b-em-seed0", "a-em-seed1", "b-em-seed1"]


def run(folder, study=STUDY, **changes):
    return helpers.run(folder, study, **changes)


def keep_run_locks(folder, study="small-study"):
    return sorted(p.name for p in (folder / "results" / study / "smoke").iterdir())


def test_everything_missing_is_run_once_seed_by_seed(tmp_path):
    run(tmp_path, at_once=1)
    assert started(tmp_path) == NAMES
    assert keep_run_locks(tmp_path) == sorted(NAMES)
    run(tmp_path, at_once=1)
    assert started(tmp_path) == NAMES  # nothing was run again


def test_a_larger_number_of_seeds_runs_only_the_new_ones(tmp_path):
    run(tmp_path, seeds=1)
    run(tmp_path, seeds=2)
    assert sorted(started(tmp_path)) == sorted(NAMES)


def test_only_an_arm_and_only_a_data_set(tmp_path):
    run(tmp_path, helpers.STUDY, only=("b",), data=("hela",))
    assert sorted(started(tmp_path)) == ["b-hela-seed0", "b-hela-seed1"]


@pytest.mark.parametrize("at_once", [1, 2])
def test_no_more_runs_at_a_time_than_asked_for(tmp_path, at_once):
    run(tmp_path, at_once=at_once, plan={"step_s": 0.01})
    marks = [(e["time"], 1 if e["event"] == "start" else -1) for e in events(tmp_path)]
    level = most = 0
    for _, step in sorted(marks):
        level += step
        most = max(most, level)
    assert most == at_once


def test_evidence_alone_is_enough_to_know_that_a_run_is_done(tmp_path):
    run(tmp_path)
    import shutil

    shutil.rmtree(tmp_path / "runs")
    run(tmp_path)
    assert len(started(tmp_path)) == len(NAMES)


def test_runs_whose_evidence_was_lost_are_collected_not_trained(tmp_path):
    run(tmp_path)
    before = content(tmp_path / "results")
    (tmp_path / "results/small-study/smoke/a-em-seed0/scores.json").unlink()
    run(tmp_path)
    assert content(tmp_path / "results") == before
    assert len(started(tmp_path)) == len(NAMES)


DRIVER = """
import sys
from pathlib import Path
import unet.study.runner
from tests.study.helpers import run
unet.study.runner.POLL_S, unet.study.runner.ELSEWHERE_S = 0.02, 0.05
run(Path(sys.argv[1]), plan={"step_s": 0.02}, at_once=2)
"""


def test_killed_at_random_moments_it_ends_with_the_same_evidence(tmp_path):
    """kill -9 of the engine, again and again; its workers notice and stop; what is left is gone on with."""
    run(tmp_path / "whole", helpers.STUDY)
    rng = random.Random(0)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    folder = tmp_path / "cut"
    kills = 0
    while kills < 4:
        process = subprocess.Popen([sys.executable, "-c", DRIVER, str(folder)], env=environment)
        before = len(started(folder))
        while process.poll() is None and len(started(folder)) == before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.4))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        for whole in evidence.load_all(folder / "results" / "small-study" / "smoke"):
            assert whole.values["mean_iou"] > 0  # never half-written
    run(folder, helpers.STUDY)
    assert kills >= 2
    assert len(started(folder)) > 2 * len(NAMES)  # some were cut
    assert content(folder / "results") == content(tmp_path / "whole" / "results")


def test_ctrl_c_stops_the_runs_with_a_checkpoint_and_the_next_call_goes_on(tmp_path, monkeypatch):
    run(tmp_path / "whole")
    folder = tmp_path / "cut"
    runner = Runner(STUDY, options(folder, plan={"step_s": 0.05}, at_once=2), QUIET)
    original, pressed = runner.pool.reap, False

    def interrupted():
        nonlocal pressed
        if not pressed and runner.ledger.updates_done(runner.ledger.wanted()[0]) > 0:
            pressed = True
            signal.raise_signal(signal.SIGINT)
        return original()

    monkeypatch.setattr(runner.pool, "reap", interrupted)
    with pytest.raises(Interrupted) as stop:
        runner.run()
    assert stop.value.exit_code == 130
    assert runner.pool.names == set()
    assert runner.ledger.state(runner.ledger.wanted()[0]) == "begun"
    assert runner.ledger.updates_done(runner.ledger.wanted()[0]) > 0
    run(folder)
    assert content(folder / "results") == content(tmp_path / "whole" / "results")


def test_a_run_that_fails_is_reported_and_tried_again_by_the_next_call(tmp_path):
    runner = Runner(STUDY, options(tmp_path, plan={"fail": ["b-em-seed1"]}), QUIET)
    assert runner.run() is False
    assert runner.failed == {"b-em-seed1": "this run cannot be made"}
    assert keep_run_locks(tmp_path) == sorted(set(NAMES) - {"b-em-seed1"})
    assert started(tmp_path).count("b-em-seed1") == 1
    runner = Runner(STUDY, options(tmp_path), QUIET)
    assert runner.run() is True
    assert keep_run_locks(tmp_path) == sorted(NAMES)


def test_a_diverged_run_is_a_result(tmp_path):
    runner = run(tmp_path, plan={"diverge": ["b-em-seed0"]})
    assert runner.failed == {}
    states = {job.name: runner.ledger.state(job) for job in runner.ledger.wanted()}
    assert states.pop("b-em-seed0") == "diverged"
    assert set(states.values()) == {"done"}
    run(tmp_path)
    assert started(tmp_path).count("b-em-seed0") == 1
    found = choice.by_key(runner.ledger.evidence())["b", "em", 0]
    assert found.diverged
    assert (found.values["mean_iou_last5"], found.values["pixel_error"]) == (0.0, 1.0)
    assert "train_loss" not in found.values


def test_a_folder_in_use_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr("unet.study.runner.BUSY_WAIT_S", 0.3)
    runner = run(tmp_path, plan={"busy": ["a-em-seed0"]})
    assert runner.failed == {}
    assert started(tmp_path).count("a-em-seed0") == 2
    assert keep_run_locks(tmp_path) == sorted(NAMES)


def test_a_worker_that_is_killed_goes_on_from_its_checkpoint(tmp_path):
    run(tmp_path / "whole")
    runner = run(tmp_path / "cut", plan={"killed": NAMES[:2]})
    assert not runner.failed
    assert sorted(started(tmp_path / "cut")) == sorted([*NAMES, *NAMES[:2]])
    assert content(tmp_path / "cut" / "results") == content(tmp_path / "whole" / "results")


def test_a_worker_that_is_killed_again_and_again_has_failed(tmp_path, monkeypatch):
    worker = (sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 9)")
    runner = run(tmp_path, seeds=1, worker=worker)
    assert set(runner.failed) == {"a-em-seed0", "b-em-seed0"}


def engine(folder):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.Popen([sys.executable, "-c", DRIVER, str(folder)], env=environment)


def test_two_engines_share_a_study(tmp_path):
    """Every run is made once, and both wait for the whole."""
    run(tmp_path / "whole", helpers.STUDY)
    engines = [engine(tmp_path / "shared") for _ in range(2)]
    assert [process.wait() for process in engines] == [0, 0]
    names = started(tmp_path / "shared")
    assert sorted(names) == sorted(started(tmp_path / "whole"))
    assert content(tmp_path / "shared" / "results") == content(tmp_path / "whole" / "results")


def test_what_a_killed_engine_had_is_taken_over_by_another(tmp_path, monkeypatch):
    monkeypatch.setattr("unet.study.runner.ELSEWHERE_S", 0.05)
    monkeypatch.setattr("unet.study.runner.BUSY_WAIT_S", 0.05)
    folder = tmp_path / "shared"
    first = engine(folder)
    while len(started(folder)) < 2:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    run(folder, helpers.STUDY)
    assert keep_run_locks(folder) == sorted(set(started(folder)))


def test_a_run_that_another_engine_has_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("unet.study.runner.ELSEWHERE_S", 0.05)
    claims = Claims(tmp_path / "runs" / "small-study" / "smoke" / "claims")
    with claims:
        assert claims.take(NAMES[1])

        def release():
            while len(started(tmp_path)) < 3:
                time.sleep(0.01)
            claims.release(NAMES[1])

        threading.Thread(target=release, daemon=True).start()
        run(tmp_path, at_once=1)
    assert started(tmp_path) == [NAMES[0], *NAMES[2:], NAMES[1]]


def test_a_run_that_was_taken_over_is_stopped(tmp_path, monkeypatch):
    """An engine that was held up for so long that it counted as dead finds its run claimed by another."""
    monkeypatch.setattr("unet.study.runner.RENEW_S", 0.0)
    monkeypatch.setattr("unet.study.runner.ELSEWHERE_S", 0.05)
    runner = Runner(STUDY, options(tmp_path, plan={"step_s": 0.05}, at_once=1, seeds=1), QUIET)
    other = Claims(runner.claims.folder)
    original, seen = runner.pool.reap, []

    def meanwhile():
        if not seen and runner.pool.names and started(tmp_path):
            seen.extend(runner.pool.names)
            place = next(runner.claims.folder.glob(f"{seen[0]}.1"))
            os.utime(place, (0, 0))
            assert other.take(seen[0])
        elif seen and not runner.pool.names:
            other.release(seen[0])
        return original()

    monkeypatch.setattr(runner.pool, "reap", meanwhile)
    assert runner.run()
    assert started(tmp_path).count(seen[0]) == 2


def test_an_arm_that_changed_is_not_mixed_with_its_old_runs(tmp_path):
    run(tmp_path, seeds=1)
    changed = replace(STUDY, arms=(STUDY.arms[0], Arm("b", "setting b", {"optim": {"lr": 3e-3}})))
    with pytest.raises(RunError, match=r"b-em-seed0 was made with another optim\.lr; delete it"):
        run(tmp_path, changed)


def test_the_same_run_of_another_study_is_not_trained_again(tmp_path):
    run(tmp_path)
    other = replace(STUDY, name="other-study", arms=(Arm("plain", "as a"), Arm("b", "b", {"optim": {"lr": 5e-3}})),
                    comparisons=())  # fmt: skip
    runner = run(tmp_path, other)
    new = list(started(tmp_path)[len(NAMES):])  # fmt: skip
    assert sorted(set(new)) == ["b-em-seed0", "b-em-seed1"]
    adopted = choice.by_key(runner.ledger.evidence())["plain", "em", 1]
    assert adopted.record["same_run_as"] == "small-study/smoke/a-em-seed1"
    original = tmp_path / "results" / "small-study" / "smoke" / "a-em-seed1"
    for name in ("config.yaml", "metrics.jsonl", "scores.json"):
        assert (adopted.path / name).read_bytes() == (original / name).read_bytes()


def test_time_that_is_over_stops_the_study_and_the_same_call_goes_on(tmp_path):
    run(tmp_path / "whole")
    folder = tmp_path / "cut"
    runner = Runner(STUDY, options(folder, plan={"step_s": 0.05}, minutes=0.6 / 60, at_once=1), QUIET)
    begun = time.monotonic()
    assert runner.run() is False
    assert time.monotonic() - begun < 8
    assert len(keep_run_locks(folder)) < len(NAMES) if (folder / "results").exists() else True
    assert runner.ledger.updates_done(runner.ledger.wanted()[0]) > 0
    run(folder)
    assert content(folder / "results") == content(tmp_path / "whole" / "results")


def test_a_run_that_would_not_end_in_time_is_not_begun(tmp_path):
    run(tmp_path, seeds=1)
    before = started(tmp_path)
    runner = Runner(STUDY, options(tmp_path, seeds=2, minutes=1 / 60), QUIET)  # runs say they take 2 s
    assert runner.run() is False
    assert started(tmp_path) == before
    assert Runner(STUDY, options(tmp_path, seeds=2, minutes=5), QUIET).run() is True


def test_the_best_of_a_grid_is_chosen_by_training_loss_part_by_part_and_run_at_all_seeds(tmp_path):
    runner = run(tmp_path, GRID, seeds=3)
    grid = [f"{arm}-hela-seed{s}" for arm in ("named", "low", "high") for s in (90, 91)]
    wanted = [f"{arm}-hela-seed{s}" for arm in ("named", "low") for s in range(3)]
    assert sorted(started(tmp_path)) == sorted([*grid, *wanted])
    runs = choice.by_key(runner.ledger.evidence())
    best = GRID.arm("best")  # the stand-in's loss grows with the rate
    assert [choice.chosen(GRID, "smoke", best, "hela", s, runs) for s in range(3)] == ["low"] * 3
    assert choice.run_of(GRID, "smoke", best, "hela", 2, runs) is runs["low", "hela", 2]
    stands = choice.stands_for(GRID, "smoke", runs)
    assert stands == {("low", "hela", seed): ("best",) for seed in range(3)}


def test_the_choice_waits_for_the_grid_and_never_takes_a_diverged_run(tmp_path):
    runner = run(tmp_path, GRID, seeds=3, plan={"diverge": ["low-hela-seed90"]})
    runs = choice.by_key(runner.ledger.evidence())
    best = GRID.arm("best")
    assert choice.chosen(GRID, "smoke", best, "hela", 0, runs) == "named"  # of the same held-out part as seed 2
    assert choice.chosen(GRID, "smoke", best, "hela", 2, runs) == "named"
    assert choice.chosen(GRID, "smoke", best, "hela", 1, runs) == "low"
    del runs["high", "hela", 91]
    assert choice.chosen(GRID, "smoke", best, "hela", 1, runs) is None
    waiting = choice.undecided(GRID, "smoke", 4, runs)
    assert [(arm, job.name) for arm, job in waiting] == [("best", "named-hela-seed1"), ("best", "named-hela-seed3")]


ANEW = Study(
    "anew", "Evaluation anew", "?",
    arms=(Arm("base", "base"), Arm("turned", "rotations", {"predict": {"symmetries": 8}}, weights_of="base")),
    comparisons=(), data=("em",),
)  # fmt: skip


def test_an_arm_that_only_evaluates_takes_the_trained_weights(tmp_path, monkeypatch):
    taken = []
    original = Runner._spawn

    def look(self, name, command, text):
        folder = Path(command[-2])
        taken.append((name, (folder / "weights.safetensors").exists(), (folder / "config.yaml").exists()))
        original(self, name, command, text)

    monkeypatch.setattr(Runner, "_spawn", look)
    run(tmp_path, ANEW, seeds=1)
    assert taken == [("base-em-seed0", False, False), ("turned-em-seed0", True, True)]
    assert evidence.load(tmp_path / "results/anew/smoke/turned-em-seed0").config.predict.symmetries == 8


def test_weights_that_are_not_here_are_trained_once_more(tmp_path):
    import shutil

    run(tmp_path, replace(ANEW, arms=ANEW.arms[:1]), seeds=1)
    shutil.rmtree(tmp_path / "runs")
    run(tmp_path, ANEW, seeds=1)
    assert keep_run_locks(tmp_path, "anew") == ["base-em-seed0", "turned-em-seed0"]


def test_evidence_holds_no_path_of_the_machine_and_the_command_of_the_run(tmp_path):
    run(tmp_path, seeds=1)
    for name, text in content(tmp_path / "results").items():
        assert b"/home" not in text, name
        assert str(tmp_path).encode() not in text, name
    found = evidence.load(tmp_path / "results/small-study/smoke/b-em-seed0")
    assert found.environment["data_source"] == "EM (30 slices)"
    assert found.record["command"] == (
        "unet train --config-file experiments/results/small-study/smoke/b-em-seed0/config.yaml --run runs/b-em-seed0"
    )
    job = make_job(STUDY, "smoke", "b", "em", 0)
    assert evidence.difference(found.config, job.config) == []


def test_damaged_evidence_is_named(tmp_path):
    run(tmp_path, seeds=1)
    file = tmp_path / "results/small-study/smoke/a-em-seed0/record.json"
    file.write_text(json.dumps({})[:-1])
    with pytest.raises(RunError, match=r"record\.json: cannot be read .* delete its folder"):
        run(tmp_path, seeds=1)


def test_nothing_is_trained_on_a_stand_in_for_data_that_is_not_here(tmp_path, monkeypatch):
    def fetch(*_, **__):
        raise Unavailable("no network", "no network")

    monkeypatch.setattr(load, "fetch", fetch)
    monkeypatch.setattr(load, "find_root", lambda *_: None)
    with pytest.raises(DataError, match="ISBI-2012-EM is neither here nor can it be downloaded"):
        helpers.run(tmp_path, profile="reduced", data=("em",))
    assert events(tmp_path) == []
    monkeypatch.setattr(load, "find_root", lambda *_: tmp_path)
    helpers.run(tmp_path, profile="reduced", data=("em",))
    assert len(started(tmp_path)) == 4
    monkeypatch.setattr(load, "find_root", lambda *_: None)
    helpers.run(tmp_path, profile="reduced", data=("em",))  # all is done: the data are not needed any more
