"""The W&B mirror: offline without a key, never a question, never a wait, never a failure of the run."""

import threading
import time

import pytest

from unet.config import from_dict
from unet.runs.dashboard import Dashboard, mirrored
from unet.runs.wandb_client import Start, description, resolve_mode

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_SILENT", "true")  # the dashboard sets it; here it is taken back


def configured(**wandb):
    return from_dict({"wandb": {"mode": "offline", "timeout_s": 5.0} | wandb})


class FakeRun:
    """Stands for a W&B run: keeps what is logged, breaks or waits where told to."""

    class settings:
        mode = "online"

    def __init__(self, broken=(), gate=None):
        self.rows, self.calls, self.broken, self.gate = [], [], broken, gate
        self.summary = self

    def _call(self, name):
        self.calls.append(name)
        if self.gate is not None:
            self.gate.wait(10)
        if name in self.broken:
            raise self.broken[name]

    def log(self, row):
        self._call("log")
        self.rows.append(row)

    def update(self, _):
        self._call("summary")

    def finish(self, exit_code=0):
        self._call(f"finish {exit_code}")


def opened(run, lines, tmp_path, **wandb):
    dashboard = Dashboard(lines.append, connect=lambda _: run)
    dashboard.open(configured(**wandb), tmp_path, {})
    return dashboard


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


def test_disabled_sends_nothing_computes_nothing_and_imports_nothing(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it would fail
    dashboard = Dashboard(pytest.fail)
    dashboard.open(configured(mode="disabled"), tmp_path, {})
    dashboard.log({"a": 1})
    dashboard.later("pictures", pytest.fail)
    assert not dashboard.active
    assert dashboard.mode == "disabled"
    dashboard.finish()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)
    lines: list[str] = []
    dashboard = Dashboard(lines.append)
    dashboard.open(configured(), tmp_path, {})
    dashboard.log({"a": 1})
    dashboard.finish()
    assert dashboard.mode == "disabled"
    assert len(lines) == 1
    assert "W&B: off for this run" in lines[0]


def test_what_a_run_is_listed_by(tmp_path):
    config = from_dict({"wandb": {"group": "weight-map/paper", "tags": ["mine", "em"]}, "train": {"seed": 3}})
    start = Start(config, tmp_path / "paper-em-seed3", {"commit": "0123456789abcdef+changes"}, "study", "offline")
    listed = description(start)
    assert (listed["group"], listed["job_type"], listed["name"]) == ("weight-map/paper", "study", "paper-em-seed3")
    assert listed["tags"] == ["em", "figure1", "sgd", "mine", "commit 01234567+changes"]
    assert (listed["config"]["study"], listed["config"]["arm"]) == ("weight-map", "paper")
    assert listed["config"]["optim"]["lr"] == config.optim.lr
    assert listed["config"]["environment"]["commit"].startswith("0123")
    alone = description(Start(from_dict({"train": {"seed": 3}}), tmp_path / "em-full-seed3", {}, "train", "offline"))
    assert alone["group"] == "em-full"  # seeds of one setting stand together
    assert alone["tags"] == ["em", "figure1", "sgd"]


def test_training_does_not_wait_while_the_connection_hangs(tmp_path):
    gate = threading.Event()

    def connect(_):
        gate.wait(10)
        return run

    run, lines = FakeRun(), []
    dashboard = Dashboard(lines.append, connect=connect)
    started = time.monotonic()
    dashboard.open(configured(), tmp_path, {})
    for number in range(1000):
        dashboard.log({"updates": number})
    assert time.monotonic() - started < 1
    assert run.rows == []
    gate.set()
    dashboard.finish()
    assert [row["updates"] for row in run.rows] == list(range(1000))
    assert lines == []


def test_the_end_is_not_waited_for_beyond_its_time(tmp_path):
    gate = threading.Event()
    run, lines = FakeRun(gate=gate), []
    dashboard = opened(run, lines, tmp_path, timeout_s=0.2)
    dashboard.log({})
    started = time.monotonic()
    dashboard.finish()
    assert 0.3 < time.monotonic() - started < 3
    assert len(lines) == 1
    assert "wandb sync" in lines[0]
    run.broken = {"log": ConnectionError("gone")}
    gate.set()
    dashboard._thread.join(5)
    assert len(lines) == 1  # what it runs into later is not told


def test_an_error_while_logging_silences_the_mirror_once(tmp_path):
    run, lines = FakeRun(broken={"log": ConnectionError("gone")}), []
    dashboard = opened(run, lines, tmp_path)
    dashboard.log({})
    dashboard.log({})
    dashboard.finish()
    assert lines == ["W&B: stopped (gone); the run goes on, its folder is complete"]
    assert dashboard.mode == "disabled"
    assert not dashboard.active


def test_an_end_that_times_out_says_how_to_send_the_rest(tmp_path):
    lines: list[str] = []
    opened(FakeRun(broken={"finish 0": TimeoutError("Timed out finishing run.")}), lines, tmp_path).finish()
    assert len(lines) == 1
    assert "wandb sync" in lines[0]


def test_only_the_newest_waiting_piece_of_work_is_done_and_rows_are_never_passed_over(tmp_path):
    gate = threading.Event()
    run, lines, done = FakeRun(gate=gate), [], []
    dashboard = opened(run, lines, tmp_path)
    dashboard.log({"row": 0})
    while not run.calls:  # until the thread is busy
        time.sleep(0.01)
    dashboard.later("another kind", lambda: done.append("another kind"))
    for number in range(3):
        dashboard.later("pictures", lambda number=number: (done.append(number), dashboard.log({"work": number})))
        dashboard.log({"row": number + 1})
    gate.set()
    dashboard.finish()
    assert done == ["another kind", 2]
    assert run.rows == [{"row": 0}, {"row": 1}, {"row": 2}, {"work": 2}, {"row": 3}]


def test_work_that_fails_ends_the_pictures_and_not_the_rows(tmp_path):
    run, lines = FakeRun(), []
    dashboard = opened(run, lines, tmp_path)

    def fails():
        raise ValueError("no such picture")

    dashboard.later("pictures", fails)
    dashboard.log({"a": 1})
    dashboard.later("pictures", fails)
    dashboard.finish()
    assert run.rows == [{"a": 1}]
    assert lines == ["W&B: rows only from here on (no such picture)"]


def test_a_run_that_fails_is_closed_as_failed_and_one_that_is_lent_stays_open(tmp_path):
    run = FakeRun()
    with pytest.raises(KeyError), Dashboard(pytest.fail, connect=lambda _: run) as dashboard:
        dashboard.open(configured(), tmp_path, {})
        with mirrored(dashboard, pytest.fail) as lent:
            lent.log({})
        assert dashboard.active
        raise KeyError
    assert run.calls == ["log", "finish 1"]


def test_offline_writes_a_run_that_can_be_sent_later_and_is_gone_on_with(tmp_path):
    import json

    lines: list[str] = []
    identities = []
    for _ in range(2):
        with Dashboard(lines.append) as dashboard:
            dashboard.open(configured(), tmp_path, {"device": "cpu"})
            dashboard.log({"train/loss": 0.5, "updates": 10})
            dashboard.summary({"best": 1.0})
            assert dashboard.mode == "offline"
        identities.append(json.loads((tmp_path / "dashboard.json").read_text())["id"])
    assert lines == []
    assert identities[0] == identities[1]
    assert list(tmp_path.glob(f"wandb/offline-run-*/run-{identities[0]}.wandb"))
