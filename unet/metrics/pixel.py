"""Scores that compare pixels one by one.

Axes: H rows, W columns; K classes. Label values outside 0..K-1 (255 = not known) are left out of every count.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def confusion(label: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]], classes: int) -> Counts:
    """K x K counts of pixels by [label class, predicted class], over arrays of any equal shape."""
    if label.shape != predicted.shape:
        raise ValueError(f"label {label.shape} and prediction {predicted.shape} differ in shape")
    known = (label >= 0) & (label < classes)
    pairs = label[known].astype(np.int64) * classes + predicted[known]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def pixel_accuracy(counts: Counts) -> float:
    """Share of the pixels whose class is right; NaN when no pixel was counted."""
    total = int(counts.sum())
    return float(np.trace(counts)) / total if total else math.nan


def class_ious(counts: Counts) -> list[float]:
    """Intersection over union of each class; NaN for a class that occurs neither in the label nor in the prediction."""
    hits = np.diag(counts)
    unions = counts.sum(axis=0) + counts.sum(axis=1) - hits
    return [float(h) / float(u) if u else math.nan for h, u in zip(hits, unions, strict=True)]


def mean_iou(counts: Counts) -> float:
    """Mean over the classes that occur of intersection over union; NaN when none does."""
    present = [iou for iou in class_ious(counts) if not math.isnan(iou)]
    return sum(present) / len(present) if present else math.nan


def blog_iou(iou: float) -> float:
    """The thresholded score that the blog post "Reproducing U-Net" calls IoU: clip(ceil(20 (IoU - 0.5)) / 10, 0, 1).

    It is no IoU (0.9 counts 0.8; everything below 0.5 counts 0); kept to compare with that post's curves only.
    """
    return float(np.clip(math.ceil(round(20 * (iou - 0.5), 9)) / 10, 0.0, 1.0))
