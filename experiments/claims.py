"""The claims of the paper and of the blog post, and the paper's numbers: what experiments/README.md is made from.

Command
    python experiments/claims.py      (every study redraws the page as well)
"""

import sys

from unet.cli import main
from unet.study.claims import Claim
from unet.study.paper import TARGETS as TARGETS  # read from this page, beside the claims

IOU, SEG, V_RAND = "mean_iou_last5", "seg", "v_rand"
CHALLENGE = (SEG, V_RAND)
PAPER, BLOG, OURS = "paper", "blog post", "ledger of faults"
OF_PAPER = "paper (our question)"  # what the paper does, without saying that it raises a score

CLAIMS = (
    Claim(OF_PAPER, "(favoured for the use of memory) One large tile is also more accurate than a large batch of "
          "small ones with as many input pixels",
          "tile-vs-batch", "same-input-pixels", "large-tiles", "worse", (IOU, *CHALLENGE)),
    Claim(PAPER, "Large weights at the borders between touching cells make the network learn them",
          "weight-map", "paper", "balance-only", "better", CHALLENGE),
    Claim(PAPER, "Elastic deformation seems to be the key to training with very few annotated images",
          "faults", "elastic-only", "no-augmentation", "better", (IOU, *CHALLENGE)),
    Claim(OF_PAPER, "(said to augment implicitly) Dropout at the end of the contracting path raises the scores",
          "faults", "dropout-none", "base", "worse", (IOU, *CHALLENGE)),
    Claim(OF_PAPER, "(done for EM, not compared) Averaging the prediction over rotated images improves it",
          "faults", "rotations", "base", "better", CHALLENGE),
    Claim(BLOG, "Large tiles are better than large batches of small ones",
          "tile-vs-batch", "same-input-pixels", "large-tiles", "worse", (IOU,)),
    Claim(BLOG, "(left unexplained; our explanation: the number of loss pixels) With as many loss pixels, small "
          "tiles are as good as large ones", "tile-vs-batch", "same-loss-pixels", "large-tiles", "same", (IOU,)),
    Claim(BLOG, "The weight map makes no difference in IoU on EM",
          "weight-map", "blog", "none", "same", (IOU,), data=("em",)),
    Claim(BLOG, "(the same question, with the paper's map) The weight map makes no difference in IoU",
          "weight-map", "paper", "none", "same", (IOU,)),
    Claim(BLOG, "Adam at 3e-4 gets further than SGD at 1e-3 in the same number of updates",
          "adam-vs-sgd", "adam-3e-4", "sgd-1e-3", "better", (IOU,)),
    Claim(BLOG, "Adam at 1e-3 spikes on PhC-U373 and DIC-HeLa, at 3e-4 it does not",
          "adam-vs-sgd", "adam-3e-4", "adam-1e-3", "better", ("spikes",), data=("phc", "hela")),
    Claim(BLOG, "Adam overfits on EM", "adam-vs-sgd", "adam-3e-4", "sgd-1e-3", "worse", ("loss_last5",), data=("em",)),
    Claim(OURS, "A random split of neighbouring frames flatters the scores",
          "faults", "random-split", "base", "better", (IOU, *CHALLENGE)),
    Claim(OURS, "Tiles of 512 px, whose skips are out of line, cost accuracy",
          "faults", "misaligned", "base", "worse", (IOU, *CHALLENGE)),
    Claim(OURS, "Training on silver truth costs SEG against gold truth",
          "faults", "silver", "base", "worse", (SEG,), data=("phc", "hela")),
)  # fmt: skip

ARMS = ("paper", "blog")

if __name__ == "__main__":
    sys.exit(main(["study", "claims", *sys.argv[1:]]))
