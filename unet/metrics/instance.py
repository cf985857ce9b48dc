"""Scores of the Cell Tracking Challenge (SEG, DET) and others that compare objects.

An object is a label value: pixels of one value are one object, also in several pieces; 0 is background. Masks are
integer arrays H x W (or Z x H x W) of any integer type. A sequence is one mask per frame. Maska et al. 2023,
doi:10.1038/s41592-023-01879-y; Matula et al. 2015, doi:10.1371/journal.pone.0144959 (DET).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.integer[Any]]
Ignore = NDArray[np.bool_]

AP_THRESHOLDS: tuple[float, ...] = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""IoU 0.50, 0.55, ... 0.95."""

_LARGEST = int(np.iinfo(np.int64).max)


class Match(NamedTuple):
    """A reference object and the result object that holds more than half of it; result and iou are 0 without one."""

    reference: int
    result: int
    iou: float


class Detection(NamedTuple):
    """DET and the corrections it counts: result objects to split, objects to add and to delete, reference objects."""

    det: float
    splits: int
    false_negatives: int
    false_positives: int
    references: int


class Panoptic(NamedTuple):
    """Panoptic quality = segmentation quality (mean IoU of the matches) x recognition quality (F1 of the objects)."""

    quality: float
    segmentation: float
    recognition: float


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Sizes in pixels of the objects of a frame and of every pair that shares pixels (`pairs` P x 2: indices)."""

    reference_ids: NDArray[np.int64]
    result_ids: NDArray[np.int64]
    reference_sizes: NDArray[np.int64]
    result_sizes: NDArray[np.int64]
    pairs: NDArray[np.int64]
    shared: NDArray[np.int64]

    @property
    def ious(self) -> NDArray[np.float64]:
        """Intersection over union of each pair."""
        i, j = self.pairs.T
        return np.asarray(self.shared / (self.reference_sizes[i] + self.result_sizes[j] - self.shared), np.float64)

    @property
    def covered(self) -> NDArray[np.bool_]:
        """Whether the result object of a pair holds strictly more than half of the reference object."""
        return np.asarray(2 * self.shared > self.reference_sizes[self.pairs[:, 0]])


def overlaps(reference: Mask, result: Mask) -> Overlaps:
    """Objects and overlaps of one frame; ValueError for unequal shapes, masks that are
    no integers, labels below 0 or above 2^63 - 1, and frames that have other than 2 or 3 dimensions.
    """
    reference, result = _check(reference, result)
    reference_ids, reference_sizes = _objects(reference)
    result_ids, result_sizes = _objects(result)
    both = (reference != 0) & (result != 0)
    i, j = _ranks(reference_ids, reference[both]), _ranks(result_ids, result[both])
    codes, shared = _counts(i * max(len(result_ids), 1) + j)
    pairs = np.stack(np.divmod(codes, max(len(result_ids), 1)), axis=1)
    return Overlaps(reference_ids, result_ids, reference_sizes, result_sizes, pairs, shared)


def _objects(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ids, sizes = _counts(mask)
    return ids[ids != 0], sizes[ids != 0]


def _counts(values: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The different values, which are not negative, in order, and how often each occurs."""
    if values.size and values.max() < 4 * values.size:  # small numbers are counted much faster than sorted
        counts = np.bincount(values.ravel().astype(np.int64))
        return np.flatnonzero(counts), counts[counts > 0]
    different, counts = np.unique(values, return_counts=True)
    return different.astype(np.int64), counts.astype(np.int64)


def _ranks(ids: NDArray[np.int64], values: Mask) -> NDArray[np.int64]:
    """The place of each value among the ids."""
    if ids.size and ids[-1] < 4 * values.size:
        place = np.zeros(ids[-1] + 1, np.int64)
        place[ids] = np.arange(ids.size)
        return place[values]
    return np.searchsorted(ids, values)


def _check(reference: Mask, result: Mask) -> tuple[Mask, Mask]:
    reference, result = np.asarray(reference), np.asarray(result)
    if reference.shape != result.shape:
        raise ValueError(f"reference {reference.shape} and result {result.shape} differ in shape")
    return _check_mask("reference", reference), _check_mask("result", result)


def _check_mask(name: str, mask: Mask) -> Mask:
    if mask.dtype.kind not in "iu":
        raise ValueError(f"{name} has type {mask.dtype}, expected an integer label per pixel (0 = background)")
    if mask.ndim not in (2, 3):  # also a mask that was given in place of a list of masks, and so is read row by row
        raise ValueError(f"{name} frame has shape {mask.shape}, expected H x W or Z x H x W; give a list of frames")
    for label in (mask.min(), mask.max()) if mask.size else ():
        if not 0 <= int(label) <= _LARGEST:
            raise ValueError(f"{name} holds the label {label}; labels count from 0 = background to 2^63 - 1")
    return mask.astype(np.int64) if mask.dtype.itemsize == 8 else mask  # uint64 meets int64 as float64 in numpy


def _frames(references: Sequence[Mask], results: Sequence[Mask]) -> list[Overlaps]:
    if len(references) != len(results):
        raise ValueError(f"{len(references)} reference frames but {len(results)} results; score the same frames")
    return [overlaps(reference, result) for reference, result in zip(references, results, strict=True)]


def match_objects(reference: Mask, result: Mask) -> list[Match]:
    """The match of every reference object of a frame by SEG's rule, in the order of the labels. Errors: `overlaps`."""
    o = overlaps(reference, result)
    found = dict(zip(o.pairs[o.covered, 0], zip(o.pairs[o.covered, 1], o.ious[o.covered], strict=True), strict=True))
    return [
        Match(
            int(label), int(o.result_ids[found[i][0]]) if i in found else 0, float(found[i][1]) if i in found else 0.0
        )
        for i, label in enumerate(o.reference_ids)
    ]


def seg(references: Sequence[Mask], results: Sequence[Mask]) -> float:
    """SEG: mean over all reference objects of a sequence of the IoU with the result object that matches, else 0.

    A result object matches when it holds strictly more than half of the reference object. False positives do not count,
    so frames that are annotated in part can be scored. references, results: the annotated frames. NaN without objects.

    Raises ValueError for sequences of different length and for the reasons named in `overlaps`.
    """
    frames = _frames(references, results)
    objects = sum(len(o.reference_ids) for o in frames)
    return math.fsum(iou for o in frames for iou in o.ious[o.covered]) / objects if objects else math.nan


def detection(references: Sequence[Mask], results: Sequence[Mask]) -> Detection:
    """DET = 1 - min(C, 10 V) / (10 V), C = 5 NS + 10 FN + FP, over the frames of a sequence.

    V: reference objects. NS: matches beyond the first of a result object. FN: reference objects without a match, FP:
    result objects without one. The match is SEG's. references: the tracking markers of every frame. NaN without
    objects.

    Raises ValueError as `seg` does.
    """
    splits = missed = spurious = vertices = 0
    for o in _frames(references, results):
        matched = o.pairs[o.covered]
        taken = len(np.unique(matched[:, 1]))
        splits += len(matched) - taken
        missed += len(o.reference_ids) - len(matched)
        spurious += len(o.result_ids) - taken
        vertices += len(o.reference_ids)
    cost = 5 * splits + 10 * missed + spurious
    value = 1 - min(cost, 10 * vertices) / (10 * vertices) if vertices else math.nan
    return Detection(value, splits, missed, spurious, vertices)


def foreground_iou(
    references: Sequence[Mask], results: Sequence[Mask], ignore: Sequence[Ignore | None] | None = None
) -> float:
    """Intersection over union of all objects taken together, pixels pooled over the frames; NaN without any.

    It cannot see whether touching cells are separated: a companion of SEG, never its substitute. ignore: per frame the
    pixels that do not count, or None.

    Raises ValueError as `seg` does, and for an ignore mask of another shape.
    """
    shared = union = 0
    for reference, result, unknown in with_ignore(references, results, ignore):
        known = True if unknown is None else ~unknown
        shared += int(((reference != 0) & (result != 0) & known).sum())
        union += int((((reference != 0) | (result != 0)) & known).sum())
    return shared / union if union else math.nan


def average_precision(
    references: Sequence[Mask],
    results: Sequence[Mask],
    ignore: Sequence[Ignore | None] | None = None,
    thresholds: Sequence[float] = AP_THRESHOLDS,
) -> dict[float, float]:
    """Mean over the frames of TP / (TP + FP + FN) at each IoU threshold, as the Data Science Bowl 2018 defines it.

    An object is found (TP) when the IoU of a pair exceeds the threshold strictly, which at 0.5 and above can happen
    once per object only. A frame without any object, where none is found, counts 1. The score known as AP is the mean
    of the values. Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7. ignore: as for `panoptic_quality`.

    Raises ValueError as `foreground_iou` does, and for thresholds outside [0.5, 1).
    """
    if not all(0.5 <= t < 1 for t in thresholds):
        raise ValueError(f"thresholds {tuple(thresholds)} must lie in [0.5, 1), where no object can match twice")
    per_frame = []
    for o, excused in known_overlaps(references, results, ignore):
        counts = [_recognised(o, excused, t) for t in thresholds]
        per_frame.append([tp / (tp + fp + fn) if tp + fp + fn else 1.0 for tp, fp, fn in counts])
    means = np.mean(per_frame, axis=0).tolist() if per_frame else [math.nan] * len(thresholds)
    return dict(zip(thresholds, means, strict=True))


def panoptic_quality(
    references: Sequence[Mask], results: Sequence[Mask], ignore: Sequence[Ignore | None] | None = None
) -> Panoptic:
    """PQ = sum of the IoUs of the matches / (TP + FP / 2 + FN / 2), pooled over the frames; a match has IoU > 0.5.

    Kirillov et al. 2019, doi:10.1109/CVPR.2019.00963. 1 where there is nothing to find and nothing found. ignore: per
    frame the pixels whose label is unknown, or None. They belong to no object when overlaps are measured, and a result
    object without a match is excused (no FP) when more than half of it lies in them.

    Raises ValueError as `foreground_iou` does.
    """
    ious: list[float] = []
    false = 0
    for o, excused in known_overlaps(references, results, ignore):
        _, fp, fn = _recognised(o, excused, 0.5)
        ious += o.ious[o.ious > 0.5].tolist()
        false += fp + fn
    if not ious:
        return Panoptic(0.0, 0.0, 0.0) if false else Panoptic(1.0, 1.0, 1.0)
    segmentation, recognition = math.fsum(ious) / len(ious), len(ious) / (len(ious) + false / 2)
    return Panoptic(segmentation * recognition, segmentation, recognition)


def with_ignore(
    references: Sequence[Mask], results: Sequence[Mask], ignore: Sequence[Ignore | None] | None
) -> list[tuple[Mask, Mask, Ignore | None]]:
    if len(references) != len(results):
        raise ValueError(f"{len(references)} reference frames but {len(results)} results; score the same frames")
    ignore = ignore if ignore is not None else [None] * len(references)
    if len(ignore) != len(references):
        raise ValueError(f"{len(references)} reference frames but {len(ignore)} ignore masks; give one (or None) each")
    checked = []
    for reference, result, unknown in zip(references, results, ignore, strict=True):
        pair = _check(reference, result)
        if unknown is not None and (unknown.shape != pair[0].shape or unknown.dtype != np.bool_):
            raise ValueError(f"ignore is {unknown.dtype} {unknown.shape}, expected bool {pair[0].shape}")
        checked.append((*pair, unknown))
    return checked


def known_overlaps(
    references: Sequence[Mask], results: Sequence[Mask], ignore: Sequence[Ignore | None] | None
) -> list[tuple[Overlaps, NDArray[np.int64]]]:
    """Overlaps outside the ignored pixels, and the ids of result objects of which more than half lies in them."""
    found = []
    for reference, result, unknown in with_ignore(references, results, ignore):
        if unknown is None:
            found.append((overlaps(reference, result), np.zeros(0, np.int64)))
            continue
        ids, sizes = _objects(result)
        known_ids, known_sizes = _objects(np.where(unknown, 0, result))
        known = np.zeros_like(sizes)
        known[np.searchsorted(ids, known_ids)] = known_sizes
        excused = ids[2 * known < sizes]
        found.append((overlaps(np.where(unknown, 0, reference), np.where(unknown, 0, result)), excused))
    return found


def _recognised(o: Overlaps, excused: NDArray[np.int64], threshold: float) -> tuple[int, int, int]:
    """(TP, FP, FN) of a frame."""
    matched = o.pairs[o.ious > threshold]
    spurious = np.delete(o.result_ids, matched[:, 1])
    return len(matched), int((~np.isin(spurious, excused)).sum()), len(o.reference_ids) - len(matched)
