"""What a dashboard shows of a run in training beside its rows: pictures and weight maps.

Nothing here is computed for a run without a dashboard, and what is computed is computed beside training, in the
dashboard's thread. The amount is bounded: a fixed few frames, small pictures, ten evaluations of them.

Axes: K classes, H rows, W columns.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from unet.config import Config
from unet.data.stack import IGNORE, FloatImage, Stack
from unet.evaluation.frames import FramePrediction
from unet.runs.dashboard import Dashboard
from unet.runs.mirrored import place
from unet.runs.wandb_client import Picture
from unet.tiles.source import TileSource
from unet.views.display import gray_limits, shrunk, stretched, visible
from unet.views.mistakes import ANOTHER, EXTRA, MISSED, RIGHT, error_kinds

FRAMES = 4  # that are shown, always the same
SIDE_PX = 384  # of the longer side of a picture
EVALUATIONS = 10  # that are shown in pictures, the last one among them
LEVELS = 10  # of the overlay of the probability

_ERRORS = {RIGHT: "right", MISSED: "missed", EXTRA: "extra", ANOTHER: "another class"}


class Panels:
    """The panels of one run in training; does nothing where the dashboard is not active.

    stack: all frames. train: those of the training part, which the tiles of `source` are cut from.
    """

    def __init__(self, dashboard: Dashboard, config: Config, stack: Stack, train: Stack, source: TileSource) -> None:
        self.dashboard, self.config, self.stack = dashboard, config, stack
        self.train, self.source = train, source

    def begin(self) -> None:
        """Send the weight maps of the first few training frames."""
        if self.dashboard.active:
            self.dashboard.later("weights", self._send_weights)

    def evaluation(self, update: int, predictions: list[FramePrediction]) -> None:
        """Send what can be shown of the evaluation after `update` updates."""
        if self.dashboard.active and predictions and is_shown(update, self.config):
            chosen = [predictions[i] for i in few(len(predictions))]
            self.dashboard.later("evaluation", lambda: self._send_evaluation(update, chosen))

    def _send_weights(self) -> None:
        frames = self.train.frames
        chosen = [i for i in few(len(frames)) if frames[i].label is not None]
        maps = [weight_picture(frames[i].name, self.source.weight_map(i)) for i in chosen]
        self.dashboard.pictures("weight_map", same_size(maps), place(0, self.config))

    def _send_evaluation(self, update: int, chosen: list[FramePrediction]) -> None:
        began, row = time.perf_counter(), place(update, self.config)
        pictures = [overlay_picture(p, self.stack.class_names) for p in chosen]
        self.dashboard.pictures("held_out/frames", same_size(pictures), row)
        self.dashboard.pictures("held_out/probability", same_size([probability_picture(p) for p in chosen]), row)
        self.dashboard.log({"timing/dashboard_s": time.perf_counter() - began, **row})


def is_shown(update: int, config: Config) -> bool:
    """Whether the evaluation after `update` updates is shown in pictures; of many the last and evenly spread ones."""
    settings = config.train
    stride = math.ceil(settings.updates / settings.eval_every / EVALUATIONS)
    return update == settings.updates or update % (stride * settings.eval_every) == 0


def few(count: int) -> list[int]:
    """At most FRAMES indices, spread evenly over 0..count-1."""
    return sorted(set(np.linspace(0, count - 1, min(FRAMES, count)).round().astype(int).tolist())) if count else []


def overlay_picture(prediction: FramePrediction, class_names: Sequence[str]) -> Picture:
    """A held-out frame with overlays: probability of the foreground in ten levels, label, errors."""
    frame, label = prediction.frame, prediction.frame.label
    assert label is not None  # predict_frames refuses frames without one
    foreground = 1 - prediction.probabilities[0]
    levels = np.clip(foreground * LEVELS, 0, LEVELS - 1).astype(np.uint8)
    names = dict(enumerate(class_names)) | {IGNORE: "not known"}
    overlays = {
        "probability": (levels, {i: f"{i / LEVELS:.1f} to {(i + 1) / LEVELS:.1f}" for i in range(LEVELS)}),
        "label": (label, names),
        "errors": (error_kinds(label, prediction.probabilities.argmax(axis=0)), _ERRORS),
    }
    small = {name: (shrunk(values, SIDE_PX, nearest=True), meanings) for name, (values, meanings) in overlays.items()}
    return Picture(shrunk(gray_values(frame.image), SIDE_PX), frame.name, small)


def probability_picture(prediction: FramePrediction) -> Picture:
    """The probability of the foreground, black 0, white 1."""
    foreground = np.clip(255 * (1 - prediction.probabilities[0]), 0, 255).round().astype(np.uint8)
    return Picture(shrunk(foreground, SIDE_PX), prediction.frame.name)


def weight_picture(name: str, weight_HW: FloatImage) -> Picture:
    """A weight map, from black (0) to its largest value, which the caption names."""
    largest = max(float(weight_HW.max()), 1e-12)
    gray = np.clip(weight_HW / largest * 255, 0, 255).astype(np.uint8)
    colours = cv2.applyColorMap(gray, cv2.COLORMAP_MAGMA)[..., ::-1]
    caption = f"{name}: weight {weight_HW.min():.3g} .. {weight_HW.max():.3g}, mean {weight_HW.mean():.3g}"
    return Picture(shrunk(np.ascontiguousarray(colours), SIDE_PX), caption)


def gray_values(image_CHW: FloatImage) -> NDArray[np.uint8]:
    """H x W (x 3, of three channels) uint8: the darkest and the brightest 0.2 % become black and white."""
    shown = np.round(255 * stretched(visible(image_CHW), gray_limits(image_CHW))).astype(np.uint8)
    return shown if len(image_CHW) == 3 else np.ascontiguousarray(shown[..., 0])


def same_size(pictures: Sequence[Picture]) -> list[Picture]:
    """All padded with 0 at the bottom and on the right to the largest of them, as one panel needs them."""
    height = max((p.pixels.shape[0] for p in pictures), default=0)
    width = max((p.pixels.shape[1] for p in pictures), default=0)

    def padded(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        missing = [(0, height - values.shape[0]), (0, width - values.shape[1])]
        return np.pad(values, missing + [(0, 0)] * (values.ndim - 2))

    return [
        Picture(padded(p.pixels), p.caption, {name: (padded(v), names) for name, (v, names) in p.overlays.items()})
        for p in pictures
    ]
