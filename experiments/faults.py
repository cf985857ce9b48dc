"""What the blog's faults did, one at a time, and what single parts of the recipe are worth.

Question
    Which of the faults found in the blog's code change a result, by how much, and in which direction?

What was reported
    Nothing: the blog knew of none of them. Paper: random elastic deformations "seem to be the key concept to train a
    segmentation network with very few annotated images"; dropout augments implicitly; predictions are averaged over 7
    rotations.

Arms, each against the one it differs from in one point
    | arm                      | point                                                                    |
    | base                     | 508 px, blocks or sequences held out, gold labels, all augmentation      |
    | misaligned               | 512 px: two skips 2 px out of line, same output                          |
    | small, small-misaligned  | 252 px, and 256 px                                                       |
    | random-split             | neighbours of training frames held out: how much leakage flatters (other |
    |                          | frames than base holds out: part of a difference is theirs)              |
    | silver                   | computed labels of all frames (cell data only), scored on gold all the same |
    | no-augmentation, gray-only, elastic-only | against base, which has all of it                        |
    | dropout-none, dropout-0.5, last-two-0.1, last-two-0.5 | rate and place of dropout                   |
    | rotations                | the weights of base, predictions averaged over the 8 symmetries of the square |
    | as-blogged               | 512 px, random split, silver labels as foreground and background, its weight map; |
    |                          | not its constant rotation and zoom, cubic label interpolation, deformed validation |

Command
    python experiments/faults.py --profile full --seeds 5
    python experiments/faults.py --profile reduced --seeds 3 --jobs 2
    python experiments/faults.py --profile reduced-fp32 --seeds 3 --jobs 2     (processors without bf16)

Run time
    full: 220 runs, estimated (not measured) at a minute each on one H200. reduced: 132 runs of 3.5 to 7 minutes per
    core (silver labels: more, all frames of a sequence are held out and scored); base is shared with the other studies,
    and rotations takes its weights. reduced-fp32: 14 minutes per run and core with AVX2.

Expected
    random-split: higher scores than base (EM IoU by 0 to 0.03). no-augmentation: lower held-out scores at full length,
    higher ones early in training. misaligned: within 0.02 of base. rotations: higher by 0 to 0.02.
"""

import sys

from unet.cli import main
from unet.study.matrix import Arm, Comparison, Study
from unet.study.settings import BLOG, half_tile, misaligned

CELLS = ("phc", "hela")
PLAIN = {"rotation_deg": 0.0, "flips": False, "elastic_std_px": 0.0, "gray": []}

STUDY = Study(
    name="faults",
    title="What the faults did",
    question="What do misaligned tiles, leakage, silver labels, missing augmentation, dropout and test-time rotations "
    "change, each taken alone?",
    base=BLOG,
    arms=(
        Arm("base", "base (aligned tiles, blocks or sequences, gold labels, all augmentation)"),
        Arm(
            "misaligned",
            "misaligned tiles (the blog's 512 px)",
            lambda base: {"tile": {"input_px": misaligned(base.tile.input_px, base.model.depth)},
                          "model": {"allow_odd_pooling": True}},
        ),
        Arm("small", "small tiles", lambda base: {"tile": {"input_px": half_tile(base)}}),
        Arm(
            "small-misaligned",
            "misaligned small tiles (the blog's 256 px)",
            lambda base: {"tile": {"input_px": misaligned(half_tile(base), base.model.depth)},
                          "model": {"allow_odd_pooling": True}},
        ),
        Arm("random-split", "random split (leakage)", {"data": {"split": "random"}}),
        Arm(
            "silver",
            "silver labels of all frames (IoU against silver, SEG against gold)",
            {"data": {"labels": "silver"}},
            data=CELLS,
        ),
        Arm("no-augmentation", "no augmentation", {"augment": PLAIN}),
        Arm("gray-only", "gray values only", lambda base: {"augment": {**PLAIN, "gray": list(base.augment.gray)}}),
        Arm(
            "elastic-only",
            "elastic deformation only",
            lambda base: {"augment": {**PLAIN, "elastic_std_px": base.augment.elastic_std_px}},
        ),
        Arm("dropout-none", "no dropout", {"model": {"dropout": 0.0}}),
        Arm("dropout-0.5", "dropout 0.5 at the bottleneck", {"model": {"dropout": 0.5}}),
        Arm("last-two-0.1", "dropout 0.1 at two levels", {"model": {"dropout_at": "last-two"}}),
        Arm(
            "last-two-0.5",
            "dropout 0.5 at two levels",
            {"model": {"dropout": 0.5, "dropout_at": "last-two"}},
        ),
        Arm("rotations", "8 test-time rotations", {"predict": {"symmetries": 8}}, weights_of="base"),
        Arm(
            "as-blogged",
            "the blog's tiles, split, labels and weight map together (IoU against silver, SEG against gold)",
            lambda base: {
                "data": {"split": "random", "labels": "silver", "ridge_px": 0},
                "tile": {"input_px": misaligned(base.tile.input_px, base.model.depth)},
                "model": {"allow_odd_pooling": True},
                "weight": {"balance": "blog"},
            },
        ),
    ),
    comparisons=(
        Comparison("misaligned", "base"),
        Comparison("small-misaligned", "small"),
        Comparison("random-split", "base"),
        Comparison("silver", "base"),
        Comparison("no-augmentation", "base"),
        Comparison("gray-only", "base"),
        Comparison("elastic-only", "base"),
        Comparison("elastic-only", "no-augmentation"),
        Comparison("dropout-none", "base"),
        Comparison("dropout-0.5", "base"),
        Comparison("last-two-0.1", "base"),
        Comparison("last-two-0.5", "base"),
        Comparison("rotations", "base"),
        Comparison("as-blogged", "base"),
    ),
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(["study", __file__, *sys.argv[1:]]))
