"""Processes that work for a study: started, looked after, stopped in good order."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from unet.cores import GPUS, gpus, pin, shares

PARENT = "{parent}"  # in a command: stands for the number of the process that starts it, which the worker watches
STOP_WAIT_S = 90.0  # for a checkpoint, before a process is killed


@dataclass(frozen=True)
class Ended:
    """A process that has ended: its exit code, how long it took, where its output went."""

    name: str
    code: int
    seconds: float
    log: Path

    @property
    def last_line(self) -> str:
        """What it said last."""
        lines = [line for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return lines[-1].removeprefix("unet: ") if lines else f"exit code {self.code}"


@dataclass
class _Process:
    process: subprocess.Popen[bytes]
    log: Path
    slot: int
    started: float = field(default_factory=time.monotonic)


class Pool:
    """At most `size` processes at a time, each on cores of its own where there are enough, and on one GPU in turn.

    Threads of several runs on the same cores wait for each other, and the system moves runs between cores to no avail.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._shares = shares(size)
        self._gpus = gpus() if size > 1 else []
        self._processes: dict[str, _Process] = {}

    @property
    def names(self) -> set[str]:
        """What is running."""
        return set(self._processes)

    @property
    def free(self) -> int:
        """How many more may be started."""
        return self.size - len(self._processes)

    def start(self, name: str, command: list[str], text: str, log: Path) -> None:
        """Start a process that reads `text` from its standard input and appends its output to `log`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        slot = min(set(range(self.size)) - {entry.slot for entry in self._processes.values()})
        cores = self._shares[slot]
        values = environment(self.size, len(cores))
        if self._gpus:
            values[GPUS] = self._gpus[slot % len(self._gpus)]
        with log.open("ab") as output:
            process = subprocess.Popen(
                with_parent(command),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=values,
                start_new_session=True,  # Ctrl-C is for the parent, which passes it on once
            )
        if self.size > 1 and values["OMP_NUM_THREADS"] == str(len(cores)):
            pin(process.pid, cores)
        assert process.stdin is not None
        with suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(text.encode())
        self._processes[name] = _Process(process, log, slot)

    def reap(self) -> list[Ended]:
        """The processes that have ended since the last call."""
        ended = []
        for name, entry in list(self._processes.items()):
            code = entry.process.poll()
            if code is not None:
                del self._processes[name]
                ended.append(Ended(name, code, time.monotonic() - entry.started, entry.log))
        return ended

    def stop(self, names: Iterable[str] | None = None) -> None:
        """Ask these (default: all) to end (SIGTERM), wait, kill those that do not obey."""
        entries = [self._processes.pop(name) for name in list(self.names if names is None else names)]
        for entry in entries:
            entry.process.terminate()
        limit = time.monotonic() + STOP_WAIT_S
        for entry in entries:
            try:
                entry.process.wait(max(0.1, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                entry.process.kill()
                entry.process.wait()


def with_parent(command: Sequence[str]) -> list[str]:
    """The command for this process to start: it stands where PARENT does."""
    return [str(os.getpid()) if word == PARENT else word for word in command]


def environment(at_once: int, cores: int) -> dict[str, str]:
    """Environment of one of several processes: a thread for each of its cores, unless OMP_NUM_THREADS says otherwise.

    One run per core with one thread each does most. It imports what this process does: started with -P, so that the
    current folder does not come first.
    """
    values = dict(os.environ)
    if at_once > 1:
        values.setdefault("OMP_NUM_THREADS", str(max(1, cores)))
    root = str(Path(__file__).resolve().parents[2])  # found also where the package is not installed
    values["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([root, *(str(Path(p).resolve()) for p in sys.path)]))
    return values
