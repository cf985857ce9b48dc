"""Instances of class probabilities, by one of two rules: connected components, or seeds that grow by a watershed.

Axes: K classes (background, cell and perhaps border between cells), H rows, W columns.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from unet.prediction.instances.settings import InstanceSettings

Instances = NDArray[np.int32]
Probabilities = NDArray[np.float32]

BACKGROUND, CELL, BORDER = range(3)


class Relief(NamedTuple):
    """Where seeds may lie: smoothed distances H x W, flat indices of their maxima and how far each rises, in pixels."""

    heights_HW: NDArray[np.float32]
    tops: NDArray[np.int64]
    rises: NDArray[np.float32]


def to_instances(probabilities_KHW: Probabilities, settings: InstanceSettings) -> Instances:
    """Instances 1.. of class probabilities, numbered by their first pixel row by row (markers: by the height of seeds).

    Raises ValueError when the probabilities are not K x H x W with K = 2 or 3.
    """
    check(probabilities_KHW)
    if settings.rule == "components":
        ids = components(probabilities_KHW, settings.threshold, settings.connectivity)
    else:
        relief = smoothed(distance(probabilities_KHW, settings.seed_levels), settings.sigma_px)
        ids = grown(probabilities_KHW, relief, settings)
    return finished(ids, settings)


def check(probabilities_KHW: NDArray[Any]) -> None:
    """ValueError when these are no probabilities that instances can be made of."""
    if probabilities_KHW.ndim != 3 or len(probabilities_KHW) not in (2, 3):
        raise ValueError(
            f"probabilities have shape {probabilities_KHW.shape}, expected K x H x W of background, cell and perhaps "
            "border"
        )


def components(probabilities_KHW: Probabilities, threshold: float, connectivity: int) -> Instances:
    """Connected components of p_cell > threshold, numbered by their first pixel row by row."""
    return _labelled(probabilities_KHW[CELL] > np.float64(threshold), connectivity)  # as doubles, as the scores do


def distance(probabilities_KHW: Probabilities, levels: tuple[float, ...]) -> NDArray[np.float32]:
    """Mean over the levels of the distance to the nearest pixel with p_cell <= level; H x W, in pixels.

    Beyond the edge of the image lies no background: a cell that it cuts keeps its middle there. Where a level leaves no
    background at all, the distance is the longer side of the image.
    """
    cell = probabilities_KHW[CELL]
    total, far = np.zeros(cell.shape, np.float32), np.float32(max(cell.shape))
    for level in levels:
        inside = (cell > np.float64(level)).astype(np.uint8)
        total += np.minimum(cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), far)
    return np.asarray(total / np.float32(len(levels)), np.float32)


def smoothed(distance_HW: NDArray[np.float32], sigma_px: float) -> Relief:
    """A distance map after a Gaussian, and its maxima."""
    from unet.prediction.instances.peaks import peaks

    heights = np.asarray(cv2.GaussianBlur(distance_HW, (0, 0), sigma_px), np.float32) if sigma_px > 0 else distance_HW
    return Relief(heights, *peaks(heights))


def grown(probabilities_KHW: Probabilities, relief: Relief, settings: InstanceSettings) -> Instances:
    """Seeds 1.. that rise high enough, grown over the relief into the mask of cell against background alone.

    Holes of the mask stay here: what several cells enclose is a gap between them, what one encloses is filled later.
    """
    from skimage.segmentation import watershed

    cell, background = probabilities_KHW[CELL], probabilities_KHW[BACKGROUND]
    mask = cell > np.float64(settings.threshold) * (cell + background)
    seeds = np.zeros(mask.shape, np.int32)
    tops = relief.tops[relief.rises >= np.float32(settings.height_px)]
    seeds.ravel()[tops] = np.arange(1, len(tops) + 1)
    found = watershed(-relief.heights_HW, seeds, mask=mask, connectivity=1 if settings.connectivity == 4 else 2)
    return np.asarray(found, np.int32)


def finished(ids: Instances, settings: InstanceSettings) -> Instances:
    """Objects without those that are too small, their holes filled, numbered 1.. again."""
    keep = np.bincount(ids.ravel()) >= settings.min_area_px
    keep[0] = False
    numbers = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    kept = ids if keep[1:].all() else numbers[ids]
    return _without_holes(kept, settings.connectivity) if settings.fill_holes else kept


def _without_holes(ids: Instances, connectivity: int) -> Instances:
    """Background that reaches neither the image border nor a second object goes to the object round it."""
    # background is connected the other way: through a wall that is joined at corners no background passes
    holes = _labelled(ids == 0, 12 - connectivity)
    enclosed = np.ones(int(holes.max()) + 1, np.bool_)
    enclosed[0] = False
    for edge in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
        enclosed[edge] = False
    inside = np.flatnonzero(enclosed[holes])  # never at the edge of the image
    steps, objects = (-ids.shape[1], -1, 1, ids.shape[1]), int(ids.max()) + 1
    around = [holes.ravel()[inside].astype(np.int64) * objects + ids.ravel()[inside + step] for step in steps]
    hole, owner = np.divmod(np.unique(np.concatenate(around)), objects)  # what meets, each pair once
    hole, owner = hole[owner > 0], owner[owner > 0]
    single, first, count = np.unique(hole, return_index=True, return_counts=True)
    owners = np.zeros(len(enclosed), np.int32)
    owners[single[count == 1]] = owner[first[count == 1]]
    filled = ids.copy()
    filled.ravel()[inside] = owners[holes.ravel()[inside]]
    return filled


def _labelled(mask_HW: NDArray[np.bool_], connectivity: int) -> Instances:
    """Connected components, numbered by their first pixel row by row, as OpenCV's pixelwise algorithm (CCL_WU) does."""
    pixels = mask_HW.astype(np.uint8)
    return np.asarray(cv2.connectedComponentsWithAlgorithm(pixels, connectivity, cv2.CV_32S, cv2.CCL_WU)[1], np.int32)
