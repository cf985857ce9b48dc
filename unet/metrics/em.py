"""All scores of the EM challenge at once.

Axes: N slices, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from unet.metrics.pixel import pixel_errors
from unet.metrics.rand import rand_error, v_scores
from unet.metrics.sweep import Sweep, check_stacks
from unet.metrics.warping import RADIUS, WARPING_THRESHOLDS, warping_errors


def em_sweeps(
    label: NDArray[Any],
    proposal: NDArray[Any],
    *,
    warping_radius: int = RADIUS,
    warping_thresholds: Sequence[float] = WARPING_THRESHOLDS,
) -> dict[str, Sweep]:
    """Every score of the EM challenge over its thresholds, by name.

    pixel_error, misclassification, rand_error (n^2), rand_error_before_2015 (n(n-1)/2), warping_error,
    warping_error_classic are errors; v_rand and v_info are scores.

    label: N x H x W, 0 = membrane and 255 (or 1, True) = cell. proposal: the same shape, probability of cell, float32
    in [0, 1], or 8-bit. warping_radius, warping_thresholds: of the warping errors.

    Raises ValueError for wrong shapes, types or values.
    """
    cells_NHW, proposal_NHW = check_stacks(label, proposal)
    pixel, misclassification = pixel_errors(cells_NHW, proposal_NHW)
    warping, classic = warping_errors(cells_NHW, proposal_NHW, radius=warping_radius, thresholds=warping_thresholds)
    v_rand, v_info = v_scores(cells_NHW, proposal_NHW)
    return {
        "pixel_error": pixel,
        "misclassification": misclassification,
        "rand_error": rand_error(cells_NHW, proposal_NHW),
        "rand_error_before_2015": rand_error(cells_NHW, proposal_NHW, pairs="n(n-1)/2"),
        "warping_error": warping,
        "warping_error_classic": classic,
        "v_rand": v_rand,
        "v_info": v_info,
    }
