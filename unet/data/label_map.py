"""A table from label values or colours to classes, as the user writes it: `0=background`, `1-9=cell`, `#ff0000=cell`.

Axes: C channels, H rows, W columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unet.data.images.tiff import Pixels
from unet.data.stack import IGNORE, LabelImage
from unet.errors import ConfigError, some

IGNORED = "ignore"
"""The name, in place of a class, of values that carry no loss and no score."""

_BEGIN = re.compile(r"\s*(?:\d[\d-]*|#[0-9a-fA-F]{6})\s*=")  # of a line of a table, however it goes on
_ENTRY = re.compile(r"(?:(\d{1,9})(?:-(\d{1,9}))?|#([0-9a-fA-F]{6}))\s*=\s*(\S.*)")
_SHOWN = 6


def is_table(lines: Sequence[str]) -> bool:
    """Whether lines are meant as such a table (classes.txt may be one): no class is named `1=...`."""
    return any(_BEGIN.match(line) for line in lines)


@dataclass(frozen=True)
class LabelMap:
    """Classes in the order in which their names come first; `ranges` of values (both ends included) and their class."""

    class_names: tuple[str, ...]
    ranges: tuple[tuple[int, int, int], ...]
    colours: bool

    @classmethod
    def parse(cls, entries: Sequence[str]) -> LabelMap:
        """ConfigError for an entry that cannot be read, two entries of one value, fewer than 2 or over 255 classes."""
        names: list[str] = []
        ranges: list[tuple[int, int, int]] = []
        kinds = set()
        for entry in entries:
            match = _ENTRY.fullmatch(entry.strip())
            if not match:
                raise ConfigError(f"data.label_map: {entry!r} is not VALUE=CLASS, FIRST-LAST=CLASS or #RRGGBB=CLASS")
            first, last, colour, name = match.groups()
            low, high = (int(colour, 16),) * 2 if colour else (int(first), int(last or first))
            if low > high or any(low <= h and high >= l for l, h, _ in ranges):  # noqa: E741
                raise ConfigError(f"data.label_map: {entry!r} names no value, or one that another entry names")
            kinds.add(bool(colour))
            if name != IGNORED and name not in names:
                names.append(name)
            ranges.append((low, high, IGNORE if name == IGNORED else names.index(name)))
        if len(kinds) > 1:
            raise ConfigError("data.label_map: names numbers and colours; use one of the two")
        if not 2 <= len(names) <= IGNORE:
            raise ConfigError(f"data.label_map: names {len(names)} classes; name 2..{IGNORE}, the background first")
        return cls(tuple(names), tuple(ranges), True in kinds)

    def apply(self, label_HW: Pixels) -> tuple[LabelImage, list[int]]:
        """Class indices (IGNORE where so named), and the values that the table leaves out (IGNORE there)."""
        values, place = np.unique(label_HW, return_inverse=True)
        classes = np.full(values.shape, IGNORE, np.uint8)
        known = np.zeros(values.shape, np.bool_)
        for low, high, index in self.ranges:
            inside = (values >= low) & (values <= high)
            classes[inside], known = index, known | inside
        return classes[place].reshape(label_HW.shape), [int(v) for v in values[~known]]

    def complaint(self, place: str, left_out: Sequence[int]) -> str:
        """One line about values of a file that the table does not name."""
        shown = some([f"#{v:06x}" if self.colours else str(v) for v in left_out], _SHOWN)
        return f"{place}: label values {shown} are not in data.label_map; name them, if need be as {IGNORED}"


def packed(label_CHW: Pixels, colours: bool) -> Pixels:
    """H x W: the label's numbers, or, of RGB (and any opacity), red, green and blue as one number 0xRRGGBB."""
    if not colours or len(label_CHW) < 3:
        return np.asarray(label_CHW[0])
    red, green, blue = label_CHW[:3].astype(np.int64)
    return np.asarray(red << 16 | green << 8 | blue)
