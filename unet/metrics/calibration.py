"""Whether probabilities mean what they say: of the pixels given a class with 0.8, are 80 % of that class?

Axes: K classes, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Bins of equal width over the confidence 0..1, as Guo et al. 2017 take."""


class Reliability(NamedTuple):
    """By bin of confidence: pixels, sum of their confidence, pixels whose class is right."""

    pixels: NDArray[np.int64]
    confidence: NDArray[np.float64]
    right: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error: mean over the pixels of |accuracy - confidence| of their bin; NaN without any.

        Guo et al. 2017, arXiv:1706.04599, equation 3.
        """
        total = int(self.pixels.sum())
        return float(np.abs(self.right - self.confidence).sum() / total) if total else math.nan

    def points(self) -> list[tuple[float, float, int]]:
        """(mean confidence, share that is right, pixels) of each bin that holds any, in order."""
        return [
            (c / n, r / n, n)
            for n, c, r in zip(self.pixels.tolist(), self.confidence.tolist(), self.right.tolist(), strict=True)
            if n
        ]


def reliability(pairs: Iterable[tuple[NDArray[np.integer[Any]], NDArray[np.floating[Any]]]]) -> Reliability:
    """Pooled over frames (label H x W, probabilities K x H x W); label values outside 0..K-1 are left out.

    The confidence of a pixel is the probability of its most probable class. A confidence on the edge of two bins
    belongs to the lower one.

    Raises ValueError for unequal shapes and probabilities outside [0, 1].
    """
    pixels, right = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    confidence = np.zeros(BINS)
    for label, probabilities in pairs:
        if label.shape != probabilities.shape[1:]:
            raise ValueError(f"label {label.shape} and probabilities {probabilities.shape} differ in height and width")
        if probabilities.size and not (probabilities.min() >= -1e-6 and probabilities.max() <= 1 + 1e-6):
            raise ValueError("probabilities must lie in [0, 1]")
        known = (label >= 0) & (label < len(probabilities))
        chosen = probabilities.argmax(axis=0)[known]
        sure = probabilities.max(axis=0)[known].astype(np.float64)
        bins = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
        pixels += np.bincount(bins, minlength=BINS)
        confidence += np.bincount(bins, sure, minlength=BINS)
        right += np.bincount(bins[chosen == label[known]], minlength=BINS)
    return Reliability(pixels, confidence, right)
