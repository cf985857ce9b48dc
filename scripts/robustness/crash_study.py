"""kill -9 of a study's engine while it collects evidence and while its runs train: part of crash_test.py."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import Attempt, until

from unet.runs.folder import ENVIRONMENT, METRICS, RECORD
from unet.study import evidence
from unet.study.design import Arm, Comparison, Study
from unet.study.runner import Options, Runner
from unet.terminal import Terminal

KILLS = {"during a study's bookkeeping": 14, "during a study's runs": 4}
PER_STUDY = 5


def make_study(data: Path) -> Study:
    """Two arms of two seeds on a folder of images."""
    base: dict[str, dict[str, Any]] = {
        "data": {"folder": str(data), "name": "folder", "split": "random"},
        "tile": {"input_px": 52},
        "train": {"updates": 30, "eval_every": 10, "checkpoint_every": 7},
    }
    arms = (Arm("a", "a rate of 1e-3"), Arm("b", "a rate of 2e-3", {"optim": {"lr": 2e-3}}))
    comparisons = (Comparison("b", "a"),)
    return Study(
        "crashes", "Crashes", "Is anything lost?", arms, comparisons, base, ("folder",), {"folder": ("mean_iou",)}
    )


def study_rows(place: Path, data: Path, rng: random.Random, scale: float) -> list[dict[str, Any]]:
    """Rows as of crash_test.Row, one per kill."""
    place.mkdir()
    study = make_study(data)
    whole = place / "whole"
    attempt = Attempt(_run(study, whole), place / "whole.log")
    if attempt.wait():
        raise SystemExit(attempt.output())
    reference = _content(whole / "results")
    rows: list[dict[str, Any]] = []
    for kind, times in KILLS.items():
        left = max(1, round(scale * times))
        while left:
            folder = place / f"cut-{len(rows)}"
            if kind == "during a study's bookkeeping":  # its runs have ended, their evidence is still to be collected
                shutil.copytree(whole / "runs", folder / "runs")
                mine = [_kill(study, folder, kind, _collecting, rng) for _ in range(min(PER_STUDY, left))]
            else:
                mine = [_kill(study, folder, kind, _training, rng) for _ in range(min(2, left))]
            left -= max(1, sum(bool(row) for row in mine))
            attempt = Attempt(_run(study, folder), place / "end.log")
            code = attempt.wait()
            found = _content(folder / "results")
            same = code == 0 and found == reference
            if not same:
                other = [name for name in reference.keys() | found.keys() if reference.get(name) != found.get(name)]
                print(f"{folder}: exit code {code}, not the same: {other} {attempt.output()}", file=sys.stderr)
            rows += [
                row | {"resumed": "no" if code else "yes", "bit_equal": "yes" if same else "no"} for row in mine if row
            ]
            shutil.rmtree(folder)
            print(f"{kind}: {sum(row['kind'] == kind for row in rows)} done", file=sys.stderr, flush=True)
    return rows


def _options(folder: Path) -> Options:
    return Options(profile="smoke", seeds=2, runs=folder / "runs", results=folder / "results", at_once=2)


def _run(study: Study, folder: Path) -> Callable[[], int]:
    def work() -> int:
        return 0 if Runner(study, _options(folder), Terminal(quiet=True)).run() else 1

    return work


def _kill(study: Study, folder: Path, kind: str, moment: Callable[..., str], rng: random.Random) -> dict[str, Any]:
    """Start the engine, kill it at the moment; {} when it had come to its end before."""
    folder.mkdir(parents=True, exist_ok=True)
    attempt = Attempt(_run(study, folder), folder.parent / "cut.log")
    seen = moment(attempt, folder, rng)
    if not seen or attempt.ended():
        attempt.wait()
        return {}
    after = round(time.monotonic() - attempt.started, 3)
    attempt.signal(signal.SIGKILL)
    return {
        "kind": kind, "workers": 0, "seen": seen, "after_s": after, "reached": "", "resumed_at": "", "lost": "",
        "resumed": "no", "half_written": "; ".join(_half_written(folder / "results")), "leave_s": "", "bit_equal": "no",
    }  # fmt: skip


def _collecting(attempt: Attempt, folder: Path, rng: random.Random) -> str:
    """After some files of evidence have been written, at the next temporary file or at once."""
    kept = folder / "results" / "crashes" / "smoke"
    before = sum(len(files) for _, _, files in os.walk(kept))
    wanted = before + rng.randint(0, 3)
    seen = ""

    def writing() -> bool:
        nonlocal seen
        names = [name for _, _, files in os.walk(kept) for name in files]
        parts = [name for name in names if name.endswith(".part")]
        seen = f"{parts[0].rsplit('.', 2)[0].lstrip('.')} being written" if parts else f"{len(names)} files of evidence"
        return len(names) > wanted and bool(parts or rng.random() < 0.3)

    return seen if until(writing, attempt) else ""


def _training(attempt: Attempt, folder: Path, rng: random.Random) -> str:
    """Some time after a run of the study has written a row."""
    rows = folder / "runs" / "crashes" / "smoke"
    before = {path: path.stat().st_size for path in rows.glob(f"*/{METRICS}")}

    def goes_on() -> bool:
        now = {path: path.stat().st_size for path in rows.glob(f"*/{METRICS}")}
        return any(size > before.get(path, 0) for path, size in now.items())

    if not until(goes_on, attempt):
        return ""
    time.sleep(rng.uniform(0.0, 0.5))
    return "" if attempt.ended() else "runs training"


def _half_written(results: Path) -> list[str]:
    """What is not whole of evidence that counts as whole."""
    wrong = []
    for run in evidence.load_all(results / "crashes" / "smoke"):
        try:
            assert run.values["mean_iou"] >= 0
            assert run.config
            assert run.rows
            assert run.environment
        except Exception as error:
            wrong.append(f"{run.path.name}: {error}")
    return wrong


def _content(results: Path) -> dict[str, Any]:
    """All evidence by relative path; without durations, which are never the same twice, and the checkout's commit."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in results.rglob("*") if p.is_file()):
        text = path.read_text()
        if path.name == RECORD:
            text = "\n".join(line for line in text.splitlines() if '"seconds"' not in line)
        if path.name == ENVIRONMENT:
            text = repr(sorted((k, v) for k, v in json.loads(text).items() if k not in ("commit", "resumed")))
        found[str(path.relative_to(results))] = text
    return found
