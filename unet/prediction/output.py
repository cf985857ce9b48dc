"""Writing probability maps: float32 TIFF stacks that ImageJ opens, whole or through a memory map.

Axes: N images, K maps (one per class that is written), H rows, W columns.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from unet.data.images.calibration import Calibration
from unet.data.images.mapped import reserve
from unet.files import atomic_write, write_error

CLASSIC_BYTES = 2**32 - 2**20  # offsets of a TIFF are 32-bit; beyond, BigTIFF

_HEADER_BYTES = 4096  # and as much per page is more than the file takes beside its pixels


def foreground(probabilities_KHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is handed on as "the" probability: of the one foreground class, or, with several, all classes K x H x W."""
    return probabilities_KHW[1] if probabilities_KHW.shape[0] == 2 else probabilities_KHW


def maps_written(classes: int) -> int:
    """How many maps `foreground` leaves of a network's classes."""
    return 1 if classes == 2 else classes


def write_probabilities(path: Path, maps: list[NDArray[np.float32]]) -> Path:
    """Write maps (each H x W, or K x H x W) as one float32 TIFF stack; maps of unequal size as one file each.

    Axes as ImageJ names them: ZYX, or ZCYX with several classes. Returns the file, or the folder of the files.
    """
    if len({m.shape for m in maps}) == 1:
        _write(path, np.stack(maps))
        return path
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for number, single in enumerate(maps):
        _write(folder / f"{number:04d}.tif", single[None])
    return folder


def _write(path: Path, stack: NDArray[np.float32]) -> None:
    import tifffile

    metadata: dict[str, Any] = {"axes": "ZYX" if stack.ndim == 3 else "ZCYX", "unit": "pixel"}
    with atomic_write(path) as file:
        pixels = stack.astype(np.float32, copy=False)
        tifffile.imwrite(file, pixels, imagej=True, photometric="minisblack", metadata=metadata)


def map_bytes(shape_NKHW: tuple[int, int, int, int], dtype: DTypeLike) -> int:
    """Size of the file that `create_map` makes, to within a few kilobytes per page (never less than it is)."""
    pages = shape_NKHW[0] * shape_NKHW[1]
    return math.prod(shape_NKHW) * np.dtype(dtype).itemsize + (1 + pages) * _HEADER_BYTES


def create_map(
    path: Path,
    shape_NKHW: tuple[int, int, int, int],
    dtype: DTypeLike,
    calibration: Calibration,
    highest: float,
    software: str,
) -> None:
    """Make a TIFF of zeros whose disk space is reserved and whose pixels lie in one piece, to be filled by `open_map`.

    The axes of the input's stack (T, Z) and its pixel sizes are kept; C holds the maps where there are several. Below
    4 GB it is an ImageJ hyperstack shown from 0 to `highest`, above a BigTIFF with OME-XML, as are types that ImageJ
    does not know. `software` goes into the tag of this name. RunError when the disk is full or the folder cannot be
    written to.
    """
    import tifffile

    shape, axes = _layout(shape_NKHW, calibration)
    options: dict[str, Any] = {"resolutionunit": calibration.resolution_unit, "resolution": calibration.resolution}
    small = map_bytes(shape_NKHW, dtype) < CLASSIC_BYTES
    known = np.dtype(dtype).name in ("uint8", "uint16", "float32")  # to ImageJ
    if small and known and shape_NKHW[3] > 1:  # tifffile takes the last axis of such a stack, 1 px wide, for channels
        shown = {"min": 0.0, "max": highest, "unit": "pixel"} | calibration.imagej
        options |= {"imagej": True, "metadata": {"axes": axes} | shown}
    else:
        options |= {"ome": True, "bigtiff": not small, "metadata": {"axes": axes} | calibration.ome()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.memmap(path, shape=shape, dtype=dtype, photometric="minisblack", software=software, **options)
        with path.open("r+b") as file:
            reserve(file.fileno(), path.stat().st_size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise write_error(path, error) from error


def open_map(path: Path, shape_NKHW: tuple[int, int, int, int]) -> np.memmap[Any, Any]:
    """The pixels of a file made by `create_map`, N x K x H x W, writable; ValueError when they are not that many."""
    import tifffile

    return cast("np.memmap[Any, Any]", tifffile.memmap(path, mode="r+").reshape(shape_NKHW))


def software_of(path: Path) -> str:
    """What the tag Software of a TIFF says; empty when it cannot be read."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            return str(tif.pages.first.tags.valueof("Software", ""))
    except (OSError, tifffile.TiffFileError, ValueError, IndexError):
        return ""


def _layout(shape_NKHW: tuple[int, int, int, int], calibration: Calibration) -> tuple[tuple[int, ...], str]:
    """Shape of the file without axes of length 1, and the names of its axes."""
    images, maps, height, width = shape_NKHW
    lengths, axes = calibration.lengths, calibration.axes
    if math.prod(lengths) != images or len(axes) != len(lengths):
        lengths, axes = (images,), "Z"
    if images == 1:
        lengths, axes = (), ""
    if maps > 1:
        lengths, axes = (*lengths, maps), axes + "C"
    return (*lengths, height, width), axes + "YX"
