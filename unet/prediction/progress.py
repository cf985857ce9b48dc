"""The record of an unfinished prediction: what is being computed, and how much of it is safely on disk."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from unet.errors import RunError
from unet.files import sync_folder, write_error
from unet.runs.lock import lock, unlock

_SAMPLES, _SAMPLE_BYTES = 16, 2**16


def identity(path: Path) -> dict[str, str | int]:
    """What a file is recognised by: name, size, time of its last change, and the SHA-256 of parts of it.

    The parts are 16 times 64 KiB, spread evenly from beginning to end.
    """
    stat = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for i in range(_SAMPLES):
            file.seek(max(0, stat.st_size - _SAMPLE_BYTES) * i // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    parts = digest.hexdigest()
    return {"name": path.name, "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256_of_parts": parts}


class Record:
    """A file of lines: the job as JSON, then the number of rows done, one line more after each; locked while in use.

    A line that a crash cut short does not count. Use it as a context manager: RunError when another process has it, or
    when its file system cannot lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.job: dict[str, Any] | None = None
        self.rows = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> Record:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+b")
        except OSError as error:
            raise write_error(self.path, error) from error
        try:
            if not lock(file.fileno(), self.path):
                raise RunError(f"{self.path}: another process is writing this output; wait for it or stop it")
        except RunError:
            file.close()
            raise
        self._file = file
        self._read(file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        if self._file.tell() == 0:  # nothing was begun
            self.path.unlink(missing_ok=True)
        unlock(self._file.fileno())
        self._file.close()

    def _read(self, file: BinaryIO) -> None:
        file.seek(0)
        content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        try:
            first, *counts = whole.splitlines()
            self.job, self.rows = json.loads(first), max(map(int, counts), default=0)
        except ValueError:
            self.job, self.rows, whole = None, 0, b""
        file.truncate(len(whole))
        file.seek(len(whole))

    def start(self, job: dict[str, Any]) -> None:
        """Begin anew with this job and no rows."""
        assert self._file is not None
        self._file.truncate(0)
        self._file.seek(0)
        self.job, self.rows = job, 0
        self._append(json.dumps(job))
        sync_folder(self.path.parent)

    def advance(self, rows: int) -> None:
        """Note durably that `rows` rows are done; their pixels must have been flushed before."""
        self._append(str(rows))
        self.rows = rows

    def forget(self) -> None:
        """Remove the record: nothing is left to go on with."""
        self.path.unlink(missing_ok=True)

    def _append(self, line: str) -> None:
        assert self._file is not None
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
