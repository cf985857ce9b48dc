"""A prediction somebody else made and its labels: which file belongs to which, and what the numbers in them are.

Two files, or two folders whose files have the same names; what `unet predict` puts behind a name (-probabilities,
-masks, -classes) and what is usual behind that of a label (_mask, ...) does not count, and the masks of the Cell
Tracking Challenge (mask000, man_seg000) go by their numbers.

Axes: N images of a file, C maps, K classes, H rows, W columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unet.data.images.tiff import Pixels, read_images
from unet.data.label_kind import LabelKind, share_in_one_piece
from unet.data.label_map import packed
from unet.data.names import ENDINGS, LABELS, list_images, nearest_name, nothing_in, one_of_each, partner
from unet.data.pairs import Found, Pair
from unet.errors import DataError, Problems
from unet.files import natural_key, reading

_WRITTEN = re.compile(r"-(probabilities|masks|classes|overlay(?:-\d{4})?)$")  # by unet predict, behind the name
_NUMBERED = re.compile(r"(?:man_seg|man_track|mask)(\d+)$")  # of the Cell Tracking Challenge
_PREFERRED = {"instances": ("masks", "", "probabilities"), "pixels": ("probabilities", "", "classes")}
_ROUNDING = 1e-5  # by which a mean of probabilities, or their sum over the classes, may leave its range
_HALF = 0.5
_APART = 10  # mean distance of 8- and 16-bit numbers beyond which, without a background, they are gray values
_OBJECTS = 0.6  # share of 8-bit numbers in one piece from which they are those of objects


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
        pixels = read_images(one.labels, indices=True)
        if pixels.dtype.kind == "f":
            pixels = _whole(one.labels, pixels)
        if pixels.dtype == np.bool_:
            pixels = pixels.astype(np.uint8)
        if not colours and not (pixels == pixels[:, :1]).all():
            raise DataError(
                f"{one.labels}: is a colour image; save one number per class or object, or say --data.label-map"
            )
        if pixels.min() < 0:
            raise DataError(_below_0(one.labels, pixels))
        for i, label in enumerate(pixels):
            place = f"{one.labels.name}[{i:02d}]" if len(pixels) > 1 else one.labels.name
            name = f"{one.key}[{i:02d}]" if len(pixels) > 1 else one.key
            found.pairs.append(Pair(name, one.key, label, packed(label, colours), place, place))
    return found


def _below_0(path: Path, pixels: Pixels) -> str:
    return f"{path}: holds the label {pixels.min()}; number the objects from 1, the background is 0"


def add_predictions(found: Found, files: Sequence[Files], kind: LabelKind) -> list[Path]:
    """Put the predicted maps C x H x W in place; returns the files read. Problems for other sizes or numbers of images.

    Unequal types of pixels are no mistake as long as all are integers or all are floats.
    """
    paths = [one.prediction(kind) for one in files]
    left = list(found.pairs)
    wrong = []
    for one, path in zip(files, paths, strict=True):
        maps = read_images(path, indices=True)
        here = [pair for pair in left if pair.sequence == one.key]
        shape = here[0].label.shape
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


# -- what was predicted ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """Probabilities K x H x W of each frame, what they were taken for, whether they only name a class, and a doubt."""

    maps: list[NDArray[np.float32]]
    taken_for: str
    hard: bool
    note: str = ""


def as_probabilities(place: Path, maps: Sequence[Pixels], classes: int) -> Reading:
    """Probabilities of K classes from maps C x H x W.

    C = 1: of two classes the probability of the second (floats in 0..1, or 8- or 16-bit, divided by the largest value
    of the type), a mask, or class numbers. C = K: a map per class. DataError for anything else, objects among it.
    """
    channels = maps[0].shape[0]
    if channels not in (1, classes):
        raise DataError(f"{place}: has {channels} maps, the labels have {classes} classes; compare what fits them")
    if channels == 1 and (numbers := _numbers(maps)) is not None:
        values = sorted({int(v) for label in numbers for v in np.unique(label)})
        ones = max(values) if classes == 2 and max(values) in (255, 65535) else 1
        if classes == 2 and set(values) <= {0, ones}:
            return Reading([_one_hot(n // ones, 2) for n in numbers], f"masks (0 and {ones})", True)
        if classes > 2 and values[0] >= 0 and values[-1] < classes:
            return Reading([_one_hot(n, classes) for n in numbers], "class numbers", True)
        gray = _far_apart(numbers, values) or not _like_objects(numbers)
        if classes > 2 or maps[0].dtype.kind == "f" or not gray:
            raise DataError(
                f"{place}: holds {len(values)} numbers up to {values[-1]}, like objects or other classes, and the "
                f"labels have {classes} classes; compare probabilities or masks, or, if the labels are objects, say "
                "--data.label-kind instances"
            )
    scaled, taken_for = _in_unit_range(place, maps)
    if channels == 1 and classes > 2:
        raise DataError(
            f"{place}: holds one map of probabilities, the labels have {classes} classes; one map per class"
        )
    top, note = max(float(p.max()) for p in scaled), ""
    if channels == 1 and top < _HALF and maps[0].dtype.kind in "ui":
        largest = max(int(m.max()) for m in maps)
        note = f"warning: {taken_for}, no probability reaches 0.5 (largest number {largest}): is their scale another?"
    if channels == 1:
        scaled = [np.concatenate([1 - p, p]) for p in scaled]
    elif any(abs(p.sum(axis=0) - 1).max() > 0.02 for p in scaled):
        raise DataError(f"{place}: its maps do not add up to 1 over the {classes} classes; apply the softmax first")
    return Reading(scaled, f"probabilities ({taken_for})", False, note)


def as_objects(place: Path, maps: Sequence[Pixels]) -> list[NDArray[np.int32]]:
    """Numbered objects H x W from maps 1 x H x W; DataError for probabilities, masks and numbers below 0."""
    advice = (
        "number its objects (unet predict --instances writes NAME-masks.tif), or compare pixels with --data.label-map "
        "0=background 1-999999999=cell"
    )
    numbers = _numbers(maps) if maps[0].shape[0] == 1 else None
    if numbers is None:
        raise DataError(f"{place}: the labels are instances, but this holds probabilities; {advice}")
    values = sorted({int(v) for label in numbers for v in np.unique(label)})
    if values[0] < 0:
        raise DataError(_below_0(place, np.array(values)))
    if is_mask(numbers):
        raise DataError(f"{place}: the labels are instances, but this is a mask of two values; {advice}")
    if _far_apart(numbers, values) or (len(values) > 2 and not _like_objects(numbers)):
        raise DataError(f"{place}: the labels are instances, but this holds gray values of probabilities; {advice}")
    return [numbered(label) for label in numbers]


def numbered(mask_HW: Pixels) -> NDArray[np.int32]:
    """Instances as int32; numbers too large for that become smaller ones, since only which pixels share one counts."""
    if mask_HW.max() > np.iinfo(np.int32).max:
        numbers, ranks = np.unique(mask_HW, return_inverse=True)
        mask_HW = ranks.reshape(mask_HW.shape) + (numbers[0] != 0)
    return mask_HW.astype(np.int32)


def _numbers(maps: Sequence[Pixels]) -> list[Pixels] | None:
    """Whole numbers H x W of maps 1 x H x W; None where some are none."""
    if all(m.dtype.kind in "bui" for m in maps):
        return [m[0].astype(np.uint8) if m.dtype == np.bool_ else m[0] for m in maps]
    if all(np.isfinite(m).all() and (m == np.rint(m)).all() and abs(m).max() < 2**53 for m in maps):
        return [m[0].astype(np.int64) for m in maps]
    return None


def _in_unit_range(place: Path, maps: Sequence[Pixels]) -> tuple[list[NDArray[np.float32]], str]:
    kinds = {m.dtype for m in maps}
    if kinds <= {np.dtype(np.uint8), np.dtype(np.uint16)}:
        scaled = [m.astype(np.float32) / np.float32(np.iinfo(m.dtype).max) for m in maps]
        return scaled, f"{' and '.join(sorted(f'{8 * k.itemsize}-bit' for k in kinds))}, divided by the largest value"
    scaled = [m.astype(np.float32) for m in maps]
    low, high = min(float(m.min()) for m in scaled), max(float(m.max()) for m in scaled)
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # NaN is neither
        raise DataError(
            f"{place}: holds {low:g}..{high:g}; probabilities must lie in 0..1 (or be 8- or 16-bit); rescale them"
        )
    return [np.clip(m, 0, 1) for m in scaled], "floats in 0..1"


def _one_hot(numbers_HW: Pixels, classes: int) -> NDArray[np.float32]:
    return np.asarray(np.arange(classes)[:, None, None] == numbers_HW[None], np.float32)


def _far_apart(numbers: Sequence[Pixels], values: Sequence[int]) -> bool:
    """Whether 8- or 16-bit numbers without a background lie as far apart as gray values do, and objects do not."""
    narrow = max(label.dtype.itemsize for label in numbers) <= 2
    return narrow and values[0] > 0 and values[-1] > _APART * len(values)


def _like_objects(numbers: Sequence[Pixels]) -> bool:
    """Whether numbers are those of objects and not gray values.

    Of 8-bit ones most lie in one piece; of wider ones, of which gray values may occur once each, most neighbours beside
    the background are equal.
    """
    if numbers[0].dtype.itemsize == 1:
        return share_in_one_piece(list(numbers)) >= _OBJECTS
    equal = total = 0
    for label in numbers:
        left, right = label[:, :-1], label[:, 1:]
        inside = (left > 0) & (right > 0) & ((left < 65535) | (right < 65535))
        equal, total = equal + int((left == right)[inside].sum()), total + int(inside.sum())
    return total == 0 or equal >= _HALF * total


def is_mask(numbers: Sequence[Pixels]) -> bool:
    """Whether images hold nothing but 0 and 1, 255 or 65535, in several pieces: a mask of objects that have none."""
    values = {int(v) for label in numbers for v in np.unique(label)} - {0}
    return len(values) == 1 and values <= {1, 255, 65535} and any(_pieces(label) > 1 for label in numbers)


def _pieces(mask_HW: Pixels) -> int:
    from skimage import measure

    return int(measure.label(mask_HW > 0, connectivity=2).max())
