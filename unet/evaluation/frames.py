"""Stitched probabilities of whole, untransformed images against their labels; never trains.

Axes: K classes, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.config import PredictConfig
from unet.data.stack import IGNORE, Frame, Stack
from unet.errors import DataError
from unet.metrics.pixel import (
    blog_iou,
    class_dice,
    class_ious,
    class_precisions,
    class_recalls,
    confusion,
    foreground_overlap,
    mean_iou,
    pixel_accuracy,
)
from unet.prediction.ensemble import Predicting
from unet.prediction.overlap import DEFAULTS, predict_image


@dataclass(frozen=True, eq=False)
class FramePrediction:
    """What was predicted for one frame, and how far it is from the label."""

    frame: Frame
    probabilities: NDArray[np.float32]  # K x H x W
    cross_entropy: float  # mean over the known pixels, nats
    confusion: NDArray[np.int64]  # K x K

    @classmethod
    def of(cls, frame: Frame, probabilities: NDArray[np.float32]) -> FramePrediction:
        """Probabilities K x H x W held against the label of the frame, which must have one."""
        assert frame.label is not None
        counts = confusion(frame.label, probabilities.argmax(axis=0).astype(np.uint8), len(probabilities))
        return cls(frame, probabilities, cross_entropy(probabilities, frame.label), counts)


def predict_frames(
    network: Predicting,
    stack: Stack,
    indices: Iterable[int],
    how: PredictConfig = DEFAULTS,
    *,
    on_frame: Callable[[int], None] | None = None,
    on_tile: Callable[[int, int], None] | None = None,
) -> list[FramePrediction]:
    """Predict labelled frames by overlap tiles in eval mode and compare them with their labels."""
    results = []
    for done, index in enumerate(indices, start=1):
        frame = stack.frames[index]
        if frame.label is None:
            raise DataError(f"{frame.name} has no label to be scored against; leave it out")
        probabilities = predict_image(network, frame.image, stack.classes, how, on_tile=on_tile)
        results.append(FramePrediction.of(frame, probabilities))
        if on_frame is not None:
            on_frame(done)
    return results


def cross_entropy(probabilities_KHW: NDArray[np.float32], label_HW: NDArray[np.uint8]) -> float:
    """Mean over the known pixels of -log p of the true class, in nats; NaN when no pixel is known."""
    rows, columns = np.nonzero(label_HW != IGNORE)
    if rows.size == 0:
        return math.nan
    chosen = probabilities_KHW[label_HW[rows, columns], rows, columns].astype(np.float64)
    return float(-np.log(np.maximum(chosen, 1e-30)).mean())


SPREAD = 0.01  # standard deviation of the probability of background, over all pixels, below which nothing is told apart
RARE = 0.01  # share of the truly rarer pixels that a prediction must find another class for at least


def collapsed(predictions: list[FramePrediction]) -> bool:
    """Whether a network says the same everywhere, so that its scores are those of a constant prediction.

    True when the probability of the first class hardly varies over all frames (standard deviation below 0.01), or when
    fewer known pixels are given another class than the most frequent one than a hundredth of those that truly have
    another. Frames that truly are of one class say nothing, unless the probability does not vary.
    """
    if not predictions:
        return False
    first = np.concatenate([p.probabilities[0].ravel() for p in predictions])
    counts = np.sum([p.confusion for p in predictions], axis=0)
    found, true = (int(sums.sum() - sums.max()) for sums in (counts.sum(axis=0), counts.sum(axis=1)))
    return bool(first.std(dtype=np.float64) < SPREAD or found < RARE * true)


def pixel_scores(predictions: list[FramePrediction], class_names: tuple[str, ...], own: bool = False) -> dict[str, Any]:
    """Scores pooled over frames: cross-entropy, pixel accuracy, IoU of each class and their mean.

    Then blog_iou, or, of data of one's own, Dice, precision and recall of each class. None stands for what is not
    defined; own labels of a single class define no score but the loss, for there is nothing to tell apart.
    """
    counts = np.sum([p.confusion for p in predictions], axis=0)
    known = [int(p.confusion.sum()) for p in predictions]
    pairs = [(p.cross_entropy, n) for p, n in zip(predictions, known, strict=True) if n]
    ious = class_ious(counts)
    scores: dict[str, Any] = {
        "loss": sum(loss * n for loss, n in pairs) / sum(n for _, n in pairs) if pairs else math.nan,
        "pixel_accuracy": pixel_accuracy(counts),
        "mean_iou": mean_iou(counts),
    }
    for name, iou in zip(class_names, ious, strict=True):
        scores[f"iou_{name}"] = iou
    if own:
        by_class = {"dice": class_dice(counts), "precision": class_precisions(counts), "recall": class_recalls(counts)}
        scores |= {
            f"{kind}_{n}": v for kind, found in by_class.items() for n, v in zip(class_names, found, strict=True)
        }
        if np.count_nonzero(counts.sum(axis=1)) < 2:
            scores |= {name: math.nan for name in scores if name != "loss"}
        return {key: None if math.isnan(v) else v for key, v in scores.items()}
    per_frame = [foreground_overlap(p.confusion) for p, n in zip(predictions, known, strict=True) if n]
    scores["blog_iou"] = sum(map(blog_iou, per_frame)) / len(per_frame) if per_frame else math.nan
    return {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in scores.items()}
