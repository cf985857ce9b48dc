"""Runs as jobs of a cluster, with submitit's local executor in place of SLURM."""

import pytest

from tests.study.helpers import QUIET, STUDY, content, options, run, started
from unet.errors import ConfigError
from unet.study.cluster import ClusterPool, Work, parse_options
from unet.study.runner import Runner

submitit = pytest.importorskip("submitit")


def test_a_study_runs_as_jobs(tmp_path):
    """With the evidence of one that runs here; a run that fails says why."""
    run(tmp_path / "here", STUDY, seeds=1)
    folder = tmp_path / "cluster"
    plan = {"fail": ["b-em-seed0"]}
    chosen = options(folder, seeds=1, plan=plan, launcher="submitit", submit=("timeout_min=5",), at_once=2)
    runner = Runner(STUDY, chosen, QUIET)
    assert not runner.run()
    assert runner.failed == {"b-em-seed0": "this run cannot be made"}
    assert sorted(set(started(folder))) == sorted(started(tmp_path / "here"))
    ours, wanted = content(folder / "results"), content(tmp_path / "here" / "results")
    assert ours == {name: text for name, text in wanted.items() if "b-em-seed0" not in name}


def test_a_job_that_is_taken_away_is_queued_anew_with_its_worker_stopped(tmp_path):
    log = tmp_path / "log"
    log.touch()
    work = Work(["sh", "-c", "trap 'echo stopped; exit 143' TERM; while :; do sleep 0.05; done"], "", log)

    class Process:
        returncode = None

        def terminate(self):
            self.returncode = 143

        def wait(self, _):
            return self.returncode

    work._process = Process()
    again = work.checkpoint()
    assert work._process.returncode == 143
    assert again.function == Work(work.command, "", log)


def test_options_of_jobs():
    assert parse_options(["slurm_partition=gpu", "timeout_min=60"]) == {"slurm_partition": "gpu", "timeout_min": 60}
    for word in ("partition", "=3", "a b=3"):
        with pytest.raises(ConfigError, match="use KEY=VALUE"):
            parse_options([word])


def test_an_unknown_option_and_a_missing_package_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="--submit: .*colour") as error:
        ClusterPool(1, tmp_path, {"colour": "red"})
    assert "\n" not in str(error.value)
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"pip install '.\[cluster\]'"):
        ClusterPool(1, tmp_path, {})
