"""What the crash, fault and fuzz tests share: a small run on small images, its processes, their tables."""

from __future__ import annotations

import csv
import importlib
import io
import mmap
import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet.errors import RunError, printable
from unet.files import write_text
from unet.runs.folder import CHECKPOINTS

RESULTS = Path(__file__).resolve().parents[2] / "experiments" / "results" / "robustness"
UPDATES, CHECKPOINT_EVERY, EVAL_EVERY = 60, 7, 10
FLAGS = [
    "--profile", "smoke", "--tile.input-px", "52", "--model.base-channels", "8", "--data.split", "random",
    "--train.updates", str(UPDATES), "--train.checkpoint-every", str(CHECKPOINT_EVERY), "--train.eval-every",
    str(EVAL_EVERY), "--train.accumulate", "2", "--quiet",
]  # fmt: skip


def images(folder: Path, frames: int = 8, size: int = 96, nan: bool = False) -> Path:
    """A folder with images/ and labels/ of bright discs on a dark noisy ground."""
    import tifffile

    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(frames):
        label = np.zeros((size, size), np.uint8)
        for y, x in rng.integers(8, size - 8, (5, 2)):
            label |= ((rows - y) ** 2 + (columns - x) ** 2 < 60).astype(np.uint8)
        image = (label * 0.5 + rng.normal(0.25, 0.1, label.shape)).astype(np.float32)
        if nan and number == 3:
            image[5, 7] = np.nan
        tifffile.imwrite(folder / "images" / f"{number}.tif", image, photometric="minisblack")
        tifffile.imwrite(folder / "labels" / f"{number}.tif", label, photometric="minisblack")
    return folder


def prepare() -> None:
    """Import what `unet train` needs, so that forked processes begin at once."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    for module in (
        "unet.cli",
        "unet.commands.train",
        "unet.training.loop",
        "unet.evaluation.run",
        "unet.study.runner",
        "tyro",
    ):
        importlib.import_module(module)


class Attempt:
    """A process of its own that does `work`; its output goes to `log`. Its training can be watched from outside.

    reached: updates done; begun_at: update at which it took up the run, -1 before.
    """

    def __init__(self, work: Callable[[], int], log: Path, *, limit_bytes: int = 0, user: int = 0) -> None:
        self._shared = mmap.mmap(-1, 16)
        self._shared[:] = struct.pack("qq", 0, -1)
        self.started = time.monotonic()
        self.code: int | None = None
        self.log = log
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._work(work, log, limit_bytes, user)

    @property
    def reached(self) -> int:
        """Updates done so far."""
        return int(struct.unpack("qq", self._shared[:])[0])

    @property
    def begun_at(self) -> int:
        """The update at which the process took up the run."""
        return int(struct.unpack("qq", self._shared[:])[1])

    def ended(self) -> bool:
        """Whether the process has ended by itself."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is not None

    def wait(self, seconds: float = 300.0) -> int:
        """Its exit code; it is killed when it takes too long."""
        until(lambda: False, self, seconds)
        if self.code is None:
            self.signal(signal.SIGKILL)
            raise RunError(f"process {self.pid} did not end within {seconds:.0f} s (see {self.log})")
        return self.code

    def signal(self, number: int) -> None:
        """Send a signal; after SIGKILL the process is gone when this returns."""
        if self.code is None:
            os.kill(self.pid, number)
            if number == signal.SIGKILL:
                self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def output(self) -> str:
        """What it has printed, control characters written out."""
        return printable(self.log.read_text(errors="replace"), keep="\n") if self.log.exists() else ""

    def last_line(self) -> str:
        """What it printed last."""
        lines = [line for line in self.output().splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def _work(self, work: Callable[[], int], log: Path, limit_bytes: int, user: int) -> None:
        code = 1
        try:
            with log.open("wb") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
            if limit_bytes:
                import resource

                resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
            if user:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            self._watch()
            code = work()
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _watch(self) -> None:
        """Note the counter of updates where the parent can see it."""
        from unet.training.trainer import Trainer

        update, resume = Trainer._update, Trainer._resume

        def noted_update(trainer: Any, stream: Any) -> None:
            update(trainer, stream)
            self._shared[:8] = struct.pack("q", trainer.state.update)

        def noted_resume(trainer: Any) -> None:
            resume(trainer)
            self._shared[:] = struct.pack("qq", trainer.state.update, trainer.state.update)

        setattr(Trainer, "_update", noted_update)  # noqa: B010
        setattr(Trainer, "_resume", noted_resume)  # noqa: B010


def until(condition: Callable[[], bool], attempt: Attempt, seconds: float = 120.0) -> bool:
    """Wait for the condition; False when the process has ended before or time is over."""
    limit = time.monotonic() + seconds
    while not condition():
        if attempt.ended() or time.monotonic() > limit:
            return False
        time.sleep(0.0003)
    return not attempt.ended()


def unet(*words: str) -> Callable[[], int]:
    """The command `unet WORDS`, as work for an Attempt."""

    def run() -> int:
        from unet.cli import main

        return main(list(words))

    return run


def content(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Files of a run by name, to be compared bit for bit; of the newest checkpoint what a resumed run needs."""
    from unet.runs.checkpoint import load_latest

    found = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
    saved, _ = load_latest(folder / CHECKPOINTS)
    tensors = {} if saved is None else {"model": saved["model"], "optimizer": saved["optimizer"]["state"]}
    buffer = io.BytesIO()
    for key in sorted(flat := dict(_tensors(tensors, ""))):
        buffer.write(key.encode() + flat[key].numpy().tobytes())
    return found | {"checkpoint": buffer.getvalue(), "state": repr(saved and sorted(saved["state"].items())).encode()}


def _tensors(value: Any, name: str) -> list[tuple[str, Any]]:
    import torch

    if isinstance(value, Mapping):
        return [pair for key, item in value.items() for pair in _tensors(item, f"{name}/{key}")]
    return [(name, value)] if isinstance(value, torch.Tensor) else []


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a CSV table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV table; none when it is not there."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
