"""Writing files so that none is ever half-written under its final name."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from unet.errors import DataError, RunError

_TEMPORARY = re.compile(r"\..+\.\d+\.part", re.S)  # of `atomic_write`; unfinished predictions have no number


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; when the block ends well it is flushed to disk and takes the final name.

    When the block fails, the temporary file is removed and what stood under `path` before stays untouched. A full
    disk or a folder that cannot be written to is a RunError that says so.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise write_error(path, error) from error
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_error(path: Path, error: OSError) -> RunError:
    """The one-line error for a file that could not be written."""
    short = error.errno is None and "requested and" in str(error)  # how NumPy reports a write that was cut short
    if short or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return RunError(f"{path}: no space left on the device; free some space and resume (earlier files are intact)")
    reason = error.strerror or str(error)
    return RunError(f"{path}: cannot be written ({reason}); check the folder's permissions or choose another")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever the system refuses while `path` is looked at or read becomes one DataError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{error.filename or path}: cannot be read ({reason}); check the path and its rights") from None


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically (UTF-8)."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, readable, with a final newline; NaN is refused because JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def append_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows to a CSV file atomically; it is made, with its header, if it is not there."""
    text = io.StringIO(path.read_text(encoding="utf-8") if path.exists() else "")
    new = not text.read(1)
    text.seek(0, io.SEEK_END)
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if new:
        writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def sweep(folder: Path) -> None:
    """Remove the temporary files that processes killed while writing left; call it only where nobody else writes."""
    for rest in folder.glob(".*.part"):
        if is_temporary(rest.name):
            rest.unlink(missing_ok=True)


def is_temporary(name: str) -> bool:
    """Whether a file of this name is what `atomic_write` leaves when its process is killed."""
    return _TEMPORARY.fullmatch(name) is not None


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power cut (not possible everywhere)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sorting key that puts slice2 before slice10; of names alike but for zeros (s1, s01) each has its place too."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(p), "") if p[0] in "0123456789" else (1, 0, p) for p in parts if p], name
