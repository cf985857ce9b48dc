"""The lock of a run folder: one process at a time trains or scores there.

It is a lock of the system on the file .lock, which dies with the process however that ends.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from unet.errors import RunError, one_line
from unet.files import write_error


def _of_the_system() -> Any:
    """The module of the system's locks on open files; None on Windows."""
    try:
        import fcntl
    except ImportError:
        return None
    return fcntl


fcntl = _of_the_system()
LOCK = ".lock"


@contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold the run folder for this process; the lock dies with its owner.

    RunError when another process holds it, when another `run_lock` of this one does, or when its file system cannot
    lock.
    """
    descriptor = _known(path)
    if descriptor is None or descriptor not in _resting:
        descriptor = _take(path)
    _resting.discard(descriptor)
    try:
        yield
    finally:
        if _keepers:
            _resting.add(descriptor)
        else:
            _release(descriptor)


@contextmanager
def reentrant_run_lock(path: Path) -> Iterator[None]:
    """`run_lock`, or nothing more when this process holds the run folder already."""
    descriptor = _known(path)
    if descriptor is not None and descriptor not in _resting:
        yield
        return
    with run_lock(path):
        yield


@contextmanager
def keep_run_locks() -> Iterator[None]:
    """Run folders that are locked within this block stay so to its end: no other process comes between two steps."""
    _keepers.append(None)
    try:
        yield
    finally:
        _keepers.pop()
        for descriptor in [] if _keepers else list(_resting):
            _release(descriptor)


def lock(descriptor: int, path: Path) -> bool:
    """Lock an open file; False when somebody else has it locked. RunError, naming `path`, when it cannot be locked."""
    if fcntl is None:
        return _lock_beside(descriptor, path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES):
            return False
        reason = error.strerror or one_line(error)  # Lustre and some FUSE file systems know no locks
        raise RunError(
            f"{path}: its file system cannot lock files ({reason}); choose a folder on another file system"
        ) from None
    return True


def in_use(path: Path) -> bool:
    """Whether a process holds the run folder; asked without holding it oneself."""
    if fcntl is None:
        try:
            with FileLock(_beside(path), blocking=False):
                return False
        except (Timeout, OSError):
            return True
    try:
        with (path / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def unlock(descriptor: int) -> None:
    """Undo `lock` before the file is closed, which does it where the system locks open files."""
    if guard := _guards.pop(descriptor, None):
        guard.release()


def _lock_beside(descriptor: int, path: Path) -> bool:
    """`lock` where the system locks no open files: filelock's lock on a file beside."""
    guard = FileLock(_beside(path), blocking=False)
    try:
        guard.acquire()
    except Timeout:
        return False
    except OSError as error:
        raise RunError(
            f"{path}: cannot be locked ({error.strerror or one_line(error)}); choose another folder"
        ) from None
    _guards[descriptor] = guard
    return True


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


_guards: dict[int, FileLock] = {}  # of filelock, by the descriptors that they stand for
_held: dict[int, tuple[int, int]] = {}  # descriptors of the locks that this process has, and the files they are of
_resting: set[int] = set()  # those of them whose block has ended within one of `keep_run_locks`
_keepers: list[None] = []  # an entry for every block of `keep_run_locks`


def _known(path: Path) -> int | None:
    """Descriptor of the run folder's lock, whatever the path to it; None when this process does not have it."""
    try:
        file = _file((path / LOCK).stat())
    except OSError:
        return None
    return next((descriptor for descriptor, known in _held.items() if known == file), None)


def _file(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino


def _take(path: Path) -> int:
    """Descriptor of the run folder's lock, now that of this process."""
    try:
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    except OSError as error:
        raise write_error(path / LOCK, error) from error
    try:
        if not lock(descriptor, path):
            owner = os.read(descriptor, 32).decode(errors="replace").strip()
            named = owner if owner.isprintable() and owner else "unknown"
            raise RunError(f"{path} is in use by another process (pid {named}); wait for it or stop it")
        _held[descriptor] = _file(os.fstat(descriptor))
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
    except BaseException as error:
        _release(descriptor)
        if isinstance(error, OSError):
            raise write_error(path / LOCK, error) from error
        raise
    return descriptor


def _release(descriptor: int) -> None:
    _held.pop(descriptor, None)
    _resting.discard(descriptor)
    unlock(descriptor)
    with suppress(OSError):
        os.close(descriptor)


def _let_go() -> None:
    """A forked process that cuts tiles would keep the lock of a killed trainer for as long as it takes to notice."""
    for descriptor in list(_held):
        _release(descriptor)


if hasattr(os, "register_at_fork"):  # no fork on Windows
    os.register_at_fork(after_in_child=_let_go)
