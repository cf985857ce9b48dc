"""Squares of a tile's output that alone carry loss: the loss pixels of small tiles at the cost of a large one.

Axes: m rows and columns of the output.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unet.errors import ConfigError

Corner = tuple[int, int]  # first row and column of a window


def check_windows(count: int, side: int, output_px: int) -> None:
    """ConfigError when so many windows of this side do not surely find room beside each other, however they fall."""
    free = max(0, output_px - side + 1) ** 2
    if count and (count - 1) * (2 * side - 1) ** 2 >= free:
        raise ConfigError(
            f"tile.loss_windows: {count} windows of {side} px may not find room in an output of {output_px} px; use "
            "fewer or smaller ones (tile.loss_window_px)"
        )


def draw_windows(rng: np.random.Generator, count: int, side: int, output_px: int) -> tuple[Corner, ...]:
    """Corners of `count` windows that do not overlap, each uniform among the places that are left."""
    chosen: list[Corner] = []
    while len(chosen) < count:
        row, column = (int(i) for i in rng.integers(0, output_px - side + 1, size=2))
        if all(abs(row - r) >= side or abs(column - c) >= side for r, c in chosen):
            chosen.append((row, column))
    return tuple(chosen)


def inside(corners: tuple[Corner, ...], side: int, output_px: int) -> NDArray[np.float32]:
    """m x m: 1 inside the windows, else 0."""
    mask = np.zeros((output_px, output_px), np.float32)
    for row, column in corners:
        mask[row : row + side, column : column + side] = 1
    return mask
