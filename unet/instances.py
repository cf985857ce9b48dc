"""From foreground probability to instances, and the search for the settings that do it best on the training part.

Protocol: a pixel is foreground where its probability exceeds the threshold; connected components of the foreground
are the objects; objects below the minimal area are dropped; holes are filled. Threshold and minimal area are chosen
on training frames only and recorded.

Axes: H rows, W columns. Instances are H x W int32, 0 = background.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet.errors import ConfigError, nearest
from unet.metrics.instance import overlaps

Instances = NDArray[np.int32]
Probability = NDArray[np.float32]

THRESHOLDS: tuple[float, ...] = tuple(round(0.05 * i, 2) for i in range(1, 20))
MIN_AREAS: tuple[int, ...] = (0, 10, 20, 50, 100, 200, 500, 1000, 2000)

_EDGES = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.bool_)
_ALL = np.ones((3, 3), np.bool_)


@dataclass(frozen=True)
class InstanceSettings:
    """How instances are made of a foreground probability.

    threshold: foreground is probability > threshold. min_area_px: smaller objects are dropped. connectivity: 4 parts
    objects that meet at a corner only (the training target draws a ridge there, too), 8 joins them. fill_holes:
    background enclosed by one object becomes part of it.

    Raises ConfigError for values out of range.
    """

    threshold: float = 0.5
    min_area_px: int = 0
    connectivity: Literal[4, 8] = 4
    fill_holes: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise ConfigError(f"instance threshold {self.threshold!r} is not allowed; use 0 <= threshold < 1")
        if self.min_area_px < 0:
            raise ConfigError(f"instance min_area_px {self.min_area_px!r} is not allowed; use 0 or more pixels")
        if self.connectivity not in (4, 8):
            raise ConfigError(f"instance connectivity {self.connectivity!r} is not allowed; use 4 or 8")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON and YAML hold them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InstanceSettings:
        """The settings `to_dict` wrote; ConfigError for an unknown key or a value of the wrong type or out of range."""
        known = {field.name: field.default for field in dataclasses.fields(cls)}
        for key, value in values.items():
            if key not in known:
                raise ConfigError(f"unknown instance setting {key!r}{nearest(key, known)}")
            wanted = type(known[key])
            if not (type(value) is wanted or (wanted is float and type(value) is int)):
                raise ConfigError(f"instance {key}: {value!r} is not allowed; use a value such as {known[key]!r}")
        return cls(**values)


class Tried(NamedTuple):
    """Settings that a search tried: their SEG on the frames given and the result objects that matched nothing."""

    settings: InstanceSettings
    seg: float
    unmatched: int


def to_instances(probability_HW: Probability, settings: InstanceSettings) -> Instances:
    """Instances 1.. of one foreground probability, numbered in order of their first pixel, row by row.

    Raises ValueError when the probability is not H x W.
    """
    ids = _components(probability_HW, settings.threshold, settings.connectivity)
    return _finished(ids, settings)


def search_settings(
    probabilities: Sequence[Probability],
    instances: Sequence[NDArray[np.integer[Any]]],
    *,
    thresholds: Iterable[float] = THRESHOLDS,
    min_areas: Iterable[int] = MIN_AREAS,
    connectivity: Literal[4, 8] = 4,
    fill_holes: bool = True,
) -> list[Tried]:
    """SEG of every combination of threshold and minimal area, on training frames and their reference instances.

    SEG does not count false positives, so without more it would always keep every speck. Minimal areas above half the
    smallest reference object are not tried, because objects of other frames may be smaller.

    Raises ValueError when the sequences differ in length, hold no reference object, or when a frame's shapes differ.
    """
    if len(probabilities) != len(instances):
        raise ValueError(
            f"{len(probabilities)} probabilities but {len(instances)} instance masks; give the same frames"
        )
    sizes = [int(n) for mask in instances for n in np.unique(mask[mask != 0], return_counts=True)[1]]
    if not sizes:
        raise ValueError("the training frames hold no object, so no settings can be chosen on them")
    areas = sorted(area for area in set(min_areas) if 2 * area <= min(sizes)) or [0]
    tried = []
    for threshold in thresholds:
        settings = [InstanceSettings(threshold, area, connectivity, fill_holes) for area in areas]
        total, unmatched = np.zeros(len(areas)), np.zeros(len(areas), np.int64)
        for probability, reference in zip(probabilities, instances, strict=True):
            ids = _components(probability, threshold, connectivity)
            for i, (iou, spurious) in enumerate(_scores(ids, reference, settings)):
                total[i] += iou
                unmatched[i] += spurious
        found = zip(settings, total / len(sizes), unmatched, strict=True)
        tried += [Tried(s, float(score), int(spurious)) for s, score, spurious in found]
    return tried


def choose_settings(
    probabilities: Sequence[Probability], instances: Sequence[NDArray[np.integer[Any]]], **search: Any
) -> InstanceSettings:
    """The settings with the highest SEG on the given (training) frames; keywords and errors as for `search_settings`.

    Among equals those with the fewest unmatched objects, then the threshold nearest to 0.5, then the smallest area.
    """
    return best_settings(search_settings(probabilities, instances, **search))


def best_settings(tried: Sequence[Tried]) -> InstanceSettings:
    """The choice among the settings tried, by the rule of `choose_settings`."""

    def rank(one: Tried) -> tuple[float, int, float, int]:
        # rounded: sums of equal IoUs in another order differ in the last digits
        return -round(one.seg, 9), one.unmatched, abs(one.settings.threshold - 0.5), one.settings.min_area_px

    return min(tried, key=rank).settings


def _scores(
    ids: Instances, reference: NDArray[np.integer[Any]], settings: Sequence[InstanceSettings]
) -> Iterable[tuple[float, int]]:
    """Sum of the IoUs of the matched reference objects and number of unmatched results, for each of the settings."""
    areas = np.bincount(ids.ravel())[1:]
    kept, last = -1, (0.0, 0)
    for one in settings:
        large = int((areas >= one.min_area_px).sum())
        if large != kept:  # else the minimal area drops the same objects as the one before
            kept = large
            o = overlaps(reference, _finished(ids, one))
            last = float(o.ious[o.covered].sum()), len(o.result_ids) - len(np.unique(o.pairs[o.covered, 1]))
        yield last


def _components(probability_HW: Probability, threshold: float, connectivity: int) -> Instances:
    if probability_HW.ndim != 2:
        raise ValueError(f"probability has shape {probability_HW.shape}, expected H x W of one foreground class")
    foreground = probability_HW > np.float64(threshold)  # compared as doubles, as the scores do
    ids, _ = ndimage.label(foreground, _EDGES if connectivity == 4 else _ALL)
    return np.asarray(ids, np.int32)


def _finished(ids: Instances, settings: InstanceSettings) -> Instances:
    """Components without those that are too small, their holes filled, numbered 1.. again."""
    keep = np.bincount(ids.ravel()) >= settings.min_area_px
    keep[0] = False
    numbers = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    kept = numbers[ids]
    return _without_holes(kept, settings.connectivity) if settings.fill_holes else kept


def _without_holes(ids: Instances, connectivity: int) -> Instances:
    """Background that reaches neither the image border nor a second object goes to the object round it."""
    # background is connected the other way: through a wall that is joined at corners no background passes
    holes, count = ndimage.label(ids == 0, _ALL if connectivity == 4 else _EDGES)
    outside = np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]])
    lowest, highest = np.full(count + 1, np.iinfo(np.int32).max), np.zeros(count + 1, np.int64)
    for one, other in ((np.s_[1:, :], np.s_[:-1, :]), (np.s_[:, 1:], np.s_[:, :-1])):
        for hole, owner in ((holes[one], ids[other]), (holes[other], ids[one])):
            at = (hole > 0) & (owner > 0)
            np.minimum.at(lowest, hole[at], owner[at])
            np.maximum.at(highest, hole[at], owner[at])
    owners = np.where(lowest == highest, highest, 0)
    owners[outside] = 0
    return np.asarray(np.where(ids == 0, owners[holes], ids), np.int32)
