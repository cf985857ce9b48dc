"""Challenge scores while training goes on: the cheap part of those that scores.json holds at the end.

Axes: N frames, K classes, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from unet.config import Config
from unet.data.load import references
from unet.data.stack import IGNORE, InstanceImage, Stack
from unet.errors import DataError
from unet.evaluation.frames import FramePrediction
from unet.evaluation.scoring import kind_of
from unet.metrics.instance import seg
from unet.metrics.pixel import pixel_errors
from unet.metrics.rand import rand_error, v_scores
from unet.prediction.instances import InstanceSettings, to_instances

MOST_PIXELS = 2**24
"""Held out, of more of which these scores would take seconds of every evaluation (64 slices of 512 x 512 px)."""


class ChallengeScores:
    """The challenge scores of one run's held-out frames: of membranes at their best thresholds, of objects at 0.5.

    At the end of a run objects are made with settings searched on training frames, so that their SEG is another there.
    """

    def __init__(self, config: Config, stack: Stack) -> None:
        self._config, self._stack = config, stack
        self._gold: Mapping[str, InstanceImage] | None = None

    def __call__(self, predictions: Sequence[FramePrediction]) -> dict[str, float]:
        """pixel_error, rand_error, v_rand, v_info of membranes, seg_at_half of objects.

        Empty where none is defined, and for more than MOST_PIXELS.
        """
        if sum(p.probabilities[0].size for p in predictions) > MOST_PIXELS:
            return {}
        kind = kind_of(self._stack)
        if kind == "membranes":
            return membrane_scores(predictions)
        if kind != "objects":
            return {}
        if self._gold is None:
            self._gold = self._references()
        known = [p for p in predictions if p.frame.name in self._gold]
        if not known:
            return {}
        results = [to_instances(p.probabilities, InstanceSettings()) for p in known]
        value = seg([self._gold[p.frame.name] for p in known], results)
        return {} if math.isnan(value) else {"seg_at_half": value}

    def _references(self) -> Mapping[str, InstanceImage]:
        try:
            return references(self._config.data, self._stack)
        except DataError:  # a file has gone since the start, of which the end of the run tells: no hours are lost here
            return {}


def membrane_scores(predictions: Sequence[FramePrediction]) -> dict[str, float]:
    """Scores of the EM challenge, pooled; none for frames of different sizes or not all labelled, as in scores.json.

    None of probabilities that are no numbers either: training says itself that it has diverged, and where.
    """
    labels = [p.frame.label for p in predictions]
    sizes = {label.shape for label in labels if label is not None}
    if len(sizes) != 1 or any(label is None or (label == IGNORE).any() for label in labels):
        return {}
    truth_NHW = np.stack([label for label in labels if label is not None]) > 0
    cells_NHW = np.stack([p.probabilities[1] for p in predictions])
    if not np.isfinite(cells_NHW).all():
        return {}
    pixel, _ = pixel_errors(truth_NHW, cells_NHW)
    v_rand, v_info = v_scores(truth_NHW, cells_NHW)
    return {
        "pixel_error": pixel.value,
        "rand_error": rand_error(truth_NHW, cells_NHW).value,
        "v_rand": v_rand.value,
        "v_info": v_info.value,
    }
