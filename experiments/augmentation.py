"""Is elastic deformation the key?

Question
    What does elastic deformation give, with all training images and with three, and does zoom do as well in its place?

What was reported
    Paper: random elastic deformations "seem to be the key concept to train a segmentation network with very few
    annotated images"; no ablation. A group of the Cell Tracking Challenge found rotation and zoom better than elastic
    deformation (single runs). Blog: elastic deformation as in the paper, no comparison.

Arms
    | arm              | rotation, flips | elastic | zoom   | gray | training images     | data     |
    | all              | yes             | 10 px   | -      | yes  | all                 | all sets |
    | no-elastic       | yes             | -       | -      | yes  | all                 | EM       |
    | zoom             | yes             | -       | to 1.3 | yes  | all                 | all sets |
    | no-augmentation  | -               | -       | -      | -    | all                 | EM       |
    | three-all        | yes             | 10 px   | -      | yes  | three, drawn by seed | EM      |
    | three-no-elastic | yes             | -       | -      | yes  | the same three      | EM       |

Plan
    EM by IoU, 20 seeds: three-all against three-no-elastic, then all against no-elastic; plans/augmentation.yaml. Zoom
    against elastic deformation (cell sets: 8 seeds) is exploratory.
    DIC-HeLa: gray values of mean 0 (data.normalise zscore), amended before the first run on cells (README.md).

Command
    unet study augmentation --profile decide-em --jobs 2
    unet study augmentation --profile decide-cells --jobs 2

Run time
    See `unet study augmentation --status`.

Expected
    With three images elastic deformation raises IoU by 0.01 to 0.05, with all of them by 0 to 0.01; zoom within 0.01
    of elastic on EM.
"""

import sys

from unet.cli import main
from unet.study.design import Arm, Comparison, Study
from unet.study.plan import EndPoint, Plan
from unet.study.settings import HELA_ON_CELLS

RIGID = {"elastic_std_px": 0.0}
NOTHING = {"rotation_deg": 0.0, "flips": False, "elastic_std_px": 0.0, "gray": []}
THREE = {"limit": 3}

STUDY = Study(
    name="augmentation",
    title="Is elastic deformation the key?",
    question="What does elastic deformation give, with all training images and with three of them, and does zoom do as "
    "well in its place?",
    arms=(
        Arm("all", "all augmentation"),
        Arm("no-elastic", "all but elastic", {"augment": RIGID}, data=("em",)),
        Arm("zoom", "zoom in place of elastic", {"augment": {**RIGID, "zoom": 1.3}}),
        Arm("no-augmentation", "no augmentation", {"augment": NOTHING}, data=("em",)),
        Arm("three-all", "three images, all augmentation", {"data": THREE}, data=("em",)),
        Arm("three-no-elastic", "three images, all but elastic", {"data": THREE, "augment": RIGID}, data=("em",)),
    ),
    comparisons=(
        Comparison("three-all", "three-no-elastic"),
        Comparison("all", "no-elastic"),
        Comparison("zoom", "all"),
        Comparison("zoom", "no-elastic"),
        Comparison("all", "no-augmentation"),
        Comparison("three-all", "all"),
    ),
    by_data=HELA_ON_CELLS,
    tested={"em": ("mean_iou", "v_rand"), "phc": ("mean_iou", "seg"), "hela": ("mean_iou", "seg")},
    plan=Plan(
        order=(
            EndPoint("three-all", "three-no-elastic", "em", "mean_iou", "decide-em", 0.01),
            EndPoint("all", "no-elastic", "em", "mean_iou", "decide-em", 0.01),
        ),
        seeds={"decide-em": {"em": 20}, "decide-cells": {"phc": 8, "hela": 8}},
    ),
)

if __name__ == "__main__":
    sys.exit(main(["study", __file__, *sys.argv[1:]]))
