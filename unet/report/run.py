"""What a run folder, or a run's folder of evidence, holds; whatever is missing or damaged is named, not fatal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from unet.config import Config, to_dict
from unet.datasets import SYNTHETIC
from unet.errors import RunError, UserError, one_line
from unet.runs.folder import (
    CONFIG,
    ENVIRONMENT,
    FAILURE,
    METRICS,
    RECORD,
    SCORES,
    SPLIT,
    TEST_SCORES,
    TIMING,
    WEIGHTS,
    RunFolder,
)
from unet.runs.lock import in_use
from unet.study.collect import seconds_taken

State = Literal["scored", "diverged", "unscored", "nothing held out", "training", "scoring", "stopped", "not begun"]


@dataclass(frozen=True)
class Run:
    """One run as its files tell it. problems: files that could not be read, one line each."""

    path: Path
    config: Config
    state: State
    rows: list[dict[str, Any]]
    timing: list[dict[str, Any]]
    environment: Mapping[str, Any] = field(default_factory=dict)
    split: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    test: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    problems: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def update(self) -> int:
        """The last update there is a row of."""
        return max((int(row["update"]) for row in self.rows), default=0)

    @property
    def source(self) -> str:
        """Where the images came from, as the run recorded it."""
        return str(self.environment.get("data_source") or self.scores.get("data") or "")

    @property
    def synthetic(self) -> bool:
        """True when the images were made, so that no number of the paper belongs beside the scores."""
        return self.config.data.name.startswith(SYNTHETIC) or "built-in synthetic" in self.source


def read(path: Path) -> Run:
    """The run in a folder; RunError when it holds no configuration, ConfigError when that cannot be read."""
    folder = RunFolder.open_existing(path)
    config = folder.config
    problems: list[str] = []
    rows, timing = (_rows(folder, name, problems) for name in (METRICS, TIMING))
    values = {
        name: _json(folder, name, problems) for name in (ENVIRONMENT, SPLIT, SCORES, TEST_SCORES, FAILURE, RECORD)
    }
    if values[SCORES] and not isinstance(values[SCORES].get("scores"), dict):
        problems.append(f"{path / SCORES}: holds no scores")
        values[SCORES] = {}
    if values[TEST_SCORES] and not {"protocols", "labels", "notes"} <= values[TEST_SCORES].keys():
        problems.append(f"{path / TEST_SCORES}: holds no scores")
        values[TEST_SCORES] = {}
    state = _state(path, rows, values)
    record = values[RECORD]
    try:
        seconds = float(record["seconds"]) if "seconds" in record else seconds_taken(path)
    except (UserError, KeyError, TypeError, ValueError):
        seconds = 0.0
    return Run(
        path,
        config,
        state,
        rows,
        timing,
        values[ENVIRONMENT],
        values[SPLIT],
        values[SCORES],
        values[TEST_SCORES],
        str(values[FAILURE].get("diverged", "")) if values[FAILURE] else "",
        record,
        seconds,
        tuple(problems),
    )


def newest(root: Path) -> Path:
    """The run below a folder whose files changed last; RunError when there is none."""
    runs = [config.parent for config in root.rglob(CONFIG) if config.is_file()]
    if not runs:
        raise RunError(f"there is no run below {root}; name a run's folder, or make one with `unet train`")
    return max(runs, key=lambda run: (max((run / name).stat().st_mtime_ns for name in _present(run)), str(run)))


def differences(config: Config) -> list[tuple[str, Any, Any]]:
    """(key, value, default) of every key that differs from the defaults; the dashboard's are left out."""
    default = to_dict(Config())
    return [
        (f"{section}.{key}", value, default[section][key])
        for section, values in to_dict(config).items()
        if section != "wandb"
        for key, value in values.items()
        if value != default[section][key]
    ]


def _present(run: Path) -> list[str]:
    return [name for name in (CONFIG, METRICS, SCORES, WEIGHTS) if (run / name).is_file()]


def _state(path: Path, rows: list[dict[str, Any]], values: dict[str, Any]) -> State:
    if values[FAILURE]:
        return "diverged"
    if values[SCORES]:
        return "scored" if values[SCORES]["scores"] else "nothing held out"
    if in_use(path):
        return "scoring" if (path / WEIGHTS).is_file() else "training"
    if (path / WEIGHTS).is_file():
        held_out = values[SPLIT].get("held_out")
        return "nothing held out" if held_out == [] else "unscored"
    return "stopped" if rows else "not begun"


def _rows(folder: RunFolder, name: str, problems: list[str]) -> list[dict[str, Any]]:
    """The rows that can be read and say which update they belong to."""
    try:
        return [row for row in folder.rows(name) if isinstance(row["update"], int)]
    except UserError as error:
        problems.append(str(error))
        return []
    except (OSError, KeyError, TypeError) as error:
        problems.append(f"{folder.path / name}: damaged ({one_line(error)})")
        return []


def _json(folder: RunFolder, name: str, problems: list[str]) -> dict[str, Any]:
    try:
        value = json.loads(folder.file(name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"{folder.path / name}: cannot be read ({one_line(error)})")
        return {}
    if not isinstance(value, dict):
        problems.append(f"{folder.path / name}: holds no object")
        return {}
    return value
