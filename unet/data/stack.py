"""The one type that travels: frames with image, label, validity mask and instances.

Axes: C channels, H rows, W columns.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unet.data.images.mapped import blocks
from unet.errors import DataError, is_unicode

IGNORE = 255
"""Label value of pixels that carry no loss and no score."""

EXTREMES = (0.0, 100.0)
"""The percentiles of the darkest and the brightest gray value."""

Kind = Literal["membranes", "objects", "classes"]
"""What the classes of a stack stand for: membranes between cells, single objects, or just classes."""

FloatImage = NDArray[np.float32]
LabelImage = NDArray[np.uint8]
Percentiles = Callable[[NDArray[Any], Sequence[float]], NDArray[np.float64]]
InstanceImage = NDArray[np.int32]


@dataclass(frozen=True)
class Normalisation:
    """image = (raw - offset) / scale, per channel; recorded in the run and applied again at prediction.

    kind: "fixed" (offset and scale are the numbers given, the same for every image), or offset and scale are taken
    from each image and channel: "percentile" (its low and high percentile become 0 and 1), "minmax" (its extremes do),
    "zscore" (mean 0, standard deviation 1). Where the percentiles are equal (an image that is nearly all background)
    the extremes are taken; a constant image becomes 0.
    """

    kind: str = "fixed"
    offset: float = 0.0
    scale: float = 255.0
    low: float = 0.0
    high: float = 100.0

    def __post_init__(self) -> None:
        if self.kind not in ("fixed", "percentile", "minmax", "zscore"):
            raise DataError(f"normalisation {self.kind!r} is unknown; use fixed, percentile, minmax or zscore")
        if not self.scale > 0 or not 0 <= self.low < self.high <= 100:
            raise DataError(f"normalisation with scale {self.scale}, percentiles {self.low}..{self.high} is impossible")

    def __call__(self, raw_CHW: NDArray[np.generic]) -> FloatImage:
        """Map a raw image C x H x W of any numeric type to float32, gray values near 0..1 (zscore: near -3..3)."""
        raw = np.asarray(raw_CHW)
        if self.kind == "fixed":
            return np.asarray((raw.astype(np.float32) - np.float32(self.offset)) / np.float32(self.scale), np.float32)
        zero, span = np.array([self.zero_and_span(plane, _percentiles) for plane in raw]).T
        return np.asarray((raw - zero[:, None, None]) / span[:, None, None], np.float32)

    def zero_and_span(
        self, plane_HW: NDArray[Any], percentiles: Percentiles, check: Callable[[], None] | None = None
    ) -> tuple[float, float]:
        """The gray value that becomes 0, and the difference that becomes 1, of one channel; of no meaning for "fixed".

        percentiles: how they are found. `check` is called between blocks of pixels.
        """
        if self.kind == "zscore":
            zero, span = mean_and_deviation(plane_HW, check)
        else:
            zero, high = percentiles(plane_HW, self.percentiles)
            if not high > zero:
                zero, high = percentiles(plane_HW, EXTREMES)
            span = high - zero
        return zero, span if span > 0 else 1.0

    @property
    def percentiles(self) -> tuple[float, float]:
        """Which gray values become 0 and 1; of no meaning for "fixed" and "zscore"."""
        return (self.low, self.high) if self.kind == "percentile" else EXTREMES


def _percentiles(plane_HW: NDArray[Any], q: Sequence[float]) -> NDArray[np.float64]:
    return np.percentile(plane_HW.astype(np.float64), q)


def mean_and_deviation(plane_HW: NDArray[np.generic], check: Callable[[], None] | None = None) -> tuple[float, float]:
    """Mean and standard deviation of the gray values in float64, block by block: the same for arrays and memory maps.

    Of equal values they are that value and 0, whatever the rounding. DataError where numbers are too large for float64.
    """

    def mean(value: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            sums = [value(np.ascontiguousarray(b, np.float64)).sum(axis=1) for b in blocks(plane_HW, check)]
        try:
            return math.fsum(np.concatenate(sums)) / plane_HW.size
        except (OverflowError, ValueError):  # of infinite sums
            return math.inf

    middle = mean(lambda block: block)
    deviation = math.sqrt(mean(lambda block: (block - middle) ** 2))
    if not math.isfinite(deviation):
        raise DataError("gray values are too large for a standard deviation; divide the images by a constant")
    if deviation <= 1e-12 * abs(middle):
        return float(plane_HW[0, 0]), 0.0
    return middle, deviation


@dataclass(frozen=True, eq=False)
class Frame:
    """One image with what is known about it.

    image: C x H x W float32, normalised. label: H x W uint8 class indices, IGNORE (255) where nothing is known (no
    loss, no score), or None for an image without a label. instances: H x W int32, 0 = background; the objects whose
    borders the weight map raises, or None to take the 4-connected components of the non-zero classes.
    """

    name: str
    sequence: str
    image: FloatImage
    label: LabelImage | None = None
    instances: InstanceImage | None = None

    def __post_init__(self) -> None:
        if not is_unicode(self.name):  # split.json and scores.json hold it
            raise DataError(f"{self.name}: the name of the file is not UTF-8; rename it")
        if self.image.ndim != 3 or self.image.dtype != np.float32 or 0 in self.image.shape:
            raise DataError(f"{self.name}: image is {self.image.dtype} {self.image.shape}, expected float32 C x H x W")
        if not np.isfinite(self.image).all():
            bad = int((~np.isfinite(self.image)).sum())
            raise DataError(f"{self.name}: {bad} gray values are NaN or infinite; repair or remove the image")
        for what, array in (("label", self.label), ("instances", self.instances)):
            if array is not None and array.shape != self.image.shape[1:]:
                raise DataError(
                    f"{self.name}: {what} has shape {array.shape} but the image {self.image.shape[1:]}; "
                    "image and label must have the same height and width"
                )

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.image.shape[1], self.image.shape[2]


@dataclass(frozen=True, eq=False)
class Stack:
    """Frames of one data set, in the order of acquisition, and what was said about them when they were read.

    kind: what was said about the scores it gets, None: nothing. own: no published set; its pixel scores are the usual
    ones of classes, without those of one blog post.
    """

    name: str
    frames: tuple[Frame, ...]
    class_names: tuple[str, ...]
    normalisation: Normalisation
    source: str
    kind: Kind | None = None
    own: bool = False

    def __post_init__(self) -> None:
        if not self.frames:
            raise DataError(f"{self.name}: no images found in {self.source}")
        if len({f.image.shape[0] for f in self.frames}) != 1:
            counts = sorted({f.image.shape[0] for f in self.frames})
            raise DataError(f"{self.name}: images have different numbers of channels {counts}; make them equal")
        names = [f.name for f in self.frames]
        if len(set(names)) != len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise DataError(f"{self.name}: two frames are named {twice!r}")
        for frame in self.frames:
            if frame.label is not None:
                check_classes(frame.name, frame.label, len(self.class_names))

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def channels(self) -> int:
        """Number of image channels C."""
        return int(self.frames[0].image.shape[0])

    @property
    def classes(self) -> int:
        """Number of classes, background included."""
        return len(self.class_names)

    def sha256(self) -> str:
        """SHA-256 of what training sees: names, images, labels and instances of the frames, in their order."""
        digest = hashlib.sha256()
        for frame in self.frames:
            digest.update(repr((frame.name, frame.sequence)).encode())
            for array in (frame.image, frame.label, frame.instances):
                digest.update(repr(None if array is None else (array.shape, array.dtype.str)).encode())
                if array is not None:
                    digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def select(self, indices: Iterable[int]) -> Stack:
        """The same stack with only the frames of these indices, in their order."""
        return replace(self, frames=tuple(self.frames[i] for i in indices))


def check_classes(name: str, label: NDArray[np.integer], classes: int) -> None:
    """Raise DataError when a label value is neither a class index nor IGNORE."""
    present = np.flatnonzero(np.bincount(label.reshape(-1), minlength=256))
    outside = [int(v) for v in present if v >= classes and v != IGNORE]
    if outside:
        shown = ", ".join(map(str, outside[:5]))
        raise DataError(
            f"{name}: label values {shown} lie outside the {classes} classes 0..{classes - 1} "
            f"({IGNORE} marks pixels to ignore); correct the labels"
        )


def labelled(frames: Sequence[Frame]) -> list[int]:
    """Indices of the frames that have a label."""
    return [i for i, frame in enumerate(frames) if frame.label is not None]
