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

from unet.data import ctc, isbi
from unet.data.archive import unpack
from unet.data.catalogue import DataSet, Source
from unet.data.download import DEFAULT_LIMITS, Limits, OnBytes, Unavailable, download
from unet.data.manifest import find_manifest, verify, write_manifest
from unet.errors import DataError
from unet.files import reading, sync_folder, write_error
from unet.progress import Terminal

Say = Callable[[str], None]

_PART, _READY, _LOCK = ".part", ".ready", ".lock"
_CONNECTIONS = 8
_SPARE = "test"  # the challenge's test slices are not needed for training: better none than wrong ones
_DEPTH = 4  # folders below an archive's root in which the data set is looked for


def is_present(data_set: DataSet, folder: Path, *, jpeg: bool = True) -> bool:
    """Whether the folder holds the data set (not only its README) and no move into it is under way.

    Raises DataError when the folder may not be looked at.
    """
    with reading(folder):
        return not (folder / _READY).exists() and _holds(data_set, folder, jpeg)


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

    Its sources are tried in order. from_file: an archive or a folder to take it from instead of the network. jpeg: the
    lossy copies of the EM stack, which are never taken unasked. terminal: shows how much has been received.

    Raises Unavailable when no source has it (the message says what to do by hand), DataError for a file that is not the
    data set, RunError when it cannot be written.
    """
    folder = root / data_set.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder), _tidied(folder):
            _finish(folder)
            if _holds(data_set, folder, jpeg, only_jpeg=jpeg):
                wrong = verify(data_set, folder, jpeg=jpeg)
                if not wrong:
                    say(f"{folder}: already complete")
                    return folder
                say(f"{folder}: {len(wrong)} files missing or damaged, fetching them again ({wrong[0]})")
            if from_file is None:
                picked, note = _from_sources(data_set, folder, jpeg, say, limits, terminal or Terminal())
            else:
                picked = _from_file(data_set, folder, from_file, jpeg, say)
                note = f"{'lossy JPEG copies' if jpeg else 'files'} from {from_file}"
            _install(data_set, folder, picked, say)
            say(f"{folder}: complete ({note})")
    except OSError as error:
        raise write_error(folder, error) from error
    return folder


def _from_sources(
    data_set: DataSet, folder: Path, jpeg: bool, say: Say, limits: Limits, terminal: Terminal
) -> tuple[Path, str]:
    reasons = []
    for source in data_set.sources:
        if source.lossy != jpeg:
            continue
        say(f"{data_set.folder}: fetching from {source.name}")
        try:
            with _bar(data_set.folder, one_file=len(source.urls) == 1, terminal=terminal) as on_bytes:
                picked = _download(data_set, folder / _PART, source, limits, on_bytes, say)
            return picked, f"{source.note} from {source.name}"
        except Unavailable as error:
            reasons.append(f"{source.name}: {error.reason}")
    raise Unavailable(
        f"{data_set.folder} could not be downloaded ({'; '.join(reasons)}); get it on another machine from "
        f"{_by_hand(data_set, jpeg)} and run `unet data fetch {data_set.name} --from-file FILE_OR_FOLDER`",
        "; ".join(reasons),
    )


def _by_hand(data_set: DataSet, jpeg: bool) -> str:
    source = next(s for s in data_set.sources if s.lossy == jpeg)
    return source.urls[0][0] if len(source.urls) == 1 else source.name


def _download(data_set: DataSet, part: Path, source: Source, limits: Limits, on_bytes: OnBytes, say: Say) -> Path:
    """The folder below `part` that holds the data set as this source has it, checked."""
    tree = part / "tree"
    shutil.rmtree(tree, ignore_errors=True)
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
        return _picked(data_set, _locate(data_set, tree, source.lossy), part / "picked", source.lossy, say)
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
            with suppress(Unavailable) if place.startswith(_SPARE) else nullcontext():
                job.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _from_file(data_set: DataSet, folder: Path, given: Path, jpeg: bool, say: Say) -> Path:
    part = folder / _PART
    tree = part / "given"
    shutil.rmtree(tree, ignore_errors=True)
    if given.is_file():
        if not os.access(given, os.R_OK):
            raise DataError(f"{given}: may not be read; change its permissions")
        unpack(given, tree)
        base = _locate(data_set, tree, jpeg)
    elif given.is_dir():
        base = _locate(data_set, given, jpeg)
        if base.resolve() == folder.resolve():
            raise DataError(f"{given}: is the folder it would be copied to; name the folder it comes from")
    else:
        raise DataError(f"{given}: no such file or folder; check the path")
    return _picked(data_set, base, part / "picked", jpeg, say)


def _picked(data_set: DataSet, base: Path, target: Path, jpeg: bool, say: Say) -> Path:
    """A copy of the data set's own files in `target`, in their usual places, checked against the manifest."""
    shutil.rmtree(target, ignore_errors=True)
    for path, place in _places(data_set, base, jpeg):
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / place)
    wrong = verify(data_set, target, manifest=find_manifest(data_set, target.parents[1]), jpeg=jpeg)
    if data_set.kind == "isbi":
        spare = [w for w in wrong if w.startswith(_SPARE)]
        wrong = [w for w in wrong if not w.startswith(_SPARE)]
        if spare:
            say(f"{data_set.folder}: the source has no usable test volume ({spare[0]}); it is left out")
            shutil.rmtree(target / "test", ignore_errors=True)
            (target / "test-volume.tif").unlink(missing_ok=True)
    if wrong and not (data_set.kind == "ctc" and find_manifest(data_set, target.parents[1]) is None):
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise DataError(f"{base}: not the published {data_set.folder}: {'; '.join(wrong[:3])}{more}; fetch it again")
    return target


def _places(data_set: DataSet, base: Path, jpeg: bool) -> Iterator[tuple[Path, str]]:
    """Files of the data set below `base`, each with its place in the data set's folder."""
    if data_set.kind == "ctc":
        parts = [f"{s}{truth}" for s in ctc.sequences(base) for truth in ("", "_GT", "_ST")]
        for path in (p for part in parts for p in sorted((base / part).rglob("*")) if p.is_file()):
            yield path, path.relative_to(base).as_posix()
        return
    layout = isbi.find_layout(base, jpeg=jpeg)
    assert layout is not None, "located by the same rule"
    folders = ("jpeg/images", "jpeg/labels", "jpeg/test") if layout.lossy else ("train/image", "train/label", "test")
    for paths, folder in zip((layout.images, layout.labels, layout.test), folders, strict=True):
        for path in (p for p in paths if p.is_file()):
            yield path, path.name if path.suffix == ".tif" else f"{folder}/{path.name}"


def _locate(data_set: DataSet, tree: Path, jpeg: bool) -> Path:
    """The folder below `tree` that holds the data set; one of the data set's own name is preferred."""
    level, candidates = [tree], []
    for _ in range(_DEPTH + 1):
        candidates += [p for p in level if _holds(data_set, p, jpeg, only_jpeg=jpeg)]
        level = sorted(p for parent in level for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not candidates:
        raise DataError(f"{tree}: holds no {data_set.folder} ({data_set.title}); name its archive or folder")
    return next((p for p in candidates if p.name == data_set.folder), candidates[0])


def _holds(data_set: DataSet, folder: Path, jpeg: bool, *, only_jpeg: bool = False) -> bool:
    if data_set.kind == "isbi":
        lossless = not only_jpeg and isbi.find_layout(folder) is not None
        return lossless or (jpeg and isbi.find_layout(folder, jpeg=True) is not None)
    return all((folder / s).is_dir() and (folder / f"{s}_GT").is_dir() for s in ("01", "02"))


def _install(data_set: DataSet, folder: Path, picked: Path, say: Say) -> None:
    """Move the checked files into the folder."""
    _set_aside(data_set, folder, picked, say)
    if data_set.kind == "ctc" and find_manifest(data_set, folder) is None:
        write_manifest(picked)
    picked.rename(folder / _READY)
    sync_folder(folder)
    _finish(folder)
    shutil.rmtree(folder / _PART, ignore_errors=True)


def _set_aside(data_set: DataSet, folder: Path, picked: Path, say: Say) -> None:
    """Damaged TIFF stacks would be read before the PNG slices that replace them: rename them."""
    if data_set.kind == "isbi" and (picked / "train").is_dir():
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
def _tidied(folder: Path) -> Iterator[None]:
    """Leaves no empty working folders behind, whatever happened; pieces that can be resumed stay."""
    try:
        yield
    finally:
        for path in (folder / _PART / "picked", folder / _PART / "tree", folder / _PART / "given"):
            shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            (folder / _PART).rmdir()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Only one fetch at a time writes into the folder (where the system has file locks)."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (folder / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise DataError(f"{folder}: another fetch is writing here; wait until it ends") from None
        except OSError:
            pass  # the file system knows no locks
        yield


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
