"""All scores in one table: a score is a function of this room and a row here.

Reports, studies and the dashboard take from a score's row how it is named, which way it points and when it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["classes", "membranes", "objects", "curves"]

ON_TEST = "test_"
"""Begins the names of scores on the EM challenge's test slices."""


@dataclass(frozen=True)
class Score:
    """A score's facts.

    name: as scores.json has it; with a `_` at its end there is one for each class. label: as tables show it. higher:
    whether more of it is better, None where neither is. of: the data that has it, `classes` being all data, and
    `curves` all data but from what was measured during training. source: where it is defined. decimals: that tables
    show. worst: what a run that diverged counts as, None where there is no worst. tested: whether studies compare arms
    by it unless they name others. column, page: its place in the tables of studies and on the page of a run, from 1; 0:
    not there.
    """

    name: str
    label: str
    higher: bool | None
    of: Kind
    source: str
    decimals: int = 4
    worst: float | None = None
    tested: bool = False
    column: int = 0
    page: int = 0


PASCAL = "Everingham et al. 2010, doi:10.1007/s11263-009-0275-4"
ISBI = "Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142"
WARPING = "Jain et al. 2010, doi:10.1109/CVPR.2010.5539950"
CTC = "Maska et al. 2023, doi:10.1038/s41592-023-01879-y"
DET = "Matula et al. 2015, doi:10.1371/journal.pone.0144959"
AP = "Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7"
PQ = "Kirillov et al. 2019, doi:10.1109/CVPR.2019.00963"
LAST = "median of the last evaluations: Goyal et al. 2017, arXiv 1706.02677"
DICE = "Dice 1945, doi:10.2307/1932409"
VI = "Meila 2007, doi:10.1016/j.jmva.2006.11.013"
ECE = "Guo et al. 2017, arXiv 1706.04599"
OURS = "unet.metrics.outcomes"
BLOG = "the blog's code; unet.metrics.pixel.blog_iou"
SIMPLE = "share of pixels"
LOSS = "mean cross-entropy in nats"
CURVES = "unet.study.curves"

TABLE = (
    Score("mean_iou_last5", "IoU, median of last 5", True, "curves", LAST, worst=0, tested=True, column=1),
    Score("mean_iou", "IoU", True, "classes", PASCAL, worst=0, page=2),
    Score("pixel_accuracy", "pixel accuracy", True, "classes", SIMPLE, worst=0, page=5),
    Score("blog_iou", "blog iou", True, "classes", BLOG, worst=0),
    Score("seg", "SEG", True, "objects", CTC, worst=0, tested=True, column=2, page=1),
    Score("seg_components", "SEG of components", True, "objects", CTC, worst=0),
    Score("objects_found", "objects found", True, "objects", OURS, worst=0),
    Score("det", "DET", True, "objects", DET, worst=0, column=3, page=3),
    Score("vi_split", "VI split", False, "objects", VI),
    Score("vi_merge", "VI merge", False, "objects", VI),
    Score("expected_calibration_error", "expected calibration error", False, "classes", ECE),
    Score("foreground_iou", "foreground IoU", True, "objects", PASCAL, worst=0, column=4, page=4),
    Score("foreground_dice", "foreground Dice", True, "objects", DICE, worst=0),
    Score("ap", "AP 0.5..0.95", True, "objects", AP, worst=0, column=5),
    Score("ap_50", "ap 50", True, "objects", AP, worst=0),
    Score("ap_75", "ap 75", True, "objects", AP, worst=0),
    Score("pq", "pq", True, "objects", PQ, worst=0),
    Score("v_rand", "V_rand", True, "membranes", ISBI, worst=0, tested=True, column=5, page=1),
    Score("v_info", "V_info", True, "membranes", ISBI, worst=0, column=6, page=6),
    Score("pq_segmentation", "pq segmentation", True, "objects", PQ, worst=0),
    Score("pq_recognition", "pq recognition", True, "objects", PQ, worst=0),
    Score("pixel_error", "pixel error", False, "membranes", ISBI, worst=1, column=2, page=3),
    Score("misclassification", "misclassification", False, "membranes", ISBI, worst=1),
    Score("rand_error", "Rand error", False, "membranes", ISBI, worst=1, column=3, page=4),
    Score("rand_error_before_2015", "rand error before 2015", False, "membranes", ISBI, worst=1),
    Score("warping_error", "warping error", False, "membranes", WARPING, decimals=6, worst=1, column=4, page=7),
    Score("warping_error_classic", "warping error classic", False, "membranes", WARPING, worst=1),
    Score("loss", "loss", False, "classes", LOSS, page=8),
    Score("loss_last5", "held-out loss, median of last 5", False, "curves", LAST),
    Score("spikes", "loss spikes", False, "curves", CURVES, decimals=1),
    Score("train_loss", "training loss", False, "curves", CURVES),
    Score("det_splits", "det splits", False, "objects", DET),
    Score("det_false_negatives", "det false negatives", False, "objects", DET),
    Score("det_false_positives", "det false positives", False, "objects", DET),
    Score("objects_missed", "objects missed", False, "objects", OURS),
    Score("objects_merged", "objects merged", False, "objects", OURS),
    Score("objects_split", "objects split", False, "objects", OURS),
    Score("objects_spurious", "objects spurious", False, "objects", OURS),
    Score("objects", "objects", None, "objects", CTC),
    Score("iou_", "iou", True, "classes", PASCAL),
    Score("dice_", "dice", True, "classes", DICE),
    Score("precision_", "precision", True, "classes", SIMPLE),
    Score("recall_", "recall", True, "classes", SIMPLE),
)
SCORES = {score.name: score for score in TABLE}
WORST = {score.name: float(score.worst) for score in TABLE if score.worst is not None}
"""The worst value of every score that has one."""


def find(name: str) -> Score | None:
    """The row of a score, also of one class (`iou_cell`) or on the test slices (`test_v_rand`); None: there is none."""
    name = name.removeprefix(ON_TEST)
    of_classes = (score for score in TABLE if score.name.endswith("_") and name.startswith(score.name))
    return SCORES.get(name) or next(of_classes, None)


def higher_is_better(name: str) -> bool | None:
    """Whether more of a score is better; None where it is not known or neither (the number of objects)."""
    found = find(name)
    return None if found is None else found.higher


def label(name: str) -> str:
    """A score as tables name it."""
    return SCORES[name].label if name in SCORES else name.replace("_", " ")


def decimals(name: str) -> int:
    """How many decimals of a score tables show."""
    found = find(name)
    return Score.decimals if found is None else found.decimals


def of_data(kind: str) -> Iterator[Score]:
    """The scores that data of a kind has: `classes`, `membranes` or `objects`."""
    return (score for score in TABLE if score.of in (kind, "classes", "curves"))


def tested(kind: str) -> tuple[str, ...]:
    """The scores by which arms are compared on data of a kind, unless a study names others."""
    return tuple(score.name for score in of_data(kind) if score.tested)


def columns(kind: str) -> tuple[str, ...]:
    """The scores in a study's tables of data of a kind."""
    shown = [score for score in of_data(kind) if score.column]
    return tuple(score.name for score in sorted(shown, key=lambda score: score.column))


def on_page(names: Iterable[str]) -> list[str]:
    """Those of some scores that the page of a run shows first, the most telling one at the front."""
    shown = [found for name in names if (found := SCORES.get(name)) is not None and found.page]
    return [score.name for score in sorted(shown, key=lambda score: score.page)]
