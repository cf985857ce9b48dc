"""Time and error of the weight map's border term against the usual ways to compute it, on EM slices.

    python scripts/bench/bench_weightmap.py [--rounds N] [--seconds S] [--csv FILE]

EM from $UNET_DATA, else the synthetic EM-like stack. Target: 30 ms per 512 px slice, error 1e-5 against float64.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import cv2
import numpy as np
from measure import append_rows, flags, in_turns, table
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure as skimage_measure

from unet.config import DataConfig, WeightConfig
from unet.data.load import load
from unet.tiles.weightmap import border_term, components, weight_map

W0, SIGMA = 10.0, 5.0
PACKAGES = ("numpy", "scipy", "opencv-python-headless", "scikit-image")
OURS = "border term, a box per cell (ours)"


def float64_definition(cells: NDArray[np.int32]) -> NDArray[np.float64]:
    """One exact transform per cell over the whole image, the two smallest distances kept."""
    d1 = np.full(cells.shape, np.inf)
    d2 = d1.copy()
    for number in range(1, int(cells.max()) + 1):
        d = np.asarray(ndimage.distance_transform_edt(cells != number))
        d2 = np.minimum(d2, np.maximum(d1, d))
        d1 = np.minimum(d1, d)
    return np.asarray(W0 * np.exp(-((d1 + d2) ** 2) / (2 * SIGMA**2)))


def notebook_version(label: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The version found in many notebooks: a distance map per cell, all of them stacked and sorted."""
    cells = np.asarray(skimage_measure.label(label, connectivity=1))
    ids = np.unique(cells)[1:]
    maps = np.zeros((*cells.shape, len(ids)))
    for k, number in enumerate(ids):
        maps[..., k] = ndimage.distance_transform_edt(cells != number)
    maps.sort(axis=-1)
    return np.asarray(W0 * np.exp(-((maps[..., 0] + maps[..., 1]) ** 2) / (2 * SIGMA**2)))


def opencv_whole_image(cells: NDArray[np.int32]) -> NDArray[np.float32]:
    """One OpenCV transform per cell over the whole image."""
    d1 = np.full(cells.shape, np.inf, np.float32)
    d2 = d1.copy()
    for number in range(1, int(cells.max()) + 1):
        d = cv2.distanceTransform((cells != number).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        np.minimum(d2, np.maximum(d1, d), out=d2)
        np.minimum(d1, d, out=d1)
    return np.asarray(W0 * np.exp(-((d1 + d2) ** 2) / (2 * SIGMA**2)), np.float32)


def main() -> None:
    arguments = flags(__doc__, "weightmap.csv", seconds=2.0).parse_args()
    cv2.setNumThreads(1)
    stack = load(DataConfig(name="em" if os.environ.get("UNET_DATA") else "synthetic-em"), print)
    labels = [np.asarray(f.label, np.uint8) for f in stack.frames if f.label is not None]
    cells = [components(label) for label in labels]
    count = len(labels)
    rivals: dict[str, Callable[[int], object]] = {
        OURS: lambda i: border_term(cells[i % count], W0, SIGMA),
        "whole weight map, components included (ours)": lambda i: weight_map(labels[i % count], None, WeightConfig()),
        "OpenCV, whole image per cell": lambda i: opencv_whole_image(cells[i % count]),
        "scipy, whole image per cell (naive)": lambda i: float64_definition(cells[i % count]),
        "stacked and sorted (common notebook version)": lambda i: notebook_version(labels[i % count]),
    }
    timings = in_turns(rivals, arguments.rounds, arguments.seconds)
    checked = range(min(3, count))
    truth = {i: float64_definition(cells[i]) for i in checked}
    errors = {
        name: max(float(np.abs(np.asarray(rivals[name](i)) - truth[i]).max()) for i in checked)
        for name in rivals
        if not name.startswith("whole weight map")
    }
    case = f"{stack.name} {labels[0].shape[0]} x {labels[0].shape[1]} px, {np.mean([c.max() for c in cells]):.0f} cells"
    print(table(f"{case}: one slice, one core", timings, OURS, errors))
    append_rows(arguments.csv, "weight map", case, timings, PACKAGES, errors)
    print(f"rows added to {arguments.csv}")


if __name__ == "__main__":
    main()
