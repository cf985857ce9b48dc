"""A prediction somebody else made: what the numbers in it are.

Axes: N images of a file, C maps, K classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unet.data.images.tiff import Pixels
from unet.data.label_kind import share_in_one_piece
from unet.errors import DataError

_ROUNDING = 1e-5  # by which a mean of probabilities, or their sum over the classes, may leave its range
_HALF = 0.5
_APART = 10  # mean distance of 8- and 16-bit numbers beyond which, without a background, they are gray values
_OBJECTS = 0.6  # share of 8-bit numbers in one piece from which they are those of objects


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
        raise DataError(below_0(place, np.array(values)))
    if is_mask(numbers):
        raise DataError(f"{place}: the labels are instances, but this is a mask of two values; {advice}")
    if _far_apart(numbers, values) or (len(values) > 2 and not _like_objects(numbers)):
        raise DataError(f"{place}: the labels are instances, but this holds gray values of probabilities; {advice}")
    return [numbered(label) for label in numbers]


def below_0(path: Path, pixels: Pixels) -> str:
    """What is said of a file with numbers below 0."""
    return f"{path}: holds the label {pixels.min()}; number the objects from 1, the background is 0"


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
    if bad := sum(int((~np.isfinite(m)).sum()) for m in scaled):
        raise DataError(f"{place}: {bad} values are NaN or infinite; probabilities lie in 0..1")
    low, high = min(float(m.min()) for m in scaled), max(float(m.max()) for m in scaled)
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise DataError(
            f"{place}: holds {low:g}..{high:g}; probabilities must lie in 0..1 (or be 8- or 16-bit); rescale them, of "
            "logits take the softmax"
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
