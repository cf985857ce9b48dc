"""A run folder and its files. Local files are the truth; dashboards and reports are made from them.

| file | what |
| --- | --- |
| config.yaml | the resolved configuration |
| environment.json | versions, device, precision, commit, loss path, data source |
| split.json | names of the training and of the held-out frames |
| metrics.jsonl | losses and held-out scores by update: the same bits whenever the run is repeated or resumed |
| timing.jsonl | clock readings (tiles/s, share of time waiting for data, evaluation): never the same twice |
| checkpoints/ | what is needed to go on, and a record of its checksum |
| weights.safetensors | the weights at the end |
| scores.json, probabilities.tif, prediction.png | the evaluation on the held-out frames |
| test-scores.json, test-probabilities.tif | of EM, when asked for: the evaluation on the challenge's test slices |
| dynamics.jsonl | where it was followed: the loss of every training frame by update |
| dashboard.json, wandb/ | which W&B run mirrors this one, and its offline copy |
| attempts.jsonl | of a study's run: the attempts it took, with their durations |
| failure.json, record.json, gradient_noise.json | of a study's run: how it diverged, what made it, its gradient noise |
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from unet.config import Config, load_yaml, to_yaml
from unet.errors import RunError, one_line
from unet.files import is_temporary, sweep, write_error, write_json, write_text
from unet.runs.lock import LOCK, run_lock

# Every file of a run, by its name: no other module writes one out (tests/test_architecture.py).
CONFIG, ENVIRONMENT, SPLIT, METRICS, TIMING = (
    "config.yaml", "environment.json", "split.json", "metrics.jsonl", "timing.jsonl",
)  # fmt: skip
CHECKPOINTS, WEIGHTS = "checkpoints", "weights.safetensors"
SCORES, PROBABILITIES, PICTURE = "scores.json", "probabilities.tif", "prediction.png"
TEST_SCORES, TEST_PROBABILITIES = "test-scores.json", "test-probabilities.tif"
DYNAMICS, IDENTITY = "dynamics.jsonl", "dashboard.json"
FAILURE, RECORD, NOISE, ATTEMPTS = "failure.json", "record.json", "gradient_noise.json", "attempts.jsonl"
MEMBERS = "members"
"""Key of scores.json: the runs of an ensemble, each with its folder (relative) and the SHA-256 of its weights."""


class RunFolder:
    """The folder of one run. Take it with `taken`, or look at it with `open_existing`."""

    def __init__(self, path: Path) -> None:
        self.path = path

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

    @property
    def environment(self) -> dict[str, Any]:
        """What the run was made with, as environment.json has it; empty when it is missing or damaged."""
        with suppress(RunError):
            found = self.read_json(ENVIRONMENT)
            return found if isinstance(found, dict) else {}
        return {}

    @property
    def held_nothing_out(self) -> bool:
        """Whether the run's record says that all its frames trained, so that there is nothing to score it on."""
        with suppress(RunError):
            parts = self.read_json(SPLIT)
            return isinstance(parts, dict) and parts.get("held_out") == []
        return False

    def data_moved(self, folder: str) -> None:
        """Note that the user's images lie in another folder by now (see data.folder)."""
        config = self.config
        if config.data.name == "folder" and config.data.folder != folder:
            moved = replace(config, data=replace(config.data, folder=folder))
            write_text(self.path / CONFIG, to_yaml(moved))

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
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{self.path / name}: cannot be read ({one_line(error)})") from None

    def append(self, name: str, row: dict[str, Any]) -> int:
        """Append one row to a JSONL file; returns the file's length in bytes behind it.

        A last row that a crash or a full disk cut short is removed first, so that the new one stands on its own line.
        """
        path = self.path / name
        try:
            with path.open("ab+") as file:
                _drop_cut_row(file)
                file.write((json.dumps(row, allow_nan=True) + "\n").encode())
                return file.tell()
        except OSError as error:
            raise write_error(path, error) from error

    def sync(self, name: str) -> None:
        """Flush a file to disk, so that what is written after it never outlives it in a power cut."""
        path = self.path / name
        try:
            if path.exists():
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
        except OSError as error:
            raise write_error(path, error) from error

    def truncate(self, name: str, length: int, digest: str = "") -> None:
        """Cut a JSONL file back to `length` bytes: what a resumed run will write again.

        digest: SHA-256 of these bytes as a checkpoint has it; empty: not known. RunError when they are not there or are
        others.
        """
        path = self.path / name
        if not path.exists() and length == 0:
            return
        whole = path.exists() and path.stat().st_size >= length
        if not whole or (digest and self.sha256_of(name, length) != digest):
            what = "was edited after" if whole else "is shorter than" if path.exists() else "is gone since"
            raise RunError(
                f"{path} {what} its checkpoint{' says' * (not whole and path.exists())}; restore it, or go on without "
                "the rows so far with --lost-metrics (the weights need none), or start anew with --overwrite"
            )
        os.truncate(path, length)

    def sha256_of(self, name: str, length: int) -> str:
        """SHA-256 of the first `length` bytes of a file, hexadecimal; of a file that is not there: of nothing."""
        path = self.path / name
        if not path.exists():
            return hashlib.sha256().hexdigest()
        with path.open("rb") as file:
            return hashlib.sha256(file.read(length)).hexdigest()

    def set_aside(self, name: str) -> None:
        """Give a file a name of its own (`metrics-replaced.jsonl`), so that another can take its place."""
        path = self.path / name
        if path.exists():
            path.replace(unused(path.with_name(f"{path.stem}-replaced{path.suffix}")))

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Rows of a JSONL file; a last row cut short by a crash is left out. RunError when another is damaged."""
        path = self.path / name
        try:
            content = path.read_bytes() if path.exists() else b""
            rows = [json.loads(line) for line in content.split(b"\n")[:-1] if line]
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{path}: damaged ({one_line(error)}); restore it") from None
        if not all(isinstance(row, dict) for row in rows):
            raise RunError(f"{path}: damaged (a row is no JSON object); restore it")
        return rows


class ReadOnly(RunFolder):
    """A run that another process writes: nothing that is written to it here changes anything."""

    def data_moved(self, _: str) -> None:
        """Without effect."""

    def write_json(self, *_: Any) -> None:
        """Without effect."""

    def append(self, *_: Any) -> int:
        """Without effect."""
        return 0

    def sync(self, _: str) -> None:
        """Without effect."""

    def truncate(self, *_: Any) -> None:
        """Without effect."""

    def set_aside(self, _: str) -> None:
        """Without effect."""


@contextmanager
def taken(path: Path, config: Config, *, resume: bool, overwrite: bool) -> Iterator[RunFolder]:
    """A run folder held by this process: the existing one (`resume`), or a new one with its config.yaml written.

    RunError when a new one holds anything and `overwrite` is false, or when `overwrite` would delete a folder that is
    not a run's (what a process left that was killed before it wrote config.yaml does not count), and when another
    process holds the folder. Checked before the lock is taken, so that a folder that is refused stays as it is, and
    again behind it, where no other process can come between.
    """
    if resume:
        RunFolder.open_existing(path)
    else:
        _refuse(path, overwrite)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(path, error) from error
    with run_lock(path):
        if resume:
            folder = RunFolder.open_existing(path)
        else:
            _refuse(path, overwrite)
            folder = RunFolder(path)
            try:
                _empty(path)
            except OSError as error:
                raise write_error(path, error) from error
            write_text(path / CONFIG, to_yaml(config))
        for place in (path, *(entry for entry in path.iterdir() if entry.is_dir())):
            sweep(place)
        yield folder


def unused(path: Path) -> Path:
    """`path`, or the first of `path-2`, `path-3`, ... that does not exist."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


@contextmanager
def claimed(path: Path) -> Iterator[Path]:
    """An empty folder of this process's own: `path`, or the first of `path-2`, `path-3`, ... that could be made.

    Two processes at once get two. It goes again when nothing was written into it.
    """
    while True:
        candidate = unused(path)
        try:
            candidate.mkdir(parents=True)
            break
        except FileExistsError:
            continue
        except OSError as error:
            raise write_error(candidate, error) from error
    try:
        yield candidate
    finally:
        with suppress(OSError):
            candidate.rmdir()


def _drop_cut_row(file: BinaryIO) -> None:
    """Cut a JSONL file back to the end of its last whole row, and stand there."""
    end = file.seek(0, os.SEEK_END)
    if not end:
        return
    file.seek(end - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)


def _refuse(path: Path, overwrite: bool) -> None:
    """RunError when a new run may not be made at `path`."""
    if not path.exists() and not path.is_symlink():
        return
    try:
        holds = not path.is_dir() or any(not _stillborn(entry) for entry in path.iterdir())
        is_run = (path / CONFIG).is_file()
    except OSError as error:
        raise write_error(path, error) from error
    if holds and not overwrite:
        advice = "add --resume to go on with it, or --overwrite to start anew" if is_run else "name another folder"
        raise RunError(f"{path} exists already; {advice}")
    if holds and not is_run:
        raise RunError(f"{path} is not a run folder (it has no {CONFIG}); --overwrite will not delete it")


def _stillborn(entry: Path) -> bool:
    """What a process leaves that is killed before it wrote a configuration."""
    return entry.name == LOCK or is_temporary(entry.name)


def _empty(path: Path) -> None:
    """Remove everything but the lock; the configuration last, so that a kill leaves a run that can be removed again."""
    for entry in sorted(path.iterdir(), key=lambda entry: entry.name == CONFIG):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()
