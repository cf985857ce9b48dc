"""Which engine works on a run, where several machines share the folder of a study.

A claim is a file in the folder `claims`, `RUN.N` with N = 1, 2, ...; the highest N counts. It is made in one step that
succeeds for one machine only (O_EXCL, which network file systems keep too, where locks on open files often do nothing),
and says who made it. A thread renews it every few seconds. A claim is void when its process is gone from the machine
that reads it, when that machine has been started anew since, or when it was not renewed for a while; then the next N is
free to be made. Who finds a higher N than its own has lost the run: it was held up for so long that it counted as dead.

Times are those that the file system writes: the clocks of the machines may differ.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from unet.files import write_error

RENEW_S = 10.0
VOID_S = 120.0  # without being renewed; network file systems may show a change only after a minute
_RELEASED = "released"
_NAME = re.compile(r"(.+)\.(\d+)")


@cache
def this_place() -> str:
    """The machine since its last start, and the part of it in which a process has its number."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # no Linux
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


class Claims:
    """The claims of this process on the runs of one study and profile; the context renews them while it lasts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mine: dict[str, Path] = {}
        self._guard = threading.Lock()
        self._ended = threading.Event()

    def __enter__(self) -> Claims:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self.folder, error) from error
        self._ended.clear()
        threading.Thread(target=self._renew, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for run in list(self._mine):
            self.release(run)

    def take(self, run: str) -> bool:
        """Claim a run; False when another process has it. True also where this one has it already."""
        if run in self._mine:
            return True
        highest = self._highest(run)
        if highest is not None and not self._void(highest):
            return False
        place = self.folder / f"{run}.{_number(highest) + 1}"
        try:
            with place.open("x", encoding="utf-8") as file:
                json.dump({"place": this_place(), "pid": os.getpid()}, file)
        except FileExistsError:
            return False
        except OSError as error:
            raise write_error(place, error) from error
        if self._highest(run) != place:
            return False
        with self._guard:
            self._mine[run] = place
        for earlier in self._all(run):
            if _number(earlier) < _number(place) - 1:  # the one before is what a slower reader still compares with
                earlier.unlink(missing_ok=True)
        return True

    @contextmanager
    def held(self, run: str) -> Iterator[bool]:
        """Whether the run is this process's; one that was claimed for the block only is given back behind it."""
        had = run in self._mine
        taken = self.take(run)
        try:
            yield taken
        finally:
            if taken and not had:
                self.release(run)

    def release(self, run: str) -> None:
        """Give a run back; without effect where it is not this process's."""
        with self._guard:
            place = self._mine.pop(run, None)
        if place is not None:
            with suppress(OSError):
                place.write_text(_RELEASED)  # the file stays, so that no number is made twice

    def keep(self, runs: Iterable[str]) -> None:
        """Give back all runs but these."""
        for run in self._mine.keys() - set(runs):
            self.release(run)

    def lost(self) -> set[str]:
        """Runs of this process that another one has claimed since, for it did not renew them in time."""
        return {run for run, place in list(self._mine.items()) if self._highest(run) != place}

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_S):
            for run, place in list(self._mine.items()):
                with self._guard, suppress(OSError):
                    if run in self._mine:
                        os.utime(place)

    def _all(self, run: str) -> list[Path]:
        found = [place for place in self.folder.glob("*") if (m := _NAME.fullmatch(place.name)) and m[1] == run]
        return sorted(found, key=_number)

    def _highest(self, run: str) -> Path | None:
        return next(reversed(self._all(run)), None)

    def _void(self, place: Path) -> bool:
        try:
            text = place.read_text(encoding="utf-8")
            age = self._now() - place.stat().st_mtime
        except OSError:
            return False  # it changes just now
        owner = _owner(text)  # None while it is written, and where it is damaged
        return text == _RELEASED or age > VOID_S or (owner is not None and _is_gone(owner))

    def _now(self) -> float:
        """The time by the clock of the file system."""
        probe = self.folder / f".now-{os.getpid()}-{socket.gethostname()}"
        probe.touch()
        os.utime(probe)
        now = probe.stat().st_mtime
        probe.unlink(missing_ok=True)
        return now


def _number(place: Path | None) -> int:
    return int(place.name.rpartition(".")[2]) if place is not None else 0


def _owner(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
        return found if isinstance(found["place"], str) and isinstance(found["pid"], int) else None
    except (ValueError, LookupError, TypeError):
        return None


def _is_gone(owner: dict[str, Any]) -> bool:
    """Whether the process is known to be over: it was of this machine, or of its time before the last start."""
    ours, theirs = this_place().split(), owner["place"].split()
    if theirs[:1] != ours[:1]:
        return False
    if theirs[1:2] != ours[1:2]:
        return len(ours) > 1  # another start of the same machine
    if theirs != ours:
        return False  # in another container, whose processes have numbers of their own
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
