"""The claims of the paper, the blog post and others, and the paper's numbers: what experiments/README.md is made from.

Command
    python experiments/claims.py      (every study redraws the page as well)
"""

import sys

from unet.cli import main
from unet.study.claims import Claim
from unet.study.paper import TARGETS as TARGETS  # read from this page, beside the claims

IOU, SEG, V_RAND = "mean_iou", "seg", "v_rand"
CHALLENGE = (SEG, V_RAND)
PAPER, BLOG, OURS = "paper", "blog post", "ledger of faults"
GOYAL = "Goyal et al. 2017"
OF_PAPER = "paper (our question)"  # what the paper does, without saying that it raises a score

CLAIMS = (
    Claim(OF_PAPER, "(favoured for the use of memory) One large tile is also more accurate than a large batch of "
          "small ones with as many input pixels",
          "tile-vs-batch", "small", "large", "worse", (IOU, *CHALLENGE)),
    Claim(PAPER, "Large weights at the borders between touching cells make the network learn them",
          "weight-map", "paper", "balance-only", "better", CHALLENGE, data=("em", "hela")),
    Claim(OF_PAPER, "(the map as a whole) The weight map improves the separation of touching cells",
          "weight-map", "paper", "none", "better", (SEG,), data=("hela",)),
    Claim(PAPER, "Elastic deformation seems to be the key to training with very few annotated images",
          "augmentation", "three-all", "three-no-elastic", "better", (IOU, V_RAND), data=("em",)),
    Claim(OF_PAPER, "(the same question, with all images) Elastic deformation raises the scores",
          "augmentation", "all", "no-elastic", "better", (IOU, V_RAND), data=("em",)),
    Claim(OF_PAPER, "(said to augment implicitly) Dropout at the end of the contracting path raises the scores",
          "faults", "no-dropout", "base", "worse", (IOU, V_RAND), data=("em",)),
    Claim(OF_PAPER, "(done for EM, not compared) Averaging the prediction over rotated images improves it",
          "faults", "symmetries", "base", "better", (IOU, V_RAND), data=("em",)),
    Claim(BLOG, "Large tiles are better than large batches of small ones",
          "tile-vs-batch", "small", "large", "worse", (IOU, SEG)),
    Claim(BLOG, "(left unexplained; our explanation: the number of loss pixels) A large tile with the loss pixels of "
          "the small ones is no better than they are", "tile-vs-batch", "small", "windows", "same", (IOU, SEG)),
    Claim(BLOG, "The weight map makes no difference in IoU on EM",
          "weight-map", "blog", "none", "same", (IOU,), data=("em",)),
    Claim(BLOG, "(the same question, with the paper's map) The weight map makes no difference in IoU on EM",
          "weight-map", "paper", "none", "same", (IOU,), data=("em",)),
    Claim(BLOG, "Adam is better than SGD, each at its best",
          "adam-vs-sgd", "adam-best", "sgd-best", "better", (IOU, SEG)),
    Claim(BLOG, "Adam at 3e-4 gets further than SGD at 1e-3 in the same number of updates",
          "adam-vs-sgd", "blog-adam-3e-4", "blog-sgd-1e-3", "better", (IOU, SEG), data=("phc", "hela")),
    Claim(BLOG, "Adam at 1e-3 spikes on PhC-U373 and DIC-HeLa, at 3e-4 it does not",
          "adam-vs-sgd", "blog-adam-3e-4", "blog-adam-1e-3", "better", ("spikes",), data=("phc", "hela")),
    Claim(BLOG, "Adam overfits on EM", "adam-vs-sgd", "adam-best", "sgd-best", "worse", ("loss",), data=("em",)),
    Claim(OURS, "Neighbours of the scored frames among the training frames flatter the scores",
          "leakage", "leaking", "isolated", "better", (IOU, *CHALLENGE), data=("em", "hela")),
    Claim(OURS, "Tiles whose skips are out of line cost accuracy",
          "faults", "misaligned", "base", "worse", (IOU, V_RAND), data=("em",)),
    Claim(OURS, "Training on silver truth costs SEG against gold truth",
          "faults", "silver", "base", "worse", (SEG,), data=("phc", "hela")),
    Claim(GOYAL, "With linear scaling and a gradual warm-up, a minibatch 8 times as large loses nothing",
          "large-minibatch", "m90-linear-k8", "m90-k1", "same", (IOU,), data=("em",)),
    Claim(GOYAL, "Without scaling of the rate it does worse than with linear scaling",
          "large-minibatch", "m90-none-k8", "m90-linear-k8", "worse", (IOU,), data=("em",)),
    Claim(GOYAL, "With a square-root rule it does worse than with linear scaling",
          "large-minibatch", "m90-sqrt-k8", "m90-linear-k8", "worse", (IOU,), data=("em",)),
    Claim(GOYAL, "(beyond 8192 images there, 32 times the batch here) The rule breaks at some size",
          "large-minibatch", "m90-linear-k32", "m90-k1", "worse", (IOU,), data=("em",)),
)  # fmt: skip

ARMS = ("paper", "blog")

if __name__ == "__main__":
    sys.exit(main(["study", "claims", *sys.argv[1:]]))
