"""Which pages of a TIFF are its images, and along which axes they lie.

A recording may lie in several files that each describe all of it: one OME-TIFF per time point, a Micro-Manager stack
cut at 4 GB. tifffile then goes on into the others; here every file is its own pages and nothing else. Where a file
tells which planes of the recording they are (OME-XML, Micro-Manager's indices), channels stay channels.

Axes: R positions, T time points, Z slices, C channels, H rows, W columns.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import tifffile

from unet.errors import DataError

Place = tuple[Any, ...]
"""Where a plane lies along R, T, Z, C; only the order of the numbers counts."""


class _Planes(NamedTuple):
    """The planes of a recording: how many channels it has, and the place of each page of this file that is known."""

    channels: int
    at: dict[int, Place]


def open_tiff(path: Path) -> tifffile.TiffFile:
    """The file alone: tifffile would go on into the other files of a recording."""
    return tifffile.TiffFile(path, _multifile=False, is_mmstack=False, is_ndtiff=False)


@contextmanager
def quiet_tifffile() -> Iterator[None]:
    """tifffile logs what it makes of damaged files; the user gets our one line instead."""
    logger = logging.getLogger("tifffile")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def only_series(path: Path, tif: tifffile.TiffFile) -> Any:
    """The images of a file as one tifffile series; DataError when it holds none, several or unfit ones."""
    recorded = _recorded(path, tif) if len(tif.pages) > 1 else None
    found = tif.series if recorded is None else [recorded]
    series = [s for s in found if s.size and not (s.keyframe.is_reduced or s.keyframe.is_mask)]
    if not series:
        raise DataError(f"{path}: holds no image; fetch or export it again")
    kinds = [f"{tuple(s.shape)} {s.dtype}" for s in series]
    other = next((kind for kind in kinds if kind != kinds[0]), None)
    if other is not None:
        raise DataError(f"{path}: its pages differ in shape or type: {kinds[0]}, {other}; save them as separate files")
    if len(series) > 1:
        raise DataError(f"{path}: holds {len(series)} series (positions or scenes); save them as separate files")
    if series[0].dtype is None or series[0].dtype.kind not in "buif":
        raise DataError(f"{path}: pixel type {series[0].dtype} is not supported; save it as 8-bit, 16-bit or float")
    return series[0]


def _recorded(path: Path, tif: tifffile.TiffFile) -> Any:
    """The pages in the order of the recording, as one series over R, T, Z and C; None where nothing is known of it.

    Raises DataError when there are channels, but not all of them of every image.
    """
    planes = _planes(tif)
    if planes is None:  # of most files; their pages are not read one by one
        return None
    pages = list(tif.pages)
    if len({page.hash for page in pages}) > 1:
        return None
    places = [planes.at[page.index] for page in pages if page.index in planes.at]
    lengths = [len(set(along)) for along in zip(*places, strict=True)]
    if len(places) < len(pages) and planes.channels < 2:
        return None
    whole = len(places) == len(pages) == len(set(places)) == math.prod(lengths)
    if not whole and (len(places) < len(pages) or lengths[-1] > 1):
        raise DataError(
            f"{path}: its {len(pages)} planes are no whole images of the recording's {planes.channels} channels; "
            "export the recording as one file"
        )
    axes, shape = ("RTZC", tuple(lengths)) if whole else ("I", (len(pages),))
    key, ordered = pages[0], sorted(pages, key=lambda page: planes.at[page.index])
    return tifffile.TiffPageSeries(ordered, (*shape, *key.shape), key.dtype, axes + key.axes)


def _planes(tif: tifffile.TiffFile) -> _Planes | None:
    """What the file tells about its planes, where tifffile alone would read beyond it or forget the channels."""
    if tif.is_micromanager and (planes := _of_index_map(tif) or _of_ndtiff_index(tif)):
        return planes
    if tif.is_ome and tif.series and tif.series[0].kind == "generic":  # a whole OME-TIFF is tifffile's kind "ome"
        return _of_ome(tif, tif.ome_metadata or "")
    return None


def _of_index_map(tif: tifffile.TiffFile) -> _Planes | None:
    """Micro-Manager's list at the end of each file: channel, slice, frame, position, offset of the page."""
    rows = tifffile.read_micromanager_metadata(tif.filehandle, {"IndexMap"}).get("IndexMap")
    if rows is None:
        return None
    at = {offset: (r, t, z, c) for c, z, t, r, offset in rows.tolist()}
    channels = len({place[-1] for place in at.values()})
    return _Planes(channels, {page.index: at[page.offset] for page in tif.pages if page.offset in at})


def _of_ndtiff_index(tif: tifffile.TiffFile) -> _Planes | None:
    """Micro-Manager's later list of the planes of all files, in a file of its own."""
    index = Path(tif.filehandle.dirname) / "NDTiff.index"
    if not index.is_file():
        return None
    numbers: dict[str, dict[Any, int]] = {}  # of names, as channels have: counted over all files, to be alike in each
    at = {}
    channels = set()
    for axes, name, offset, *_ in tifffile.read_ndtiff_index(index):
        for axis, value in axes.items():
            if isinstance(value, str):
                known = numbers.setdefault(axis, {})
                axes[axis] = known.setdefault(value, len(known))
        t, z, c = (axes.pop(axis, 0) for axis in ("time", "z", "channel"))
        channels.add(c)
        if name == tif.filename:
            at[offset] = (tuple(axes[axis] for axis in sorted(axes)), t, z, c)
    pages = {page.index: page.dataoffsets[0] for page in tif.pages if page.dataoffsets}
    return _Planes(len(channels), {number: at[offset] for number, offset in pages.items() if offset in at})


def _of_ome(tif: tifffile.TiffFile, xml: str) -> _Planes | None:
    """The planes that the OME-XML of one file of several gives to this file."""
    channels = 1
    at: dict[int, Place] = {}
    try:
        root = ElementTree.fromstring(xml)
        for r, pixels in enumerate(root.iterfind("{*}Image/{*}Pixels")):
            axes = pixels.attrib["DimensionOrder"][2:]  # the first one runs fastest
            channel = pixels.find("{*}Channel")
            samples = 1 if channel is None else int(channel.get("SamplesPerPixel", 1))
            sizes = [int(pixels.attrib[f"Size{axis}"]) // (samples if axis == "C" else 1) for axis in axes]
            channels = max(channels, sizes[axes.index("C")])
            for data in pixels.iterfind("{*}TiffData"):
                if _is_of(tif, root.get("UUID"), data.find("{*}UUID")):
                    at |= {page: (r, *place) for page, place in _of_tiff_data(data, axes, sizes, len(tif.pages))}
    except (ElementTree.ParseError, KeyError, ValueError, ArithmeticError):  # what makes no sense says nothing
        return _Planes(channels, {})
    return _Planes(channels, at)


def _of_tiff_data(
    data: ElementTree.Element, axes: str, sizes: list[int], pages: int
) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """The pages of one TiffData element and their places along T, Z, C; ValueError where they lie outside."""
    page = int(data.get("IFD", 0))
    count = int(data.get("PlaneCount", data.get("NumPlanes", 1 if "IFD" in data.attrib else pages)))
    if not 0 <= page <= page + count <= pages:
        raise ValueError("pages outside the file")
    first = int(np.ravel_multi_index([int(data.get(f"First{axis}", 0)) for axis in axes], sizes, order="F"))
    for step in range(count):
        along = dict(zip(axes, np.unravel_index(first + step, sizes, order="F"), strict=True))
        yield page + step, (int(along["T"]), int(along["Z"]), int(along["C"]))


def _is_of(tif: tifffile.TiffFile, own: str | None, uuid: ElementTree.Element | None) -> bool:
    """Whether a TiffData with this UUID element means this file: by UUID, by name, or because it names none."""
    if uuid is None:
        return True
    return uuid.text == own if own else uuid.get("FileName", "").lower() == tif.filename.lower()
