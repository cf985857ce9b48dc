"""The pixel weights of the loss: class balance plus a term that raises the borders between neighbouring cells.

    w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))

Source: Ronneberger, Fischer, Brox 2015, doi:10.1007/978-3-319-24574-4_28, Equation 2. d1 and d2 are the Euclidean
distances in pixels from x to the nearest and to the second nearest cell, measured between pixel centres. The equation
has no restriction to the background, and has none here: inside a cell the term is w0 exp(-d2^2 / (2 sigma^2)), so the
rim of a cell that faces a neighbour weighs nearly as much as the gap between them.

The paper says "distance to the border" of a cell and does not say what that is inside of one. Here it is the distance
to the cell, 0 inside. Read as the distance to the outline, it would grow inside too: at depth t beside a gap g the term
would be w0 exp(-(2t + g)^2 / (2 sigma^2)) and not w0 exp(-(t + g)^2 / (2 sigma^2)). In the gaps both are the same.

Axes: H rows, W columns.
"""

from __future__ import annotations

import hashlib
import math
from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet.config import WeightConfig
from unet.data.stack import IGNORE, FloatImage, InstanceImage, LabelImage
from unet.errors import ConfigError, DataError, RunError, nearest
from unet.files import atomic_write

Balance = Literal["none", "inverse_frequency", "blog"]

NEGLIGIBLE = 1e-6  # the border term is not followed to where it is smaller than this
CACHE_VERSION = 1  # counts up when the numbers of a map change for the same input
_DIGEST_BYTES = 32


def weight_map(label_HW: LabelImage, instances_HW: InstanceImage | None, config: WeightConfig) -> FloatImage:
    """Weight of every pixel in the loss, H x W float32; 0 where the label is IGNORE.

    label_HW: class indices. instances_HW: the cells (0 = background, every other value one cell, in however many
    pieces) or None to take the 4-connected components of the non-zero classes. Raises DataError when the shapes differ.
    """
    if instances_HW is None:
        instances_HW = components(label_HW)
    if instances_HW.shape != label_HW.shape:
        raise DataError(f"instances have shape {instances_HW.shape} but the label {label_HW.shape}; make them equal")
    if config.classes:
        weight = class_weights(label_HW, config.classes)
    else:
        weight = class_balance(label_HW, config.balance)
    if config.w0 > 0:
        weight += border_term(instances_HW, config.w0, config.sigma_px)
        weight[label_HW == IGNORE] = 0
    return weight


def class_balance(label_HW: LabelImage, kind: Balance, classes: int | None = None) -> FloatImage:
    """w_c of every pixel, H x W float32; 0 where the label is IGNORE.

    "none": 1. "inverse_frequency": N / (K n_c) with N valid pixels, n_c of them of the pixel's class, K classes
    present; the mean over the valid pixels is 1. "blog": 1 / n_c, which beside w0 = 10 is no balance at all (kept for
    comparison).
    `classes`: number of classes, if labels beyond it shall be refused with DataError.
    """
    if kind not in get_args(Balance):
        known = get_args(Balance)
        raise ConfigError(f"weight.balance: {kind!r} is not one of {', '.join(known)}{nearest(kind, known)}")
    counts = np.bincount(label_HW.reshape(-1), minlength=IGNORE + 1).astype(np.float64)
    counts[IGNORE] = 0
    present = counts > 0
    if classes is not None and present[classes:].any():
        highest = int(np.flatnonzero(present)[-1])
        raise DataError(f"label value {highest} lies outside the classes 0..{classes - 1}; correct the label")
    of_class = np.zeros(IGNORE + 1)
    if kind == "none":
        of_class[present] = 1
    elif kind == "inverse_frequency":
        of_class[present] = counts.sum() / (present.sum() * counts[present])
    else:
        of_class[present] = 1 / counts[present]
    return of_class.astype(np.float32)[label_HW]


def class_weights(label_HW: LabelImage, weights: tuple[float, ...]) -> FloatImage:
    """w_c as the number given for each class, H x W float32; 0 where the label is IGNORE.

    Raises DataError for a label without a weight.
    """
    of_class = np.zeros(IGNORE + 1, np.float32)
    of_class[: len(weights)] = weights
    highest = int(label_HW[label_HW != IGNORE].max(initial=0))
    if highest >= len(weights):
        raise DataError(f"weight.classes has {len(weights)} numbers but the label the class {highest}; give one each")
    return of_class[label_HW]


def border_term(instances_HW: InstanceImage, w0: float, sigma_px: float) -> FloatImage:
    """w0 exp(-(d1 + d2)^2 / (2 sigma^2)) at every pixel, H x W float32; 0 everywhere with fewer than two cells.

    instances_HW: integers, 0 = background, every other value one cell. sigma_px in pixels. The largest error is about
    1e-6 w0 / 10 + 1e-6: the term is dropped where it is below 1e-6, the rest is single precision.
    """
    if w0 <= NEGLIGIBLE:
        return np.zeros(instances_HW.shape, np.float32)
    reach_px = math.ceil(sigma_px * math.sqrt(2 * math.log(w0 / NEGLIGIBLE)))
    d1_HW, d2_HW = two_nearest(instances_HW, reach_px)
    d1_HW += d2_HW
    np.square(d1_HW, out=d1_HW)
    d1_HW *= np.float32(-0.5 / sigma_px**2)
    np.exp(d1_HW, out=d1_HW)
    d1_HW *= np.float32(w0)
    return d1_HW


def two_nearest(instances_HW: InstanceImage, reach_px: int) -> tuple[FloatImage, FloatImage]:
    """Euclidean distances in pixels (d1, d2) to the nearest and second nearest distinct cell, each H x W float32.

    Distances up to reach_px are exact to single precision; larger ones may be larger than they are, or infinite.
    """
    d1_HW = np.full(instances_HW.shape, np.inf, np.float32)
    d2_HW = d1_HW.copy()
    cells_HW = _consecutive(instances_HW)
    height, width = instances_HW.shape
    for number, box in enumerate(ndimage.find_objects(cells_HW), start=1):
        # Each cell needs its distances only as far as they count: one small exact transform per cell.
        rows = slice(max(box[0].start - reach_px, 0), min(box[0].stop + reach_px, height))
        columns = slice(max(box[1].start - reach_px, 0), min(box[1].stop + reach_px, width))
        elsewhere = (cells_HW[rows, columns] != number).view(np.uint8)
        d = cv2.distanceTransform(elsewhere, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        near, next_near = d1_HW[rows, columns], d2_HW[rows, columns]
        np.minimum(next_near, np.maximum(near, d), out=next_near)
        np.minimum(near, d, out=near)
    for d_HW in (d1_HW, d2_HW):
        # OpenCV's square root may differ in the last bit with the memory's alignment; squared distances are integers.
        np.square(d_HW, out=d_HW)
        np.rint(d_HW, out=d_HW)
        np.sqrt(d_HW, out=d_HW)
    return d1_HW, d2_HW


def components(label_HW: LabelImage) -> InstanceImage:
    """The 4-connected components of the non-zero classes (IGNORE is background), H x W int32, numbered from 1."""
    cells = ((label_HW > 0) & (label_HW != IGNORE)).astype(np.uint8)
    _, instances_HW = cv2.connectedComponents(cells, connectivity=4, ltype=cv2.CV_32S)
    return np.asarray(instances_HW, np.int32)


def cached_weight_map(
    label_HW: LabelImage, instances_HW: InstanceImage | None, config: WeightConfig, folder: Path | None
) -> FloatImage:
    """`weight_map`, kept in `folder` under the hash of everything it depends on (None: computed, not kept).

    A file that is damaged is computed again; a folder that cannot be written is not used.
    """
    if folder is None:
        return weight_map(label_HW, instances_HW, config)
    path = folder / f"{_content_hash(label_HW, instances_HW, config)}.weights"
    cached = _read(path, label_HW.shape)
    if cached is not None:
        return cached
    weight = weight_map(label_HW, instances_HW, config)
    _write(path, weight)
    return weight


def _consecutive(instances_HW: InstanceImage) -> NDArray[np.int32]:
    """The same cells numbered 1..n, whatever their values were."""
    if instances_HW.dtype.kind not in "iu":
        raise DataError(f"instances are {instances_HW.dtype}, expected integers (0 = background, one value per cell)")
    low, high = int(instances_HW.min(initial=0)), int(instances_HW.max(initial=0))
    if low >= 0 and high <= 4 * instances_HW.size:  # a table is much faster than sorting all pixels
        used = np.zeros(high + 1, bool)
        index_HW = instances_HW.astype(np.intp, copy=False)
        used[index_HW] = True
        used[0] = False
        return np.asarray((np.cumsum(used, dtype=np.int32) * used)[index_HW], np.int32)
    values, inverse = np.unique(instances_HW, return_inverse=True)
    numbers = np.cumsum(values != 0, dtype=np.int32) * (values != 0)
    return np.asarray(numbers[inverse.reshape(instances_HW.shape)], np.int32)


def _content_hash(label_HW: LabelImage, instances_HW: InstanceImage | None, config: WeightConfig) -> str:
    digest = hashlib.sha256(f"{CACHE_VERSION} {config!r}".encode())
    for array in (label_HW, instances_HW):
        if array is None:
            digest.update(b"none")
        else:
            digest.update(f"{array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _read(path: Path, shape: tuple[int, ...]) -> FloatImage | None:
    """The map in a cache file, or None when there is none or it is not what was written."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if len(body) != 4 * math.prod(shape) or hashlib.sha256(body).digest() != digest:
        return None
    return np.frombuffer(body, "<f4").astype(np.float32).reshape(shape)


def _write(path: Path, weight_HW: FloatImage) -> None:
    body = np.ascontiguousarray(weight_HW, dtype="<f4").tobytes()
    with suppress(RunError), atomic_write(path) as file:  # a full or read-only disk costs time, not the run
        file.write(body + hashlib.sha256(body).digest())
