"""Baselines: the three data sets of the paper, in the blog post's setting and in the paper's.

Question
    Does the network reach what the paper reports, and does the paper's batch of one large tile do better than the
    blog's batch of four?

What was reported
    | data      | paper (2015, official test sets)                                | blog (its own IoU, one run) |
    | EM        | pixel 0.0611, Rand 0.0382, warping 0.000353; later V_rand 0.97276, V_info 0.98662 | about 0.85 |
    | PhC-U373  | SEG 0.9203                                                      | about 0.88                  |
    | DIC-HeLa  | SEG 0.7756                                                      | about 0.89                  |
    The paper's learning rate, schedule and number of updates are not known. The blog's IoU is
    clip(ceil(20 (IoU - 0.5)) / 10, 0, 1) on deformed tiles of silver truth, and cannot be compared with any other.

Command
    unet study baselines --profile full --seeds 5
    unet study baselines --profile full --data em --only paper --seeds 1     (without a GPU: the paper's EM)

Run time
    full: 30 runs of 4000 updates, estimated (not measured) at a minute each on one H200; the paper's setting on
    EM takes two CPU cores with bf16 about two and a half hours.

Expected
    full: above the paper on PhC-U373 (SEG > 0.92) and DIC-HeLa (SEG 0.78..0.88), EM below its three errors.
"""

import sys

from unet.cli import main
from unet.study.design import Arm, Comparison, Study
from unet.study.settings import BLOG

STUDY = Study(
    name="baselines",
    title="Baselines",
    question="Do the blog's setting and the paper's setting reach the paper's scores, and which of them is better?",
    base=BLOG,
    arms=(
        Arm("blog", "the blog's setting (Figure 1, dropout 0.1)"),
        Arm(
            "paper",
            "the paper's setting (released network, dropout 0.5, batch of one tile)",
            {"model": {"variant": "released", "dropout": 0.5, "dropout_at": "variant"},
                          "train": {"batch": 1}},
        ),
    ),
    comparisons=(Comparison("paper", "blog"),),
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(["study", __file__, *sys.argv[1:]]))
