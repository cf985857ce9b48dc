"""What each ingredient of the recipe gives: one left out at a time.

Question
    The recipe of the paper's tables (paper.py) differs from the paper's own training in many points. Which of them does
    it need?

What was reported
    Nothing of this recipe. Tries before it (recipe.md), one run each: three classes and seeds for touching cells, an
    average of the weights and a falling rate seemed worth most.

Arms, each the recipe at 16 channels with one ingredient left out (on cells with 1200 updates, about a third of its
length, since 100 runs of 18 minutes could not be made)
    | arm           | left out                                                                  | data     |
    | recipe        | nothing                                                                   | all sets |
    | no-average    | average of the weights                                                    | all sets |
    | constant-rate | fall of the rate (cosine)                                                 | all sets |
    | no-elastic    | elastic deformation                                                       | all sets |
    | no-dropout    | dropout                                                                   | all sets |
    | no-balance    | class balance                                                             | EM       |
    | no-border     | border term of the weight map                                             | EM       |
    | two-classes   | the class of borders between cells: the paper's ridge and border weights  | cells    |
    | equal-classes | ten times the weight on borders between cells                             | cells    |
    | whole-image   | field of interest: unmarked cells near the image border are background    | cells    |
    | no-zoom       | zoom                                                                      | PhC-U373 |
    | mild-gray     | strong variation of gray values                                           | PhC-U373 |
    | one-view      | average over the 8 symmetries (the weights of recipe)                     | all sets |

    What seeds and watershed give stands beside: SEG against SEG of components, of the same runs.

Command
    unet study ablation --profile membranes --data em --seeds 5 --jobs 2
    unet study ablation --profile cells --data hela --seeds 5 --jobs 2
    unet study ablation --profile cells --data phc --seeds 5 --jobs 2

Run time
    One core with bf16: about 6 minutes a run.

Expected
    Each worth 0 to 0.02 of V_rand or SEG, but two-classes on DIC-HeLa 0.05 to 0.2.
"""

import sys
from collections.abc import Callable

from unet.cli import main
from unet.config import Config
from unet.study.design import Arm, Changes, Comparison, Study
from unet.study.settings import cell_recipe

EM, CELLS, PHC = ("em",), ("phc", "hela"), ("phc",)
SHORT = {"train": {"updates": 1200, "eval_every": 400}}


def without(changes: Changes) -> Callable[[Config], Changes]:
    """The recipe of a set at 16 channels, on cells a third as long, with some keys changed."""

    def made(base: Config) -> Changes:
        cells = base.data.name.endswith(CELLS)
        recipe = {**cell_recipe("gold")(base), **SHORT} if cells else {"model": {"base_channels": 16}}
        return {key: {**recipe.get(key, {}), **changes.get(key, {})} for key in {**recipe, **changes}}

    return made


LEFT_OUT: tuple[tuple[str, str, Changes, tuple[str, ...]], ...] = (
    ("no-average", "no average of the weights", {"optim": {"average": 0.0}}, ()),
    ("constant-rate", "constant rate", {"optim": {"schedule": "constant"}}, ()),
    ("no-elastic", "no elastic deformation", {"augment": {"elastic_std_px": 0.0}}, ()),
    ("no-dropout", "no dropout", {"model": {"dropout": 0.0}}, ()),
    ("no-balance", "no class balance", {"weight": {"balance": "none"}}, EM),
    ("no-border", "no border term", {"weight": {"w0": 0.0}}, EM),
    (
        "two-classes",
        "two classes, ridge and border term",
        {"data": {"target": "cell"}, "weight": {"classes": [], "w0": 10.0}},
        CELLS,
    ),
    ("equal-classes", "equal weights of the three classes", {"weight": {"classes": [1.0, 1.0, 1.0]}}, CELLS),
    ("whole-image", "unmarked cells near the border are background", {"data": {"foi_px": 0}}, CELLS),
    ("no-zoom", "no zoom", {"augment": {"zoom": 1.0}}, PHC),
    ("mild-gray", "mild variation of gray values", {"augment": {"gray": list(Config().augment.gray)}}, PHC),
)

STUDY = Study(
    name="ablation",
    title="What each ingredient of the recipe gives",
    question="Which ingredients of the recipe of the paper's tables are needed, and what does each give?",
    arms=(
        Arm("recipe", "the recipe", without({})),
        *(Arm(name, what, without(changes), data) for name, what, changes, data in LEFT_OUT),
        Arm("one-view", "no symmetries in prediction", without({"predict": {"symmetries": 1}}), weights_of="recipe"),
    ),
    comparisons=(*(Comparison(name, "recipe") for name, *_ in LEFT_OUT), Comparison("one-view", "recipe")),
    tested={"em": ("v_rand", "mean_iou"), "phc": ("seg",), "hela": ("seg",)},
)

if __name__ == "__main__":
    sys.exit(main(["study", __file__, *sys.argv[1:]]))
