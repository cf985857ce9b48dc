"""The run folder: refusal to overwrite, locking, JSONL that survives a crash."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.runs.new import new_run
from unet.config import Config, profile
from unet.errors import RunError
from unet.runs.folder import METRICS, RunFolder, taken, unused
from unet.runs.lock import keep_run_locks, reentrant_run_lock, run_lock


def test_create_and_open(tmp_path):
    new_run(tmp_path / "run", profile("quick"))
    assert RunFolder.open_existing(tmp_path / "run").config == profile("quick")
    with pytest.raises(RunError, match="not a run folder"):
        RunFolder.open_existing(tmp_path)


def test_an_existing_folder_is_refused_and_kept(tmp_path):
    folder = new_run(tmp_path / "run", Config())
    folder.append(METRICS, {"update": 1})
    with pytest.raises(RunError, match="--resume .* --overwrite"):
        new_run(tmp_path / "run", Config())
    assert folder.rows(METRICS) == [{"update": 1}]
    fresh = new_run(tmp_path / "run", Config(), overwrite=True)
    assert fresh.rows(METRICS) == []


def test_overwrite_never_deletes_what_is_no_run(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="will not delete"):
        new_run(tmp_path, Config(), overwrite=True)
    assert (tmp_path / "thesis.tex").exists()
    with pytest.raises(RunError, match="exists already"):
        new_run(tmp_path / "thesis.tex", Config())


def test_rows_survive_a_crash_in_the_middle_of_a_line(tmp_path):
    folder = new_run(tmp_path / "run", Config())
    folder.append(METRICS, {"update": 1})
    length = folder.append(METRICS, {"update": 2})
    with folder.file(METRICS).open("ab") as file:
        file.write(b'{"update": 3, "lo')
    assert folder.rows(METRICS) == [{"update": 1}, {"update": 2}]
    folder.truncate(METRICS, length)
    folder.append(METRICS, {"update": 3})
    assert [row["update"] for row in folder.rows(METRICS)] == [1, 2, 3]


def test_a_file_shorter_than_its_checkpoint_says_is_reported(tmp_path):
    folder = new_run(tmp_path / "run", Config())
    folder.truncate(METRICS, 0)
    with pytest.raises(RunError, match="shorter"):
        folder.truncate(METRICS, 10)


def test_two_processes_cannot_hold_one_run_and_the_lock_dies_with_its_owner(tmp_path):
    new_run(tmp_path / "run", Config())
    code = (
        "import sys, pathlib, time; from unet.runs.lock import run_lock\n"
        "with run_lock(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        with pytest.raises(RunError, match=f"pid {owner.pid}"), run_lock(tmp_path / "run"):
            pass
        with pytest.raises(RunError, match="in use"):
            new_run(tmp_path / "run", Config(), overwrite=True)
        owner.kill()
        owner.wait()
    with run_lock(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").read_text() == str(os.getpid())


def test_unused_counts_on(tmp_path):
    assert unused(tmp_path / "a") == tmp_path / "a"
    (tmp_path / "a").mkdir()
    (tmp_path / "a-2").mkdir()
    assert unused(tmp_path / "a") == tmp_path / "a-3"


def test_what_a_process_left_that_died_at_once_does_not_count(tmp_path):
    """Killed between making the folder and writing config.yaml, a run could else neither be resumed nor be started."""
    path = tmp_path / "run"
    path.mkdir()
    (path / ".config.yaml.123.part").write_text("da")
    (path / ".lock").write_text("123")
    new_run(path, Config())
    assert sorted(entry.name for entry in path.iterdir()) == [".lock", "config.yaml"]
    for name in ("thesis.tex", ".out.tif.part"):  # the second is a prediction that can be gone on with
        other = tmp_path / f"with {name}"
        other.mkdir()
        (other / name).write_text("precious")
        with pytest.raises(RunError, match="exists already; name another"):
            new_run(other, Config())
        assert [entry.name for entry in other.iterdir()] == [name]


def test_taking_a_folder_sweeps_what_killed_processes_left_and_nothing_else(tmp_path):
    path = tmp_path / "run"
    new_run(path, Config())
    (path / "checkpoints").mkdir()
    rests = [path / ".scores.json.77.part", path / "checkpoints" / ".update-000010.pt.5.part"]
    kept = [path / ".out.tif.part", path / "notes.part", path / "checkpoints" / "update-000010.pt"]
    for file in (*rests, *kept):
        file.write_text("x")
    with taken(path, Config(), resume=True, overwrite=False):
        pass
    assert [file for file in (*rests, *kept) if file.exists()] == kept


def test_a_kill_while_a_run_is_deleted_leaves_one_that_can_be_deleted_again(tmp_path, monkeypatch):
    path = tmp_path / "run"
    folder = new_run(path, Config())
    (path / "checkpoints").mkdir()
    folder.append(METRICS, {"update": 1})
    removed = 0
    original = os.unlink

    def dies(*arguments, **options):
        nonlocal removed
        removed += 1
        if removed == 2:
            raise KeyboardInterrupt
        original(*arguments, **options)

    monkeypatch.setattr("pathlib.os.unlink", dies)
    with pytest.raises(KeyboardInterrupt):
        new_run(path, Config(), overwrite=True)
    monkeypatch.undo()
    assert not (path / "checkpoints").exists()
    new_run(path, Config(), overwrite=True)


def test_of_two_processes_that_start_one_run_the_second_changes_nothing(tmp_path, monkeypatch):
    """The first one comes between the second one's look at the empty folder and its lock."""
    path = tmp_path / "run"
    original = Path.mkdir

    def overtaken(self, *arguments, **options):
        original(self, *arguments, **options)
        if self == path:
            monkeypatch.setattr(Path, "mkdir", original)
            new_run(path, profile("quick"))

    monkeypatch.setattr(Path, "mkdir", overtaken)
    with pytest.raises(RunError, match="exists already"):
        new_run(path, profile("paper"))
    assert RunFolder(path).config == profile("quick")


def test_a_forked_process_does_not_keep_the_lock_of_its_dead_owner(tmp_path):
    """A process that cuts tiles lives on for seconds after the trainer was killed; the run can be resumed at once."""
    new_run(tmp_path / "run", Config())
    code = (
        "import os, sys, pathlib, time; from unet.runs.lock import run_lock\n"
        "with run_lock(pathlib.Path(sys.argv[1])):\n"
        "    child = os.fork()\n"
        "    if child:\n        print(child, flush=True)\n"
        "    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        child = int(owner.stdout.readline())
        time.sleep(0.2)
        with pytest.raises(RunError, match="in use"), run_lock(tmp_path / "run"):
            pass
        owner.kill()
        owner.wait()
        try:
            os.kill(child, 0)  # still there
            with run_lock(tmp_path / "run"):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


def test_the_next_row_stands_on_its_own_line_behind_one_that_was_cut(tmp_path):
    folder = new_run(tmp_path / "run", Config())
    folder.append(METRICS, {"update": 1})
    with folder.file(METRICS).open("ab") as file:
        file.write(b'{"update": 2, "lo')
    folder.append(METRICS, {"update": 3})
    assert folder.rows(METRICS) == [{"update": 1}, {"update": 3}]
    folder.file("attempts.jsonl").write_bytes(b'{"outc')
    folder.append("attempts.jsonl", {"outcome": "ended"})
    assert folder.rows("attempts.jsonl") == [{"outcome": "ended"}]


@pytest.mark.parametrize("content", [b"{not json}\n", b"[1]\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n"])
def test_damaged_rows_are_one_line(tmp_path, content):
    folder = new_run(tmp_path / "run", Config())
    folder.file(METRICS).write_bytes(content)
    with pytest.raises(RunError, match=r"metrics\.jsonl: damaged"):
        folder.rows(METRICS)


def is_free(path):
    """Whether another process could take the folder (to a lock, another open file is one)."""
    with (path / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_folder_is_kept_from_one_step_to_the_next(tmp_path):
    path = tmp_path / "run"
    with keep_run_locks():
        with taken(path, Config(), resume=False, overwrite=False):
            assert not is_free(path)
        assert not is_free(path)
        with keep_run_locks(), reentrant_run_lock(path):
            assert not is_free(path)
        assert not is_free(path)
        with taken(path, Config(), resume=True, overwrite=False):  # taken again, and no longer for somebody else
            with reentrant_run_lock(path):
                pass
            assert not is_free(path)
            with pytest.raises(RunError, match=f"in use by another process .pid {os.getpid()}."), run_lock(path):
                pass
        assert not is_free(path)
    assert is_free(path)


@pytest.mark.parametrize("way", [run_lock, reentrant_run_lock])
def test_without_a_keeper_a_folder_is_let_go_at_once(tmp_path, way):
    with pytest.raises(ZeroDivisionError), keep_run_locks(), way(tmp_path):
        raise ZeroDivisionError
    assert is_free(tmp_path)
    with way(tmp_path):
        assert not is_free(tmp_path)
        with reentrant_run_lock(tmp_path):
            pass
        assert not is_free(tmp_path)
        with keep_run_locks(), reentrant_run_lock(tmp_path):
            pass
        assert not is_free(tmp_path)
    assert is_free(tmp_path)


def test_what_another_process_has_is_not_held(tmp_path):
    with (tmp_path / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="in use by another process"), keep_run_locks(), reentrant_run_lock(tmp_path):
            pass


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.EAGAIN, "in use by another process"), (errno.EACCES, "in use by another process")]
    + [(n, "cannot lock files .*another file system") for n in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)],
)  # fmt: skip
def test_a_file_system_without_locks_is_told_from_a_folder_in_use(tmp_path, monkeypatch, number, said):
    def refuses(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuses)
    with pytest.raises(RunError, match=said) as caught, run_lock(tmp_path):
        pass
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))
    monkeypatch.undo()
    assert is_free(tmp_path)
