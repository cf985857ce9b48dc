"""How much do neighbours of the scored frames flatter?

Question
    The blog held frames out at random, so that their neighbours, near copies, were trained on. How much does that
    raise the scores of the very same frames, with as many training frames?

What was reported
    Nothing: the blog did not ask. The paper was scored on images of its own.

Arms
    | arm      | trains on                                                                                     |
    | isolated | frames of other blocks (EM: three blocks of ten slices) or of the other sequence (DIC-HeLa)   |
    | leaking  | the frames beside the scored ones, and fewer of the others, so that their number is the same  |
    Both score the same frames: every second one of the middle of a block (EM), of a sequence (DIC-HeLa).

Plan
    leaking against isolated, EM by IoU (20 seeds), then DIC-HeLa by SEG (8 seeds); plans/leakage.yaml.

Command
    unet study leakage --profile decide-em --jobs 2
    unet study leakage --profile decide-cells --jobs 2

Run time
    See `unet study leakage --status`.

Expected
    leaking higher by 0 to 0.02 (EM, IoU), by 0 to 0.1 (DIC-HeLa, SEG).
"""

import sys

from unet.cli import main
from unet.study.design import Arm, Comparison, Study
from unet.study.plan import EndPoint, Plan

STUDY = Study(
    name="leakage",
    title="How much do neighbours of the scored frames flatter?",
    question="How much higher are the scores of the same frames when their neighbours are trained on, in place of as "
    "many other frames?",
    arms=(
        Arm("isolated", "neighbours left out", {"data": {"split": "isolated", "folds": 3}}),
        Arm("leaking", "neighbours trained on", {"data": {"split": "leaking", "folds": 3}}),
    ),
    comparisons=(Comparison("leaking", "isolated"),),
    data=("em", "hela"),
    tested={"em": ("mean_iou", "v_rand"), "hela": ("mean_iou", "seg")},
    plan=Plan(
        order=(
            EndPoint("leaking", "isolated", "em", "mean_iou", "decide-em", 0.01),
            EndPoint("leaking", "isolated", "hela", "seg", "decide-cells", 0.03),
        ),
        seeds={"decide-em": {"em": 20}, "decide-cells": {"hela": 8}},
    ),
)

if __name__ == "__main__":
    sys.exit(main(["study", __file__, *sys.argv[1:]]))
