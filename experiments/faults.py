"""What single parts of the recipe are worth: aligned tiles, gold labels, dropout, averages.

Question
    What do the blog's misaligned tiles and its computed (silver) labels change, and what are dropout, an average of the
    weights and test-time symmetries worth, each taken alone?

What was reported
    Nothing of the faults: the blog knew of neither. Paper: dropout augments implicitly; predictions are averaged over 7
    rotations.

Arms, each against base in one point
    | arm        | point                                                                        | data      |
    | base       | aligned tiles, gold labels, dropout 0.1                                      | all sets  |
    | misaligned | tiles a quarter of a stride larger: skips out of line, same output           | EM        |
    | silver     | computed labels of all frames, scored on gold all the same                   | cell sets |
    | no-dropout | no dropout                                                                   | EM        |
    | average    | an exponential average of the weights (decay 0.999) is scored                | EM        |
    | symmetries | the weights of base, predictions averaged over the 8 symmetries of the square | EM       |

Plan
    misaligned against base (EM, IoU, 20 seeds), silver against base (DIC-HeLa, then PhC-U373, SEG, 8 seeds), average
    against base (EM, IoU), each with a quarter of alpha and what passes on from the one before; plans/faults.yaml.
    DIC-HeLa: gray values of mean 0 (data.normalise zscore), amended before the first run on cells (README.md).

Command
    unet study faults --profile decide-em --jobs 2
    unet study faults --profile decide-cells --jobs 2

Run time
    See `unet study faults --status`. Silver labels: longer, all frames of a sequence are held out and scored.

Expected
    misaligned within 0.01 of base; silver higher by 0 to 0.1 (SEG, DIC-HeLa: many more frames to train on); average and
    symmetries higher by 0 to 0.01.
"""

import sys

from unet.cli import main
from unet.study.design import Arm, Comparison, Study
from unet.study.plan import EndPoint, Plan
from unet.study.settings import HELA_ON_CELLS, misaligned

STUDY = Study(
    name="faults",
    title="What single parts of the recipe are worth",
    question="What do misaligned tiles and silver labels change, and what are dropout, averaged weights and test-time "
    "symmetries worth, each taken alone?",
    arms=(
        Arm("base", "base (aligned tiles, gold labels, dropout 0.1)"),
        Arm(
            "misaligned",
            "misaligned tiles",
            lambda base: {
                "tile": {"input_px": misaligned(base.tile.input_px, base.model.depth)},
                "model": {"allow_odd_pooling": True},
            },
            data=("em",),
        ),
        Arm(
            "silver",
            "silver labels of all frames",
            # All frames of a sequence are held out: they are predicted once, at the end.
            lambda base: {"data": {"labels": "silver"}, "train": {"eval_every": base.train.updates}},
            data=("phc", "hela"),
        ),
        Arm("no-dropout", "no dropout", {"model": {"dropout": 0.0}}, data=("em",)),
        Arm("average", "averaged weights", {"optim": {"average": 0.999}}, data=("em",)),
        Arm("symmetries", "8 test-time symmetries", {"predict": {"symmetries": 8}}, data=("em",), weights_of="base"),
    ),
    comparisons=(
        Comparison("misaligned", "base"),
        Comparison("silver", "base"),
        Comparison("no-dropout", "base"),
        Comparison("average", "base"),
        Comparison("symmetries", "base"),
    ),
    by_data=HELA_ON_CELLS,
    tested={"em": ("mean_iou", "v_rand"), "phc": ("mean_iou", "seg"), "hela": ("mean_iou", "seg")},
    plan=Plan(
        order=(
            EndPoint("misaligned", "base", "em", "mean_iou", "decide-em", 0.01, 0.25),
            EndPoint("silver", "base", "hela", "seg", "decide-cells", 0.03, 0.25),
            EndPoint("silver", "base", "phc", "seg", "decide-cells", 0.03, 0.25),
            EndPoint("average", "base", "em", "mean_iou", "decide-em", 0.01, 0.25),
        ),
        seeds={"decide-em": {"em": 20}, "decide-cells": {"phc": 8, "hela": 8}},
    ),
)

if __name__ == "__main__":
    sys.exit(main(["study", __file__, *sys.argv[1:]]))
