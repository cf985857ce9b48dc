"""Wrong labels found by the company they keep: images whose loss runs as that of images which were spoilt on purpose.

A few images are given a known fault (probes); during training the loss of every image is noted
(`unet.training.dynamics.follow`); an image belongs to the kind of the probes whose series lie nearest to its own.

Source: Siddiqui et al. 2022, "Metadata Archaeology", arXiv 2209.10015 (k nearest probes in the space of loss series).

Axes: E evaluations, F frames, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import mannwhitneyu

from unet.data.stack import Frame, Stack
from unet.errors import ConfigError
from unet.training.dynamics import LossSeries, excess

USUAL = "usual"
NEIGHBOURS = 5

Fault = Callable[[Frame, Stack, np.random.Generator], Frame]


def another_label(frame: Frame, stack: Stack, rng: np.random.Generator) -> Frame:
    """The label of another image of the same size, as happens when files are mixed up."""
    others = [f.label for f in stack.frames if f.name != frame.name and f.label is not None and f.size == frame.size]
    if not others:
        raise ConfigError(f"{frame.name}: there is no other label of {frame.size[0]} x {frame.size[1]} px to give it")
    return replace(frame, label=others[int(rng.integers(len(others)))].copy(), instances=None)


def shifted_label(frame: Frame, stack: Stack, rng: np.random.Generator) -> Frame:  # noqa: ARG001
    """The label 3 px off in one of eight directions, as after a failed registration; mirrored at the border."""
    pixels = 3
    dy, dx = [(0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)][int(rng.integers(8))]
    if frame.label is None:
        raise ConfigError(f"{frame.name}: has no label to shift")
    padded = np.pad(frame.label, pixels, mode="reflect")
    y, x = pixels * (1 + dy), pixels * (1 + dx)
    height, width = frame.size
    return replace(frame, label=padded[y : y + height, x : x + width].copy(), instances=None)


def blurred_image(frame: Frame, stack: Stack, rng: np.random.Generator) -> Frame:  # noqa: ARG001
    """The image out of focus and pale, its label untouched."""
    blurred = np.stack([cv2.GaussianBlur(plane, (0, 0), 2) for plane in frame.image])
    return replace(frame, image=(0.5 * blurred + np.float32(0.1)).astype(np.float32))


FAULTS: dict[str, Fault] = {
    "another label": another_label,
    "shifted label": shifted_label,
    "blurred image": blurred_image,
}


def plant(stack: Stack, counts: Mapping[str, int], seed: int) -> tuple[Stack, dict[str, str]]:
    """The stack with faults in so many images of each kind, drawn by `seed`; and the kind of every image.

    ConfigError for an unknown kind, or when there are more faults than images.
    """
    if unknown := set(counts) - set(FAULTS):
        raise ConfigError(f"fault {sorted(unknown)[0]!r} is unknown; use {', '.join(FAULTS)}")
    if sum(counts.values()) > len(stack):
        raise ConfigError(f"{sum(counts.values())} faults do not fit into {len(stack)} images")
    rng = np.random.default_rng(seed)
    order, frames = rng.permutation(len(stack)), list(stack.frames)
    kinds = {frame.name: USUAL for frame in frames}
    drawn = iter(order)
    for kind, count in counts.items():
        for _ in range(count):
            i = next(drawn)
            frames[i] = FAULTS[kind](frames[i], stack, rng)
            kinds[frames[i].name] = kind
    return replace(stack, frames=tuple(frames)), kinds


def nearest_kinds(series: LossSeries, probes: Mapping[str, str], k: int = NEIGHBOURS) -> dict[str, dict[str, float]]:
    """For every image that is no probe, the share of each kind among the k nearest probes.

    The distance is that of the series of excesses (see `dynamics.excess`), so that how far an image stands out counts,
    not the loss as such. probes: kind by image name. ConfigError for fewer than k probes or for an unknown name.
    """
    place = {name: f for f, name in enumerate(series.names)}
    if missing := [name for name in probes if name not in place]:
        raise ConfigError(f"probe {missing[0]!r} is none of the images")
    if not 1 <= k <= len(probes):
        raise ConfigError(f"{k} neighbours cannot be found among {len(probes)} probes")
    excess_EF, kinds = excess(series.losses_EF), np.array(list(probes.values()))
    known = excess_EF[:, [place[n] for n in probes]]
    found = {}
    for name, f in place.items():
        if name not in probes:
            distances = np.linalg.norm(known - excess_EF[:, [f]], axis=0)
            near = kinds[np.argsort(distances, kind="stable")[:k]]
            found[name] = {kind: float((near == kind).mean()) for kind in dict.fromkeys(probes.values())}
    return found


def area_under_curve(scores: ArrayLike, positive: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Probability that a positive one scores above a negative one (ties count half): the area under the ROC curve.

    NaN where all are of one kind.
    """
    values, found = np.asarray(scores, float), np.asarray(positive, bool)
    above, below = values[found], values[~found]
    if not above.size or not below.size:
        return float("nan")
    return float(mannwhitneyu(above, below).statistic / (above.size * below.size))
