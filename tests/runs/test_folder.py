"""The run folder: refusal to overwrite, locking, JSONL that survives a crash."""

import os
import subprocess
import sys

import pytest

from unet.config import Config, profile
from unet.errors import RunError
from unet.runs.folder import METRICS, RunFolder, locked, unused


def test_create_and_open(tmp_path):
    RunFolder.create(tmp_path / "run", profile("quick"))
    assert RunFolder.open_existing(tmp_path / "run").config == profile("quick")
    with pytest.raises(RunError, match="not a run folder"):
        RunFolder.open_existing(tmp_path)


def test_an_existing_folder_is_refused_and_kept(tmp_path):
    folder = RunFolder.create(tmp_path / "run", Config())
    folder.append(METRICS, {"update": 1})
    with pytest.raises(RunError, match="--resume .* --overwrite"):
        RunFolder.create(tmp_path / "run", Config())
    assert folder.rows(METRICS) == [{"update": 1}]
    fresh = RunFolder.create(tmp_path / "run", Config(), overwrite=True)
    assert fresh.rows(METRICS) == []


def test_overwrite_never_deletes_what_is_no_run(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="will not delete"):
        RunFolder.create(tmp_path, Config(), overwrite=True)
    assert (tmp_path / "thesis.tex").exists()
    with pytest.raises(RunError, match="exists already"):
        RunFolder.create(tmp_path / "thesis.tex", Config())


def test_rows_survive_a_crash_in_the_middle_of_a_line(tmp_path):
    folder = RunFolder.create(tmp_path / "run", Config())
    folder.append(METRICS, {"update": 1})
    length = folder.append(METRICS, {"update": 2})
    with folder.file(METRICS).open("ab") as file:
        file.write(b'{"update": 3, "lo')
    assert folder.rows(METRICS) == [{"update": 1}, {"update": 2}]
    folder.truncate(METRICS, length)
    folder.append(METRICS, {"update": 3})
    assert [row["update"] for row in folder.rows(METRICS)] == [1, 2, 3]


def test_a_file_shorter_than_its_checkpoint_says_is_reported(tmp_path):
    folder = RunFolder.create(tmp_path / "run", Config())
    folder.truncate(METRICS, 0)
    with pytest.raises(RunError, match="shorter"):
        folder.truncate(METRICS, 10)


def test_two_processes_cannot_hold_one_run_and_the_lock_dies_with_its_owner(tmp_path):
    RunFolder.create(tmp_path / "run", Config())
    code = (
        "import sys, pathlib, time; from unet.runs.folder import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        with pytest.raises(RunError, match=f"pid {owner.pid}"), locked(tmp_path / "run"):
            pass
        with pytest.raises(RunError, match="in use"):
            RunFolder.create(tmp_path / "run", Config(), overwrite=True)
        owner.kill()
        owner.wait()
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").read_text() == str(os.getpid())


def test_unused_counts_on(tmp_path):
    assert unused(tmp_path / "a") == tmp_path / "a"
    (tmp_path / "a").mkdir()
    (tmp_path / "a-2").mkdir()
    assert unused(tmp_path / "a") == tmp_path / "a-3"
