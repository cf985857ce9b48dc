"""Pictures of mistakes: pixels, splits and merges of membranes, matches of single objects.

Axes: H rows, W columns, 3 colours (uint8).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.data.stack import IGNORE, InstanceImage, LabelImage
from unet.metrics.outcomes import fates_of
from unet.metrics.warping import Mistake, mistakes

Colours = NDArray[np.uint8]

WHITE, BACKGROUND, UNKNOWN = (255, 255, 255), (218, 218, 218), (150, 150, 150)
SPLIT, MERGE, CONFUSED = (214, 39, 40), (31, 119, 180), (255, 127, 14)
PALE_SPLIT, PALE_MERGE, FOUND = (246, 190, 190), (180, 208, 235), (44, 160, 44)
BLACK, BROKEN, POOR = (0, 0, 0), (148, 103, 189), (188, 189, 34)
FATES = {"found": FOUND, "missed": SPLIT, "merged": CONFUSED, "split": BROKEN}
OBJECTS_LEGEND = "found green (olive: IoU < 0.5), missed red, merged orange, split purple, extra blue; results black"
GOOD = 0.5  # IoU of a match that deserves to be called found
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
    """What became of the objects (`outcomes.fates_of`), as outlines of the reference on the gray result.

    Reference objects are green where found with an IoU of GOOD or more and olive below it, red where missed, orange
    where merged with another, purple where split. The results are outlined black, those that match nothing blue. Where
    nothing is known all is gray: nothing is wrong there.
    """
    colours = np.full((*gold_HW.shape, 3), 255, dtype=np.uint8)
    colours[result_HW > 0] = BACKGROUND
    ignore = None if unknown_HW is None else [unknown_HW]
    (fates,) = fates_of([gold_HW], [result_HW], ignore)
    by_colour: dict[tuple[int, int, int], list[int]] = {}
    for label, (fate, iou) in fates.references.items():
        by_colour.setdefault(POOR if fate == "found" and iou < GOOD else FATES[fate], []).append(label)
    spurious = np.isin(result_HW, list(fates.spurious))
    colours[_outline(result_HW)] = BLACK
    colours[_grown(_outline(np.where(spurious, result_HW, 0)), 1)] = MERGE
    for colour, labels in by_colour.items():
        colours[_grown(_outline(np.where(np.isin(gold_HW, labels), gold_HW, 0)), 1)] = colour
    colours[_outline(np.where(spurious, 0, result_HW))] = BLACK
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
