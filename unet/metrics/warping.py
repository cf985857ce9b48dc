"""Warping error of the EM challenge: the mistakes that remain when the label is bent towards the proposal.

The label is flipped, pixel by pixel, towards the thresholded proposal wherever that keeps its topology. Pixels that
still differ are mistakes of topology; those that merge or split cells are counted. Jain et al. 2010,
doi:10.1109/CVPR.2010.5539950; Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142.

Axes: N slices, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.metrics.sweep import THRESHOLDS, Cells, Proposal, Sweep, above, check_stacks, lowest

WARPING_THRESHOLDS = THRESHOLDS[:10]
"""t = 0, 0.1, ..., 0.9"""

RADIUS = 20
"""Half the side of the window (41 x 41 pixels) in which a removed pixel has to part a cell to count as a split."""


class Mistake(IntEnum):
    """What a remaining mismatch is; the first four change objects or holes, MERGE and SPLIT make the warping error."""

    NONE = 0
    OBJECT_DELETION = 1
    OBJECT_ADDITION = 2
    HOLE_ADDITION = 3
    HOLE_DELETION = 4
    MERGE = 5
    SPLIT = 6


def warping_error(label: NDArray[Any], proposal: NDArray[Any], *, radius: int = RADIUS) -> Sweep:
    """Warping error: min over t = 0..0.9 of (MERGE + SPLIT pixels) / pixels, counted over all slices.

    label, proposal: as `check_stacks` takes them. radius: half the side of the window of the split test, in pixels.
    A proposal without foreground scores 0 here: look at the sweep's `empty`.

    Raises ValueError for wrong shapes, types or values.
    """
    return warping_errors(label, proposal, radius=radius)[0]


def warping_errors(
    label: NDArray[Any],
    proposal: NDArray[Any],
    *,
    radius: int = RADIUS,
    thresholds: Sequence[float] = WARPING_THRESHOLDS,
) -> tuple[Sweep, Sweep]:
    """Warping error and classic warping error (all remaining mismatches / pixels), each at its own best threshold.

    Arguments as for `warping_error`. thresholds: those that are tried.
    """
    cells_NHW, proposal_NHW = check_stacks(label, proposal)
    counted = np.zeros((len(thresholds), len(Mistake)), np.int64)
    for cells, slice_HW in zip(cells_NHW, proposal_NHW, strict=True):
        for i, t in enumerate(thresholds):
            counted[i] += np.bincount(_mistakes(cells, slice_HW, t, radius)[0], minlength=len(Mistake))
    topology = (counted[:, Mistake.MERGE] + counted[:, Mistake.SPLIT]) / cells_NHW.size
    classic = counted.sum(axis=1) / cells_NHW.size
    return lowest(topology.tolist(), proposal_NHW, thresholds), lowest(classic.tolist(), proposal_NHW, thresholds)


def mistakes(
    label: NDArray[Any], proposal: NDArray[Any], threshold: float, *, radius: int = RADIUS
) -> NDArray[np.uint8]:
    """Map (N x) H x W of `Mistake` values at one threshold, for pictures. Arguments as for `warping_error`."""
    cells_NHW, proposal_NHW = check_stacks(label, proposal)
    found = np.zeros(cells_NHW.shape, np.uint8)
    for out, cells, slice_HW in zip(found, cells_NHW, proposal_NHW, strict=True):
        kinds, rows, columns = _mistakes(cells, slice_HW, threshold, radius)
        out[rows, columns] = kinds
    return found.reshape(np.asarray(label).shape)


def _mistakes(
    cells_HW: Cells, slice_HW: Proposal, threshold: float, radius: int
) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32]]:
    """Kind, row and column of every mismatch of one slice that warping leaves."""
    from unet.metrics import _flips, _regions

    warped, left = warp(cells_HW, slice_HW, threshold)
    rows, columns = (np.asarray(i, np.int32) for i in np.divmod(left, cells_HW.shape[1]))
    ids, _ = _regions.components(warped)
    return _flips.classify(warped, ids, rows, columns, radius), rows, columns


def warp(cells_HW: Cells, slice_HW: Proposal, threshold: float) -> tuple[Cells, NDArray[np.int64]]:
    """The warped label H x W of one slice and the flat indices (row * W + column) of the mismatches that it leaves.

    Mismatches are tried column by column in the order of falling |proposal - threshold|, again and again until nothing
    flips; the order is part of the definition, another one moves the error by up to 2e-3.
    """
    from unet.metrics import _flips

    height, width = cells_HW.shape
    columns, rows = np.nonzero((cells_HW != above(slice_HW, threshold)).T)
    distance = np.abs(slice_HW[rows, columns] - np.float64(threshold)).astype(np.float32)
    order = np.argsort(-distance, kind="stable")
    padded = np.ascontiguousarray(np.pad(cells_HW, 1))  # flips are made in its flat view
    left = _flips.flip_simple(padded, ((rows + 1) * (width + 2) + columns + 1)[order])
    row, column = np.divmod(left, width + 2)
    return np.ascontiguousarray(padded[1 : height + 1, 1 : width + 1]), (row - 1) * width + column - 1
