"""Pictures of mistakes: pixels, splits and merges of membranes, matches of single objects.

Axes: H rows, W columns, 3 colours (uint8).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.data.stack import IGNORE, InstanceImage, LabelImage
from unet.metrics.instance import match_objects
from unet.metrics.warping import Mistake, mistakes

Colours = NDArray[np.uint8]

WHITE, BACKGROUND, UNKNOWN = (255, 255, 255), (218, 218, 218), (150, 150, 150)
SPLIT, MERGE, CONFUSED = (214, 39, 40), (31, 119, 180), (255, 127, 14)
PALE_SPLIT, PALE_MERGE, FOUND = (246, 190, 190), (180, 208, 235), (44, 160, 44)
RIGHT, MISSED, EXTRA, ANOTHER = range(4)
MARK_RADIUS_PX = 3  # single wrong pixels decide about splits and merges, and would not be seen


def pixel_mistakes(label_HW: LabelImage, predicted_HW: NDArray[np.integer[Any]]) -> Colours:
    """Red: foreground taken for background; blue: background taken for foreground; orange: another foreground class."""
    colours = _ground(label_HW)
    kinds = error_kinds(label_HW, predicted_HW)
    for kind, colour in ((MISSED, SPLIT), (EXTRA, MERGE), (ANOTHER, CONFUSED)):
        colours[kinds == kind] = colour
    return colours


def error_kinds(label_HW: LabelImage, predicted_HW: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """RIGHT (also where nothing is known), MISSED foreground, EXTRA foreground, ANOTHER foreground class; H x W."""
    kinds = np.full(label_HW.shape, RIGHT, np.uint8)
    known = label_HW != IGNORE
    kinds[known & (label_HW > 0) & (predicted_HW == 0)] = MISSED
    kinds[known & (label_HW == 0) & (predicted_HW > 0)] = EXTRA
    kinds[known & (label_HW > 0) & (predicted_HW > 0) & (label_HW != predicted_HW)] = ANOTHER
    return kinds


def membrane_mistakes(label_HW: LabelImage, cell_HW: NDArray[np.float32], threshold: float) -> Colours:
    """Splits red and merges blue, as the warping error counts them at `threshold`; other wrong pixels pale."""
    colours = _ground(label_HW)
    cells, predicted = label_HW > 0, cell_HW > np.float64(threshold)
    colours[cells & ~predicted] = PALE_SPLIT
    colours[~cells & predicted] = PALE_MERGE
    found = mistakes(cells, cell_HW, threshold)
    for kind, colour in ((Mistake.SPLIT, SPLIT), (Mistake.MERGE, MERGE)):
        colours[_grown(found == kind)] = colour
    colours[label_HW == IGNORE] = UNKNOWN  # nothing is wrong there
    return colours


def object_mistakes(
    gold_HW: InstanceImage, result_HW: InstanceImage, unknown_HW: NDArray[np.bool_] | None = None
) -> Colours:
    """Outlines: reference objects that are matched (SEG's rule) green, missed red; results that match nothing blue.

    Where nothing is known all is gray: nothing is wrong there.
    """
    colours = np.full((*gold_HW.shape, 3), 255, dtype=np.uint8)
    colours[result_HW > 0] = BACKGROUND
    matches = match_objects(gold_HW, result_HW)
    matched = [m.reference for m in matches if m.result]
    used = [m.result for m in matches if m.result]
    spurious = np.where(np.isin(result_HW, used), 0, result_HW)
    colours[_grown(_outline(spurious), 1)] = MERGE
    colours[_grown(_outline(np.where(np.isin(gold_HW, matched), gold_HW, 0)), 1)] = FOUND
    colours[_grown(_outline(np.where(np.isin(gold_HW, matched), 0, gold_HW)), 1)] = SPLIT
    if unknown_HW is not None:
        colours[unknown_HW] = UNKNOWN
    return colours


def _ground(label_HW: LabelImage) -> Colours:
    colours = np.full((*label_HW.shape, 3), 255, dtype=np.uint8)
    colours[label_HW == 0] = BACKGROUND
    colours[label_HW == IGNORE] = UNKNOWN
    return colours


def _outline(instances_HW: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Pixels of an object that have a neighbour (below or to the right, either way) of another value."""
    edge = np.zeros(instances_HW.shape, dtype=bool)
    for axis in (0, 1):
        first = instances_HW[:-1] if axis == 0 else instances_HW[:, :-1]
        second = instances_HW[1:] if axis == 0 else instances_HW[:, 1:]
        differs = first != second
        (edge[:-1] if axis == 0 else edge[:, :-1])[differs & (first > 0)] = True
        (edge[1:] if axis == 0 else edge[:, 1:])[differs & (second > 0)] = True
    return edge


def _grown(mask_HW: NDArray[np.bool_], radius: int = MARK_RADIUS_PX) -> NDArray[np.bool_]:
    import cv2

    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.dilate(mask_HW.astype(np.uint8), disc), dtype=bool)
