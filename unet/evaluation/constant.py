"""What a prediction scores that says the same everywhere, and the warnings that follow.

Axes: N frames, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.data.stack import IGNORE, Frame
from unet.evaluation.frames import FramePrediction
from unet.metrics.pixel import constant_counts, mean_iou, pixel_accuracy, pixel_errors
from unet.metrics.rand import rand_error, v_scores
from unet.metrics.table import higher_is_better


def baseline(predictions: Sequence[FramePrediction]) -> dict[str, float]:
    """The best pixel accuracy and the best mean IoU of one class everywhere; empty when no pixel is known."""
    constants = constant_counts(np.sum([p.confusion for p in predictions], axis=0))
    if not constants[0].any():
        return {}
    scores = {"pixel_accuracy": pixel_accuracy, "mean_iou": mean_iou}
    return {name: max(map(score, constants)) for name, score in scores.items()}


def challenge_baseline(cells_NHW: NDArray[np.bool_]) -> dict[str, float]:
    """The best that a constant image reaches in the EM challenge's scores, but for the warping error."""
    constant = np.full(cells_NHW.shape, 0.5, np.float32)  # the sweep makes both of it: all cell and all membrane
    v_rand, v_info = v_scores(cells_NHW, constant)
    pixel, rand = pixel_errors(cells_NHW, constant)[0], rand_error(cells_NHW, constant)
    sweeps = {"pixel_error": pixel, "rand_error": rand, "v_rand": v_rand, "v_info": v_info}
    return {name: sweep.value for name, sweep in sweeps.items()}


def warnings_of(values: Mapping[str, float | None], constant: Mapping[str, float]) -> list[str]:
    """A line that names the scores in which a constant prediction is as good; none where the prediction is better."""
    as_good = []
    for name, base in constant.items():
        value = values.get(name)
        if value is not None and not math.isnan(value) and (value <= base if higher_is_better(name) else value >= base):
            as_good.append(f"{name} ({base:.4f})")
    return [f"warning: a constant prediction scores as well: {', '.join(as_good)}"] if as_good else []


def missing_classes(frames: Sequence[Frame], class_names: Sequence[str], part: str) -> list[str]:
    """A line that names the classes of which the labels of these frames hold no pixel; none when all are there."""
    present: set[Any] = set()
    for frame in frames:
        if frame.label is not None:
            present |= set(np.flatnonzero(np.bincount(frame.label.ravel(), minlength=IGNORE + 1)).tolist())
    missing = [name for k, name in enumerate(class_names) if k not in present]
    if not missing:
        return []
    what = "network cannot learn it" if part == "training" else "scores say nothing about it"
    return [f"warning: the {part} labels hold no pixel of {', '.join(missing)}, so the {what}"]
