"""Arithmetic of unpadded ("valid") convolutions: sizes, context, tile grids, mirrored indices.

A network of `depth` resolution levels (the paper: 5) applies two unpadded 3x3 convolutions per level on the way down
and
up, 2x2 max-pooling between levels on the way down, 2x2 up-convolution on the way up. All sizes are in pixels along one
axis; the axes are independent and equal.

Source: Ronneberger, Fischer, Brox 2015, doi:10.1007/978-3-319-24574-4_28, Figure 1 and section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet.errors import GeometryError

PAPER_DEPTH = 5
CONVS_PER_LEVEL = 2
LOSS_PER_CONV = 2  # an unpadded 3x3 convolution takes one pixel from either side


@dataclass(frozen=True)
class LayerSize:
    """Side of the square feature map behind one layer, in pixels."""

    name: str
    level: int
    size: int


def stride(depth: int = PAPER_DEPTH) -> int:
    """Total down-sampling factor in pixels (16 for the paper's 5 levels): the period of the network's output."""
    return 1 << (depth - 1)


def shrinkage(depth: int = PAPER_DEPTH) -> int:
    """Pixels by which an aligned output is smaller than its input (184 for 5 levels; half of it on each side)."""
    per_level = CONVS_PER_LEVEL * LOSS_PER_CONV
    return per_level * ((1 << depth) - 1) + per_level * ((1 << (depth - 1)) - 1)


def context(depth: int = PAPER_DEPTH) -> int:
    """Pixels of context the network sees on each side of its output window (92 for 5 levels)."""
    return shrinkage(depth) // 2


def layer_sizes(input_px: int, depth: int = PAPER_DEPTH, allow_odd_pooling: bool = False) -> list[LayerSize]:
    """Sizes of all feature maps, from the input to the output, in the order of Figure 1.

    Raises GeometryError when a map becomes empty, or when a map of odd size meets the max-pooling and
    `allow_odd_pooling` is false ("all 2x2 max-pooling operations are applied to a layer with an even x- and y-size").
    """
    sizes = [LayerSize("input", 0, input_px)]
    size = input_px

    def add(name: str, level: int, new_size: int) -> int:
        if new_size < 1:
            raise GeometryError(_refusal(input_px, depth, f"nothing is left of it at layer {name!r}"))
        sizes.append(LayerSize(name, level, new_size))
        return new_size

    skips: list[int] = []
    for level in range(depth):
        if level > 0:
            if size % 2 and not allow_odd_pooling:
                raise GeometryError(_refusal(input_px, depth, f"pooling {level} would meet an odd map of {size} px"))
            size = add(f"pool{level}", level, size // 2)
        for conv in range(CONVS_PER_LEVEL):
            size = add(f"down{level}.conv{conv + 1}", level, size - LOSS_PER_CONV)
        skips.append(size)
    for level in reversed(range(depth - 1)):
        size = add(f"up{level}.upconv", level, size * 2)
        if size > skips[level]:
            raise GeometryError(_refusal(input_px, depth, f"the skip of level {level} is smaller than the deep map"))
        for conv in range(CONVS_PER_LEVEL):
            size = add(f"up{level}.conv{conv + 1}", level, size - LOSS_PER_CONV)
    sizes.append(LayerSize("output", 0, size))
    return sizes


def output_size(input_px: int, depth: int = PAPER_DEPTH, allow_odd_pooling: bool = False) -> int:
    """Side of the output map in pixels; raises GeometryError as `layer_sizes` does."""
    return layer_sizes(input_px, depth, allow_odd_pooling)[-1].size


def is_valid(input_px: int, depth: int = PAPER_DEPTH) -> bool:
    """True when every pooling meets an even map and the output is not empty."""
    beyond = input_px - smallest_valid(depth)
    return beyond >= 0 and beyond % stride(depth) == 0


def smallest_valid(depth: int = PAPER_DEPTH) -> int:
    """Smallest valid input side in pixels (188 for 5 levels).

    The deepest map must keep at least one pixel: a deepest output of d pixels gives an input of
    d * stride + (shrinkage of the way down), and an output of d * stride - (shrinkage of the way up).
    """
    down = CONVS_PER_LEVEL * LOSS_PER_CONV * ((1 << depth) - 1)
    up = CONVS_PER_LEVEL * LOSS_PER_CONV * (stride(depth) - 1)
    deepest = up // stride(depth) + 1
    return deepest * stride(depth) + down


def valid_sizes(lowest: int, highest: int, depth: int = PAPER_DEPTH) -> list[int]:
    """All valid input sides in [lowest, highest]; they lie `stride(depth)` apart."""
    first, step = smallest_valid(depth), stride(depth)
    start = first + max(0, -(-(lowest - first) // step)) * step
    return list(range(start, highest + 1, step))


def nearest_valid(input_px: int, depth: int = PAPER_DEPTH) -> tuple[int, ...]:
    """The valid sides around `input_px`: (the largest below, the smallest above), or the smallest valid one alone."""
    if is_valid(input_px, depth):
        return (input_px,)
    first, step = smallest_valid(depth), stride(depth)
    if input_px < first:
        return (first,)
    below = first + (input_px - first) // step * step
    return below, below + step


def input_for_output(output_px: int, depth: int = PAPER_DEPTH) -> int:
    """Smallest valid input side whose output covers `output_px` pixels."""
    wanted = max(output_px + shrinkage(depth), smallest_valid(depth))
    return nearest_valid(wanted, depth)[-1]


def _refusal(input_px: int, depth: int, reason: str) -> str:
    options = " or ".join(str(n) for n in nearest_valid(input_px, depth) if n != input_px)
    return (
        f"a tile of {input_px} px does not fit a network of {depth} levels: {reason}; "
        f"use {options} px, or set model.allow-odd-pooling where a misaligned tile is wanted"
    )


def skip_misalignment(input_px: int, depth: int = PAPER_DEPTH) -> list[float]:
    """How far each level's centre-cropped skip is out of line with the deep path, in input pixels, level 0 first.

    The deep path's first pixel at a level covers a certain input pixel, and so does the first pixel of the cropped
    skip; the difference is 0 at every level for aligned tiles (508, 252, 572) and not for 512 or 256, where a pooling
    drops the last row and column of an odd map.
    """
    sizes = {s.name: s.size for s in layer_sizes(input_px, depth, allow_odd_pooling=True)}
    per_level = CONVS_PER_LEVEL * LOSS_PER_CONV // 2
    starts = [float(per_level)]  # input pixel that lies under the first pixel of each level's skip
    for level in range(1, depth):
        starts.append(starts[-1] + per_level * 2**level)
    deep = starts[depth - 1]
    shifts = [0.0] * (depth - 1)
    for level in reversed(range(depth - 1)):
        crop = (sizes[f"down{level}.conv{CONVS_PER_LEVEL}"] - sizes[f"up{level}.upconv"]) // 2
        shifts[level] = starts[level] + crop * 2**level - deep
        deep += per_level * 2**level
    return shifts


def receptive_field(
    at: int, input_px: int, depth: int = PAPER_DEPTH, allow_odd_pooling: bool = False
) -> tuple[int, int]:
    """First and last input pixel, along one axis, that output pixel `at` of a tile can depend on.

    The hull over the deep path and all skips. It is not the same for all output pixels: its place and size repeat with
    the network's stride. Raises GeometryError for a pixel outside the output, and as `layer_sizes` does.
    """
    sizes = {s.name: s.size for s in layer_sizes(input_px, depth, allow_odd_pooling)}
    if not 0 <= at < sizes["output"]:
        raise GeometryError(f"output pixel {at} does not exist; a tile of {input_px} px has 0..{sizes['output'] - 1}")
    loss = CONVS_PER_LEVEL * LOSS_PER_CONV
    first = last = at
    reached: list[tuple[int, int]] = []
    for level in range(depth):
        if level < depth - 1:  # up through the convolutions of the way up; then the skip beside the deep path
            last += loss
            crop = (sizes[f"down{level}.conv{CONVS_PER_LEVEL}"] - sizes[f"up{level}.upconv"]) // 2
        else:
            crop = 0
        low, high = first + crop, last + crop + loss
        for _ in range(level):  # the pooling before each level's convolutions, and those of the level above it
            low, high = 2 * low, 2 * high + 1 + loss
        reached.append((low, high))
        first, last = first // 2, last // 2
    return min(low for low, _ in reached), max(high for _, high in reached)


def mirror_indices(start: int, stop: int, size: int) -> NDArray[np.intp]:
    """Indices start..stop-1 folded into 0..size-1 by mirroring at the border pixels (which are not repeated).

    Mirrors as often as needed, so windows many times larger than the image work; a single pixel is repeated.
    """
    if size < 1:
        raise GeometryError("an image side of 0 px cannot be mirrored; check the image's shape")
    if size == 1:
        return np.zeros(stop - start, dtype=np.intp)
    period = 2 * (size - 1)
    folded = np.arange(start, stop, dtype=np.intp) % period
    return np.minimum(folded, period - folded)


def tile_origins(length: int, output_px: int, step_px: int) -> list[int]:
    """First pixels of the output windows that cover 0..length-1 along one axis.

    All origins are multiples of `step_px` (the network's stride), so that pooling falls on the same pixels whatever
    the tile size: the stitched result then does not depend on it. The last window may reach beyond the image.
    """
    advance = output_px // step_px * step_px
    if advance == 0:
        raise GeometryError(f"an output window of {output_px} px is smaller than the network's stride of {step_px} px")
    if length <= output_px:
        return [0]
    last = -(-(length - output_px) // step_px) * step_px
    return [*range(0, last, advance), last]
