"""Unpacking zip archives that are not trusted: nothing outside the target, no links, bounded size."""

from __future__ import annotations

import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from unet.errors import DataError, one_line
from unet.files import write_error

MAX_BYTES = 8 * 2**30
MAX_ENTRIES = 100_000

_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error, RuntimeError, ValueError,
            OverflowError, MemoryError)  # fmt: skip

_Open = Callable[[], IO[bytes]]
_SKIPPED = ("__MACOSX", ".DS_Store", "Thumbs.db")


def unpack(archive: Path, target: Path, *, max_bytes: int = MAX_BYTES, max_entries: int = MAX_ENTRIES) -> None:
    """Unpack a zip archive into the folder `target`, which must be empty or absent.

    Raises DataError, and leaves what was written so far, for an entry that would lie outside the target, a link or a
    device, a name that occurs twice, more than max_bytes of content (counted while unpacking, whatever the headers say)
    or max_entries, an encrypted or damaged archive; RunError when the disk is full.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise DataError(f"{target}: not empty; choose an empty folder to unpack into")
        if not zipfile.is_zipfile(archive):
            raise DataError(f"{archive}: no zip archive; fetch it again, or unpack it and name the folder")
        with closing(_entries(archive)) as entries:
            _write(archive, entries, target, max_bytes, max_entries)
    except _DAMAGED as error:
        raise DataError(f"{archive}: damaged archive ({one_line(error)}); fetch it again") from None
    except OSError as error:
        raise write_error(target, error) from error


def _write(
    archive: Path, entries: Generator[tuple[str, _Open | None]], target: Path, max_bytes: int, max_entries: int
) -> None:
    seen: set[str] = set()
    written = 0
    for count, (name, open_entry) in enumerate(entries, start=1):
        if count > max_entries:
            raise DataError(f"{archive}: more than {max_entries:,} entries; this is not the published archive")
        inside = _inside(archive, name)
        if open_entry is None or any(part in _SKIPPED for part in inside.parts):
            continue
        if str(inside).lower() in seen:
            raise DataError(f"{archive}: holds {name!r} twice; this is not the published archive")
        seen.add(str(inside).lower())
        path = target / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_entry() as content, path.open("xb") as file:
            while piece := content.read(1 << 20):
                written += len(piece)
                if written > max_bytes:
                    raise DataError(f"{archive}: unpacks to more than {max_bytes:,} bytes; not the published archive")
                file.write(piece)


def _inside(archive: Path, name: str) -> PurePosixPath:
    """The entry's path, checked to stay below the target on every system."""
    path = PurePosixPath(name)
    bad = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name
    if bad or not name.isprintable() or not path.parts:
        raise DataError(f"{archive}: entry {name!r} would lie outside the folder; this is not the published archive")
    return path


def _entries(archive: Path) -> Generator[tuple[str, _Open | None]]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise DataError(f"{archive}: entry {info.filename!r} is a link or device; not the published archive")
            if info.flag_bits & 1:
                raise DataError(f"{archive}: entry {info.filename!r} is encrypted; not the published archive")
            folder = info.filename.endswith("/")  # is_dir() fails for an entry without a name
            # orig_filename: ZipFile rewrites separators and cuts names at NUL
            yield info.orig_filename, None if folder else partial(file.open, info)
