"""The eight symmetries of the square, and where they take a rectangle of pixels.

Axes: H rows, W columns, always the last two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Turn = Callable[[NDArray[Any]], NDArray[Any]]


class Box(NamedTuple):
    """A rectangle of pixels: its first row and column, its sides."""

    y: int
    x: int
    height: int
    width: int


@dataclass(frozen=True)
class Symmetry:
    """A flip left to right (or none), then quarter turns counterclockwise."""

    flip: bool
    quarters: int

    @property
    def identity(self) -> bool:
        """Whether it leaves every image as it is."""
        return not self.flip and self.quarters % 4 == 0

    @property
    def inverse(self) -> Symmetry:
        """The symmetry that undoes this one."""
        return Symmetry(self.flip, self.quarters if self.flip else -self.quarters % 4)

    def turn(self, array: NDArray[Any]) -> NDArray[Any]:
        """A turned view of an array; nothing is copied, so a memory map stays one."""
        return np.rot90(array[..., ::-1] if self.flip else array, self.quarters, (-2, -1))

    def undo(self, array: NDArray[Any]) -> NDArray[Any]:
        """The view that `turn` was applied to."""
        back = np.rot90(array, -self.quarters, (-2, -1))
        return back[..., ::-1] if self.flip else back

    def box(self, box: Box, height: int, width: int) -> Box:
        """Where the pixels of `box` in an image of height x width lie in the turned image."""
        y, x, rows, columns = box
        if self.flip:
            x = width - x - columns
        for _ in range(self.quarters % 4):  # row i of the turned image is column width - 1 - i
            y, x, rows, columns, height, width = width - x - columns, y, columns, rows, width, height
        return Box(y, x, rows, columns)


def members(count: int) -> tuple[Symmetry, ...]:
    """1 (the identity), the 4 flips (none, left-right, up-down, both) or all 8; the identity comes first.

    The 4 flips are what the authors' release of 2015 averages over.
    """
    if count not in (1, 4, 8):
        raise ValueError(f"{count} symmetries: use 1, 4 or 8")
    if count == 4:
        return Symmetry(False, 0), Symmetry(True, 0), Symmetry(True, 2), Symmetry(False, 2)
    return tuple(Symmetry(flip, quarters) for flip in (False, True) for quarters in range(4))[:count]


def symmetries(count: int) -> Iterator[tuple[Turn, Turn]]:
    """Pairs (transform, inverse) over the last two axes, as `members` lists them."""
    for member in members(count):
        yield member.turn, member.undo
