"""Arrays that live in files: reserved space, scratch maps, and memory that stays flat while they are passed through.

A memory map counts as the process's memory as far as its pages have been touched; a file written through one that runs
out of disk kills the process with a bus error instead of an exception. Both are taken care of here.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from unet.files import write_error

_ZEROS = bytes(2**20)
_SLAB_BYTES = 8 * 2**20
_BLOCK_PIXELS = 2**20


def blocks(plane_HW: NDArray[Any], check: Callable[[], None] | None = None) -> Iterator[NDArray[Any]]:
    """All of an image in blocks of about a million pixels; pages of a memory map do not pile up.

    `check` is called before each block; what it raises ends the pass.
    """
    height, width = plane_HW.shape
    columns = min(width, _BLOCK_PIXELS)
    rows = max(1, _BLOCK_PIXELS // columns)
    for y in range(0, height, rows):
        for x in range(0, width, columns):
            if check is not None:
                check()
            yield plane_HW[y : y + rows, x : x + columns]
            release(plane_HW)


def release(array: object) -> None:
    """Take the touched pages of a memory map (or of any view of one) out of the process's memory; nothing is lost.

    Changed pages stay with the operating system, which writes them to the file; the next access maps them again. Any
    other array is left alone.
    """
    while isinstance(array, np.ndarray) and array.base is not None:
        array = array.base
    if isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)


def slabs(array: NDArray[Any], rows: slice) -> Iterator[slice]:
    """`rows` of an array ... x H x W in parts that span 8 MiB of its file at most, each released when it has been used.

    The system maps more than what is touched: around a window of a wide image, whole rows of it. Rows that span less
    are one part that is left mapped, because the next window beside it will touch the same pages.
    """
    step = max(1, _SLAB_BYTES // max(1, abs(array.strides[-2])))
    for start in range(rows.start, rows.stop, step):
        yield slice(start, min(start + step, rows.stop))
        if step < rows.stop - rows.start:
            release(array)


def reserve(descriptor: int, size: int) -> None:
    """Give a file `size` bytes of disk now, so that writing through a memory map cannot run out of it later.

    OSError (no space left, quota, file too large) when the disk cannot hold them.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    end = os.lseek(descriptor, 0, os.SEEK_END)  # where there is no such call: write what is missing
    while end < size:
        end += os.write(descriptor, _ZEROS[: size - end])


def scratch_map(folder: Path, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """A writable array of zeros on disk in `folder`, in a file without a name that vanishes with the array.

    RunError when the folder cannot be written to or the disk is full.
    """
    size = max(1, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            reserve(file.fileno(), size)
            pixels: NDArray[Any] = np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        raise write_error(folder, error) from error
    return pixels
