"""What became of the objects of a reference: found, missed, merged, split; and what was found that is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unet.metrics.instance import Ignore, Mask, known_overlaps

PIECE = 0.1
"""The share of a reference object that a result object must hold to be a piece of it."""


class Outcomes(NamedTuple):
    """Numbers of objects; found + missed + merged + split are all reference objects."""

    found: int
    missed: int
    merged: int
    split: int
    spurious: int


def outcomes(
    references: Sequence[Mask], results: Sequence[Mask], ignore: Sequence[Ignore | None] | None = None
) -> Outcomes:
    """The outcome of every reference object, pooled over the frames; each has exactly one.

    A result object matches a reference object when it holds strictly more than half of it (SEG's rule). It is a piece
    of one when it holds at least PIECE of it and lies in it with more than half of itself. merged: the match is shared
    with another reference object. split: there are two pieces or more. found: neither, and matched. missed: the rest.
    spurious: result objects that match nothing and are not one of several pieces of an object. ignore: per frame the
    pixels whose label is unknown, or None; they belong to no object, and a result object that lies in them with more
    than half of itself is not spurious.

    Raises ValueError as `panoptic_quality` does.
    """
    total = np.zeros(len(Outcomes._fields), np.int64)
    for fates in fates_of(references, results, ignore):
        counts = [sum(fate == name for fate, _ in fates.references.values()) for name in Outcomes._fields[:-1]]
        total += [*counts, len(fates.spurious)]
    return Outcomes(*total.tolist())


class Fates(NamedTuple):
    """What became of each object of one frame.

    references: by label, "found", "missed", "merged" or "split" and the IoU with the match (0 without one). spurious:
    labels of the result objects that are none.
    """

    references: dict[int, tuple[str, float]]
    spurious: frozenset[int]


def fates_of(
    references: Sequence[Mask], results: Sequence[Mask], ignore: Sequence[Ignore | None] | None = None
) -> list[Fates]:
    """The fate of every object, frame by frame; rules, arguments and errors as for `outcomes`."""
    found = []
    for o, excused in known_overlaps(references, results, ignore):
        i, j = o.pairs.T
        sharers = np.bincount(j[o.covered], minlength=len(o.result_ids))
        matched, merged = (np.zeros(len(o.reference_ids), np.bool_) for _ in range(2))
        matched[i[o.covered]] = True
        merged[i[o.covered]] = sharers[j[o.covered]] > 1
        piece = (o.shared >= PIECE * o.reference_sizes[i]) & (2 * o.shared > o.result_sizes[j])
        broken = np.bincount(i[piece], minlength=len(matched)) > 1
        ious = np.zeros(len(matched))
        ious[i[o.covered]] = o.ious[o.covered]
        fates = np.select([merged, broken, matched], ["merged", "split", "found"], "missed")
        used = np.union1d(j[o.covered], j[piece & broken[i]])
        spurious = ~np.isin(np.delete(o.result_ids, used), excused)
        kept = zip(o.reference_ids.tolist(), zip(fates.tolist(), ious.tolist(), strict=True), strict=True)
        found.append(Fates(dict(kept), frozenset(np.delete(o.result_ids, used)[spurious].tolist())))
    return found
