"""The W&B mirror: offline without a key, never a question, never a wait, never a failure of the run."""

import socket
import time

import pytest

from unet.config import from_dict
from unet.runs.dashboard import Dashboard, resolve_mode

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def configured(**wandb):
    return from_dict({"wandb": wandb})


@pytest.mark.parametrize(
    ("mode", "environment", "expected"),
    [
        ("auto", {}, "offline"),
        ("auto", {"WANDB_API_KEY": "k"}, "online"),
        ("auto", {"WANDB_API_KEY": "k", "WANDB_MODE": "disabled"}, "disabled"),
        ("auto", {"WANDB_MODE": "dryrun"}, "offline"),
        ("offline", {"WANDB_API_KEY": "k"}, "offline"),
        ("disabled", {"WANDB_MODE": "online"}, "disabled"),
    ],
)
def test_modes(mode, environment, expected, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert resolve_mode(mode) == expected


def test_disabled_sends_nothing_and_imports_nothing(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it would fail
    mirror = Dashboard.start(configured(mode="disabled"), tmp_path, {}, pytest.fail)
    mirror.log({"a": 1})
    mirror.finish()
    assert mirror.mode == "disabled"


def test_offline_writes_a_run_that_can_be_sent_later(tmp_path):
    lines: list[str] = []
    mirror = Dashboard.start(configured(mode="offline"), tmp_path, {"device": "cpu"}, lines.append)
    assert mirror.mode == "offline"
    mirror.log({"train/loss": 0.5, "updates": 10})
    mirror.summary({"best": 1.0})
    mirror.finish()
    assert lines == []
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))


def test_a_server_that_hangs_is_left_in_time_and_the_run_goes_on_offline(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and never answers
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        lines: list[str] = []
        started = time.monotonic()
        mirror = Dashboard.start(configured(mode="online", timeout_s=2.0), tmp_path, {}, lines.append)
        assert time.monotonic() - started < 40
        assert mirror.mode == "offline"
        assert len(lines) == 1
        assert "wandb sync" in lines[0]
        mirror.finish()


def test_an_error_while_logging_silences_the_mirror_once():
    class Broken:
        class settings:
            mode = "online"

        def log(self, _row):
            raise ConnectionError("gone")

    lines: list[str] = []
    mirror = Dashboard(Broken(), lines.append)
    mirror.log({})
    mirror.log({})
    mirror.finish()
    assert len(lines) == 1
    assert mirror.mode == "disabled"
