"""Scores that compare pixels one by one.

Axes: N slices, H rows, W columns; K classes. Label values outside 0..K-1 (255 = not known) are left out of every count.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.metrics.sweep import THRESHOLDS, Sweep, above, check_stacks, f_score, lowest

Counts = NDArray[np.int64]


def confusion(label: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]], classes: int) -> Counts:
    """K x K counts of pixels by [label class, predicted class], over arrays of any equal shape.

    Raises ValueError for unequal shapes, arrays that are no integers, and a predicted class outside 0..K-1 where the
    label is known.
    """
    if label.shape != predicted.shape:
        raise ValueError(f"label {label.shape} and prediction {predicted.shape} differ in shape")
    for name, array in (("label", label), ("prediction", predicted)):
        if array.dtype.kind not in "biu":
            raise ValueError(f"{name} has type {array.dtype}, expected an integer class per pixel")
    known = (label >= 0) & (label < classes)
    chosen = predicted[known]
    if chosen.size and not 0 <= chosen.min() <= chosen.max() < classes:
        raise ValueError(f"prediction holds classes {chosen.min()}..{chosen.max()}, expected 0..{classes - 1}")
    pairs = label[known].astype(np.int64) * classes + chosen.astype(np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def pixel_accuracy(counts: Counts) -> float:
    """Share of the pixels whose class is right; NaN when no pixel was counted."""
    total = int(counts.sum())
    return float(np.trace(counts)) / total if total else math.nan


def class_ious(counts: Counts) -> list[float]:
    """Intersection over union of each class; NaN for a class that occurs neither in the label nor in the prediction."""
    hits = np.diag(counts)
    return _shares(hits, counts.sum(axis=0) + counts.sum(axis=1) - hits)


def class_dice(counts: Counts) -> list[float]:
    """Dice coefficient 2 |A and B| / (|A| + |B|) of each class; NaN for a class that occurs on neither side.

    Dice 1945, doi:10.2307/1932409; the F1 score of the class's pixels.
    """
    return _shares(2 * np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1))


def class_precisions(counts: Counts) -> list[float]:
    """Share of the pixels predicted as a class that are of it; NaN for a class that is never predicted."""
    return _shares(np.diag(counts), counts.sum(axis=0))


def class_recalls(counts: Counts) -> list[float]:
    """Share of the pixels of a class that are predicted as it; NaN for a class that the label does not hold."""
    return _shares(np.diag(counts), counts.sum(axis=1))


def _shares(parts: Counts, wholes: Counts) -> list[float]:
    return [float(p) / float(w) if w else math.nan for p, w in zip(parts, wholes, strict=True)]


def constant_counts(counts: Counts) -> list[Counts]:
    """For each class, the confusion of a prediction that says that class everywhere."""
    constants = [np.zeros_like(counts) for _ in counts]
    for k, constant in enumerate(constants):
        constant[:, k] = counts.sum(axis=1)
    return constants


def mean_iou(counts: Counts) -> float:
    """Mean over the classes that occur of intersection over union; NaN when none does."""
    present = [iou for iou in class_ious(counts) if not math.isnan(iou)]
    return sum(present) / len(present) if present else math.nan


def foreground_overlap(counts: Counts) -> float:
    """Intersection over union of everything that is not class 0; 1 when there is nothing of it on either side."""
    union = int(counts.sum() - counts[0, 0])
    return float(counts[1:, 1:].sum()) / union if union else 1.0


def blog_iou(iou: float) -> float:
    """The thresholded score that the blog post "Reproducing U-Net" calls IoU: clip(ceil(20 (IoU - 0.5)) / 10, 0, 1).

    It is no IoU (0.9 counts 0.8; everything below 0.5 counts 0); kept to compare with that post's curves only. The post
    takes it of the foreground (`foreground_overlap`), image by image.
    """
    return float(np.clip(math.ceil(round(20 * (iou - 0.5), 9)) / 10, 0.0, 1.0))


def pixel_error(label: NDArray[Any], proposal: NDArray[Any]) -> Sweep:
    """Pixel error of the EM challenge: 1 - max over t of the F1 score of the class cell, counts pooled over the slices.

    Precision is 1 without false positives, recall 1 without false negatives, F1 0 where both are 0. It is not the
    share of wrong pixels (`misclassification_rate`). Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142.

    label, proposal: N x H x W or H x W, as `unet.metrics.sweep.check_stacks` takes them.

    Raises ValueError for wrong shapes, types or values.
    """
    return pixel_errors(label, proposal)[0]


def misclassification_rate(label: NDArray[Any], proposal: NDArray[Any]) -> Sweep:
    """Share of the pixels on the wrong side of the threshold, at the best threshold. Arguments as for `pixel_error`."""
    return pixel_errors(label, proposal)[1]


def pixel_errors(label: NDArray[Any], proposal: NDArray[Any]) -> tuple[Sweep, Sweep]:
    """Pixel error and misclassification rate, each at its own best threshold. Arguments as for `pixel_error`."""
    cells_NHW, proposal_NHW = check_stacks(label, proposal)
    cells = int(cells_NHW.sum())
    f1_errors, rates = [], []
    for t in THRESHOLDS:
        found = above(proposal_NHW, t)
        positive, tp = int(found.sum()), int((found & cells_NHW).sum())
        f1_errors.append(1.0 - f_score(tp, positive, cells))
        rates.append((positive + cells - 2 * tp) / cells_NHW.size)
    return lowest(f1_errors, proposal_NHW), lowest(rates, proposal_NHW)
