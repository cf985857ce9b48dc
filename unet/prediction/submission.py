"""Submissions: predictions in the formats that the challenges take.

ISBI 2012: one float32 TIFF stack with the probability of cell of every test slice. Cell Tracking Challenge: a folder
NN_RES with one uint16 mask per frame, whose labels are tracks, and res_track.txt with a line "L B E P" per track:
label, first frame, last frame, label of the parent (0 = none).

Axes: N slices or frames, H rows, W columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet.errors import DataError
from unet.files import atomic_write, write_error, write_text
from unet.metrics.instance import overlaps
from unet.prediction.output import write_probabilities

MAX_TRACKS = 65535  # labels are 16-bit
TRACKS = "res_track.txt"
_MASK = re.compile(r"mask\d+\.tif")


class Track(NamedTuple):
    """One line of res_track.txt; the label is in every frame from `begin` to `end`, both included."""

    label: int
    begin: int
    end: int
    parent: int


def write_isbi(path: Path, probabilities_NHW: NDArray[np.float32]) -> Path:
    """Write the probabilities of cell of the test slices as one float32 TIFF stack, uncompressed.

    Raises DataError when they are no stack of finite values in [0, 1], RunError when the file cannot be written.
    """
    if probabilities_NHW.ndim != 3 or probabilities_NHW.size == 0 or probabilities_NHW.dtype.kind != "f":
        found = f"{probabilities_NHW.dtype} {probabilities_NHW.shape}"
        raise DataError(f"{path}: got {found}, expected the probability of cell as float32 N x H x W")
    low, high = probabilities_NHW.min(), probabilities_NHW.max()
    if not (low >= 0 and high <= 1):
        raise DataError(f"{path}: values lie in {low:g}..{high:g}, expected probabilities in [0, 1]")
    return write_probabilities(path, list(probabilities_NHW.astype(np.float32, copy=False)))


def write_ctc(folder: Path, instances: Sequence[NDArray[np.integer[Any]]], digits: int = 3) -> tuple[Track, ...]:
    """Write one sequence as mask000.tif .. (uint16, uncompressed) and res_track.txt in a folder; returns the tracks.

    folder: e.g. 01_RES; masks of an earlier, longer result in it are removed. instances: H x W of every frame from
    frame 0 on, in order; they are linked by `link`. digits: of the frame numbers, as the images' names have them; more
    where the last number needs more. res_track.txt is written last.

    Raises DataError when no frame holds an object, frames differ in shape or there are more than 65535 tracks, RunError
    when something cannot be written.
    """
    masks, tracks = link(instances)
    if not tracks:
        raise DataError(f"{folder}: no frame holds an object, which the challenge refuses; lower the threshold")
    digits = max(digits, len(str(len(masks) - 1)))
    names = [f"mask{i:0{digits}}.tif" for i in range(len(masks))]
    try:
        (folder / TRACKS).unlink(missing_ok=True)  # without it, a folder half written cannot pass for a result
        for path in list(folder.iterdir()) if folder.is_dir() else []:
            if _MASK.fullmatch(path.name) and path.name not in names:
                path.unlink()
    except OSError as error:
        raise write_error(folder, error) from error
    for name, mask in zip(names, masks, strict=True):
        _write_mask(folder / name, mask)
    write_text(folder / TRACKS, "".join(" ".join(map(str, track)) + "\n" for track in tracks))
    return tracks


def link(instances: Sequence[NDArray[np.integer[Any]]]) -> tuple[list[NDArray[np.uint16]], tuple[Track, ...]]:
    """Masks whose labels are tracks 1.., and the tracks.

    Objects of consecutive frames are linked one to one, the pair that shares most pixels first (of equals the lower
    labels); an object that is linked to nothing in the frame before begins a track. Parents are not guessed (0).

    Raises DataError for frames of unequal shape or more than 65535 tracks.
    """
    if len({mask.shape for mask in instances}) > 1:
        raise DataError(f"frames have the shapes {sorted({m.shape for m in instances})}; a sequence has one shape")
    masks: list[NDArray[np.uint16]] = []
    spans: list[list[int]] = []  # first and last frame of track 1, 2, ..
    before: NDArray[np.uint16] | None = None
    for frame, mask in enumerate(instances):
        ids = np.unique(mask[mask != 0])
        continued = {} if before is None else _links(before, mask)
        tracks = np.zeros(len(ids), np.int64)
        for i, label in enumerate(ids.tolist()):
            if label not in continued:
                spans.append([frame, frame])
            tracks[i] = continued.get(label, len(spans))
            spans[tracks[i] - 1][1] = frame
        if len(spans) > MAX_TRACKS:
            raise DataError(f"more than {MAX_TRACKS} tracks up to frame {frame}; raise the minimal area of an object")
        before = np.zeros(mask.shape, np.uint16)
        before[mask != 0] = tracks[np.searchsorted(ids, mask[mask != 0])]
        masks.append(before)
    return masks, tuple(Track(i, begin, end, 0) for i, (begin, end) in enumerate(spans, start=1))


def _links(before: NDArray[np.uint16], mask: NDArray[np.integer[Any]]) -> dict[int, int]:
    """Track of each label of the mask that continues one of the frame before."""
    o = overlaps(before, mask)
    pairs = zip(o.reference_ids[o.pairs[:, 0]].tolist(), o.result_ids[o.pairs[:, 1]].tolist(), strict=True)
    ranked = sorted(zip((-o.shared).tolist(), pairs, strict=True))
    continued: dict[int, int] = {}
    taken: set[int] = set()
    for _, (track, label) in ranked:
        if track not in taken and label not in continued:
            continued[label] = track
            taken.add(track)
    return continued


def _write_mask(path: Path, mask: NDArray[np.uint16]) -> None:
    import tifffile

    with atomic_write(path) as file:
        tifffile.imwrite(file, mask, photometric="minisblack", metadata=None)
