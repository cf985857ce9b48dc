"""Overlap-tile prediction: images of any size, tile by tile, without seams.

Axes: C channels, K classes, H rows, W columns. Source: the overlap-tile strategy of Ronneberger, Fischer, Brox 2015,
Figure 2 (doi:10.1007/978-3-319-24574-4_28): missing context is extrapolated by mirroring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unet.geometry import (
    input_for_output,
    mirror_indices,
    nearest_valid,
    output_size,
    shrinkage,
    stride,
    tile_origins,
)

LARGEST_AUTO_TILE_PX = 1020  # larger tiles were slower per pixel on CPUs (caches) and cost memory everywhere


class ArrayLike(Protocol):
    """What prediction reads from and writes to: a NumPy array, a memory map, anything sliced like them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes along the axes."""

    def __getitem__(self, key: Any) -> Any: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...


@dataclass(frozen=True)
class TilePlan:
    """Which tiles cover an image of height x width.

    All output windows start on multiples of the network's stride, so that pooling meets the same pixels whatever the
    tile size; the stitched result does not depend on it.
    """

    height: int
    width: int
    input_px: int
    output_px: int
    step_px: int

    @property
    def margin(self) -> int:
        """Context on each side of an output window, in pixels."""
        return (self.input_px - self.output_px) // 2

    def rows(self) -> list[int]:
        """First rows of the output windows."""
        return tile_origins(self.height, self.output_px, self.step_px)

    def columns(self) -> list[int]:
        """First columns of the output windows."""
        return tile_origins(self.width, self.output_px, self.step_px)


def plan(height: int, width: int, depth: int, tile_px: int = 0, allow_odd_pooling: bool = False) -> TilePlan:
    """The tiles for an image; `tile_px` 0 chooses the input side that computes the fewest pixels in all.

    GeometryError when `tile_px` is not valid for a network of this depth.
    """
    step = stride(depth)
    if tile_px:
        return TilePlan(height, width, tile_px, output_size(tile_px, depth, allow_odd_pooling), step)
    longest = min(max(height, width, step), LARGEST_AUTO_TILE_PX)
    candidates = range(input_for_output(step, depth), input_for_output(longest, depth) + 1, step)

    def work(px: int) -> int:
        out = px - shrinkage(depth)
        return len(tile_origins(height, out, step)) * len(tile_origins(width, out, step)) * px * px

    allowed = [px for px in candidates if px <= max(LARGEST_AUTO_TILE_PX, candidates[0])]
    best = min(allowed, key=lambda px: (work(px), px))
    return TilePlan(height, width, best, best - shrinkage(depth), step)


def read_mirrored(image_CHW: ArrayLike, top: int, left: int, height: int, width: int) -> NDArray[Any]:
    """A window C x height x width of an image, mirrored beyond its border; reads no more than the window needs."""
    rows = mirror_indices(top, top + height, image_CHW.shape[1])
    columns = mirror_indices(left, left + width, image_CHW.shape[2])
    first_row, first_column = int(rows.min()), int(columns.min())
    block = np.asarray(image_CHW[:, first_row : int(rows.max()) + 1, first_column : int(columns.max()) + 1])
    if height == block.shape[1] and width == block.shape[2]:
        return block  # wholly inside the image
    return block[:, (rows - first_row)[:, None], (columns - first_column)[None, :]]


@dataclass(frozen=True)
class Network:
    """A model made ready for prediction: device, precision, memory layout; eval mode."""

    model: nn.Module
    device: torch.device
    precision: str = "fp32"  # or "bf16"
    channels_last: bool = True
    depth: int = 5
    allow_odd_pooling: bool = False

    @torch.inference_mode()
    def logits(self, batch_NCHW: NDArray[Any]) -> Tensor:
        """Logits N x K x h x w float32 for images N x C x H x W of a valid size; dropout is off."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        images = torch.from_numpy(np.ascontiguousarray(batch_NCHW, dtype=np.float32)).to(self.device)
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                result: Tensor = self.model(images.contiguous(memory_format=layout))
        finally:
            self.model.train(was_training)
        return result.float()

    def probabilities(self, batch_NCHW: NDArray[Any]) -> NDArray[np.float32]:
        """Softmax over the classes: N x K x h x w float32."""
        with torch.inference_mode():
            probabilities: NDArray[np.float32] = torch.softmax(self.logits(batch_NCHW), dim=1).cpu().numpy()
        return probabilities


def predict_into(
    network: Network,
    image_CHW: ArrayLike,
    out_KHW: ArrayLike,
    *,
    tile_px: int = 0,
    batch: int = 1,
    first_row: int = 0,
    on_tile: Callable[[int, int], None] | None = None,
    prepare: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
) -> None:
    """Predict class probabilities of `image_CHW` into `out_KHW` (K x H x W float32), row of tiles by row of tiles.

    Both may be memory maps: only the windows at hand are in memory. `prepare` maps a raw window to the normalised image
    the network was trained on. `first_row` skips rows of tiles that are done. `on_tile(done, total)` is called after
    each batch; what it raises stops the prediction.
    """
    height, width = image_CHW.shape[1:]
    tiles = plan(height, width, network.depth, tile_px, network.allow_odd_pooling)
    windows = [(y, x) for row, y in enumerate(tiles.rows()) for x in tiles.columns() if row >= first_row]
    for start in range(0, len(windows), batch):
        chosen = windows[start : start + batch]
        inputs = np.stack([_read_tile(image_CHW, y, x, tiles, prepare) for y, x in chosen])
        for (y, x), result in zip(chosen, network.probabilities(inputs), strict=True):
            rows, columns = min(tiles.output_px, height - y), min(tiles.output_px, width - x)
            out_KHW[:, y : y + rows, x : x + columns] = result[:, :rows, :columns]
        if on_tile is not None:
            on_tile(start + len(chosen), len(windows))


def _read_tile(
    image_CHW: ArrayLike, y: int, x: int, tiles: TilePlan, prepare: Callable[[NDArray[Any]], NDArray[Any]] | None
) -> NDArray[Any]:
    window = read_mirrored(image_CHW, y - tiles.margin, x - tiles.margin, tiles.input_px, tiles.input_px)
    return window if prepare is None else prepare(window)


def predict_image(
    network: Network,
    image_CHW: NDArray[np.float32],
    classes: int,
    *,
    tile_px: int = 0,
    batch: int = 1,
    rotations: int = 1,
    on_tile: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Class probabilities K x H x W float32 of a normalised image C x H x W float32 of any size.

    rotations 8 averages over the symmetries of the square (4 rotations, each with and without a flip); the paper
    averages over 7 rotated versions whose angles it does not name.
    """
    total = np.zeros((classes, *image_CHW.shape[1:]), dtype=np.float32)
    for turn, undo in symmetries(rotations):
        turned = np.ascontiguousarray(turn(image_CHW))
        result = np.empty((classes, *turned.shape[1:]), dtype=np.float32)
        predict_into(network, turned, result, tile_px=tile_px, batch=batch, on_tile=on_tile)
        total += undo(result)
    total /= np.float32(rotations)
    return total


Turn = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def symmetries(count: int) -> Iterator[tuple[Turn, Turn]]:
    """Pairs (transform, inverse) over the last two axes: 1 (the identity) or the 8 symmetries of the square."""
    if count not in (1, 8):
        raise ValueError(f"{count} rotations: use 1 or 8")
    for flip in (False, True)[: 1 if count == 1 else 2]:
        for quarter in range(1 if count == 1 else 4):

            def turn(a: NDArray[np.float32], k: int = quarter, f: bool = flip) -> NDArray[np.float32]:
                return np.rot90(a[..., ::-1] if f else a, k, (-2, -1))

            def undo(a: NDArray[np.float32], k: int = quarter, f: bool = flip) -> NDArray[np.float32]:
                back = np.rot90(a, -k, (-2, -1))
                return back[..., ::-1] if f else back

            yield turn, undo


def whole_image_logits(network: Network, image_CHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits K x H x W from ONE pass over the whole mirrored image: the reference that stitching is held against."""
    height, width = image_CHW.shape[1:]
    margin = shrinkage(network.depth) // 2
    sides = [nearest_valid(side + 2 * margin, network.depth)[-1] for side in (height, width)]
    window = read_mirrored(image_CHW, -margin, -margin, *sides)
    logits: NDArray[np.float32] = network.logits(window[None])[0, :, :height, :width].cpu().numpy()
    return logits
