"""Scores of the EM challenge that compare regions: Rand error, V_rand and V_info.

With n_ij the pixels that label component i and proposal region j share, a_i and b_j their sizes, all over the pixels
whose label is cell only. A background pixel of the proposal there is a region of its own (z of them; the sums over
n_ij and b_j skip them):

    tp = sum n_ij^2 + z        tp + fp = sum b_j^2 + z        tp + fn = sum a_i^2        F = 2 p r / (p + r)

Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142. It is not scikit-image's `adapted_rand_error`, which takes
the background of the proposal as one region.

Axes: N slices, H rows, W columns.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet.metrics.sweep import THRESHOLDS, Cells, Sweep, above, check_stacks, f_score, highest, lowest

Pairs = Literal["n^2", "n(n-1)/2"]


class Overlap(NamedTuple):
    """Sums over the overlaps of one slice; regions without background are numbered from 1."""

    joint_squares: int
    region_squares: int
    label_squares: int
    singletons: int
    regions: int
    joint_log: float  # sum n_ij ln n_ij
    region_log: float
    label_log: float


class Labels:
    """The label components of one slice, sorted once and compared with many proposals.

    cells: H x W bool.
    """

    def __init__(self, cells_HW: Cells) -> None:
        from unet.metrics import _regions

        ids, self.count = _regions.components(cells_HW)
        self._order, self._starts = _regions.by_label(ids, self.count)

    @property
    def pixels(self) -> int:
        """Number of cell pixels of the label."""
        return int(self._order.size)

    def overlap(self, regions_HW: NDArray[np.int32], region_count: int) -> Overlap:
        """Sums over the overlaps with regions 1..region_count; 0 is background."""
        from unet.metrics import _regions

        return Overlap(*_regions.overlap_sums(self._order, self._starts, regions_HW, region_count))


def rand_error(label: NDArray[Any], proposal: NDArray[Any], *, pairs: Pairs = "n^2") -> Sweep:
    """Foreground-restricted Rand error, not thinned: 1 - max over t of F, its counts pooled over the slices.

    label, proposal: as `check_stacks` takes them. pairs: "n^2" counts ordered pairs of pixels, a pixel with itself
    included; "n(n-1)/2", unordered pairs of different pixels, was used before 2015 (it differs by < 3e-5 on 512 x 512).

    Raises ValueError for wrong shapes, types or values.
    """
    if pairs not in ("n^2", "n(n-1)/2"):
        raise ValueError(f"pairs is {pairs!r}, expected 'n^2' or 'n(n-1)/2'")
    cells_NHW, proposal_NHW = check_stacks(label, proposal)
    totals = np.zeros((len(THRESHOLDS), 3), object)  # Python integers: squares of large stacks do not fit 64 bits
    for cells, slice_HW in zip(cells_NHW, proposal_NHW, strict=True):
        labels = Labels(cells)
        totals += [_pair_counts(labels, _components_above(slice_HW, t), pairs) for t in THRESHOLDS]
    return lowest([1.0 - f_score(*counts) for counts in totals], proposal_NHW)


def v_rand(label: NDArray[Any], proposal: NDArray[Any]) -> Sweep:
    """V_rand after border thinning: max over t of the mean over the slices of F. Arguments as for `rand_error`."""
    return v_scores(label, proposal)[0]


def v_info(label: NDArray[Any], proposal: NDArray[Any]) -> Sweep:
    """V_info after border thinning: max over t of the mean over the slices of 2 I / (H_label + H_proposal).

    I is the mutual information of label and proposal, H their entropies; the term is 0 where either entropy is 0 (a
    slice that is one region). Arguments as for `rand_error`.
    """
    return v_scores(label, proposal)[1]


def v_scores(label: NDArray[Any], proposal: NDArray[Any]) -> tuple[Sweep, Sweep]:
    """V_rand and V_info in one sweep, each at its own best threshold. Arguments as for `rand_error`."""
    cells_NHW, proposal_NHW = check_stacks(label, proposal)
    values = np.zeros((2, len(THRESHOLDS)))
    for cells, slice_HW in zip(cells_NHW, proposal_NHW, strict=True):
        labels = Labels(cells)
        for i, t in enumerate(THRESHOLDS):
            overlap = labels.overlap(*thin(above(slice_HW, t)))
            values[:, i] += _squares_f(overlap), _information(overlap, labels)
    values /= len(cells_NHW)
    return highest(values[0].tolist(), proposal_NHW), highest(values[1].tolist(), proposal_NHW)


def thin(foreground_HW: Cells) -> tuple[NDArray[np.int32], int]:
    """Regions 1.. of a proposal whose membrane is thinned to lines (0) of one pixel, and the number of regions.

    The 4-connected components of the foreground grow over the membrane by a queue watershed, whose result depends on
    the scanning order: columns first. Without any foreground the whole slice is region 1.
    """
    from unet.metrics import _regions

    basins, count = _regions.components(foreground_HW)
    return (_regions.thin(basins), count) if count else (np.ones(foreground_HW.shape, np.int32), 1)


def _components_above(slice_HW: NDArray[np.float32], threshold: float) -> tuple[NDArray[np.int32], int]:
    from unet.metrics import _regions

    ids, count = _regions.components(above(slice_HW, threshold))
    return ids, count


def _pair_counts(labels: Labels, regions: tuple[NDArray[np.int32], int], pairs: Pairs) -> tuple[int, int, int]:
    """(tp, tp + fp, tp + fn) of one slice."""
    o = labels.overlap(*regions)
    if pairs == "n^2":
        return o.joint_squares + o.singletons, o.region_squares + o.singletons, o.label_squares
    in_regions = labels.pixels - o.singletons  # a singleton makes no pair of different pixels
    return (
        (o.joint_squares - in_regions) // 2,
        (o.region_squares - in_regions) // 2,
        (o.label_squares - labels.pixels) // 2,
    )


def _squares_f(o: Overlap) -> float:
    return f_score(o.joint_squares + o.singletons, o.region_squares + o.singletons, o.label_squares)


def _information(o: Overlap, labels: Labels) -> float:
    """2 I / (H_label + H_proposal) with H = ln n - (sum c ln c) / n over the clusters' sizes c; a singleton adds 0."""
    if labels.count < 2 or o.regions + o.singletons < 2:
        return 0.0
    log_n = math.log(labels.pixels)
    label, region, joint = (log_n - s / labels.pixels for s in (o.label_log, o.region_log, o.joint_log))
    return min(1.0, max(0.0, 2 * (label + region - joint) / (label + region)))  # the logs are rounded
