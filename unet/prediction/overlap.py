"""Overlap-tile prediction: images of any size, tile by tile, without seams.

Axes: C channels, K classes, H rows, W columns. Source: the overlap-tile strategy of Ronneberger, Fischer, Brox 2015,
Figure 2 (doi:10.1007/978-3-319-24574-4_28): missing context is extrapolated by mirroring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unet.config import PredictConfig
from unet.geometry import mirror_indices
from unet.prediction.ensemble import Predicting
from unet.prediction.symmetry import Box, Symmetry, members
from unet.prediction.tile_plan import Sides, TilePlan, plan

T = TypeVar("T")
DEFAULTS = PredictConfig()


class Readable(Protocol):
    """What prediction reads windows from: a NumPy array, a memory map, anything sliced like them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes along the axes."""

    def __getitem__(self, key: Any) -> Any: ...


class Writable(Protocol):
    """What prediction writes windows into: a NumPy array, a memory map, anything that is assigned to like them."""

    def __setitem__(self, key: Any, value: Any) -> None: ...


def read_mirrored(image_CHW: Readable, top: int, left: int, height: int, width: int) -> NDArray[Any]:
    """A window C x height x width of an image, mirrored beyond its border; reads no more than the window needs."""
    rows = mirror_indices(top, top + height, image_CHW.shape[1])
    columns = mirror_indices(left, left + width, image_CHW.shape[2])
    first_row, first_column = int(rows.min()), int(columns.min())
    block = np.asarray(image_CHW[:, first_row : int(rows.max()) + 1, first_column : int(columns.max()) + 1])
    if (rows[0], rows[-1]) == (top, top + height - 1) and (columns[0], columns[-1]) == (left, left + width - 1):
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

    def __post_init__(self) -> None:
        # An image of one channel has no layout of its own: a convolution then takes that of its weights, and planar
        # ones take 1.4-2 times as long.
        self.model.to(memory_format=self._layout)  # type: ignore[call-overload]

    @property
    def _layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @torch.inference_mode()
    def logits(self, batch_NCHW: NDArray[Any]) -> Tensor:
        """Logits N x K x h x w float32 for images N x C x H x W of a valid size; dropout is off."""
        images = torch.from_numpy(np.ascontiguousarray(batch_NCHW, dtype=np.float32)).to(self.device)
        training = [module for module in self.model.modules() if module.training]
        if training:  # walking through all modules twice per tile would cost a millisecond
            self.model.eval()
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                result: Tensor = self.model(images.contiguous(memory_format=self._layout))
        finally:
            for module in training:
                module.training = True
        return result.float()

    def probabilities(self, batch_NCHW: NDArray[Any]) -> NDArray[np.float32]:
        """Softmax over the classes: N x K x h x w float32."""
        with torch.inference_mode():
            probabilities: NDArray[np.float32] = torch.softmax(self.logits(batch_NCHW), dim=1).cpu().numpy()
        return probabilities


def predict_into(
    network: Predicting,
    image_CHW: Readable,
    out_KHW: Writable,
    how: PredictConfig = DEFAULTS,
    *,
    first_row: int = 0,
    on_tile: Callable[[int, int], None] | None = None,
    on_row: Callable[[int], None] | None = None,
    prepare: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
) -> None:
    """Predict class probabilities of `image_CHW` into `out_KHW` (K x H x W float32), row of tiles by row of tiles.

    Both may be memory maps: only the windows at hand are in memory. `prepare` maps a raw window to the normalised image
    the network was trained on. `how.symmetries` 4 or 8 averages over the flips or all symmetries of the square, tile by
    tile; `how.average` says what of: probabilities, or logits, of whose mean the softmax is taken. `first_row` skips
    rows of tiles that are done. `on_tile(done, total)` is called after each batch and `on_row(rows)` when that many
    rows of tiles are complete; what they raise stops the prediction.
    The next batch is read in a thread while the network works on this one.
    """
    height, width = image_CHW.shape[1:]
    tiles = plan(height, width, network.depth, how.tile_px, network.allow_odd_pooling, how.symmetries)
    columns = tiles.columns()
    blocks = [tiles.block(y, x) for row, y in enumerate(tiles.rows()) if row >= first_row for x in columns]
    views = [_View(image_CHW, symmetry, tiles) for symmetry in members(how.symmetries)]
    views.sort(key=lambda view: view.window_px != tiles.input_px)  # those of one shape go through the network together
    jobs = [(block, view) for block in blocks for view in views]
    groups = list(_batches(jobs, how.batch))
    of_probabilities = how.average == "probabilities"
    done, total = 0, np.empty(0, np.float32)
    for group, inputs in zip(groups, read_ahead(partial(_read, group, prepare) for group in groups), strict=True):
        results = network.probabilities(inputs) if of_probabilities else network.logits(inputs).cpu().numpy()
        for (block, view), result in zip(group, results, strict=True):
            part = view.part(result, block)
            total = part if view is views[0] else total + part
            done += 1
            if view is views[-1]:
                rows, across = slice(block.y, block.y + block.height), slice(block.x, block.x + block.width)
                mean = total if how.symmetries == 1 else total / np.float32(how.symmetries)
                out_KHW[:, rows, across] = mean if of_probabilities else _softmax(mean)
                if on_row is not None and block.x == columns[-1]:
                    on_row(first_row + done // (len(views) * len(columns)))
        if on_tile is not None:
            on_tile(done, len(jobs))


def _softmax(logits_KHW: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(torch.softmax(torch.from_numpy(logits_KHW), dim=0).numpy())


@dataclass(frozen=True, eq=False)
class _View:
    """The image as one symmetry shows it, with windows on the grid of the turned image."""

    image_CHW: Readable
    symmetry: Symmetry
    tiles: TilePlan

    @property
    def window_px(self) -> Sides:
        """Sides of the windows that the network sees."""
        high, wide = self.tiles.input_px
        return (high, wide) if self.symmetry.quarters % 2 == 0 else (wide, high)

    def _window(self, block: Box) -> tuple[Box, int, int]:
        """A block of the untouched image in this view, and the first row and column of the window that covers it."""
        turned, step = self.symmetry.box(block, self.tiles.height, self.tiles.width), self.tiles.step_px
        return turned, turned.y // step * step, turned.x // step * step

    def read(self, block: Box) -> NDArray[Any]:
        """The input C x `window_px` that the network needs for a block, turned.

        Mirroring at the borders and turning commute: the window is read where it lies in the untouched image.
        """
        _, top, left = self._window(block)
        margin, shape = self.tiles.margin, (self.tiles.height, self.tiles.width)
        turned_shape = shape if self.symmetry.quarters % 2 == 0 else shape[::-1]
        window = self.symmetry.inverse.box(Box(top - margin, left - margin, *self.window_px), *turned_shape)
        return self.symmetry.turn(read_mirrored(self.image_CHW, *window))

    def part(self, result_KHW: NDArray[np.float32], block: Box) -> NDArray[np.float32]:
        """The pixels of the block, turned back, out of what the network made of its window."""
        turned, top, left = self._window(block)
        y, x = turned.y - top, turned.x - left
        return self.symmetry.undo(result_KHW[:, y : y + turned.height, x : x + turned.width])


def _batches(jobs: list[tuple[Box, _View]], size: int) -> Iterator[list[tuple[Box, _View]]]:
    """At most `size` at a time, in order, with windows of one shape."""
    for _, same in groupby(jobs, key=lambda job: job[1].window_px):
        alike = list(same)
        yield from (alike[start : start + size] for start in range(0, len(alike), size))


def _read(group: list[tuple[Box, _View]], prepare: Callable[[NDArray[Any]], NDArray[Any]] | None) -> NDArray[Any]:
    windows = [view.read(block) for block, view in group]
    return np.stack(windows if prepare is None else [prepare(window) for window in windows])


def read_ahead(reads: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Results of the calls in order; the next is made in a thread while the one before is worked on."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending: Future[T] | None = None
        for read in reads:
            following = pool.submit(read)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()


def predict_image(
    network: Predicting,
    image_CHW: NDArray[np.float32],
    classes: int,
    how: PredictConfig = DEFAULTS,
    *,
    on_tile: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Class probabilities K x H x W float32 of a normalised image C x H x W float32 of any size.

    how.symmetries 8 averages over the symmetries of the square (4 rotations, each with and without a flip), 4 over the
    flips, as the authors' release does (there: of logits); the paper averages over 7 rotated versions whose angles it
    does not name. Other options as for `predict_into`.
    """
    result = np.empty((classes, *image_CHW.shape[1:]), dtype=np.float32)
    predict_into(network, image_CHW, result, how, on_tile=on_tile)
    return result
