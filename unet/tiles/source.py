"""Training tiles: an output window anywhere in the image, its mirrored context, one random deformation of all.

Tile i of a run is a pure function of (stack, configuration, seed, i): the same whatever the number of workers, the
order of calls or restarts. Every tile draws the same random numbers in the same order, used or not, so that changing
one augmentation leaves frame, window and the other augmentations of each tile as they were.

Source: Ronneberger, Fischer, Brox 2015, doi:10.1007/978-3-319-24574-4_28, sections 2 and 3 (overlap-tile strategy,
mirror extrapolation, data augmentation).

Axes: C channels, H rows, W columns, n input side, m output side.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unet.config import Config
from unet.data.stack import IGNORE, FloatImage, LabelImage, Stack, labelled
from unet.errors import ConfigError, DataError
from unet.geometry import output_size
from unet.tiles.deform import CUBIC, LINEAR, NEAREST, CoordinateMap, Deformation, coordinate_map
from unet.tiles.gray import GrayTransforms, gray_range
from unet.tiles.weightmap import cached_weight_map
from unet.tiles.windows import check_windows, draw_windows, inside

_UNIFORM_DRAWS = 6  # frame, row, column, angle, flip in y, flip in x
_LATER = (0, 0, 0, 1)  # counter from which draws are made that were not there from the beginning: they move no other


@dataclass(frozen=True, eq=False)
class Tile:
    """A training sample.

    image: C x n x n float32. target: m x m uint8, IGNORE where nothing is known. weight: m x m float32, 0 where the
    target is IGNORE. frame: index in the stack. origin: first row and column of the output window, before deformation.
    """

    image: FloatImage
    target: LabelImage
    weight: FloatImage
    frame: int
    origin: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Draw:
    """The random choices of one tile: frame index, output window, deformation, key of the gray-value transforms.

    windows: first row and column of the squares of the output that carry loss; empty: all of it does.
    """

    frame: int
    origin: tuple[int, int]
    deformation: Deformation
    gray_key: int
    windows: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class _Frame:
    """What tiles are cut from: arrays contiguous, so that OpenCV copies nothing."""

    index: int
    image: FloatImage
    label: LabelImage
    weight: FloatImage | None  # None: 1 everywhere
    gray_range: NDArray[np.float32] | None


class TileSource:
    """`source[i]` is tile i, for i = 0, 1, 2, ... without end.

    The frame is drawn uniformly among those with a label; then the output window uniformly among all positions in which
    it lies inside the image, corners included (in an image smaller than the window: in which it covers the image).
    Beyond the border everything is mirrored as often as needed. Image, label and weight are sampled once, through the
    same coordinate map: image cubic or linear, label nearest, weight linear.

    stack: frames to draw from. config: tile, augment, weight and model count. seed: 0..2^63-1. weight_cache: folder
    that keeps the weight maps between runs, or None. Raises DataError when no frame has a label, GeometryError and
    ConfigError for settings that cannot be used.
    """

    def __init__(self, stack: Stack, config: Config, seed: int, weight_cache: Path | None = None) -> None:
        self.input_px = config.tile.input_px
        self.output_px = output_size(self.input_px, config.model.depth, config.model.allow_odd_pooling)
        self.margin = (self.input_px - self.output_px) // 2
        self.channels = stack.channels
        self.seed = seed
        self._augment, self._windows = config.augment, (config.tile.loss_windows, config.tile.loss_window_px)
        check_windows(*self._windows, self.output_px)
        self._interpolation = CUBIC if config.augment.interpolation == "cubic" else LINEAR
        self._frames: list[_Frame] = []
        uniform = config.weight.balance == "none" and config.weight.w0 == 0 and not config.weight.classes
        if config.weight.classes and len(config.weight.classes) != stack.classes:
            raise ConfigError(
                f"weight.classes: {len(config.weight.classes)} numbers for {stack.classes} classes "
                f"({', '.join(stack.class_names)}); give one for each"
            )
        for index in labelled(stack.frames):
            frame = stack.frames[index]
            label = np.ascontiguousarray(frame.label, np.uint8)
            weight = None if uniform else cached_weight_map(label, frame.instances, config.weight, weight_cache)
            gray = gray_range(frame.image) if config.augment.gray else None
            self._frames.append(_Frame(index, np.ascontiguousarray(frame.image), label, weight, gray))
        if not self._frames:
            raise DataError(f"{stack.name}: none of the {len(stack)} images to train on has a label; add labels")
        self._gray = GrayTransforms(config.augment.gray, stack.channels)

    def __getitem__(self, i: int) -> Tile:
        """Tile i; IndexError for i < 0."""
        frame, draw = self._draw(i)
        inner = slice(self.margin, self.margin + self.output_px)
        whole = coordinate_map(draw.deformation, self.input_px)
        image = self._gray(self._sample_image(frame.image, whole), frame.gray_range, draw.gray_key)
        central = whole.part(inner, inner)
        target = np.asarray(central.sample(frame.label, NEAREST), np.uint8)
        if frame.weight is None:
            weights = np.ones(target.shape, np.float32)
        else:
            weights = np.asarray(central.sample(frame.weight, LINEAR), np.float32)
        weights[target == IGNORE] = 0
        if draw.windows:
            weights *= inside(draw.windows, self._windows[1], self.output_px)
        return Tile(image, target, weights, frame.index, draw.origin)

    def draw(self, i: int) -> Draw:
        """The random choices of tile i."""
        return self._draw(i)[1]

    def coordinates(self, i: int) -> CoordinateMap:
        """Where the n x n pixels of tile i lie in its frame."""
        return coordinate_map(self.draw(i).deformation, self.input_px)

    def weight_map(self, frame: int) -> FloatImage:
        """The weight map H x W of a frame of the stack; DataError when the frame has no label."""
        for known in self._frames:
            if known.index == frame:
                return (known.label != IGNORE).astype(np.float32) if known.weight is None else known.weight
        raise DataError(f"frame {frame} has no label and so no weight map")

    def _draw(self, i: int) -> tuple[_Frame, Draw]:
        i = operator.index(i)
        if i < 0:
            raise IndexError(f"tiles count from 0, there is no tile {i}")
        augment = self._augment
        key = np.array([self.seed, i], np.uint64)
        rng = np.random.Generator(np.random.Philox(key=key))
        later = np.random.Generator(np.random.Philox(key=key, counter=np.array(_LATER, np.uint64)))
        which, row, column, angle, flip_y, flip_x = rng.random(_UNIFORM_DRAWS).tolist()
        gray_key = int(rng.integers(0, 2**63))
        displacements = rng.standard_normal((2, augment.elastic_grid, augment.elastic_grid))  # last: of varying number
        frame = self._frames[int(which * len(self._frames))]
        height, width = frame.label.shape
        origin = self._window(row, height), self._window(column, width)
        to_centre = (self.input_px - 1) / 2 - self.margin
        zoom = augment.zoom ** float(2 * later.random() - 1)
        deformation = Deformation(
            (origin[0] + to_centre, origin[1] + to_centre),
            math.radians(augment.rotation_deg) * (2 * angle - 1),
            augment.flips and flip_y < 0.5,
            augment.flips and flip_x < 0.5,
            displacements * augment.elastic_std_px,
            zoom,
        )
        windows = draw_windows(later, *self._windows, self.output_px)
        return frame, Draw(frame.index, origin, deformation, gray_key, windows)

    def _window(self, uniform: float, length: int) -> int:
        """First pixel of the output window along one axis, for a number in [0, 1)."""
        room = length - self.output_px
        return min(room, 0) + int(uniform * (abs(room) + 1))

    def _sample_image(self, image_CHW: FloatImage, coordinates: CoordinateMap) -> FloatImage:
        channels = [coordinates.sample(channel, self._interpolation) for channel in image_CHW]
        return np.asarray(channels[0][None] if len(channels) == 1 else np.stack(channels), np.float32)
