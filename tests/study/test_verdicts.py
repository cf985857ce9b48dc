"""When a difference is claimed: at which p, corrected for how many, and which way a score points."""

import json
import math
from dataclasses import replace

import pytest

from tests.study.helpers import STUDY
from unet.stats import CLAIM_LEVEL, equivalence_test, t_test
from unet.study import choice, claims, compare
from unet.study.claims import Claim
from unet.study.evidence import HIGHER_IS_BETTER, Evidence, higher_is_better
from unet.study.matrix import Comparison

MORE = ("mean_iou_last5", "mean_iou", "pixel_accuracy", "blog_iou", "seg", "det", "foreground_iou", "ap", "ap_50",
        "ap_75", "pq", "pq_segmentation", "pq_recognition", "v_rand", "v_info", "seg_components",
        "objects_found")  # fmt: skip
LESS = ("pixel_error", "misclassification", "rand_error", "rand_error_before_2015", "warping_error",
        "warping_error_classic", "loss", "loss_last5", "train_loss", "spikes", "det_splits", "det_false_negatives",
        "det_false_positives", "objects_missed", "objects_merged", "objects_split", "objects_spurious")  # fmt: skip


def t_of_three(q):
    """t of three values where q = 1 - p of both sides: with 2 degrees of freedom q = t / sqrt(t^2 + 2)."""
    return math.sqrt(2) * q / math.sqrt(1 - q**2)


def apart(p):
    """Three positive differences with this p of the t test: m - 1, m, m + 1 have t = m sqrt(3)."""
    mean = t_of_three(1 - p) / math.sqrt(3)
    return [mean - 1, mean, mean + 1]


def equal(p, margin):
    """Three differences round 0 with this p of the equivalence test: -d, 0, d are t = margin sqrt(3) / d from it."""
    d = margin * math.sqrt(3) / t_of_three(1 - 2 * p)
    return [-d, 0.0, d]


def finding(differences, score="mean_iou", data="em"):
    made = compare._finding(Comparison("b", "a"), data, score, differences, [0.0] * len(differences))
    return replace(made, p=made.t.p)


@pytest.mark.parametrize("p", [0.004, 0.009, 0.02, 0.03])
def test_the_differences_of_this_test_have_the_p_they_are_made_for(p):
    assert t_test(apart(p)).p == pytest.approx(p)
    assert equivalence_test(equal(p, 0.01), 0.01).p == pytest.approx(p)


@pytest.mark.parametrize(("p", "verdict", "answer"), [(0.009, "better", "holds"), (0.02, "open", "open")])
def test_a_verdict_needs_p_below_one_in_a_hundred(p, verdict, answer):
    assert CLAIM_LEVEL == 0.01
    assert finding(apart(p)).verdict == verdict
    same = Claim("blog", "b is a", "small-study", "b", "a", "same", ("mean_iou",), margin=0.01)
    assert [given for _, given, _ in claims.answers(same, [finding(equal(p, 0.01))])] == [answer]


def evidence(path, arm, data, seed, score):
    path.mkdir()
    (path / "environment.json").write_text(json.dumps({"device": "cpu", "processor": "imagined", "packages": {}}))
    (path / "scores.json").write_text(json.dumps({"scores": {"mean_iou": score}}))
    return Evidence(path, arm, data, seed)


@pytest.mark.parametrize(
    ("em", "hela", "corrected", "verdicts"),
    [
        (0.004, 0.03, [0.008, 0.03], ["better", "open"]),
        (0.006, 0.03, [0.012, 0.03], ["open", "open"]),  # alone, 0.006 would have been a verdict
        (0.03, 0.004, [0.03, 0.008], ["open", "better"]),
    ],
)
def test_findings_of_a_study_are_corrected_for_their_number(tmp_path, em, hela, corrected, verdicts):
    study = replace(STUDY, tested={"em": ("mean_iou",), "hela": ("mean_iou",)})
    runs = []
    for data, p in (("em", em), ("hela", hela)):
        for seed, difference in enumerate(apart(p)):
            runs.append(evidence(tmp_path / f"a-{data}-{seed}", "a", data, seed, 0.5))
            runs.append(evidence(tmp_path / f"b-{data}-{seed}", "b", data, seed, 0.5 + difference / 100))
    made = compare.findings(study, "smoke", choice.by_key(runs))
    assert [f.t.p for f in made] == pytest.approx([em, hela])
    assert [f.p for f in made] == pytest.approx(corrected)
    assert [f.verdict for f in made] == verdicts


@pytest.mark.parametrize(
    ("em", "hela", "corrected", "expected"),
    [(0.004, 0.03, [0.008, 0.03], ["holds", "open"]), (0.006, 0.03, [0.012, 0.03], ["open", "open"])],
)
def test_a_claim_of_equality_is_corrected_for_its_findings(em, hela, corrected, expected):
    same = Claim("blog", "b is a", "small-study", "b", "a", "same", ("mean_iou",), margin=0.01)
    made = claims.answers(same, [finding(equal(em, 0.01)), finding(equal(hela, 0.01), data="hela")])
    assert [p for _, _, p in made] == pytest.approx(corrected)
    assert [answer for _, answer, _ in made] == expected


def test_every_score_has_its_direction():
    assert {name for name, more in HIGHER_IS_BETTER.items() if more} == set(MORE)
    assert {name for name, more in HIGHER_IS_BETTER.items() if not more} == set(LESS)
    assert [higher_is_better(name) for name in ("iou_cell", "iou_membrane", "objects")] == [True, True, None]


@pytest.mark.parametrize(("scores", "verdict", "improvement"), [(MORE, "better", 1.0), (LESS, "worse", 0.0)])
def test_larger_values_are_a_better_score_and_a_worse_error(scores, verdict, improvement):
    made = [finding(apart(0.004), score) for score in scores]
    assert [(f.score, f.verdict, f.improvement) for f in made] == [(s, verdict, improvement) for s in scores]
