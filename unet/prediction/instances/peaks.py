"""The compiled loop that finds the peaks of an image. Imported only when instances are grown from seeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unet.metrics._jit import jit


def peaks(image_HW: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The local maxima (8-connected) of the positive part of an image: flat indices, and how far each rises (float32).

    A maximum rises as far as one must go down from it to reach a higher one, or 0 where there is none (its dynamics:
    Grimaud 1992, doi:10.1117/12.60650). Those that rise at least h are the h-maxima of the image, for every h at once.
    Of equally high maxima, and on a plateau, the first pixel row by row counts as the highest.
    """
    padded = np.zeros((image_HW.shape[0] + 2, image_HW.shape[1] + 2), np.float32)
    padded[1:-1, 1:-1] = image_HW
    heights = padded.ravel()
    inside = np.flatnonzero(heights > 0)
    order = inside[np.argsort(-heights[inside], kind="stable")]
    tops, rises = _flood(heights, order, padded.shape[1])
    rows, columns = np.divmod(tops, padded.shape[1])
    return (rows - 1) * image_HW.shape[1] + columns - 1, rises


@jit
def _flood(
    heights: NDArray[np.float32], order: NDArray[np.int64], width: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Pixels join the maxima of their neighbours from high to low; where two maxima meet, the lower one ends."""
    steps = np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1])
    parent = np.full(heights.size, -1, np.int64)
    rise = np.zeros(heights.size, np.float32)
    for pixel in order:
        own = -1
        for step in steps:
            other = pixel + step
            if parent[other] < 0:
                continue
            while parent[other] != other:
                parent[other] = parent[parent[other]]
                other = parent[other]
            if own < 0:
                own = other
            elif other != own:
                if heights[other] > heights[own] or (heights[other] == heights[own] and other < own):
                    own, other = other, own
                rise[other] = heights[other] - heights[pixel]
                parent[other] = own
        parent[pixel] = own if own >= 0 else pixel
    for pixel in order:
        if parent[pixel] == pixel:
            rise[pixel] = heights[pixel]
    tops = order[rise[order] > 0]
    return tops, rise[tops]
