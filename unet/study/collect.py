"""From an ended run to its evidence: what is copied, what is left out (paths of the machine), what is added."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from unet.config import to_yaml
from unet.files import sweep, write_json, write_text
from unet.metrics.table import ON_TEST
from unet.runs.folder import (
    ATTEMPTS,
    CONFIG,
    ENVIRONMENT,
    FAILURE,
    METRICS,
    RECORD,
    SCORES,
    SPLIT,
    TEST_SCORES,
    TIMING,
    RunFolder,
)  # fmt: skip
from unet.study.design import Job, without_dashboard
from unet.study.evidence import DIGITS, Evidence, read_json

UNSCORED = {"frames": [], "scores": {}, "thresholds": {}, "by_frame": {}, "notes": ["no frames were held out"]}


def collect(run: Path, job: Job, target: Path) -> None:
    """Copy the evidence of an ended run into `target`."""
    config = without_dashboard(RunFolder.open_existing(run).config)
    environment = without_paths(read_json(run / ENVIRONMENT))
    environment.pop("command", None)  # of the worker; the user's command stands in the record
    record = {
        "study": job.study,
        "profile": job.profile,
        "arm": job.arm,
        "data": job.data,
        "seed": job.seed,
        "seconds": round(seconds_taken(run), 1),
        "command": command(job),
    }
    sweep(target)
    write_text(target / CONFIG, to_yaml(config))
    write_json(target / ENVIRONMENT, environment)
    write_json(target / RECORD, record)
    if (run / SPLIT).is_file():
        write_json(target / SPLIT, read_json(run / SPLIT))
    write_text(target / METRICS, "".join(_short(row) + "\n" for row in RunFolder(run).rows(METRICS)))
    last = FAILURE if (run / FAILURE).is_file() else SCORES
    kept = _on_test_slices(run) if last == SCORES and not (run / SCORES).is_file() else read_json(run / last)
    write_json(target / last, without_paths(kept))


def _on_test_slices(run: Path) -> dict[str, Any]:
    """The scores of a run that held nothing out: those of the test slices, by the paper's protocol."""
    if not (run / TEST_SCORES).is_file():
        return UNSCORED
    test = read_json(run / TEST_SCORES)
    scores = {f"{ON_TEST}{name}": value for name, value in test["protocols"]["paper"]["scores"].items()}
    return UNSCORED | {"scores": scores, "test": test}


def adopt(twin: Evidence, job: Job, target: Path) -> None:
    """Copy the evidence of the same run out of another study, saying so."""
    origin = f"{twin.record['study']}/{twin.record['profile']}/{twin.path.name}"
    record = twin.record | {"study": job.study, "arm": job.arm, "command": command(job), "same_run_as": origin}
    sweep(target)
    write_json(target / RECORD, record)
    write_text(target / CONFIG, to_yaml(twin.config))
    write_json(target / ENVIRONMENT, twin.environment)
    write_text(target / METRICS, "".join(json.dumps(row) + "\n" for row in twin.rows))
    if twin.split:
        write_json(target / SPLIT, twin.split)
    write_json(target / (FAILURE if twin.diverged else SCORES), twin.failure if twin.diverged else twin.stored)


def command(job: Job) -> str:
    """The command that makes a run again from its evidence, from the repository's root."""
    folder = f"experiments/results/{job.study}/{job.profile}/{job.name}"
    return f"unet train --config-file {folder}/{CONFIG} --run runs/{job.name}"


def seconds_taken(run: Path) -> float:
    """Seconds a run took: all attempts that ended in order together, or what its timing rows tell, which is more where
    attempts were killed."""
    folder = RunFolder(run)
    return max(sum(float(row["seconds"]) for row in folder.rows(ATTEMPTS)), _timed(folder))


def _timed(folder: RunFolder) -> float:
    last = 0
    seconds = 0.0
    for row in folder.rows(TIMING):
        seconds += row["seconds_per_update"] * max(0, row["update"] - last) + row.get("evaluation_s", 0.0)
        last = row["update"]
    return seconds


_PATH = re.compile(r"(?<![\w.:/-])(?:/[\w.@+-]+){2,}/?")


def without_paths(value: Any) -> Any:
    """The same plain values with absolute paths cut down to their last part."""
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    if isinstance(value, str):
        return _PATH.sub(lambda match: Path(match.group()).name, value)
    return value


def _short(row: dict[str, Any]) -> str:
    return json.dumps({k: float(f"{v:.{DIGITS}g}") if isinstance(v, float) else v for k, v in row.items()})
