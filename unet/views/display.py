"""Gray values, labels and objects as colours to look at.

Axes: C channels, H rows, W columns, 3 colours in 0..1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.data.stack import IGNORE, FloatImage

IGNORE_COLOUR = (0.45, 0.25, 0.55)
Limits = tuple[NDArray[np.float64], NDArray[np.float64]]


def visible(image_CHW: FloatImage) -> NDArray[np.float32]:
    """H x W x 3: three channels as red, green, blue, any other number as their mean in gray."""
    if len(image_CHW) == 3:
        return np.asarray(image_CHW.transpose(1, 2, 0))
    return np.repeat(image_CHW.mean(axis=0)[..., None], 3, axis=-1)


def gray_limits(image_CHW: FloatImage) -> Limits:
    """Gray values shown as black and white."""
    low, high = np.percentile(visible(image_CHW), (0.2, 99.8), axis=(0, 1))
    return low, np.where(high > low, high, low + 1)


def stretched(picture: NDArray[np.float32], ends: tuple[Any, Any]) -> NDArray[np.float64]:
    """The picture with the gray values `ends` as 0 and 1."""
    low, high = ends
    return np.asarray(np.clip((picture - low) / (high - low), 0, 1))


def label_colours(label_HW: NDArray[np.uint8], classes: int) -> NDArray[np.float64]:
    """Two classes black and white, more in colours; IGNORE violet."""
    from matplotlib import colormaps

    table = np.zeros((IGNORE + 1, 3))
    if classes <= 2:
        table[1:] = 1
    else:
        colours = colormaps["tab10" if classes <= 11 else "gist_rainbow"]
        for value in range(1, classes):
            table[value] = colours((value - 1) if classes <= 11 else value / classes)[:3]
    table[IGNORE] = IGNORE_COLOUR
    return np.asarray(table[label_HW])


def object_colours(instances_HW: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """A random bright colour for every object, the same for the same numbers; 0 is black."""
    values, inverse = np.unique(instances_HW, return_inverse=True)
    colours = np.random.default_rng(1).uniform(0.25, 1, (len(values), 3))
    colours[values == 0] = 0
    return np.asarray(colours[inverse.reshape(instances_HW.shape)])


def shrunk(values: NDArray[np.uint8], most_px: int, *, nearest: bool = False) -> NDArray[np.uint8]:
    """H x W (x 3) of at most `most_px` on each side: means of areas, or the nearest pixels (for numbers of classes)."""
    import cv2

    height, width = values.shape[:2]
    scale = most_px / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(values)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_NEAREST if nearest else cv2.INTER_AREA))
