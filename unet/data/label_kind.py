"""What the numbers in label images mean: two classes, several classes, or objects.

Axes: H rows, W columns.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from unet.data.images.tiff import Pixels
from unet.data.stack import IGNORE, LabelImage
from unet.errors import DataError

LabelKind = Literal["binary", "classes", "instances"]

_FEW = 16  # more consecutive numbers than this are objects, not classes
_SINGLE = 0.9  # share of numbers in one piece from which a handful of them are taken for objects
_HALF = 0.6  # share in one piece below which numbers are not taken for objects without being asked
_STRAY = 0.02  # of the smaller of a mask's two values: what other values at its rims may fill of it
_STRAY_MASK, _RINGING = 0.1, 32  # the same beside 0 and 255, and how far values lie from these
_SPECK_PX = 3  # mean size of a piece of a stray value
_NEARLY_ALL, _WHOLE = 250, 0.98  # of 256 values, of an 8-bit image that may have run out; share of them in one piece
_ENOUGH = 500  # numbers tell whether many of them are objects; images beyond them would only cost time


def recognise(labels_HW: list[Pixels]) -> tuple[LabelKind, str]:
    """The kind of a set of label images and, in a few words, why it was taken for that.

    binary: nothing but 0 and 1, or 0 and 255. Else class numbers 0..K-1 (255 aside) if they are at most 4, or at most
    16 of which some lie in several pieces; everything else is objects. Raises DataError (one line) for more numbers
    than classes can have, most of them in several pieces: grays at the borders of a mask that was resized or smoothed.
    """
    areas = _areas(labels_HW)
    values = sorted(areas)
    if set(values) <= {0, 1} or set(values) <= {0, IGNORE}:
        return "binary", f"values {_list(values)}"
    if stray := _stray(areas, labels_HW):
        low, high = stray
        ignored = f"if {IGNORE} marks pixels to ignore, --data.label-kind classes; " if high == IGNORE else ""
        raise DataError(
            f"labels: {low} and {high} fill all but {sum(areas.values()) - areas[low] - areas[high]} pixels, which "
            f"hold {len(areas) - 2} other values: grays at the rims of a mask. Threshold it, or say "
            f"--data.label-map {low}-{(low + high) // 2}=background {(low + high) // 2 + 1}-{high}=foreground; "
            f"{ignored}if they are objects, --data.label-kind instances"
        )
    if 0 not in areas:
        raise DataError(
            f"labels: no pixel is 0 (values {_list(values)}), so which one is the background? Say --data.label-map "
            f"{_table(values)}; if they are objects without any, --data.label-kind instances"
        )
    if _evenly_spread(values):
        raise DataError(
            f"labels: values {_list(values)} lie evenly up to {IGNORE}, as classes do that were drawn as grays: say "
            f"--data.label-map {_table(values)}; if they are objects, --data.label-kind instances"
        )
    if share := _overflown(labels_HW):
        raise DataError(
            f"labels: 8-bit numbers up to 255, {share:.0%} of them in several pieces: were more than 255 objects "
            "saved in 8 bits? Save them in 16 bits; if each number is one object, say --data.label-kind instances"
        )
    classes = [v for v in values if v != IGNORE]
    gapless = classes == list(range(len(classes)))
    shown = f"values {_list(values)}"
    as_classes = f"{shown}; if they are objects, set data.label_kind to instances"
    if gapless and len(classes) <= 4:
        return "classes", as_classes
    many = len(classes) > _FEW
    single = share_in_one_piece(labels_HW, enough=_ENOUGH if many else None)
    if many and single < _SINGLE / 2:
        raise DataError(
            f"labels: {shown} lie in many pieces: neither classes nor objects; threshold the masks to 0 and 255, or "
            "set data.label_kind"
        )
    if not many and gapless and single < _SINGLE:
        return "classes", as_classes
    if len(values) <= _FEW and single < _SINGLE / 2:
        return "classes", f"{shown} in several pieces each"
    if single < _HALF and len(values) > 2:
        raise DataError(
            f"labels: {shown}; {1 - single:.0%} of the numbers lie in pieces, so they are hardly objects. Of classes "
            f"say --data.label-map {_table(values)}; of objects --data.label-kind instances"
        )
    count = f"{len(values) - (0 in values)} numbers up to {max(values)}"
    return "instances", f"{count}, {single:.0%} of them in one piece; if they are classes, set data.label_kind"


def named(labels_HW: list[Pixels], class_names: tuple[str, ...]) -> tuple[LabelKind, str]:
    """The kind of a set of label images whose classes have names, and why, as `recognise` says it.

    Two names beside nothing but 0 and 255 are those of a mask's background and foreground: with 255 ignored, nothing
    would be left to learn.
    """
    values = _values(labels_HW)
    if len(class_names) == 2 and set(values) <= {0, IGNORE}:
        return "binary", f"values {_list(values)}, named in classes.txt"
    return "classes", "named in classes.txt"


def class_labels(
    labels_HW: list[Pixels], names: list[str], kind: LabelKind, class_names: tuple[str, ...]
) -> tuple[list[LabelImage], tuple[str, ...], list[str]]:
    """Class indices of binary or class labels, the names of the classes, and what is wrong with which image.

    names: of the label files, for messages. class_names: given by the user, or empty: then "background" with
    "foreground" or with "class 1", "class 2", ...
    """
    values = _values(labels_HW)
    if kind == "binary":
        ones = 1 if IGNORE not in values else IGNORE
        allowed, given = {0, ones}, class_names or ("background", "foreground")
        wrong = _outside(labels_HW, names, allowed, f"binary labels hold 0 and {ones}")
        return [np.asarray(label == ones, np.uint8) for label in labels_HW], given, wrong
    known = [v for v in values if v != IGNORE]
    count = len(class_names) or len(known)
    rule = f"classes are 0..{count - 1}, {IGNORE} is ignored"
    if IGNORE in values and not any(known):
        wrong = [f"labels: nothing but {_list(values)} occurs, and {IGNORE} is ignored, which leaves no class but 0; "
                 f"write the classes' numbers, or, if {IGNORE} is the foreground, set data.label_kind to binary and "
                 "name two classes at most"]  # fmt: skip
    elif class_names:
        wrong = _outside(labels_HW, names, {*range(count), IGNORE}, rule)
    elif known != list(range(len(known))):
        missing = next(v for v in range(len(known) + 1) if v not in known)
        wrong = [f"labels: values {_list(values)} leave out {missing}; number the classes 0, 1, ..., or say "
                 f"--data.label-map {_table(values)}"]  # fmt: skip
    elif count > IGNORE:
        wrong = [
            f"labels: {count} classes are more than {IGNORE}; if they are objects, set data.label_kind to instances"
        ]
    elif known == [0, 1] and IGNORE in values and not any((np.isin([1, IGNORE], label)).all() for label in labels_HW):
        wrong = ["labels: some hold 0 and 1, others 0 and 255; use one of the two everywhere"]
    else:
        wrong = []
    given = class_names or ("background", *(f"class {i}" for i in range(1, max(count, 2))))
    return ([] if wrong else [np.asarray(label, np.uint8) for label in labels_HW]), given, wrong


def _areas(labels_HW: list[Pixels]) -> dict[int, int]:
    """Pixels by value."""
    areas: dict[int, int] = {}
    for label in labels_HW:
        for value, count in zip(*np.unique(label, return_counts=True), strict=True):
            areas[int(value)] = areas.get(int(value), 0) + int(count)
    return areas


def _evenly_spread(values: list[int]) -> bool:
    """Whether values are 0..255 in 2 to 16 equal steps (0, 127, 255 or 0, 85, 170, 255), rounded either way."""
    steps = len(values) - 1
    return 2 <= steps <= _FEW and all(abs(v - i * IGNORE / steps) < 1 for i, v in enumerate(values))


def _overflown(labels_HW: list[Pixels]) -> float:
    """Of the 8-bit images that use up their numbers, the share of numbers in several pieces; 0: below a few of them."""
    full = [label for label in labels_HW if label.dtype.itemsize == 1 and np.unique(label).size >= _NEARLY_ALL]
    share = 1 - share_in_one_piece(full) if full else 0.0
    return share if share > 1 - _WHOLE else 0.0


def _stray(areas: dict[int, int], labels_HW: list[Pixels]) -> tuple[int, int] | None:
    """The two values of a mask beside which others occur only as specks that lie between them; None: no such mask.

    Between 0 and 255, which may also mark pixels to ignore, others near the ends need be few but no specks: so JPEG
    leaves a mask.
    """
    low, high = sorted(sorted(areas, key=areas.__getitem__)[-2:]) if len(areas) > 2 else (0, 0)
    between = [value for value in areas if low < value < high]
    if not between or len(between) != len(areas) - 2:
        return None
    pixels, pieces = sum(areas[value] for value in between), 0
    share = pixels / min(areas[low], areas[high])
    at_the_ends = all(min(value - low, high - value) <= _RINGING for value in between)
    if (low, high) == (0, IGNORE) and at_the_ends and share <= _STRAY_MASK:
        return low, high
    if share > _STRAY:
        return None
    from skimage import measure

    for label in labels_HW:
        inside = np.where((label > low) & (label < high), label, 0)
        pieces += int(measure.label(inside, connectivity=2).max())
    return (low, high) if pixels <= _SPECK_PX * pieces else None


def _values(labels_HW: list[Pixels]) -> list[int]:
    return sorted({int(v) for label in labels_HW for v in np.unique(label)})


def _outside(labels_HW: list[Pixels], names: list[str], allowed: set[int], rule: str) -> list[str]:
    wrong = []
    for label, name in zip(labels_HW, names, strict=True):
        other = [int(v) for v in np.unique(label) if int(v) not in allowed]
        if other:
            wrong.append(f"{name}: label values {_list(other)} lie outside ({rule})")
    return wrong


def share_in_one_piece(labels_HW: list[Pixels], enough: int | None = None) -> float:
    """Of all numbers above 0 in all images, the share that form one 8-connected piece (specks below 1 % aside).

    enough: look at no further image once so many numbers have been seen.
    """
    from skimage import measure

    single = total = 0
    for label in labels_HW:
        objects = np.where(label == IGNORE, 0, label).astype(np.int32)
        pieces = measure.label(objects, connectivity=2)  # of all numbers in one pass
        areas = np.bincount(pieces.ravel())
        number = np.zeros(areas.size, np.int32)
        number[pieces] = objects
        found, place = np.unique(number[1:], return_inverse=True)
        whole, largest = np.bincount(place, areas[1:]), np.zeros(found.size)
        np.maximum.at(largest, place, areas[1:])
        single += int(np.count_nonzero(largest >= 0.99 * whole))
        total += found.size
        if enough is not None and total >= enough:
            break
    return single / total if total else 1.0


def _table(values: list[int]) -> str:
    """What --data.label-map would say of values, the first four at most."""
    entries = (f"{v}={f'class-{i}' if i else 'background'}" for i, v in enumerate(values[:4]))
    return " ".join([*entries, *(["..."] if len(values) > 4 else [])])


def _list(values: list[int]) -> str:
    shown = ", ".join(map(str, values[:6]))
    return f"{shown}, ... {values[-1]}" if len(values) > 6 else shown
