"""Which tiles cover an image: their sides, where they begin, which output pixels each of them hands on."""

from __future__ import annotations

from dataclasses import dataclass

from unet.geometry import input_for_output, output_size, stride, tile_origins
from unet.prediction.symmetry import Box

Sides = tuple[int, int]
"""Along the rows and along the columns, in pixels."""

LARGEST_AUTO_TILE_PX = 1020  # larger tiles were slower per pixel on CPUs (caches) and cost memory everywhere


@dataclass(frozen=True)
class TilePlan:
    """Which tiles cover an image of height x width, and the output pixels each of them hands on.

    All windows that go through the network start on multiples of its stride, so that pooling meets the same pixels
    whatever the tile size; the stitched result does not depend on it. In a turned image, that grid begins at another
    corner: `slack` output pixels are left for a window to begin where its grid wants it.
    """

    height: int
    width: int
    input_px: Sides
    output_px: Sides
    step_px: int
    slack: int = 0

    def __str__(self) -> str:
        """The input size of a tile, as a user reads it."""
        high, wide = self.input_px
        return f"{high} px" if high == wide else f"{high} x {wide} px"

    @property
    def margin(self) -> int:
        """Context on each side of an output window, in pixels."""
        return (self.input_px[0] - self.output_px[0]) // 2

    def rows(self) -> list[int]:
        """First rows of the blocks of output pixels."""
        return _origins(self.height, self.output_px[0], self.step_px, self.slack)

    def columns(self) -> list[int]:
        """First columns of the blocks of output pixels."""
        return _origins(self.width, self.output_px[1], self.step_px, self.slack)

    def block(self, y: int, x: int) -> Box:
        """The output pixels of the tile that begins at (y, x)."""
        height, width = self._side(self.height, self.output_px[0], y), self._side(self.width, self.output_px[1], x)
        return Box(y, x, height, width)

    def _side(self, length: int, output_px: int, origin: int) -> int:
        return min(output_px if length <= output_px else output_px - self.slack, length - origin)


def plan(
    height: int, width: int, depth: int, tile_px: int = 0, allow_odd_pooling: bool = False, symmetries: int = 1
) -> TilePlan:
    """The tiles for an image: squares of `tile_px`, or (0) of the sides that compute the fewest pixels in all.

    GeometryError when `tile_px` is not valid for a network of this depth.
    """
    slack = 0 if symmetries == 1 else stride(depth) - 1
    sides = (tile_px, tile_px) if tile_px else (_best_side(height, depth, slack), _best_side(width, depth, slack))
    outputs = (output_size(sides[0], depth, allow_odd_pooling), output_size(sides[1], depth, allow_odd_pooling))
    return TilePlan(height, width, sides, outputs, stride(depth), slack)


def _best_side(length: int, depth: int, slack: int) -> int:
    """The input side whose tiles have the smallest sum of sides along an axis of an image; the smaller of equals."""
    step = stride(depth)
    smallest = input_for_output(step, depth)
    largest = input_for_output(min(max(length, step), LARGEST_AUTO_TILE_PX), depth)

    def work(px: int) -> int:
        return px * len(_origins(length, output_size(px, depth), step, slack))

    allowed = range(smallest, max(smallest, min(largest, LARGEST_AUTO_TILE_PX)) + 1, step)
    return min(allowed, key=lambda px: (work(px), px))


def _origins(length: int, output_px: int, step_px: int, slack: int) -> list[int]:
    origins = tile_origins(length, output_px, step_px)
    if slack == 0 or length <= output_px:
        return origins
    advance = output_px - slack
    return [*range(0, length - advance, advance), length - advance]
