"""The process a run lives in: signals, a terminal that is gone, names taken at once, systems without fcntl."""

import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from unet.cli import main
from unet.runs.folder import claimed
from unet.runs.lock import in_use, run_lock
from unet.signals import Interrupted, Stopper
from unet.terminal import Terminal

ROOT = Path(__file__).resolve().parents[2]


def python(code, *words, **options):
    """Run code in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, words)],
        env=environment, capture_output=True, text=True, timeout=120, check=False, **options,
    )  # fmt: skip


def test_a_closed_terminal_is_an_orderly_end():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        with Stopper() as stopper:
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(Interrupted, match="SIGHUP") as caught:
                stopper.check()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert caught.value.exit_code == 129


def test_nohup_stays_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stopper() as stopper:
            os.kill(os.getpid(), signal.SIGHUP)
            stopper.check()
    finally:
        signal.signal(signal.SIGHUP, before)


class Gone:
    """A stream whose terminal has gone, or whose disk is full."""

    def write(self, *_text):
        raise OSError(5, "Input/output error")

    flush = write

    def isatty(self):
        return self.live

    live = False
    encoding = "utf-8"


@pytest.mark.parametrize("live", [False, True])
def test_messages_and_bars_outlive_their_terminal(monkeypatch, live):
    gone = Gone()
    gone.live = live
    monkeypatch.setattr(sys, "stderr", gone)
    monkeypatch.setattr("unet.terminal.FIRST_LINE_AFTER_S", -1)
    terminal, seen = Terminal(), []
    terminal.say("a message")
    with terminal.bar("work", 3) as bar:
        for done in range(3):
            bar.update(done)
            seen.append(done)
    with terminal.task("more"):
        seen.append("task")
    assert seen == [0, 1, 2, "task"]


def test_what_fails_below_a_bar_is_not_hidden(monkeypatch):
    gone = Gone()
    gone.live = True
    monkeypatch.setattr(sys, "stderr", gone)
    with pytest.raises(OSError, match="disk"), Terminal().bar("work", 1):
        raise OSError(28, "disk")


def test_unnamed_runs_at_once_take_names_of_their_own(tmp_path):
    def take(_):
        with claimed(tmp_path / "runs" / "em-full-seed0") as path:
            (path / "config.yaml").touch()
            return path.name

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(take, range(16)))
    assert sorted(names) == sorted(["em-full-seed0", *(f"em-full-seed0-{n}" for n in range(2, 17))])
    with claimed(tmp_path / "unused") as path:
        assert path.is_dir()
    assert not path.exists()


def test_a_name_that_is_not_utf8_is_refused_at_once(capsys):
    assert main(["train", "--run", os.fsdecode(b"runs/\xff"), "--dry-run"]) == 2
    assert "is not UTF-8" in capsys.readouterr().err


WITHOUT = """
    import os, sys, torch  # which asks for the name of the system
    sys.modules["fcntl"] = None
    for name in ("fork", "register_at_fork", "sched_getaffinity", "sched_setaffinity", "posix_fallocate"):
        if hasattr(os, name):
            delattr(os, name)
"""


def test_everything_imports_without_fcntl():
    code = (
        WITHOUT
        + """
    import importlib, pkgutil, unet
    for module in pkgutil.walk_packages(unet.__path__, "unet."):
        if module.name != "unet.__main__":
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:  # of an extra that is not installed
                if error.name.split(".")[0] in (*sys.stdlib_module_names, "unet"):
                    raise
    """
    )
    done = python(code)
    assert done.returncode == 0, done.stderr[-800:]


def test_run_folders_are_locked_without_fcntl(tmp_path):
    code = (
        WITHOUT
        + """
    import filelock
    from pathlib import Path
    from unet.errors import RunError
    from unet.runs.lock import in_use, run_lock
    path = Path(sys.argv[1])
    with run_lock(path):
        assert in_use(path)
        if len(sys.argv) < 3:
            import subprocess
            inner = subprocess.run([sys.executable, "-c", CODE, sys.argv[1], "again"], capture_output=True, text=True)
            assert "in use by another process" in inner.stderr, inner.stderr
    assert not in_use(path)
    with run_lock(path):
        pass
    """
    )
    own = textwrap.dedent(code)
    done = python(f"CODE = {own!r}\n" + own, tmp_path)
    assert done.returncode == 0, done.stderr[-800:]


def test_in_use(tmp_path):
    assert not in_use(tmp_path)
    with run_lock(tmp_path):
        assert in_use(tmp_path)
    assert not in_use(tmp_path)
