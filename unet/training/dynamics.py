"""The loss of every image during training, and the images whose series stand out: odd or mislabelled ones.

A network learns what most images have in common first. An image whose label contradicts the others keeps a high loss,
or one that rises, while theirs falls; an image that is only unusual starts high and is learned later. The series are
noted in the run folder as `dynamics.jsonl`, one row per evaluation.

Source: training dynamics as data, after Siddiqui et al. 2022, "Metadata Archaeology", arXiv 2209.10015.

Axes: E evaluations, F frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unet.config import Config
from unet.data.stack import Stack
from unet.device import prepare
from unet.errors import ConfigError, RunError
from unet.evaluation.frames import predict_frames
from unet.runs.folder import DYNAMICS, RunFolder
from unet.terminal import Terminal
from unet.training.loop import run
from unet.training.setup import Setup
from unet.training.trainer import Trainer

SUSPECT = 3.0
"""Robust standard deviations above the typical image from which an image should be looked at."""

_AT_ONCE = 3  # consecutive evaluations whose median counts for the peak
_LATE = 0.5  # share of the evaluations, at the end, that an image is judged by
_DEVIATION = 1.4826  # of a normal distribution, in median absolute deviations
_LEAST_DEVIATION = 0.05  # of log losses: images that differ by 5 % are alike, however alike the others are


@dataclass(frozen=True, eq=False)
class LossSeries:
    """losses_EF[e, f]: mean cross-entropy in nats over the known pixels of frame `names[f]` after `updates[e]` updates.

    Of whole, untransformed images in eval mode, without weights; NaN where no pixel is known.
    """

    names: tuple[str, ...]
    updates: tuple[int, ...]
    losses_EF: NDArray[np.float64]


@dataclass(frozen=True)
class Standing:
    """How an image stands among the others.

    score: how far the logarithm of its loss lies above the median of all images, in robust standard deviations; the
    median over the second half of the evaluations. peak: the same, at its highest (median of three evaluations in a
    row). first, last: its loss at the first and the last evaluation.
    """

    name: str
    score: float
    peak: float
    first: float
    last: float

    @property
    def kind(self) -> Literal["suspect", "odd", "usual"]:
        """suspect: stands out to the end, as a wrong label does. odd: stood out, and was learned later."""
        if self.score > SUSPECT:
            return "suspect"
        return "odd" if self.peak > SUSPECT else "usual"


def follow(
    config: Config, stack: Stack, path: Path, every: int, *, overwrite: bool = False, terminal: Terminal | None = None
) -> LossSeries:
    """Train as `unet.training.loop.train` does, to the same bits, and note the loss of every training frame on the way.

    stack: the frames, in place of what config.data names. path: the run folder. every: updates between two evaluations
    (there is one before the first update and one after the last). ConfigError for `every` below 1, RunError when the
    folder exists.
    """
    if every < 1:
        raise ConfigError(f"every: {every!r} is not allowed; use 1 or more updates")
    setup, terminal = Setup.of(config, prepare(config), stack), terminal or Terminal(quiet=True)
    run(setup, path, resume=False, overwrite=overwrite, terminal=terminal, callbacks=(_Follower(every),))
    return read(path)


class _Follower:
    """Looks now and then at the images that a trainer is trained on."""

    def __init__(self, every: int) -> None:
        self.every = every

    def __call__(self, trainer: Trainer) -> None:
        update, config = trainer.state.update, trainer.config
        if update % self.every and update != config.train.updates:
            return
        predictions = predict_frames(
            trainer.network,
            trainer.stack,
            trainer.parts.train,
            trainer.setup.evaluation,
            on_tile=lambda *_: trainer.stopper.check(),
        )
        losses = {p.frame.name: None if math.isnan(p.cross_entropy) else p.cross_entropy for p in predictions}
        trainer.folder.append(DYNAMICS, {"update": update, "losses": losses})


def read(path: Path) -> LossSeries:
    """The series noted in a run folder; RunError when there are none or when they are damaged."""
    rows = RunFolder(path).rows(DYNAMICS)
    if not rows:
        raise RunError(f"{path}: holds no {DYNAMICS}; train it with unet.training.dynamics.follow")
    try:
        names = tuple(rows[0]["losses"])
        losses = [
            [math.nan if (loss := row["losses"][name]) is None else float(loss) for name in names] for row in rows
        ]
        return LossSeries(names, tuple(int(row["update"]) for row in rows), np.array(losses))
    except (LookupError, TypeError, ValueError):
        raise RunError(f"{path / DYNAMICS}: its rows do not fit together; restore it") from None


def excess(losses_EF: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each log loss lies above the median of its evaluation, in robust standard deviations: E x F.

    The deviation is 1.4826 times the median absolute deviation of the frames, at least 0.05 (5 % of a loss). NaN where
    the loss is.
    """
    logs = np.log(np.maximum(losses_EF, 1e-12))
    above = logs - np.nanmedian(logs, axis=1, keepdims=True)
    deviation = _DEVIATION * np.nanmedian(np.abs(above), axis=1, keepdims=True)
    return np.asarray(above / np.maximum(deviation, _LEAST_DEVIATION))


def standings(series: LossSeries) -> list[Standing]:
    """All images, the most suspicious first; images without a known pixel are left out.

    RunError for fewer than three images, among which none is typical.
    """
    known = [f for f in range(len(series.names)) if np.isfinite(series.losses_EF[:, f]).all()]
    if len(known) < 3:
        raise RunError(f"the losses of {len(known)} images are known; it takes three to tell what is usual")
    losses_EF = series.losses_EF[:, known]
    late = min(math.ceil(_LATE * len(losses_EF)), len(losses_EF) - 1)
    excess_EF = excess(losses_EF)
    found = [
        Standing(series.names[f], float(np.median(own[late:])), _peak(own), float(losses[0]), float(losses[-1]))
        for f, own, losses in zip(known, excess_EF.T, losses_EF.T, strict=True)
    ]
    return sorted(found, key=lambda one: -one.score)


def _peak(excess_E: NDArray[np.float64]) -> float:
    if len(excess_E) <= _AT_ONCE:
        return float(np.median(excess_E))
    return float(np.median(np.lib.stride_tricks.sliding_window_view(excess_E, _AT_ONCE), axis=1).max())
