"""A prediction somebody else made and its labels: which file belongs to which, and the pixels of both.

Two files, or two folders whose files have the same names; what `unet predict` puts behind a name (-probabilities,
-masks, -classes) and what is usual behind that of a label (_mask, ...) does not count, and the masks of the Cell
Tracking Challenge (mask000, man_seg000) go by their numbers.

Axes: N images of a file, C maps, H rows, W columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unet.data.images.tiff import Pixels, check_lossless, read_images, stores_planes
from unet.data.label_kind import LabelKind
from unet.data.label_map import packed
from unet.data.names import ENDINGS, LABELS, list_images, nearest_name, nothing_in, one_of_each, partner
from unet.data.pairs import Found, Pair, channel_axis, colour_label, is_channel_axis
from unet.errors import DataError, Problems
from unet.evaluation.strangers import below_0
from unet.files import natural_key, reading

_WRITTEN = re.compile(r"-(probabilities|masks|classes|overlay(?:-\d{4})?)$")  # by unet predict, behind the name
_NUMBERED = re.compile(r"(?:man_seg|man_track|mask)(\d+)$")  # of the Cell Tracking Challenge
_PREFERRED = {"instances": ("masks", "", "probabilities"), "pixels": ("probabilities", "", "classes")}


@dataclass(frozen=True)
class Files:
    """A label file and what was predicted for it, by the ending of its name ("" for none)."""

    key: str
    labels: Path
    predicted: dict[str, Path]

    def prediction(self, kind: LabelKind) -> Path:
        """The file that fits labels of a kind best: masks for instances, else probabilities, else class numbers."""
        order = _PREFERRED["instances" if kind == "instances" else "pixels"]
        return next((self.predicted[e] for e in order if e in self.predicted), next(iter(self.predicted.values())))


def pair_files(prediction: Path, labels: Path) -> tuple[list[Files], list[str]]:
    """The files in natural order, and lines about predictions without a label (which is allowed).

    DataError when one path is a file and the other a folder; Problems for labels without a prediction.
    """
    with reading(prediction):
        folders = [path.is_dir() for path in (prediction, labels)]
        if folders[0] != folders[1]:
            which = (prediction, labels) if folders[0] else (labels, prediction)
            raise DataError(f"{which[0]} is a folder but {which[1]} is none; name two files or two folders")
        if not folders[0]:
            return [Files(labels.stem, labels, {"": prediction})], []
        inside = next((labels / part for part in LABELS if (labels / part).is_dir()), labels)
        wrong: list[str] = []
        found: dict[str, dict[str, Path]] = {}
        for name, path in list_images(prediction.parent, prediction.name, wrong).items():
            ending = match[1] if (match := _WRITTEN.search(name)) else ""
            same = found.setdefault(_number_of(_WRITTEN.sub("", name)), {})
            if ending in same:
                wrong.append(f"{path.name}: {same[ending].name} has the same number; keep one of them")
            same[ending] = path
        found = {key: files for key, all_ in found.items() if (files := _without_overlays(all_))}
        truth: dict[str, Path] = {}
        free = {ENDINGS.sub("", key): key for key in found} | {key: key for key in found}
        alike = one_of_each(free)
        for name, path in list_images(inside.parent, inside.name, wrong).items():
            key = partner(_number_of(name), free, alike) or _number_of(ENDINGS.sub("", name))
            if key in truth:
                wrong.append(f"{path.name}: {truth[key].name} is of the same image; keep one of them")
            truth[key] = path
    firsts = {key: next(iter(files.values())) for key, files in found.items()}
    wrong += [
        f"{path.name}: no prediction of this name in {prediction}{nearest_name(key, firsts, truth)}"
        for key, path in truth.items() if key not in found
    ]  # fmt: skip
    if wrong or not truth:
        raise Problems(inside, wrong) if wrong else DataError(nothing_in(inside.parent, inside.name, labels=True))
    left = len(found) - len(truth)
    partial = f"labels of {len(truth)} of {len(found)} predicted files: partial truth, the other files are not scored"
    pairs = [Files(key, truth[key], found[key]) for key in sorted(truth, key=natural_key)]
    return pairs, [partial] if left else []


def _without_overlays(files: dict[str, Path]) -> dict[str, Path]:
    return {ending: path for ending, path in files.items() if not ending.startswith("overlay")}


def _number_of(name: str) -> str:
    """The number in the name of a mask of the Cell Tracking Challenge, else the name."""
    return f"{int(match[1])}" if (match := _NUMBERED.search(name)) else name


def read_labels(files: Sequence[Files], colours: bool) -> Found:
    """All label images, each H x W integers, as pairs that still lack their prediction (a wrong one in its place)."""
    found = Found()
    for one in files:
        check_lossless(one.labels)
        pixels = _slices(one.labels, read_images(one.labels, indices=True), colours)
        if pixels.dtype.kind == "f":
            pixels = _whole(one.labels, pixels)
        if pixels.dtype == np.bool_:
            pixels = pixels.astype(np.uint8)
        if not colours and not (pixels == pixels[:, :1]).all():
            raise DataError(colour_label(str(one.labels), pixels))
        if pixels.min() < 0:
            raise DataError(below_0(one.labels, pixels))
        for i, label in enumerate(pixels):
            place = f"{one.labels.name}[{i:02d}]" if len(pixels) > 1 else one.labels.name
            name = f"{one.key}[{i:02d}]" if len(pixels) > 1 else one.key
            found.pairs.append(Pair(name, one.key, label, packed(label, colours), place, place))
    return found


def _slices(path: Path, labels_NCHW: Pixels, colours: bool) -> Pixels:
    """Slices that a program saved as the planes of one colour image; colours in one pixel each stay colours."""
    planes = len(labels_NCHW) == 1 and not colours and not (labels_NCHW == labels_NCHW[:, :1]).all()
    return labels_NCHW.transpose(1, 0, 2, 3) if planes and stores_planes(path) else labels_NCHW


def add_predictions(found: Found, files: Sequence[Files], kind: LabelKind) -> list[Path]:
    """Put the predicted maps C x H x W in place; returns the files read. Problems for other sizes or numbers of images.

    Unequal types of pixels are no mistake as long as all are integers or all are floats.
    """
    paths = [one.prediction(kind) for one in files]
    left = list(found.pairs)
    wrong = []
    for one, path in zip(files, paths, strict=True):
        maps = read_images(path, indices=True)
        if maps.dtype.kind != "f" and (maps == maps[:, :1]).all():
            maps = maps[:, :1]  # gray that was saved as colours
        here = [pair for pair in left if pair.sequence == one.key]
        shape = here[0].label.shape
        if len(maps) == 1 and maps.shape[1] == len(here) and stores_planes(path):
            maps = maps.transpose(1, 0, 2, 3)
        if is_channel_axis(maps.shape) and maps.shape[2:] != shape:
            wrong.append(f"{path}: {channel_axis(maps.shape)}")
            continue
        if len(maps) != len(here) or maps.shape[2:] != shape:
            said = f"{len(maps)} x {maps.shape[2]} x {maps.shape[3]}", f"{len(here)} x {shape[0]} x {shape[1]}"
            wrong.append(f"{path} is {said[0]} but {one.labels} is {said[1]}; both must be N x H x W alike")
            continue
        for pair, predicted in zip(here, maps, strict=True):
            pair.image, pair.image_place = predicted, f"{path}{pair.label_place.removeprefix(one.labels.name)}"
    if not wrong and len({pair.image.shape[0] for pair in found.pairs}) > 1:
        wrong.append("some predicted files hold more maps than others")
    if wrong:
        raise Problems(paths[0] if len(paths) == 1 else paths[0].parent, wrong)
    return paths


def _whole(path: Path, pixels: Pixels) -> NDArray[np.int64]:
    if not (np.isfinite(pixels).all() and (pixels == np.rint(pixels)).all() and abs(pixels).max() < 2**53):
        raise DataError(f"{path}: labels are {pixels.dtype} and no whole numbers; use integers")
    return pixels.astype(np.int64)
