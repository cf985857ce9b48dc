"""Instance masks and the training targets made of them; objects that only the silver truth knows.

Axes: H rows, W columns. 0 is background; every other value is one object, even where it lies in several pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet.config import DataConfig
from unet.data.stack import IGNORE, InstanceImage, LabelImage


def separate(instances_HW: NDArray[np.integer], width_px: int) -> InstanceImage:
    """Instances with a ridge of background, `width_px` wide, where two objects touch (also at a corner).

    Each of two touching objects gives up half the width, the one with the larger number the odd pixel. A pixel goes
    when another object lies within that distance (a disk), so gaps that are narrower than the ridge widen as well. An
    object that would vanish stays whole, its neighbours give up the width instead. Without the ridge the classes of the
    training target would join the objects and no network could learn to part them; the weight map is computed from the
    result, so that the ridge lies between two borders and carries the separation weight. The paper computes separation
    borders by morphology (section 3); the width is our choice (`data.ridge_px`).

    Raises ValueError for a negative width.
    """
    if width_px < 0:
        raise ValueError(f"width_px is {width_px}, must be 0 or more")
    ids, ranks = _ranks(instances_HW)
    out = np.array(instances_HW, np.int32)
    if width_px == 0 or np.count_nonzero(ids) < 2:
        return out
    rank = ranks.astype(np.float32)  # which holds ranks exactly, and OpenCV filters it
    highest = cv2.dilate(rank, _disk(width_px // 2))
    lowest = cv2.erode(np.where(rank > 0, rank, np.float32(np.inf)), _disk(width_px - width_px // 2))
    out[(rank > 0) & ((highest > rank) | (lowest < rank))] = 0
    lost = np.setdiff1d(ids, out)
    if lost.size:
        kept = np.isin(instances_HW, lost)
        out[cv2.dilate(kept.astype(np.uint8), _disk(width_px)) > 0] = 0
        out[kept] = instances_HW[kept]
    return out


def unannotated(gold_HW: NDArray[np.integer], silver_HW: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels of the silver objects that have no counterpart in the gold truth, outside all gold objects.

    A silver object has a counterpart when gold objects cover at least half of it, or when it covers more than half of a
    gold object. In a completely annotated frame the result is empty.
    """
    missing = np.zeros(gold_HW.shape, np.bool_)
    for value in np.unique(silver_HW):
        if value == 0:
            continue
        silver = silver_HW == value
        under = gold_HW[silver]
        ids, counts = np.unique(under[under != 0], return_counts=True)
        covers = any(2 * count > np.count_nonzero(gold_HW == i) for i, count in zip(ids, counts, strict=True))
        if 2 * int(counts.sum()) < under.size and not covers:
            missing |= silver
    return np.asarray(missing & (gold_HW == 0))


def outside(shape: tuple[int, ...], foi_px: int) -> NDArray[np.bool_]:
    """Pixels outside the field of interest: the outermost `foi_px` rows and columns of an image of `shape`."""
    mask = np.ones(shape, np.bool_)
    mask[foi_px : shape[0] - foi_px, foi_px : shape[1] - foi_px] = False
    return mask


@dataclass(frozen=True)
class Target:
    """What a network is trained to tell apart where instances are known.

    kind "cell": background and cell, a ridge of background `ridge_px` wide between touching cells. kind "cell-border":
    background, cell, and border, which is every pixel within `border_px` of two cells, inside of them too; nothing is
    cut. Guerrero-Pena et al. 2018 (doi:10.1109/ICIP.2018.8451187) train on such a third class.
    """

    kind: Literal["cell", "cell-border"] = "cell"
    ridge_px: int = 2
    border_px: int = 4

    @classmethod
    def configured(cls, config: DataConfig) -> Target:
        """The target that a configuration names."""
        return cls(config.target, config.ridge_px, config.border_px)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes 0, 1, ..."""
        return ("background", "cell") if self.kind == "cell" else ("background", "cell", "border")

    def of(
        self, instances_HW: NDArray[np.integer], ignore_HW: NDArray[np.bool_] | None = None
    ) -> tuple[LabelImage, InstanceImage]:
        """Class indices, IGNORE where `ignore_HW`, and the objects whose borders the weight map raises."""
        cells = separate(instances_HW, self.ridge_px if self.kind == "cell" else 0)
        label = (cells != 0).astype(np.uint8)
        if self.kind == "cell-border":
            label[borders(cells, self.border_px)] = self.class_names.index("border")
        if ignore_HW is not None:
            label[ignore_HW] = IGNORE
        return label, cells


CELLS = Target()
"""The paper's two classes."""


def borders(instances_HW: NDArray[np.integer], width_px: int) -> NDArray[np.bool_]:
    """Pixels within `width_px` (a disk) of two objects or more; a pixel is within any distance of its own object."""
    near = np.zeros(instances_HW.shape, np.uint8)
    _, ranks = _ranks(instances_HW)
    height, width = ranks.shape
    for rank, box in enumerate(ndimage.find_objects(ranks), start=1):
        rows, columns = (
            slice(max(side.start - width_px, 0), min(side.stop + width_px, length))
            for side, length in zip(box, (height, width), strict=True)
        )
        reached = cv2.dilate((ranks[rows, columns] == rank).astype(np.uint8), _disk(width_px))
        near[rows, columns] = np.minimum(near[rows, columns] + reached, 2)
    return np.asarray(near == 2)


def _ranks(instances_HW: NDArray[np.integer]) -> tuple[NDArray[np.integer], InstanceImage]:
    """The values that occur, in order, and the objects numbered 1.. by them, whatever their numbers were."""
    ids, flat = np.unique(instances_HW, return_inverse=True)
    return ids, (flat.reshape(instances_HW.shape) + (0 if ids[0] == 0 else 1)).astype(np.int32)


def _disk(radius: int) -> NDArray[np.uint8]:
    """All pixels within radius + 1/2; with radius 1 the corners belong to it, so that contacts at a corner are cut."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x * x + y * y <= (radius + 0.5) ** 2, np.uint8)
