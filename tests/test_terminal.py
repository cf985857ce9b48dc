"""Progress on a terminal and without one, silence where it is asked for, no colours with NO_COLOR."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.report.conftest import run, trained  # noqa: F401 (fixtures)
from unet import terminal
from unet.cli import COMMANDS, main
from unet.config import load_yaml
from unet.terminal import Terminal

COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-7]|38|4[0-7]|48|9[0-7])(?:;[0-9;]*)?m")
CURSOR = re.compile(r"\x1b\[[0-9;?]*[A-HJKhl]")


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(terminal, "time", made)
    return made


def test_lines_come_after_two_seconds_and_then_every_ten(clock, capsys):
    with Terminal().bar("training", 100) as bar:
        for second in range(31):
            clock.now = 100.0 + second
            bar.update(second, f"loss {second}")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "training: 2/100 loss 2 1 min 38 s left",
        "training: 12/100 loss 12 1 min 28 s left",
        "training: 22/100 loss 22 1 min 18 s left",
    ]


def test_what_is_quick_says_nothing(clock, capsys):
    with Terminal().bar("training", 3) as bar:
        for step in range(3):
            clock.now += 0.5
            bar.update(step)
    with Terminal().task("drawing"):
        pass
    assert capsys.readouterr() == ("", "")


def test_a_resumed_task_is_measured_from_where_it_begins(clock, capsys):
    with Terminal().bar("training", 100) as bar:
        bar.update(90)
        clock.now += 5
        bar.update(95)
    assert capsys.readouterr().err == "training: 95/100 5 s left\n"


def test_totals_may_be_unknown_or_change(clock, capsys):
    with Terminal().bar("EM, MB") as bar:
        bar.update(0)
        clock.now += 3
        bar.update(7)
        clock.now += 11
        bar.update(14, total=28)
    assert capsys.readouterr().err.splitlines() == ["EM, MB: 7", "EM, MB: 14/28 14 s left"]


def test_tasks_without_steps_say_a_line_when_they_take_long(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "FIRST_LINE_AFTER_S", 0.02)
    with Terminal().task("drawing"):
        time.sleep(0.3)
    assert capsys.readouterr().err == "drawing ...\n"
    with Terminal(quiet=True).task("drawing"):
        time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_a_task_that_fails_stops_its_clock(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "FIRST_LINE_AFTER_S", 0.2)
    with pytest.raises(ValueError), Terminal().task("drawing"):
        raise ValueError
    time.sleep(0.3)
    assert capsys.readouterr().err == ""


def test_quiet_bars_say_nothing(clock, capsys):
    with Terminal(quiet=True).bar("training", 10) as bar:
        clock.now += 60
        bar.update(5)
    assert capsys.readouterr() == ("", "")


# -- on a terminal ---------------------------------------------------------------------------------------------------

BAR = """
import time
from unet.terminal import Terminal
terminal = Terminal({quiet})
with terminal.bar("training", 4) as bar:
    for step in range(5):
        bar.update(step, f"loss {{step}}")
        terminal.say("a message")
        time.sleep(0.15)
with terminal.task("drawing"):
    time.sleep(0.3)
"""


def on_terminal(*words: str, **environment: str) -> str:
    """What a Python process writes to a terminal of 100 columns."""
    parent, child = pty.openpty()
    variables = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE")}
    variables |= {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"} | environment
    process = subprocess.Popen([sys.executable, *words], stdin=child, stdout=child, stderr=child, env=variables)
    os.close(child)
    output = b""
    while True:
        try:
            piece = os.read(parent, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        output += piece
    os.close(parent)
    assert process.wait(30) == 0, output.decode()
    return output.decode()


def test_a_bar_moves_shows_the_time_left_and_clears_itself():
    output = on_terminal("-c", BAR.format(quiet=False))
    for text in ("training", "3/4", "0:00:0", "loss 3", "a message", "drawing"):
        assert text in output
    assert COLOUR.search(output)
    assert CURSOR.search(output)
    assert output.rstrip().endswith("\x1b[2K")


def test_no_color_and_quiet():
    assert not COLOUR.search(on_terminal("-c", BAR.format(quiet=False), NO_COLOR="1"))
    assert on_terminal("-c", BAR.format(quiet=True)) == ""


def test_help_and_errors_without_colours():
    assert COLOUR.search(on_terminal("-m", "unet", "evaluate", "--help"))
    for command in COMMANDS:
        assert not COLOUR.search(on_terminal("-m", "unet", command, "--help", NO_COLOR="1")), command


def test_a_study_says_how_many_runs_are_done_and_how_long_it_takes(tmp_path, monkeypatch, capsys):
    from tests.study.helpers import STUDY, options
    from unet.study import runner

    monkeypatch.setattr(terminal, "FIRST_LINE_AFTER_S", 0.0)
    monkeypatch.setattr(runner, "SHOW_EVERY_S", 0.0)
    monkeypatch.setattr(runner, "LINE_EVERY_S", 0.0)
    runner.Runner(STUDY, options(tmp_path, plan={"step_s": 0.02}, at_once=1), Terminal()).run()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("runs: ")]
    done = [int(re.match(r"runs: (\d+)/8", line)[1]) for line in lines]
    assert done == sorted(done)
    assert {0, 1, 7} <= set(done)
    assert lines[-1] == "runs: 8/8"
    assert any(re.search(r"-seed\d \d+/20 \(about \d+ s left\)$", line) for line in lines)
    again = runner.Runner(STUDY, options(tmp_path), Terminal(quiet=True))
    assert again.run()
    assert capsys.readouterr() == ("", "")


# -- --quiet ---------------------------------------------------------------------------------------------------------


def test_every_command_knows_quiet(capsys):
    with_actions = [["data", a] for a in ("fetch", "verify", "show", "preview")]
    for words in [[name] for name in COMMANDS if name not in ("data", "completion")] + with_actions:
        with contextlib.suppress(SystemExit):
            main([*words, "--help"])
        assert "--quiet" in re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out), words


def test_quiet_commands_print_results_only(run, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(terminal, "FIRST_LINE_AFTER_S", 0.0)
    images = str(Path(load_yaml(run / "config.yaml").data.folder) / "images" / "cell3.png")
    for words, told in [
        (["evaluate", str(run)], "held-out scores"),
        (["predict", str(run), images, "--out", "p.tif"], "p.tif"),
        (["report", str(run)], "report.html"),
        (["data", "preview", "synthetic-em", "--out", "sheet.png"], "contact sheet: sheet.png"),
        (["sizes", "572"], "388"),
    ]:
        assert main([*words, "--quiet"]) == 0
        out, err = capsys.readouterr()
        assert told in out, words
        assert err == "", words


def test_without_quiet_the_same_commands_speak(run, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(terminal, "FIRST_LINE_AFTER_S", 0.0)
    assert main(["evaluate", str(run)]) == 0
    err = capsys.readouterr().err
    for text in ("reading images", "predicting held-out frames", "scoring", "drawing the worst frames"):
        assert text in err
