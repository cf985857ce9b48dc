"""A run folder and its files. Local files are the truth; dashboards and reports are made from them.

| file | what |
| --- | --- |
| config.yaml | the resolved configuration |
| environment.json | versions, device, precision, commit, loss path, data source |
| split.json | names of the training and of the held-out frames |
| metrics.jsonl | losses and held-out scores by update: the same bits whenever the run is repeated or resumed |
| timing.jsonl | clock readings (tiles/s, share of time waiting for data): never the same twice |
| checkpoints/ | what is needed to go on, and a record of its checksum |
| weights.safetensors | the weights at the end |
| scores.json, probabilities.tif, prediction.png | the evaluation |
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unet.config import Config, load_yaml, to_yaml
from unet.errors import RunError, one_line
from unet.files import write_error, write_json, write_text

CONFIG, METRICS, TIMING = "config.yaml", "metrics.jsonl", "timing.jsonl"


class RunFolder:
    """The folder of one run. Make it with `create` or `open_existing`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, config: Config, *, overwrite: bool = False) -> RunFolder:
        """Start a new run at `path`, writing config.yaml.

        RunError when the folder holds anything and `overwrite` is false, or when `overwrite` would delete a folder that
        is not a run's.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            if not overwrite:
                raise RunError(f"{path} exists already; add --resume to go on with it, or --overwrite to start anew")
            if not (path / CONFIG).is_file():
                raise RunError(f"{path} is not a run folder (it has no {CONFIG}); --overwrite will not delete it")
            with locked(path):
                _remove(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(path, error) from error
        write_text(path / CONFIG, to_yaml(config))
        return cls(path)

    @classmethod
    def open_existing(cls, path: Path) -> RunFolder:
        """An existing run; RunError when `path` holds none."""
        if not (path / CONFIG).is_file():
            raise RunError(f"{path} is not a run folder (it has no {CONFIG}); check the path")
        return cls(path)

    @property
    def config(self) -> Config:
        """The resolved configuration the run was started with."""
        return load_yaml(self.path / CONFIG)

    def file(self, name: str) -> Path:
        """Path of a file in the folder."""
        return self.path / name

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file atomically."""
        write_json(self.path / name, value)

    def read_json(self, name: str) -> Any:
        """Content of a JSON file; RunError when it is missing or damaged."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path / name}: cannot be read ({one_line(error)})") from None

    def append(self, name: str, row: dict[str, Any]) -> int:
        """Append one row to a JSONL file; returns the file's length in bytes behind it."""
        path = self.path / name
        try:
            with path.open("ab") as file:
                file.write((json.dumps(row, allow_nan=True) + "\n").encode())
                return file.tell()
        except OSError as error:
            raise write_error(path, error) from error

    def truncate(self, name: str, length: int) -> None:
        """Cut a JSONL file back to `length` bytes: what a resumed run will write again."""
        path = self.path / name
        if not path.exists() and length == 0:
            return
        if not path.exists() or path.stat().st_size < length:
            raise RunError(f"{path} is shorter than its checkpoint says; restore it, or start anew with --overwrite")
        os.truncate(path, length)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Rows of a JSONL file; a last row cut short by a crash is left out."""
        path = self.path / name
        if not path.exists():
            return []
        lines = path.read_bytes().split(b"\n")
        return [json.loads(line) for line in lines[:-1] if line]


def unused(path: Path) -> Path:
    """`path`, or the first of `path-2`, `path-3`, ... that does not exist."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the run folder for this process; the lock dies with its owner. RunError when another process holds it."""
    lock = path / ".lock"
    try:
        file = lock.open("a+")
    except OSError as error:
        raise write_error(lock, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise RunError(f"{path} is in use by another process (pid {owner}); wait for it or stop it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _remove(path: Path) -> None:
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != ".lock":
            entry.unlink()
