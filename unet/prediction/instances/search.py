"""The search for the instance settings that do best on the training part.

The frames that settings are searched on are those that the network was trained on. Its probabilities there are sharper
than on a frame it has not seen, so what is chosen is a little too trusting (levels closer to 1, lower seeds), and the
SEG of the search is no estimate of the held-out one. Nothing of the held-out frames may decide, though.

Axes: K classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet.prediction.instances import make
from unet.prediction.instances.make import Instances, Probabilities, Relief
from unet.prediction.instances.settings import InstanceSettings

Reference = NDArray[np.integer[Any]]

THRESHOLDS: tuple[float, ...] = tuple(round(0.05 * i, 2) for i in range(1, 20))
MIN_AREAS: tuple[int, ...] = (0, 10, 20, 50, 100, 200, 500, 1000, 2000)

MASK_LEVELS: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SIGMAS_PX: tuple[float, ...] = (1.0, 2.0, 4.0, 6.0, 8.0)
HEIGHTS_PX: tuple[float, ...] = (1.0, 2.0, 4.0, 6.0, 9.0, 12.0)
SEED_LEVELS = {2: (0.4, 0.6, 0.8, 0.9), 3: (0.2, 0.4, 0.6, 0.8)}
"""By the number of classes: with a border class p_cell is low there already at a low level, without one it is not."""

MARGIN = 0.01
"""SEG on the training frames by which markers must beat components. They have more settings that fit themselves to few
frames, of which the probabilities are sharper than on unseen ones: where markers are hardly needed (three networks on
PhC-U373), gains of 0.011 to 0.021 on the training frames were worth between -0.012 and +0.012 on the held-out sequence,
where cells touch (DIC-HeLa) 0.16 to 0.30 were worth 0.14 to 0.38."""

MOST_FRAMES = 20
MOST_PX = 8_000_000
"""The most that is searched: half a minute of one core."""


class Tried(NamedTuple):
    """Settings that a search tried: their SEG on the frames given and the result objects that matched nothing."""

    settings: InstanceSettings
    seg: float
    unmatched: int


class Choice(NamedTuple):
    """The settings chosen among all rules, and those chosen among plain components alone."""

    best: InstanceSettings
    components: InstanceSettings


DEFAULTS = Choice(InstanceSettings(), InstanceSettings())
"""Of a run that has chosen none."""


@dataclass(frozen=True, eq=False)
class _Frame:
    """A training frame: probabilities K x H x W and where the reference objects lie."""

    probabilities: Probabilities
    inside: NDArray[np.int64]  # flat indices of the pixels in reference objects
    owner: NDArray[np.int64]  # the object of each of them, from 0
    sizes: NDArray[np.int64]  # of the objects, in pixels

    @classmethod
    def of(cls, probabilities: Probabilities, instances: Reference) -> _Frame:
        make.check(probabilities)
        if probabilities.shape[1:] != instances.shape:
            raise ValueError(f"probabilities {probabilities.shape} and instances {instances.shape} differ in shape")
        inside = np.flatnonzero(instances)
        _, owner, sizes = np.unique(instances.ravel()[inside], return_inverse=True, return_counts=True)
        return cls(probabilities, inside, owner.astype(np.int64), sizes.astype(np.int64))


def searched_frames(sizes_px: Sequence[int]) -> list[int]:
    """Which of many training frames settings are searched on: as many as the time allows, spread evenly, at least one.

    sizes_px: pixels of each frame.
    """
    count = len(sizes_px)
    for wanted in range(min(count, MOST_FRAMES), 1, -1):
        chosen = sorted({int(i) for i in np.linspace(0, count - 1, wanted).round()})
        if sum(sizes_px[i] for i in chosen) <= MOST_PX:
            return chosen
    return [0] if count else []


def choose_settings(probabilities: Sequence[Probabilities], instances: Sequence[Reference]) -> Choice:
    """The settings with the highest SEG on the given (training) frames and their reference instances.

    Markers are chosen only when they beat plain components by MARGIN. Among equals those with the fewest unmatched
    objects, then the threshold nearest to 0.5, then the smallest area, then the least smoothing and height.

    Raises ValueError when the sequences differ in length, hold no reference object, or when a frame's shapes differ.
    """
    components = best(search_components(probabilities, instances))
    markers = best(search_markers(probabilities, instances))
    chosen = markers if markers.seg >= components.seg + MARGIN else components
    return Choice(chosen.settings, components.settings)


def best(tried: Iterable[Tried]) -> Tried:
    """The choice among the settings tried, by the rule of `choose_settings`."""

    def rank(one: Tried) -> tuple[float, ...]:
        # rounded: sums of equal IoUs in another order differ in the last digits
        s = one.settings
        return -round(one.seg, 9), one.unmatched, abs(s.threshold - 0.5), s.min_area_px, s.sigma_px, s.height_px

    return min(tried, key=rank)


def search_components(
    probabilities: Sequence[Probabilities],
    instances: Sequence[Reference],
    *,
    thresholds: Iterable[float] = THRESHOLDS,
    min_areas: Iterable[int] = MIN_AREAS,
    connectivity: Literal[4, 8] = 4,
    fill_holes: bool = True,
) -> list[Tried]:
    """SEG of plain components, of every combination of threshold and minimal area.

    SEG does not count false positives, so without more it would always keep every speck. Minimal areas above half the
    smallest reference object are not tried, because objects of other frames may be smaller. Errors: `choose_settings`.
    """
    frames = _frames(probabilities, instances)
    tried = []
    for threshold in thresholds:
        base = InstanceSettings(threshold, 0, connectivity, fill_holes)
        grown = (make.components(f.probabilities, threshold, connectivity) for f in frames)
        tried += _tried(frames, grown, base, _areas(frames, min_areas))
    return tried


def search_markers(
    probabilities: Sequence[Probabilities], instances: Sequence[Reference], *, min_areas: Iterable[int] = MIN_AREAS
) -> list[Tried]:
    """SEG of markers: every smoothing and height with the mask above 0.5, then the other masks with the best seeds.

    Each with every minimal area, as in `search_components`. Errors: `choose_settings`.
    """
    frames = _frames(probabilities, instances)
    areas = _areas(frames, min_areas)
    base = InstanceSettings(rule="markers", seed_levels=SEED_LEVELS[len(frames[0].probabilities)])
    distances = [make.distance(f.probabilities, base.seed_levels) for f in frames]

    def attempt(reliefs: list[Relief], settings: InstanceSettings) -> list[Tried]:
        grown = (make.grown(f.probabilities, r, settings) for f, r in zip(frames, reliefs, strict=True))
        return _tried(frames, grown, settings, areas)

    tried: list[Tried] = []
    for sigma in SIGMAS_PX:
        reliefs = [make.smoothed(d, sigma) for d in distances]
        for height in HEIGHTS_PX:
            tried += attempt(reliefs, replace(base, sigma_px=sigma, height_px=height))
    seeds = replace(best(tried).settings, min_area_px=0)
    reliefs = [make.smoothed(d, seeds.sigma_px) for d in distances]
    for level in MASK_LEVELS:
        if level != seeds.threshold:
            tried += attempt(reliefs, replace(seeds, threshold=level))
    return tried


def _frames(probabilities: Sequence[Probabilities], instances: Sequence[Reference]) -> list[_Frame]:
    if len(probabilities) != len(instances):
        raise ValueError(
            f"{len(probabilities)} probabilities but {len(instances)} instance masks; give the same frames"
        )
    frames = [_Frame.of(p, reference) for p, reference in zip(probabilities, instances, strict=True)]
    if not any(frame.sizes.size for frame in frames):
        raise ValueError("the training frames hold no object, so no settings can be chosen on them")
    return frames


def _areas(frames: Sequence[_Frame], min_areas: Iterable[int]) -> list[int]:
    smallest = min(int(frame.sizes.min()) for frame in frames if frame.sizes.size)
    return sorted(area for area in set(min_areas) if 2 * area <= smallest) or [0]


def _tried(
    frames: Sequence[_Frame], instances: Iterable[Instances], base: InstanceSettings, areas: Sequence[int]
) -> list[Tried]:
    """Results of one rule on all frames, not yet finished, scored with every minimal area."""
    settings = [replace(base, min_area_px=area) for area in areas]
    total, unmatched = np.zeros(len(areas)), np.zeros(len(areas), np.int64)
    for frame, ids in zip(frames, instances, strict=True):
        for i, (iou, spurious) in enumerate(_scores(ids, frame, settings)):
            total[i] += iou
            unmatched[i] += spurious
    objects = sum(frame.sizes.size for frame in frames)
    found = zip(settings, total / objects, unmatched, strict=True)
    return [Tried(s, float(score), int(spurious)) for s, score, spurious in found]


def _scores(ids: Instances, frame: _Frame, settings: Sequence[InstanceSettings]) -> Iterator[tuple[float, int]]:
    """Sum of the IoUs of the matched reference objects and number of unmatched results, for each of the settings."""
    areas = np.bincount(ids.ravel())[1:]
    kept, last = -1, (0.0, 0)
    for one in settings:
        large = int((areas >= one.min_area_px).sum())
        if large != kept:  # else the minimal area drops the same objects as the one before
            kept = large
            last = _matched(make.finished(ids, one), frame)
        yield last


def _matched(ids: Instances, frame: _Frame) -> tuple[float, int]:
    """SEG's sum over the reference objects, and the result objects that match none (from a table of all overlaps)."""
    results = np.bincount(ids.ravel())
    codes = frame.owner * len(results) + ids.ravel()[frame.inside]
    shared = np.bincount(codes, minlength=len(frame.sizes) * len(results)).reshape(-1, len(results))[:, 1:]
    i, j = np.nonzero(2 * shared > frame.sizes[:, None])
    both = shared[i, j]
    ious = both / (frame.sizes[i] + results[1:][j] - both)
    return float(ious.sum()), len(results) - 1 - len(np.unique(j))
