"""What verdicts say about claims."""

import math

import pytest

from unet.study import claims
from unet.study.claims import Claim
from unet.study.decide import Decision
from unet.study.plan import EndPoint


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
