"""Does the weight map help?

Question
    The paper weights the loss by w(x) = w_c(x) + w0 exp(-(d1 + d2)^2 / (2 sigma^2)) to force the network to learn the
    borders between touching cells (its Figure 3 is DIC-HeLa). The blog compared with and without on EM, by IoU, and
    found no difference; but its w_c was 1 / n_c, about 5e-6 beside w0 = 10, which is no class balance, and a quarter of
    the pixels held two thirds of the weight. Which part of the map helps, on which data, in which score?

What was reported
    Paper: the map is one of the method's parts; no ablation. Blog: no difference in IoU on EM (one run each).

Arms
    | arm          | w_c                        | w0 |
    | none         | 1                          | 0  |
    | balance-only | N / (K n_c)                | 0  |
    | border-only  | 1                          | 10 |
    | paper        | N / (K n_c)                | 10 |
    | blog         | 1 / n_c (not normalised)   | 10 |
    Scored where separation counts: SEG on the cell data, V_rand and warping error on EM, beside IoU. The loss is the
    mean over pixels of w x cross-entropy, as in the blog: arms with more weight take larger steps, which is part of
    what is compared.

Command
    python experiments/weight_map.py --profile full --seeds 5
    python experiments/weight_map.py --profile reduced --seeds 3 --jobs 2

Run time
    full: 75 runs (15 shared), estimated (not measured) at a minute each on one H200. reduced: 45 runs (9 shared) of
    5 to 20 minutes, 7 in the median, two at a time.

Expected
    IoU: none is best or equal (the map trades pixel accuracy for borders), by 0 to 0.05 where the border term is on.
    SEG on DIC-HeLa and V_rand on EM: arms with the border term higher once training is long (full); at the reduced size
    separation is hardly learned and the question stays open.

Found (reduced, 3 seeds; results/weight-map/reduced)
    IoU against none: the paper's map -0.012 (EM), +0.085 (PhC-U373), +0.066 (DIC-HeLa), border only +0.016, -0.030,
    -0.012: the paper's map costs less than expected and nothing on the cell data. V_rand (EM) is lower with the border
    term (-0.011, -0.020), SEG (DIC-HeLa) +0.008 and -0.062. The blog's map hardly learns on the cell data (IoU -0.40,
    -0.39). All open: 3 pairs.
"""

import sys

from unet.cli import main
from unet.study.matrix import Arm, Comparison, Study
from unet.study.settings import BLOG

STUDY = Study(
    name="weight-map",
    title="Does the weight map help?",
    question="Do class balance and border term of the loss's weight map improve the separation of touching cells, and "
    "what do they cost in plain IoU?",
    base=BLOG,
    arms=(
        Arm("none", "no weights", {"weight": {"balance": "none", "w0": 0.0}}),
        Arm("balance-only", "class balance only", {"weight": {"w0": 0.0}}),
        Arm("border-only", "border term only", {"weight": {"balance": "none"}}),
        Arm("paper", "the paper's map (class balance and border term)"),
        Arm("blog", "the blog's map (not normalised)", {"weight": {"balance": "blog"}}),
    ),
    comparisons=(
        Comparison("paper", "none"),
        Comparison("balance-only", "none"),
        Comparison("border-only", "none"),
        Comparison("paper", "balance-only"),
        Comparison("blog", "none"),
        Comparison("paper", "blog"),
    ),
    tested={
        "em": ("mean_iou_last5", "warping_error", "v_rand"),
        "phc": ("mean_iou_last5", "seg"),
        "hela": ("mean_iou_last5", "seg"),
    },
)

if __name__ == "__main__":
    sys.exit(main(["study", __file__, *sys.argv[1:]]))
