"""How the code released with the paper makes objects of a prediction (PhC-U373 of the Cell Tracking Challenge).

Logits are averaged over the four flips, a cell is where its class is the largest, holes stay; objects below
500 px are dropped, and those that lie wholly in the outermost 50 px, outside the challenge's field of interest. How the
release connects pixels is not known: here by edges, as elsewhere in this package.

Axes: K classes, H rows, W columns.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unet.data.masks import outside
from unet.prediction.instances import InstanceSettings, to_instances

SYMMETRIES: Literal[4] = 4
AVERAGE: Literal["logits"] = "logits"
SETTINGS = InstanceSettings(threshold=0.5, min_area_px=500, fill_holes=False)
"""Of two classes: p_cell > 0.5 is where the class cell is the largest."""

FOI_PX = 50


def release_instances(probabilities_KHW: NDArray[np.float32]) -> NDArray[np.int32]:
    """Objects 1.. of the probabilities of background and cell, H x W int32, those in the border left out."""
    ids = to_instances(probabilities_KHW, SETTINGS)
    seen = np.unique(ids[~outside(ids.shape, FOI_PX)])
    numbers = np.zeros(int(ids.max()) + 1, np.int32)
    numbers[seen[seen > 0]] = np.arange(1, np.count_nonzero(seen) + 1)
    return np.asarray(numbers[ids])
