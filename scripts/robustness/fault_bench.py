"""What the faults of fault_test.py share: a whole run to compare with, and the steps around a fault."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crash_test import COMPARED, train_words
from harness import Attempt, content, images, prepare, unet, until

from unet.runs.checkpoint import load_latest
from unet.runs.folder import CHECKPOINTS

Result = tuple[str, int | str, str, str, bool]
"""The line seen, the exit code, what is left, how it goes on, whether all of this is as it should be."""


class Skipped(Exception):
    """The fault cannot be made to happen here; says why."""


class Bench:
    """A place with images and a whole run to compare with, and the steps that most faults share."""

    def __init__(self, place: Path) -> None:
        prepare()
        self.place = place
        self.data = images(place / "data")
        self.attempts = itertools.count()
        self.whole = self.run("whole").folder
        self.reference = content(self.whole, COMPARED)

    def words(self, name: str, workers: int = 0) -> list[str]:
        """The command that begins or goes on with a run."""
        return train_words(self.place / name, self.data, workers)

    def log(self) -> Path:
        """A new file for the output of a process."""
        return self.place / f"{next(self.attempts)}.log"

    def run(self, name: str, **options: int) -> Ran:
        """Begin a run, or go on with it, to whatever end."""
        attempt = Attempt(unet(*self.words(name)), self.log(), **options)
        return Ran(self.place / name, attempt.wait(), self.shown(attempt))

    def shown(self, attempt: Attempt) -> str:
        """The last line of a process, without the place's path."""
        return attempt.last_line().replace(f"{self.place}/", "")

    def begun(self, name: str, updates: int = 25, workers: int = 0) -> Path:
        """A run that was asked to stop after some updates, with a checkpoint."""
        attempt = Attempt(unet(*self.words(name, workers)), self.log())
        until(lambda: attempt.reached >= updates, attempt)
        attempt.signal(signal.SIGTERM)
        assert attempt.wait() == 143, attempt.output()
        return self.place / name

    def ends_the_same(self, name: str) -> bool:
        """Whether the run, gone on with, ends as if nothing had happened."""
        ran = self.run(name)
        return ran.code == 0 and content(ran.folder, COMPARED) == self.reference

    def goes_on(self, name: str, how: str = "--resume") -> tuple[str, bool]:
        """How it goes on, in words, and whether it does."""
        same = self.ends_the_same(name)
        return f"{how}: {'the same bits' if same else 'OTHER BITS'}", same


@dataclass
class Ran:
    """A process that has ended."""

    folder: Path
    code: int
    seen: str


def checkpoint_left(run: Path) -> str:
    """The newest whole checkpoint, in words."""
    saved, damaged = load_latest(run / CHECKPOINTS)
    found = "no checkpoint" if saved is None else f"checkpoint of update {saved['state']['update']}"
    return found + (f", {len(damaged)} damaged" if damaged else "")


def temporary(run: Path) -> bool:
    """Whether a temporary file was left."""
    return any(run.rglob("*.part"))


def said(ran: Ran, *words: str, code: int = 2) -> bool:
    """Whether the process ended as it should, in one line with these words."""
    return ran.code == code and ran.seen.startswith("unet: ") and all(word in ran.seen for word in words)


def image(bench: Bench) -> Path:
    import numpy as np
    import tifffile

    path = bench.place / "image.tif"
    tifffile.imwrite(path, np.random.default_rng(0).random((400, 400), np.float32), photometric="minisblack")
    return path


@contextmanager
def mounted(target: Path, kind: str, *options: str) -> Iterator[Path]:
    """A file system mounted for the block; Skipped where that is not allowed."""
    target.mkdir(exist_ok=True)
    command = ["mount", "-t", kind, *options, kind, str(target)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        raise Skipped("mounting needs root")
    try:
        yield target
    finally:
        subprocess.run(["umount", str(target)], check=True)
