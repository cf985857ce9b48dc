"""The one place where image files are read: TIFF, PNG, JPEG -> arrays N x C x H x W, or one clear `DataError`.

tifffile reads TIFFs (imagecodecs what is compressed in them): `series` says which pages of a file are its images. PNG
and JPEG are left to `png_jpeg`. A header is checked against the file's size before anything is allocated, because a
damaged or hostile one can declare any number of pixels.

Axes: N images of a stack, C channels, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from unet.data.images.foreign import advice, other_content, whereabouts
from unet.data.images.mapped import release, scratch_map
from unet.data.images.png_jpeg import MAX_RATIO, check_declared, picture_shape, read_picture
from unet.data.images.series import only_series, open_tiff, quiet_tifffile
from unet.errors import DataError, UserError, one_line
from unet.files import reading
from unet.signals import Interrupted

Pixels = NDArray[Any]

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
"""File types that `read_images` knows, in lower case."""

SMALLEST_SIDE_PX = 8
"""No microscope image is thinner; H x W x 2 without a word about its axes reads as H images of W x 2 px."""

# Compressions that reach no more than MAX_RATIO: none, LZW, JPEG, deflate by its two numbers, PackBits. Zstandard, the
# furthest of the others in use, stores 128 KiB of one value in 4 bytes.
_BOUNDED = (1, 5, 7, 8, 32946, 32773)
_JPEG = (6, 7, 33007)  # of the old kind, of the usual one, and a number of its own
_ZSTD_RATIO = 2**15
_HELD_BYTES = 16 * 2**20  # decoded at a time on the way into a scratch map


def read_images(
    path: Path,
    *,
    mmap: bool = False,
    palette_rgb: bool = False,
    indices: bool = False,
    scratch: Path | None = None,
) -> Pixels:
    """All images of a file as N x C x H x W in the type they are stored in.

    Pages of a TIFF and every axis that is neither a colour nor a channel axis count as N. Gray values are the stored
    ones (no display table is applied to a TIFF, neither a reversed one nor one of colours). Indexed colours of a PNG
    become gray values where all that occur are grays, else RGB; with `palette_rgb` always RGB; with `indices`, for
    label masks, they stay indices. An opacity is left out when it is the same everywhere.

    With `mmap` an uncompressed TIFF stored in one piece is returned as a read-only memory map, in the file's byte
    order. With `scratch` (a folder) any other TIFF is decoded strip by strip into a nameless file there and
    memory-mapped, as far as tifffile can decode it.

    Raises DataError (one line naming the file) when it is missing, unreadable, truncated or of an unknown kind.
    """
    suffix = _check_file(path)
    size = path.stat().st_size
    if suffix in (".tif", ".tiff"):
        return _read_tiff(path, size, mmap, scratch)
    return read_picture(path, palette_rgb=palette_rgb, indices=indices)[None]


def image_shape(path: Path, *, palette_rgb: bool = False) -> tuple[int, int, int, int]:
    """(N, C, H, W) of what `read_images` would return; of TIFFs only an opacity is decoded. DataError as there."""
    suffix = _check_file(path)
    if suffix in (".tif", ".tiff"):
        with _opened(path) as tif:
            series = only_series(path, tif)
            _check_declared(path, path.stat().st_size, series)
            hollow = np.broadcast_to(np.zeros((), series.dtype), series.shape)  # takes no memory
            n, c, h, w = _to_NCHW(path, hollow, series.axes).shape
            return n, c - _has_idle_opacity(series), h, w
    return 1, *picture_shape(path, palette_rgb=palette_rgb)


def stores_planes(path: Path) -> bool:
    """Whether an image file holds its channels one after the other, as a TIFF can, and not pixel by pixel.

    Raises DataError as `read_images`.
    """
    if _check_file(path) not in (".tif", ".tiff"):
        return False
    with _opened(path) as tif:
        axes = only_series(path, tif).axes
    return all(axes.index(a) < axes.index("Y") for a in "CS" if a in axes)


def _check_file(path: Path) -> str:
    """The lower-case suffix of an image file that exists; else DataError."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        how = advice(path) or f"use {', '.join(SUFFIXES)}"
        raise DataError(f"{path}: {suffix or 'no suffix'} is not an image type read here; {how}")
    with reading(path):
        if not path.is_file():
            raise DataError(f"{path}: no such file; {whereabouts(path) or 'check the path'}")
        with path.open("rb") as file:
            head = file.read(32)
    if suffix in (".tif", ".tiff") and head[:2] not in (b"II", b"MM"):
        raise DataError(f"{path}: not a TIFF file: {other_content(head)}")
    return suffix


def indexed_colours(path: Path) -> str:
    """What is said of a TIFF whose numbers stand for colours of a table, since they are read as gray values; empty: it
    has no table, or one of grays. DataError as `read_images`."""
    if _check_file(path) not in (".tif", ".tiff"):
        return ""
    with _opened(path) as tif:
        key = only_series(path, tif).keyframe
        table = key.colormap if key.photometric == tifffile.PHOTOMETRIC.PALETTE else None
    if table is None or (table == table[:1]).all():
        return ""
    return (
        "has a table of colours, and its indices are taken for gray values: right where the table is for display "
        "(of ImageJ); save a picture in indexed colours as RGB"
    )


def check_lossless(path: Path) -> None:
    """DataError when an image file is compressed as JPEG, by whatever name: the numbers of labels do not survive it."""
    if _check_file(path) in (".tif", ".tiff"):
        with _opened(path) as tif:
            lossy = only_series(path, tif).keyframe.compression in _JPEG
    else:
        with path.open("rb") as file:
            lossy = file.read(3) == b"\xff\xd8\xff"
    if lossy:
        raise DataError(f"{path}: JPEG alters label values; save labels as PNG or TIFF without it")


def read_gray(path: Path, *, mmap: bool = False) -> Pixels:
    """All images of a file with one channel (gray values or indices), N x H x W, in the type they are stored in.

    Raises DataError as `read_images`, and when there are more channels.
    """
    images = read_images(path, mmap=mmap, indices=True)
    if images.shape[1] != 1:
        raise DataError(f"{path}: has {images.shape[1]} channels where one is expected; export it as a gray image")
    return images[:, 0]


def _read_tiff(path: Path, size: int, mmap: bool, scratch: Path | None) -> Pixels:
    """The images of a file, without an opacity that says nothing."""
    with _opened(path) as tif:
        _check_page_list(path, tif)
        series = only_series(path, tif)
        _check_declared(path, size, series)
        for page in series.pages:
            _check_page(path, size, page)
        if mmap and series.dataoffset is not None:
            stored = np.dtype(tif.byteorder + series.dtype.char)  # series.dtype names the machine's own byte order
            pixels: Pixels = np.memmap(path, stored, "r", series.dataoffset, tuple(series.shape))
        elif scratch is not None and series.transform is None:
            pixels = _decode_into_map(series, scratch)
        else:
            pixels = series.asarray()
        images = _to_NCHW(path, pixels, series.axes)
        return images[:, :-1] if _has_idle_opacity(series) else images


def _has_idle_opacity(series: Any) -> bool:
    """Whether the last channel is an opacity that is the same everywhere; it is decoded strip by strip."""
    key, values = series.keyframe, set[float]()
    if key.extrasamples[-1:] not in ((1,), (2,)):  # associated, unassociated
        return False
    apart, last = key.planarconfig == 2, key.samplesperpixel - 1
    for page in series.pages:
        for (plane, *_), decoded in _segments(page, key):
            if apart and plane != last:
                continue
            opacity = decoded[..., -1]
            values |= {float(opacity.min()), float(opacity.max())}
            if len(values) > 1:
                return False
    return True


def _segments(page: Any, key: Any) -> Iterator[tuple[tuple[Any, ...], Pixels]]:
    """The strips or tiles of a page, without what reaches beyond its sides, and their places in its shape `shaped`."""
    for decoded, (plane, depth, top, left, _), shape in page.segments(maxworkers=1, buffersize=_HELD_BYTES):
        place = (plane, *(slice(a, a + n) for a, n in zip((depth, top, left), shape[:3], strict=True)))
        if decoded is None:  # a strip that was left out stands for its value of "no data"
            yield place, np.full((1, 1, 1, 1), key.nodata, key.dtype)
        else:
            yield place, decoded[: key.imagedepth - depth, : key.imagelength - top, : key.imagewidth - left]


def _decode_into_map(series: Any, folder: Path) -> Pixels:
    """Pixels of a series in its own shape, decoded one strip or tile at a time into a read-only map on disk."""
    key = series.keyframe
    pages = scratch_map(folder, (len(series.pages), *key.shaped), key.dtype)
    held = 0
    for number, page in enumerate(series.pages):
        for place, inside in _segments(page, key):
            pages[(number, *place)] = inside
            held += inside.nbytes
            if held > _HELD_BYTES:
                release(pages)
                held = 0
    release(pages)
    pages.setflags(write=False)
    return pages.reshape(series.shape)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file by tifffile; whatever fails inside becomes one DataError."""
    try:
        with quiet_tifffile(), open_tiff(path) as tif:
            yield tif
    except (UserError, Interrupted):
        raise
    except MemoryError:
        raise DataError(f"{path}: does not fit into memory; split the stack into smaller files") from None
    except Exception as error:  # whatever a parser may raise on damaged bytes
        raise DataError(f"{path}: not a readable TIFF ({one_line(error)}); fetch or export it again") from None


def _check_page_list(path: Path, tif: tifffile.TiffFile) -> None:
    """The list of pages must end with a 0; tifffile stops without a word where it points outside a truncated file."""
    pages, link = len(tif.pages), tif.pages.next_page_offset
    if link is not None:
        tif.filehandle.seek(link)
        if any(tif.filehandle.read(tif.tiff.offsetsize)):
            raise DataError(f"{path}: truncated after page {pages}; fetch or export it again")


def _check_declared(path: Path, size: int, series: Any) -> None:
    key = series.keyframe
    ratio = MAX_RATIO if key.compression in _BOUNDED else _ZSTD_RATIO
    check_declared(path, size, math.prod(series.shape) * key.bitspersample // 8, ratio)


def _check_page(path: Path, size: int, page: Any) -> None:
    """The strips or tiles of a page must be as many as its shape needs and lie inside the file."""
    if page is None:
        raise DataError(f"{path}: a page of the stack is missing; fetch or export it again")
    needed, offsets, counts = math.prod(page.keyframe.chunked), page.dataoffsets, page.databytecounts
    if len(offsets) != len(counts) or len(offsets) < needed or min(needed, *page.shape) < 1:
        raise DataError(
            f"{path}: page {page.index} has {len(offsets)} strip offsets and {len(counts)} lengths, "
            f"its shape {tuple(page.shape)} needs {needed}; fetch or export it again"
        )
    end = max((o + c for o, c in zip(offsets, counts, strict=True)), default=0)
    key = page.keyframe  # of the series: its pages share shape, type and compression
    plain = key.compression == 1 and key.bitspersample % 8 == 0
    if end > size or (plain and sum(counts) < key.nbytes):
        raise DataError(f"{path}: truncated (page {page.index} ends beyond the file's {size:,} bytes); fetch it again")


def _to_NCHW(path: Path, pixels: Pixels, axes: str) -> Pixels:
    if axes.count("Y") != 1 or axes.count("X") != 1:
        raise DataError(f"{path}: axes {axes} are no stack of images; save it as a plain TIFF stack")
    channel = [i for i, a in enumerate(axes) if a in "CS"]
    rows, columns = axes.index("Y"), axes.index("X")
    rest = [i for i in range(len(axes)) if i not in (*channel, rows, columns)]
    shape = pixels.shape
    moved = pixels.transpose(*rest, *channel, rows, columns)
    return moved.reshape(
        math.prod(shape[i] for i in rest), math.prod(shape[i] for i in channel), shape[rows], shape[columns]
    )
