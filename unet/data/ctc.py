"""Reader of the Cell Tracking Challenge's two-dimensional sets, in the layout the challenge publishes.

    01/tNNN.tif                      images of sequence 01 (02 likewise)
    01_GT/SEG/man_segNNN.tif         gold truth: instance masks drawn by people, of some frames, some of them partial
    01_ST/SEG/man_segNNN.tif         silver truth: instance masks agreed on by programs, of every frame

Maska et al. 2023, doi:10.1038/s41592-023-01879-y; Ulman et al. 2017, doi:10.1038/nmeth.4473.

Axes: H rows, W columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from unet.data.images.tiff import Pixels, read_gray
from unet.data.masks import CELLS, Target, outside, unannotated
from unet.data.stack import Frame, InstanceImage, Normalisation, Stack
from unet.errors import DataError
from unet.files import reading

_SEQUENCE = re.compile(r"\d\d")
_IMAGE = re.compile(r"t(\d+)\.tiff?")
_MASK = re.compile(r"man_seg(\d+)\.tiff?")
_MARKERS = re.compile(r"man_track(\d+)\.tiff?")


def read(
    root: Path,
    name: str = "ctc",
    *,
    labels: Literal["gold", "silver"] = "gold",
    target: Target = CELLS,
    foi_px: int = 0,
    normalise: Normalisation | None = None,
    on_frame: Callable[[int, int], None] = lambda _done, _total: None,
) -> Stack:
    """Every frame of every sequence as "01/t067"; frames without the truth asked for stay in the stack unlabelled.

    root: the folder with 01, 01_GT, ... target: what is made of the masks: `label` and `instances` (which the weight
    map uses; numbers stay those of the mask). foi_px: width of the border outside the challenge's field of interest;
    objects wholly in it were not annotated, so background there is IGNORE. normalise: default gray value / 255. With
    gold labels, cells that only the silver truth of the frame knows are IGNORE: they were not annotated. on_frame is
    told how many frames of how many are read.

    Raises DataError when files are missing, damaged or of unequal shape.
    """
    normalise = normalise or Normalisation("fixed", 0.0, 255.0)
    frames: list[Frame] = []
    partial = 0
    total = sum(len(_numbered(root / sequence, _IMAGE)) for sequence in sequences(root))
    for sequence in sequences(root):
        references = _numbered(root / f"{sequence}_{'GT' if labels == 'gold' else 'ST'}" / "SEG", _MASK)
        silver = _numbered(root / f"{sequence}_ST" / "SEG", _MASK)
        for number, path in _numbered(root / sequence, _IMAGE).items():
            on_frame(len(frames), total)
            image = normalise(_one(path)[None])
            frame_name = f"{sequence}/{path.stem}"
            if number not in references:
                frames.append(Frame(frame_name, sequence, image))
                continue
            mask = read_mask(references[number], image.shape[1:])
            ignore = outside(mask.shape, foi_px) & (mask == 0)
            if labels == "gold" and number in silver:
                missing = unannotated(mask, read_mask(silver[number], image.shape[1:]))
                partial += bool(missing.any())
                ignore |= missing
            frames.append(Frame(frame_name, sequence, image, *target.of(mask, ignore)))
    known = sum(frame.label is not None for frame in frames)
    if not known:
        folder = "NN_GT/SEG" if labels == "gold" else "NN_ST/SEG"
        raise DataError(f"{root}: no {labels} masks in {folder}; fetch the set again")
    source = f"{root} ({labels} truth of {known} of {len(frames)} frames"
    source += f", {partial} of them partial: cells without annotation are ignored)" if partial else ")"
    return Stack(name, tuple(frames), target.class_names, normalise, source)


def gold_instances(root: Path, sequence: str) -> dict[str, InstanceImage]:
    """The gold masks of a sequence by frame name ("01/t067"), untouched: the reference of SEG. H x W int32 each.

    Raises DataError when the sequence has none or one is damaged.
    """
    masks = _numbered(root / f"{sequence}_GT" / "SEG", _MASK)
    images = _numbered(root / sequence, _IMAGE)
    if not masks:
        raise DataError(f"{root}: no gold masks in {sequence}_GT/SEG; fetch the set again")
    for number, path in masks.items():
        if number not in images:
            raise DataError(f"{path}: there is no image of this number in {root / sequence}; fetch the set again")
    return {f"{sequence}/{images[n].stem}": read_mask(path) for n, path in masks.items()}


def tracking_markers(root: Path, sequence: str) -> dict[str, InstanceImage]:
    """The tracking markers of a sequence by frame name, one per cell: the reference of DET. H x W int32 each.

    Empty when the sequence has none. DataError when one is damaged.
    """
    masks = _numbered(root / f"{sequence}_GT" / "TRA", _MARKERS)
    images = _numbered(root / sequence, _IMAGE)
    return {f"{sequence}/{images[n].stem}": read_mask(path) for n, path in masks.items() if n in images}


def read_mask(path: Path, size: tuple[int, ...] | None = None) -> InstanceImage:
    """An instance mask as H x W int32; `size` (H, W), where given, is required. Raises DataError."""
    mask = _one(path)
    if mask.dtype.kind not in "ui":
        raise DataError(f"{path}: pixels are {mask.dtype}, an instance mask has integers; fetch it again")
    if size is not None and mask.shape != tuple(size):
        raise DataError(f"{path}: has shape {mask.shape} but its image {tuple(size)}; fetch the set again")
    if int(mask.min()) < 0 or int(mask.max()) > np.iinfo(np.int32).max:
        raise DataError(f"{path}: object numbers {mask.min()}..{mask.max()} are out of range; fetch it again")
    return mask.astype(np.int32)


def sequences(root: Path) -> list[str]:
    """Names of the sequences ("01", "02", ...) that have images, in order. Raises DataError when there are none."""
    found = [p.name for p in _folders(root) if _SEQUENCE.fullmatch(p.name) and _numbered(p, _IMAGE)]
    if not found:
        raise DataError(f"{root}: no sequence folder such as 01 with images t000.tif; fetch the set again")
    return found


def _folders(root: Path) -> list[Path]:
    with reading(root):
        return sorted(p for p in root.iterdir() if p.is_dir())


def _numbered(folder: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    """Files of the folder by the number in their name, in its order; none when there is no such folder."""
    with reading(folder):
        found = [(pattern.fullmatch(p.name), p) for p in folder.iterdir()] if folder.is_dir() else []
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def _one(path: Path) -> Pixels:
    pixels = read_gray(path)
    if len(pixels) != 1:
        raise DataError(f"{path}: holds {len(pixels)} images where one is expected; fetch the set again")
    return np.asarray(pixels[0])
