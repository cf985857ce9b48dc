"""Time of the scores: the EM challenge's per slice, the Cell Tracking Challenge's per frame; one core.

    python scripts/bench/bench_metrics.py [--rounds N] [--seconds S] [--csv FILE]

Real data from $UNET_DATA, else the synthetic EM-like stack alone. Two proposals per slice: its label, shifted and
blurred (about what a trained network leaves to correct), and its blurred image (far worse than any network, with many
mistakes). Targets for a 512 px slice: whole sweep of the warping error 0.5 s, of V_rand 0.25 s. Rivals: the same
sweep with scikit-image's watershed or adapted Rand error, whose values differ, and py-ctcmetrics (called on files, as
it reads them).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from ctc_metrics.utils.representations import match
from measure import append_rows, flags, in_turns, table
from numpy.typing import NDArray
from scipy import ndimage
from skimage.metrics import adapted_rand_error
from skimage.segmentation import watershed

from unet.config import DataConfig
from unet.data.ctc import gold_instances, read_mask
from unet.data.load import load
from unet.metrics.em import em_sweeps
from unet.metrics.instance import average_precision, overlaps, panoptic_quality, seg
from unet.metrics.pixel import pixel_errors
from unet.metrics.rand import rand_error, v_scores
from unet.metrics.sweep import THRESHOLDS, above
from unet.metrics.warping import warping_errors

PACKAGES = ("numpy", "numba", "scipy", "scikit-image", "py-ctcmetrics")
OURS_EM, OURS_CTC = "warping error, whole sweep", "SEG of a frame"
Slice = tuple[NDArray[np.bool_], NDArray[np.float32]]


def em_slices(count: int = 5) -> dict[str, list[Slice]]:
    """Label and proposal of slices spread over the stack, by kind of proposal."""
    stack = load(DataConfig(name="em" if os.environ.get("UNET_DATA") else "synthetic-em"), print)
    frames = [f for f in stack.frames if f.label is not None]
    cases: dict[str, list[Slice]] = {"shifted label": [], "blurred image": []}
    for frame in frames[:: max(1, len(frames) // count)][:count]:
        assert frame.label is not None
        cells = frame.label == 1
        moved = ndimage.shift(cells.astype(np.float64), (2, 3), order=0, mode="nearest")
        proposals = ndimage.gaussian_filter(moved, 1), ndimage.gaussian_filter(frame.image[0], 2)
        for slices, proposal in zip(cases.values(), proposals, strict=True):
            slices.append((cells, np.clip(proposal, 0, 1).astype(np.float32)))
    return {f"{stack.name} {name}": slices for name, slices in cases.items()}


def scikit_rand(cells: NDArray[np.bool_], proposal: NDArray[np.float32]) -> None:
    """The sweep with scikit-image's definition of the Rand error."""
    ids = ndimage.label(cells)[0]
    for t in THRESHOLDS:
        adapted_rand_error(ids, ndimage.label(above(proposal, t))[0], ignore_labels=[0])


def scikit_thinned(cells: NDArray[np.bool_], proposal: NDArray[np.float32]) -> None:
    """The sweep with scikit-image's watershed in place of the queue watershed."""
    ids = ndimage.label(cells)[0]
    for t in THRESHOLDS:
        regions = ndimage.label(above(proposal, t))[0]
        distance = ndimage.distance_transform_edt(regions == 0)
        adapted_rand_error(ids, watershed(distance, regions, watershed_line=True), ignore_labels=[0])


def bench_em(slices: list[Slice]) -> dict[str, Callable[[int], object]]:
    def of(score: Callable[..., object]) -> Callable[[int], object]:
        return lambda i: score(*slices[i % len(slices)])

    return {
        OURS_EM: of(warping_errors),
        "V_rand and V_info, whole sweep": of(v_scores),
        "Rand error, whole sweep": of(rand_error),
        "pixel error and misclassification": of(pixel_errors),
        "all EM scores": of(em_sweeps),
        "scikit-image: watershed, adapted Rand": of(scikit_thinned),
        "scikit-image: adapted Rand, not thinned": of(scikit_rand),
    }


def bench_ctc(root: Path, folder: Path) -> dict[str, Callable[[int], object]]:
    """Silver against gold truth of DIC-C2DH-HeLa 01."""
    gold = gold_instances(root, "01")
    pairs = [(m, read_mask(root / "01_ST" / "SEG" / f"man_seg{name[-3:]}.tif")) for name, m in gold.items()]
    for i, pair in enumerate(pairs):
        for name, mask in zip(("gold", "silver"), pair, strict=True):
            tifffile.imwrite(folder / f"{name}{i}.tif", mask.astype(np.uint16))

    def of(score: Callable[..., object]) -> Callable[[int], object]:
        return lambda i: score(*([mask] for mask in pairs[i % len(pairs)]))

    return {
        OURS_CTC: of(seg),
        "overlaps alone": lambda i: overlaps(*pairs[i % len(pairs)]),
        "average precision, 10 thresholds": of(average_precision),
        "panoptic quality": of(panoptic_quality),
        "py-ctcmetrics, reading two files": lambda i: match(
            str(folder / f"gold{i % len(pairs)}.tif"), str(folder / f"silver{i % len(pairs)}.tif")
        ),
    }


def main() -> None:
    arguments = flags(__doc__, "metrics.csv", seconds=1.0).parse_args()

    def run(case: str, rivals: dict[str, Callable[[int], object]], ours: str) -> None:
        timings = in_turns(rivals, arguments.rounds, arguments.seconds)
        print(table(case, timings, ours))
        append_rows(arguments.csv, "metrics", case, timings, PACKAGES)

    for name, slices in em_slices().items():
        height, width = slices[0][0].shape
        run(f"{name}, slices of {height} x {width} px", bench_em(slices), OURS_EM)
    hela = Path(os.environ.get("UNET_DATA", "")) / "DIC-C2DH-HeLa"
    if hela.is_dir():
        with tempfile.TemporaryDirectory() as folder:
            run("hela gold and silver, frames of 512 x 512 px", bench_ctc(hela, Path(folder)), OURS_CTC)
    print(f"rows added to {arguments.csv}")


if __name__ == "__main__":
    main()
