"""Fetching the published data sets: download or a file at hand -> checked -> moved into place at once.

Everything is gathered in `<folder>/.part`. Only when it is complete and checked does it become `<folder>/.ready`, whose
entries then move into the folder; while `.ready` exists the data set does not count as present and the next call ends
the move. So nothing half-written is ever read as complete.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from unet.data import isbi_labels
from unet.data.published import pick
from unet.data.published.archive import unpack
from unet.data.published.download import DEFAULT_LIMITS, Limits, OnBytes, Unavailable, download
from unet.data.published.manifest import find_manifest, verify, write_manifest
from unet.datasets import DataSet, Source
from unet.errors import DataError
from unet.files import reading, sync_folder, write_error
from unet.terminal import Terminal

Say = Callable[[str], None]

_PART, _READY, _LOCK = ".part", ".ready", ".lock"
_CONNECTIONS = 8


def is_present(data_set: DataSet, folder: Path) -> bool:
    """Whether the folder holds the data set (not only its README) and no move into it is under way.

    Raises DataError when the folder may not be looked at.
    """
    with reading(folder):
        return not (folder / _READY).exists() and pick.holds(data_set, folder, jpeg=True)


def fetch(
    data_set: DataSet,
    root: Path,
    *,
    from_file: Path | None = None,
    jpeg: bool = False,
    say: Say = print,
    limits: Limits = DEFAULT_LIMITS,
    terminal: Terminal | None = None,
) -> Path:
    """Put the data set into `root/<its folder>` and return that folder; nothing is done when it is there and intact.

    Where only the labels of the EM challenge's test slices lack, they are taken with the archive if it can be had. Its
    sources are tried in order. from_file: an archive or a folder to take it from instead of the network. jpeg: the
    lossy copies of the EM stack, which are never taken unasked. terminal: shows how much has been received.

    Raises Unavailable when no source has it (the message says what to do by hand), DataError for a file that is not the
    data set, RunError when it cannot be written.
    """
    folder = root / data_set.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _working(folder):
            _finish(folder)
            lacking = _lacking(data_set, folder, jpeg, say)
            sources = [s for s in data_set.sources if s.lossy == jpeg]
            if lacking == "labels":  # which only the archive holds
                sources = [s for s in sources if len(s.urls) == 1]
            if not lacking or (lacking == "labels" and from_file is None and not sources):
                say(f"{folder}: already complete")
                return folder
            try:
                if from_file is None:
                    picked, note = _from_sources(data_set, folder, sources, say, limits, terminal or Terminal())
                else:
                    picked = _from_file(data_set, folder, from_file, jpeg, say)
                    note = f"{'lossy JPEG copies' if jpeg else 'files'} from {from_file}"
            except Unavailable as error:
                if lacking == "all":
                    raise
                say(f"{folder}: already complete, but for the labels of the test slices ({error.reason})")
                return folder
            _install(data_set, folder, picked, say)
            say(f"{folder}: complete ({note})")
    except OSError as error:
        raise write_error(folder, error) from error
    return folder


def _lacking(data_set: DataSet, folder: Path, jpeg: bool, say: Say) -> Literal["", "labels", "all"]:
    """What has to be fetched: nothing, the labels of the EM challenge's test slices, or the data set."""
    if not pick.holds(data_set, folder, jpeg, only_jpeg=jpeg):
        return "all"
    wrong = verify(data_set, folder, jpeg=jpeg)
    if wrong:
        say(f"{folder}: {len(wrong)} files missing or damaged, fetching them again ({wrong[0]})")
    if not all(w.startswith(isbi_labels.NAME) for w in wrong):
        return "all"
    without = data_set.reader == "isbi" and not jpeg and not (folder / isbi_labels.NAME).is_file()
    return "labels" if wrong or without else ""


def _from_sources(
    data_set: DataSet, folder: Path, sources: list[Source], say: Say, limits: Limits, terminal: Terminal
) -> tuple[Path, str]:
    reasons = []
    for source in sources:
        say(f"{data_set.folder}: fetching from {source.name}")
        try:
            with _bar(data_set.folder, one_file=len(source.urls) == 1, terminal=terminal) as on_bytes:
                picked = _download(data_set, folder / _PART, source, limits, on_bytes, say)
            return picked, f"{source.note} from {source.name}"
        except Unavailable as error:
            reasons.append(f"{source.name}: {error.reason}")
    raise Unavailable(
        f"{data_set.folder} could not be downloaded ({'; '.join(reasons)}); get it on another machine from "
        f"{_by_hand(sources)} and run `unet data fetch {data_set.name} --from-file FILE_OR_FOLDER`",
        "; ".join(reasons),
    )


def _by_hand(sources: list[Source]) -> str:
    source = sources[0]
    return source.urls[0][0] if len(source.urls) == 1 else source.name


def _download(data_set: DataSet, part: Path, source: Source, limits: Limits, on_bytes: OnBytes, say: Say) -> Path:
    """The folder below `part` that holds the data set as this source has it, checked."""
    tree = part / "tree"
    shutil.rmtree(part, ignore_errors=True)  # what a killed fetch or another source left
    for url in (url for url, place in source.urls if not place):
        archive = part / url.rsplit("/", 1)[-1]
        download(url, archive, sha256=source.sha256, limits=limits, on_bytes=on_bytes)
        try:
            unpack(archive, tree)
        except DataError as error:
            raise Unavailable(str(error), "damaged archive") from None
        finally:
            archive.unlink()
    _download_loose([(url, tree, place) for url, place in source.urls if place], limits, on_bytes)
    try:
        return pick.picked(data_set, pick.locate(data_set, tree, source.lossy), part / "picked", source.lossy, say)
    except DataError as error:
        raise Unavailable(str(error), "wrong content") from None


def _download_loose(files: list[tuple[str, Path, str]], limits: Limits, on_bytes: OnBytes) -> None:
    """Many small files, several at a time once the first one has shown that the server answers."""
    pool = ThreadPoolExecutor(_CONNECTIONS)
    try:
        for url, tree, place in files[:1]:
            download(url, tree / place, limits=limits, on_bytes=on_bytes)
        later = partial(download, limits=limits, on_bytes=on_bytes, reached=True)
        for job, place in [(pool.submit(later, url, tree / place), place) for url, tree, place in files[1:]]:
            with suppress(Unavailable) if place.startswith(pick.SPARE) else nullcontext():
                job.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _from_file(data_set: DataSet, folder: Path, given: Path, jpeg: bool, say: Say) -> Path:
    part = folder / _PART
    tree = part / "given"
    shutil.rmtree(part, ignore_errors=True)
    if given.is_file():
        if not os.access(given, os.R_OK):
            raise DataError(f"{given}: may not be read; change its permissions")
        unpack(given, tree)
        base = pick.locate(data_set, tree, jpeg)
    elif given.is_dir():
        base = pick.locate(data_set, given, jpeg)
        if base.resolve() == folder.resolve():
            raise DataError(f"{given}: is the folder it would be copied to; name the folder it comes from")
    else:
        raise DataError(f"{given}: no such file or folder; check the path")
    return pick.picked(data_set, base, part / "picked", jpeg, say)


def _install(data_set: DataSet, folder: Path, picked: Path, say: Say) -> None:
    """Move the checked files into the folder."""
    _set_aside(data_set, folder, picked, say)
    if data_set.reader != "isbi" and find_manifest(data_set, folder) is None:
        write_manifest(picked)
    picked.rename(folder / _READY)
    sync_folder(folder)
    _finish(folder)


def _set_aside(data_set: DataSet, folder: Path, picked: Path, say: Say) -> None:
    """Damaged TIFF stacks would be read before the PNG slices that replace them: rename them."""
    if data_set.reader == "isbi" and (picked / "train").is_dir():
        for path in folder.glob("*.tif"):
            path.rename(path.with_name(path.name + ".damaged"))
            say(f"{path}: damaged, renamed to {path.name}.damaged")


def _finish(folder: Path) -> None:
    """End a move that was begun: every entry of .ready takes its place."""
    ready = folder / _READY
    if not ready.is_dir():
        return
    for entry in sorted(ready.iterdir()):
        place = folder / entry.name
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        entry.replace(place)
    ready.rmdir()
    sync_folder(folder)


@contextmanager
def _working(folder: Path) -> Iterator[None]:
    """Only one fetch at a time writes into the folder; what it gathered beside the data does not outlast it."""
    try:
        with FileLock(folder / _LOCK, timeout=0):
            try:
                yield
            finally:
                shutil.rmtree(folder / _PART, ignore_errors=True)
    except Timeout:
        why = "another fetch is writing here, or its file system has no locks"
        raise DataError(f"{folder}: {why}; wait until it ends, or name another folder with --root") from None


@contextmanager
def _bar(what: str, one_file: bool, terminal: Terminal) -> Iterator[OnBytes]:
    """Progress of the megabytes received; how many there will be is known where it is one file."""
    received, lock = 0, threading.Lock()
    with terminal.bar(f"{what}, MB") as bar:

        def on_bytes(count: int, total: int | None) -> None:
            nonlocal received
            with lock:  # several files at a time
                received += count
                bar.update(received // 1_000_000, total=(total or 0) // 1_000_000 if one_file else 0)

        yield on_bytes
