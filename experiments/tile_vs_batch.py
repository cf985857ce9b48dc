"""Larger tiles or larger batches?

Question
    The blog trained with 4 tiles of 512 px and with 16 of 256 px, found the large tiles smoother, and was "still not
    sure why". Unpadded convolutions leave 324 px of a 508 px tile but only 68 px of a 252 px tile: the same input
    pixels are 5.7 times fewer loss pixels. Is a large tile better, and is it the tile or the number of loss pixels?

What was reported
    Paper: favours "large input tiles over a large batch size" and takes a batch of one (no comparison shown).
    Blog: larger tiles train more smoothly and reach more on EM, PhC-U373 and DIC-HeLa (curves of one run each).

Arms (of the profile decide-cells), each at its own best rate
    | arm     | tiles       | input pixels | loss pixels                                       |
    | large   | 1 x 508 px  | 258,064      | 104,976                                           |
    | small   | 4 x 252 px  | 254,016      | 18,496                                            |
    | windows | 1 x 508 px  | 258,064      | 18,496, in four random windows of 68 px of the output |
    large and small have equal input pixels (what the blog compared). windows and small have equal loss pixels; windows
    and large have equal compute and input. If the number of loss pixels explains the difference, windows is as bad as
    small; if it is what the tile shows at once, windows is as good as large.

Plan
    small against large by IoU (EM, 10 seeds) and SEG (PhC-U373 and DIC-HeLa, 8 seeds, both directions equally often),
    tested in this order, half of alpha for EM and a quarter each for the others; plans/tile-vs-batch.yaml. Rates:
    Adam, by training loss on seeds of their own.
    DIC-HeLa: gray values of mean 0 (data.normalise zscore), amended before the first run on cells (README.md).

Command
    unet study tile-vs-batch --jobs 2

Run time
    See `unet study tile-vs-batch --status`, from the measured minutes of like runs.

Expected
    small below large by 0 to 0.05 on every set; windows nearer to small than to large on the cell sets, and no
    different from large on EM, where the noise of the gradient did not follow the loss pixels.
"""

import sys
from collections.abc import Callable

from unet.cli import main
from unet.config import Config
from unet.study.design import Arm, Changes, Comparison, Study
from unet.study.plan import EndPoint, Plan
from unet.study.settings import ADAM_RATES, HELA_ON_CELLS, batch_of_same_input, half_tile, rates, with_rate

SMALL_WINDOWS = {"tile": {"loss_windows": 4, "loss_window_px": 68}}


def small(base: Config) -> Changes:
    """Small tiles with as many input pixels as the base's batch."""
    return {"tile": {"input_px": half_tile(base)}, "train": {"batch": batch_of_same_input(base)}}


KINDS: dict[str, tuple[str, Changes | Callable[[Config], Changes]]] = {
    "large": ("large tiles", {}),
    "small": ("small tiles, same input pixels", small),
    "windows": ("large tiles, loss in four small windows", SMALL_WINDOWS),
}

STUDY = Study(
    name="tile-vs-batch",
    title="Larger tiles or larger batches?",
    question="Is one large tile better than four small ones with the same input pixels, and is it the tile or the "
    "number of loss pixels?",
    arms=(
        *(Arm(name, what, best_of=rates(name, ADAM_RATES)) for name, (what, _) in KINDS.items()),
        *(
            Arm(arm, f"{what}, rate {lr:g} (tuning)", with_rate(changes, lr), grid=True)
            for name, (what, changes) in KINDS.items()
            for arm, lr in zip(rates(name, ADAM_RATES), ADAM_RATES, strict=True)
        ),
    ),
    comparisons=(Comparison("small", "large"), Comparison("windows", "large"), Comparison("small", "windows")),
    by_data=HELA_ON_CELLS,
    tested={"em": ("mean_iou", "v_rand"), "phc": ("mean_iou", "seg"), "hela": ("mean_iou", "seg")},
    plan=Plan(
        order=(
            EndPoint("small", "large", "em", "mean_iou", "decide-cells", 0.01, 0.5),
            EndPoint("small", "large", "phc", "seg", "decide-cells", 0.03, 0.25),
            EndPoint("small", "large", "hela", "seg", "decide-cells", 0.03, 0.25),
        ),
        seeds={"decide-cells": {"em": 10, "phc": 8, "hela": 8}},
    ),
)

if __name__ == "__main__":
    sys.exit(main(["study", __file__, *sys.argv[1:]]))
