"""A small study, and options that run it with the stand-in for the worker."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from unet.study.design import Arm, Comparison, Study
from unet.study.ledger import Options
from unet.study.runner import Runner
from unet.terminal import Terminal

QUIET = Terminal(quiet=True)
FAKE = Path(__file__).with_name("fake_worker.py")

STUDY = Study(
    name="small-study",
    title="A small study",
    question="Is b better than a?",
    arms=(Arm("a", "setting a"), Arm("b", "setting b", {"optim": {"lr": 2e-3}})),
    comparisons=(Comparison("b", "a"),),
    data=("em", "hela"),
    tested={"em": ("mean_iou_last5",), "hela": ("mean_iou_last5",)},
)

GRID = Study(
    name="grid-study",
    title="A study with a choice",
    question="Which rate?",
    arms=(
        Arm("named", "a rate of 1e-3"),
        Arm("best", "the best rate", best_of=("named", "low", "high")),
        Arm("low", "1e-4", {"optim": {"lr": 1e-4}}, grid=True),
        Arm("high", "1e-2", {"optim": {"lr": 1e-2}}, grid=True),
    ),
    comparisons=(Comparison("best", "named"),),
    data=("hela",),
)


def options(folder: Path, *, plan: dict[str, Any] | None = None, **changes: Any) -> Options:
    """Options with all folders below `folder`; `plan` tells the stand-in how to behave."""
    file = folder / "plan.json"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"log": str(folder / "events.jsonl"), **(plan or {})}))
    settings: dict[str, Any] = {
        "profile": "smoke",
        "seeds": 2,
        "runs": folder / "runs",
        "results": folder / "results",
        "at_once": 4,
        "worker": (sys.executable, "-S", "-E", str(FAKE), str(file)),
    }
    return Options(**(settings | changes))


def run(folder: Path, study: Study = STUDY, **changes: Any) -> Runner:
    """Run a study to its end (or as far as it goes) and return the runner."""
    runner = Runner(study, options(folder, **changes), QUIET)
    runner.run()
    return runner


def events(folder: Path) -> list[dict[str, Any]]:
    """What the stand-ins have logged."""
    file = folder / "events.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def started(folder: Path) -> list[str]:
    """Names of the runs in the order in which they were started."""
    return [event["run"] for event in events(folder) if event["event"] == "start"]


def content(folder: Path) -> dict[str, bytes]:
    """All evidence below a folder of results, by relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
