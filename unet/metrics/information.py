"""Variation of information between objects, as what was split and what was merged (scikit-image computes it)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unet.metrics.instance import Ignore, Mask, with_ignore


class VariationOfInformation(NamedTuple):
    """H(result | reference) and H(reference | result) in bits; 0 each for the same objects."""

    split: float
    merge: float


def variation_of_information(
    references: Sequence[Mask], results: Sequence[Mask], ignore: Sequence[Ignore | None] | None = None
) -> VariationOfInformation:
    """Over the pixels of the reference objects, objects of different frames being different objects.

    What the result leaves as background within a reference object is a region of it, one for each frame. Meila 2007,
    doi:10.1016/j.jmva.2006.11.013; Nunez-Iglesias et al. 2013, doi:10.1371/journal.pone.0071715 (split and merge).
    ignore: per frame the pixels that do not count, or None. NaN without reference objects.

    Raises ValueError as `panoptic_quality` does.
    """
    from skimage.metrics import variation_of_information as of_frame

    sums, pixels = np.zeros(2), 0
    for reference, result, unknown in with_ignore(references, results, ignore):
        counted = reference != 0 if unknown is None else (reference != 0) & ~unknown
        size = int(counted.sum())
        if size:  # frames share no object, so the entropies of all of them are means over their pixels
            true, found = (np.unique(mask[counted], return_inverse=True)[1] for mask in (reference, result))
            sums, pixels = sums + size * of_frame(true, found), pixels + size
    split, merge = (sums / pixels).tolist() if pixels else (math.nan, math.nan)
    return VariationOfInformation(split, merge)
