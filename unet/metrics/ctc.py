"""All object scores of a sequence of the Cell Tracking Challenge at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from unet.metrics.information import variation_of_information
from unet.metrics.instance import (
    Ignore,
    Mask,
    average_precision,
    detection,
    foreground_iou,
    panoptic_quality,
    seg,
)


def ctc_scores(
    references: Mapping[Any, Mask],
    results: Mapping[Any, Mask],
    *,
    markers: Mapping[Any, Mask] | None = None,
    ignore: Mapping[Any, Ignore] | None = None,
) -> dict[str, float]:
    """All object scores of one sequence, its frames found by their keys (names or numbers).

    references: instance masks of the annotated frames. results: at least these frames. markers: tracking markers; with
    them `det` is scored, over the frames that have markers. ignore: pixels of unknown label, of any of the annotated
    frames; `seg` and `det` never look at it.

    Returns seg, foreground_iou, foreground_dice, ap (mean over IoU 0.5..0.95), ap_50, ap_75, pq, pq_segmentation,
    pq_recognition, vi_split, vi_merge, objects (reference objects scored) and, with markers, det, det_splits,
    det_false_negatives, det_false_positives.

    Raises ValueError when a result is missing, and as the single scores do.
    """
    reference, found = list(references.values()), _chosen(results, references)
    unknown = [(ignore or {}).get(key) for key in references]
    precision = average_precision(reference, found, unknown)
    panoptic = panoptic_quality(reference, found, unknown)
    iou, vi = foreground_iou(reference, found, unknown), variation_of_information(reference, found, unknown)
    scores = {
        "seg": seg(reference, found),
        "foreground_iou": iou,
        "foreground_dice": 2 * iou / (1 + iou),
        "ap": math.fsum(precision.values()) / len(precision),
        "ap_50": precision[0.5],
        "ap_75": precision[0.75],
        "pq": panoptic.quality,
        "pq_segmentation": panoptic.segmentation,
        "pq_recognition": panoptic.recognition,
        "vi_split": vi.split,
        "vi_merge": vi.merge,
        "objects": float(sum(len(np.unique(mask[mask != 0])) for mask in reference)),
    }
    if markers is not None:
        d = detection(list(markers.values()), _chosen(results, markers))
        scores |= {
            "det": d.det,
            "det_splits": float(d.splits),
            "det_false_negatives": float(d.false_negatives),
            "det_false_positives": float(d.false_positives),
        }
    return scores


def _chosen(results: Mapping[Any, Mask], frames: Mapping[Any, Mask]) -> list[Mask]:
    missing = [key for key in frames if key not in results]
    if missing:
        raise ValueError(f"no result for frame {missing[0]} ({len(missing)} of {len(frames)} frames are missing)")
    return [results[key] for key in frames]
