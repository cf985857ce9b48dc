"""Which way scores point, and what verdicts say about claims."""

import math

import pytest

from unet.study import claims
from unet.study.claims import Claim
from unet.study.decide import Decision
from unet.study.directions import HIGHER_IS_BETTER, WORST, higher_is_better
from unet.study.plan import EndPoint

MORE = ("mean_iou_last5", "mean_iou", "pixel_accuracy", "blog_iou", "seg", "seg_components", "det", "foreground_iou",
        "ap", "ap_50", "ap_75", "pq", "v_rand", "v_info", "pq_segmentation", "pq_recognition",
        "objects_found")  # fmt: skip
LESS = ("pixel_error", "misclassification", "rand_error", "rand_error_before_2015", "warping_error",
        "warping_error_classic", "loss", "loss_last5", "train_loss", "spikes", "det_splits", "det_false_negatives",
        "det_false_positives", "objects_missed", "objects_merged", "objects_split", "objects_spurious")  # fmt: skip


def test_every_score_has_its_direction():
    assert {name for name, more in HIGHER_IS_BETTER.items() if more} == set(MORE)
    assert {name for name, more in HIGHER_IS_BETTER.items() if not more} == set(LESS)
    assert [higher_is_better(name) for name in ("iou_cell", "iou_membrane", "objects")] == [True, True, None]
    assert WORST["seg"] == 0
    assert WORST["warping_error"] == 1
    assert "loss" not in WORST


def made(verdict, p_equal=math.nan):
    point = EndPoint("b", "a", "em", "seg", "smoke", 0.03)
    return Decision(point, verdict, 2, (0, 1), (0.1, 0.2), 0.001, p_equal, 0.0095)


@pytest.mark.parametrize(
    ("verdict", "expects", "answer"),
    [
        ("better", "better", "holds"), ("worse", "better", "does not hold"), ("equal", "better", "does not hold"),
        ("worse", "worse", "holds"), ("equal", "same", "holds"), ("better", "same", "does not hold"),
        ("open", "same", "open"), ("stopped", "better", "open"), ("waiting", "worse", "open"),
    ],
)  # fmt: skip
def test_claims_are_answered_by_verdicts(verdict, expects, answer):
    claim = Claim("blog", "b is better", "small-study", "b", "a", expects, ("seg",))
    assert claims.answer(claim, made(verdict)) == answer


def test_a_difference_that_is_surely_less_than_the_margin_is_none_for_a_claim_of_equality():
    claim = Claim("blog", "b is a", "small-study", "b", "a", "same", ("seg",))
    assert claims.answer(claim, made("better", p_equal=0.001)) == "holds"
    assert claims.answer(claim, made("better", p_equal=0.1)) == "does not hold"
