"""Does the weight map help?

Question
    The paper weights the loss by w(x) = w_c(x) + w0 exp(-(d1 + d2)^2 / (2 sigma^2)) to force the network to learn the
    borders between touching cells (its Figure 3 is DIC-HeLa). The blog compared with and without on EM, by IoU, and
    found no difference; but its w_c was 1 / n_c, about 5e-6 beside w0 = 10, which is no class balance, and a quarter of
    the pixels held two thirds of the weight. Which part of the map helps, on which data, in which score?

What was reported
    Paper: the map is one of the method's parts; no ablation. Blog: no difference in IoU on EM (one run each).

Arms
    | arm          | w_c                        | w0 | data         |
    | none         | 1                          | 0  | EM, DIC-HeLa |
    | balance-only | N / (K n_c)                | 0  | EM, DIC-HeLa |
    | border-only  | 1                          | 10 | EM           |
    | paper        | N / (K n_c)                | 10 | EM, DIC-HeLa |
    | blog         | 1 / n_c (not normalised)   | 10 | EM           |
    | three-class  | 1, with the border between touching cells as a third class | 0 | DIC-HeLa |
    The loss is the weighted mean over pixels, so that an arm with more weight is not an arm with a higher rate. No
    PhC-U373: its cells do not touch, and the map changes 0.3 % of the weight.

Plan
    EM: paper against none by IoU, then paper against balance-only by V_rand (20 seeds); DIC-HeLa: paper against none
    by SEG (8 seeds); half of alpha each for IoU and SEG, in this order, plans/weight-map.yaml.

Command
    unet study weight-map --profile decide-em --jobs 2
    unet study weight-map --profile decide-cells --jobs 2

Run time
    See `unet study weight-map --status`.

Expected
    EM: the paper's map costs IoU (a pilot of five pairs, not kept: -0.025) and changes V_rand by -0.03 to 0.03.
    DIC-HeLa: SEG higher with the map by 0 to 0.1, higher still with three classes.
"""

import sys

from unet.cli import main
from unet.study.design import Arm, Comparison, Study
from unet.study.plan import EndPoint, Plan

PLAIN = {"balance": "none", "w0": 0.0}

STUDY = Study(
    name="weight-map",
    title="Does the weight map help?",
    question="Do class balance and border term of the loss's weight map improve the separation of touching cells, and "
    "what do they cost in plain IoU?",
    arms=(
        Arm("none", "no weights", {"weight": PLAIN}),
        Arm("balance-only", "class balance only", {"weight": {"balance": "inverse_frequency", "w0": 0.0}}),
        Arm("border-only", "border term only", {"weight": {"balance": "none", "w0": 10.0}}, data=("em",)),
        Arm(
            "paper",
            "the paper's map (class balance and border term)",
            {"weight": {"balance": "inverse_frequency", "w0": 10.0}},
        ),
        Arm("blog", "the blog's map (not normalised)", {"weight": {"balance": "blog", "w0": 10.0}}, data=("em",)),
        Arm(
            "three-class",
            "no weights, border between cells as a third class",
            {"data": {"target": "cell-border"}, "weight": PLAIN},
            data=("hela",),
        ),
    ),
    comparisons=(
        Comparison("paper", "none"),
        Comparison("balance-only", "none"),
        Comparison("border-only", "none"),
        Comparison("paper", "balance-only"),
        Comparison("blog", "none"),
        Comparison("paper", "blog"),
        Comparison("three-class", "none"),
        Comparison("three-class", "paper"),
    ),
    data=("em", "hela"),
    tested={"em": ("mean_iou", "v_rand", "warping_error"), "hela": ("foreground_iou", "seg", "seg_components")},
    plan=Plan(
        order=(
            EndPoint("paper", "none", "em", "mean_iou", "decide-em", 0.01, 0.5),
            EndPoint("paper", "balance-only", "em", "v_rand", "decide-em", 0.01),
            EndPoint("paper", "none", "hela", "seg", "decide-cells", 0.03, 0.5),
        ),
        seeds={"decide-em": {"em": 20}, "decide-cells": {"hela": 8}},
    ),
)

if __name__ == "__main__":
    sys.exit(main(["study", __file__, *sys.argv[1:]]))
