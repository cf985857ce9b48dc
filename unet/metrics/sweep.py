"""What the scores of the EM challenge share: checked stacks, the sweep over thresholds, its outcome.

Axes: N slices, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

Cells = NDArray[np.bool_]
Proposal = NDArray[np.float32]

THRESHOLDS: tuple[float, ...] = tuple(accumulate([0.0] + [0.1] * 10))
"""t = 0, then t + 0.1 ten times in doubles, as the challenge's loop makes them; the last one is 0.9999999999999999."""

_ROUNDING = 1e-6  # by which a mean of probabilities may leave [0, 1]


@dataclass(frozen=True)
class Sweep:
    """A score over the thresholds and its best value.

    value: the best of `values`, at `threshold` (the lowest one when several are equally good). empty_slices: slices
    whose proposal has no foreground at that threshold; such a slice can look better than it is (an empty proposal has
    a warping error of 0), so a score with `empty` must not be published unseen.
    """

    value: float
    threshold: float
    thresholds: tuple[float, ...]
    values: tuple[float, ...]
    empty_slices: int

    @property
    def empty(self) -> bool:
        """Whether a slice of the proposal has no foreground at the best threshold."""
        return self.empty_slices > 0

    @property
    def at_edge(self) -> bool:
        """Whether the score is best at the first or the last threshold (0 or 1) and at none between."""
        return self.threshold in (self.thresholds[0], self.thresholds[-1]) and self.value not in self.values[1:-1]


def above(proposal: Proposal, threshold: float) -> Cells:
    """Foreground: proposal > threshold, both as doubles (as float32 the value nearest to 0.1 would not exceed 0.1)."""
    return proposal > np.float64(threshold)


def lowest(values: Sequence[float], proposal_NHW: Proposal, thresholds: Sequence[float] = THRESHOLDS) -> Sweep:
    """The sweep of an error, best where it is smallest."""
    best = min(range(len(values)), key=values.__getitem__)
    empty = int((~above(proposal_NHW.max(axis=(1, 2)), thresholds[best])).sum())
    return Sweep(values[best], thresholds[best], tuple(thresholds), tuple(values), empty)


def highest(values: Sequence[float], proposal_NHW: Proposal, thresholds: Sequence[float] = THRESHOLDS) -> Sweep:
    """The sweep of a score, best where it is largest."""
    turned = lowest([-v for v in values], proposal_NHW, thresholds)
    return Sweep(-turned.value, turned.threshold, turned.thresholds, tuple(values), turned.empty_slices)


def f_score(tp: int, tp_fp: int, tp_fn: int) -> float:
    """Harmonic mean of precision tp / (tp + fp) and recall tp / (tp + fn).

    Precision is 1 without false positives and recall 1 without false negatives, also where nothing was counted; the
    mean is 0 when both are 0.
    """
    precision = tp / tp_fp if tp_fp != tp else 1.0
    recall = tp / tp_fn if tp_fn != tp else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def check_stacks(label: NDArray[Any], proposal: NDArray[Any]) -> tuple[Cells, Proposal]:
    """Cells N x H x W bool and proposal N x H x W float32 in [0, 1].

    label: N x H x W or H x W with 0 = membrane and one other value (255, 1 or True) = cell. proposal: the same shape,
    floats in [0, 1], bool, or unsigned integers, which are divided by their type's largest value (255 for 8-bit).

    Raises ValueError for other shapes, stacks of different length, more than two label values, values outside [0, 1].
    """
    label, proposal = np.asarray(label), np.asarray(proposal)
    if label.ndim == 3 and proposal.ndim == 3 and len(label) != len(proposal):
        raise ValueError(f"label has {len(label)} slices but proposal {len(proposal)}; score the same slices")
    if label.shape != proposal.shape:
        raise ValueError(f"label {label.shape} and proposal {proposal.shape} differ in shape")
    if label.ndim not in (2, 3) or label.size == 0:
        raise ValueError(f"label and proposal have shape {label.shape}, expected slices N x H x W or one slice H x W")
    return _cells(label.reshape(-1, *label.shape[-2:])), _unit(proposal.reshape(-1, *proposal.shape[-2:]))


def _cells(label_NHW: NDArray[Any]) -> Cells:
    if label_NHW.dtype.kind not in "buif":
        raise ValueError(f"label has type {label_NHW.dtype}, expected 0 = membrane and one other number = cell")
    cell = label_NHW.max()
    outside = label_NHW[(label_NHW != 0) & (label_NHW != cell)]
    if outside.size or cell < 0 or cell != cell:
        found = outside[0] if outside.size else cell
        raise ValueError(f"label holds {found} beside 0 and {cell}, expected 0 = membrane and one other value = cell")
    return np.ascontiguousarray(label_NHW != 0)


def _unit(proposal_NHW: NDArray[Any]) -> Proposal:
    if proposal_NHW.dtype.kind == "b":
        return np.ascontiguousarray(proposal_NHW, np.float32)
    if proposal_NHW.dtype.kind == "u":
        return (proposal_NHW / np.float64(np.iinfo(proposal_NHW.dtype).max)).astype(np.float32)
    if proposal_NHW.dtype.kind != "f":
        raise ValueError(f"proposal has type {proposal_NHW.dtype}, expected floats in [0, 1], 8-bit or 16-bit")
    low, high = proposal_NHW.min(), proposal_NHW.max()
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise ValueError(f"proposal lies in {low:g}..{high:g}, expected probabilities of cell in [0, 1]")
    return np.ascontiguousarray(np.clip(proposal_NHW, 0, 1) if low < 0 or high > 1 else proposal_NHW, np.float32)
