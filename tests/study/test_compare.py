"""Findings, tables and pages from evidence that is made up; and that they follow the evidence."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.study.helpers import GRID, STUDY, content, run
from unet.errors import ConfigError
from unet.study import choice, claims, compare, evidence, figure, registry
from unet.study import report as study_report
from unet.study.claims import Target
from unet.study.design import Arm, Comparison, make_job
from unet.study.plan import EndPoint, Plan

FOLDER = "results/small-study/smoke"


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    """Results of five seeds: b is better than a by 0.03 on every pair, up to a hundredth of it."""
    folder = tmp_path_factory.mktemp("five")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unet.study.runner.POLL_S", 0.02)
        run(folder, seeds=5, plan={"gain": {"b": 0.03}})
    return folder


@pytest.fixture
def results(five, tmp_path):
    """A copy that a test may change."""
    import shutil

    shutil.copytree(five / "results", tmp_path / "results")
    return tmp_path / FOLDER


def found(folder, study=STUDY):
    runs = choice.by_key(evidence.load_all(folder))
    return {f.data: f for f in compare.findings(study, "smoke", runs)}


def change(folder, name, score):
    """Another final and another last evaluations for one run."""
    file = folder / name / "scores.json"
    values = json.loads(file.read_text())
    values["scores"]["mean_iou"] = score
    file.write_text(json.dumps(values))
    rows = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    rows = [{**row, "mean_iou": score} if row["part"] == "held_out" else row for row in rows]
    (folder / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def diverge(folder, name):
    (folder / name / "scores.json").unlink()
    (folder / name / "failure.json").write_text(json.dumps({"diverged": "update 10: loss nan"}))


def test_what_all_pairs_share_is_seen_though_seeds_differ_more(results):
    finding = found(results)["em"]
    assert finding.seeds == (0, 1, 2, 3, 4)
    assert finding.mean == pytest.approx(0.03, rel=0.02)
    assert finding.t < 1e-4
    assert finding.interval.low < finding.mean < finding.interval.high
    assert (finding.flip.p, finding.flip.smallest_p) == (0.0625, 0.0625)
    assert finding.block == pytest.approx(finding.t)  # of two arms it is the paired t test
    runs = choice.by_key(evidence.load_all(results))
    spread = compare.summarise(compare.arm_runs(STUDY, "smoke", STUDY.arm("a"), "em", runs), "mean_iou_last5")
    assert spread is not None
    assert spread.std > 0.01  # between seeds; pairing takes it out


def test_the_effect_turns_with_the_arms(results):
    turned = replace(STUDY, comparisons=(Comparison("a", "b"),))
    assert found(results, turned)["em"].mean == pytest.approx(-found(results)["em"].mean)
    assert (found(results)["em"].improvement, found(results, turned)["em"].improvement) != (0.5, 0.5)


def test_the_end_points_of_a_plan_are_compared_whatever_the_study_tests(results):
    plan = Plan((EndPoint("a", "b", "em", "mean_iou", "smoke", 0.01),), {"smoke": {"em": 4}})
    made = compare.findings(replace(STUDY, plan=plan), "smoke", choice.by_key(evidence.load_all(results)))
    assert [(f.comparison.arm, f.data, f.score) for f in made] == [
        ("b", "em", "mean_iou_last5"), ("b", "hela", "mean_iou_last5"), ("a", "em", "mean_iou"),
    ]  # fmt: skip


def pairs(ours, theirs):
    return dict(enumerate(zip(ours, theirs, strict=True)))


@pytest.mark.parametrize("score", ["warping_error_classic", "rand_error_before_2015", "det_splits"])
def test_less_of_an_error_is_better(score):
    made = compare.finding(STUDY, "smoke", Comparison("b", "a"), "em", score, pairs([0.001, 0.002], [0.1, 0.11]), {})
    assert made.improvement == 1.0


def test_a_score_without_a_direction_is_not_compared(results):
    with pytest.raises(ConfigError, match="'objects': whether more of it is better is not known"):
        compare.finding(STUDY, "smoke", Comparison("b", "a"), "em", "objects", pairs([1, 2], [3, 4]), {})


def test_only_seeds_that_both_arms_have_are_compared(results):
    import shutil

    shutil.rmtree(results / "a-em-seed2")
    assert len(found(results)["em"].differences) == 4


def test_runs_of_different_precision_are_no_pair_and_the_page_says_so(results):
    assert "different precision" not in study_report.make(STUDY, "smoke", results)
    file = results / "b-em-seed3" / "environment.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"precision": "bf16"}))
    assert len(found(results)["em"].differences) == 4
    assert len(found(results)["hela"].differences) == 5
    assert "difference between the arms: 1." in study_report.make(STUDY, "smoke", results)
    for file in results.glob("a-*/environment.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"precision": "bf16"}))
    text = study_report.make(STUDY, "smoke", results)
    assert "| setting b | setting a | EM | IoU, median of last 5 | 1 |" in text
    assert "difference between the arms: 9." in text


def test_pairs_of_two_commits_are_compared_and_counted(results):
    assert "two commits" not in study_report.make(STUDY, "smoke", results)
    file = results / "b-em-seed3" / "environment.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"commit": "another"}))
    assert len(found(results)["em"].differences) == 5
    assert "that two commits of this repository trained (runs.csv names them): 1." in study_report.make(
        STUDY, "smoke", results
    )


def test_the_page_is_a_function_of_the_evidence(results):
    text = study_report.make(STUDY, "smoke", results)
    assert text == study_report.make(STUDY, "smoke", results)
    assert "setting b against setting a" in text
    assert "No plan was made for runs of this size" in text
    assert "- **setting b against setting a**: EM, IoU, median of last 5: +0.03" in text
    assert "**better**" not in text
    assert "20 runs, up to 5 seeds" in text
    assert "| setting a | 1 x 100 px | 5 |" in text
    change(results, "a-em-seed0", 0.4321)
    assert study_report.make(STUDY, "smoke", results) != text


def test_a_page_without_runs_says_so(tmp_path):
    text = study_report.make(STUDY, "smoke", tmp_path / "nothing")
    assert "No comparison has a pair of runs yet." in text
    assert "figure" not in text


def test_a_diverged_run_is_shown_and_counts_as_the_worst(results):
    diverge(results, "b-em-seed1")
    assert found(results)["em"].t > 0.05
    assert min(found(results)["em"].differences) < -0.3
    assert "1 of them diverged" in study_report.make(STUDY, "smoke", results)
    runs = choice.by_key(evidence.load_all(results))
    mean = compare.summarise(compare.arm_runs(STUDY, "smoke", STUDY.arm("b"), "em", runs), "mean_iou_last5")
    assert mean is not None
    assert (mean.n, mean.mean > 0.4) == (4, True)  # the table's mean is of those that did not diverge


def test_a_score_of_an_empty_prediction_is_the_worst(results):
    file = results / "b-em-seed1" / "scores.json"
    values = json.loads(file.read_text())
    values["scores"]["warping_error"] = 0.0
    file.write_text(json.dumps(values))
    assert evidence.load(file.parent).values["warping_error"] == 0
    values["notes"] = ["warping_error: 6 slices have no cell at its best threshold; do not trust it"]
    file.write_text(json.dumps(values))
    assert evidence.load(file.parent).values["warping_error"] == 1


def test_what_was_chosen_is_shown_once_per_part(tmp_path, monkeypatch):
    monkeypatch.setattr("unet.study.runner.POLL_S", 0.02)
    run(tmp_path, GRID, seeds=3)
    text = study_report.make(GRID, "smoke", tmp_path / "results/grid-study/smoke")
    chosen = text.split("## What was chosen")[1].split("\n\n")[1].splitlines()[2:]
    assert [row.split(" | ")[1:4] for row in chosen] == [["DIC-HeLa", part, "low (edge of its grid)"] for part in "12"]
    assert "| the best rate | 1 x 100 px | 3 |" in text
    assert "| 1e-2 | 1 x 100 px |" not in text  # it ran on the tuning seeds only


def test_report_and_figure_are_written(results):
    root = results.parents[1]
    path = registry.write_report(STUDY, "smoke", root, root / "no-plan.yaml")
    assert path == results / "README.md"
    assert (results / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert path.read_text() == study_report.make(STUDY, "smoke", results)
    assert registry.write_report(STUDY, "full", root, root / "no-plan.yaml") is None
    assert not figure.draw(STUDY, "full", root / "small-study" / "full", root / "none.png")
    assert not (root / "none.png").exists()
    assert all(b"/home" not in text for name, text in content(results).items() if name.endswith(".md"))


def test_targets_keep_profiles_apart(results, monkeypatch):
    root = results.parents[1]
    monkeypatch.setattr(claims, "SIZES", ("full", "smoke"))
    goals = [Target("em", "mean_iou", 0.1, "other images"), Target("hela", "seg", 0.9, "other images")]
    table = claims.targets(goals, STUDY, ("a", "b"), root)
    assert "### Profile `full`" not in table
    em, hela = (line for line in table.splitlines() if "other images" in line)
    assert em.count("reached") == 2
    assert "reached" not in hela


def test_only_the_marked_parts_of_a_page_are_replaced():
    text = "above\n<!-- generated: x -->\nold\n<!-- end of x -->\nbelow\n"
    filled = claims.fill(text, {"x": r"new \1"})
    assert filled == "above\n<!-- generated: x -->\n\nnew \\1\n\n<!-- end of x -->\nbelow\n"
    assert claims.fill(filled, {"x": r"new \1"}) == filled
    with pytest.raises(ConfigError, match="exactly one part"):
        claims.fill("nothing", {"x": "new"})


def test_runs_without_a_partner_of_their_precision_are_counted(results):
    known = choice.by_key(evidence.load_all(results))
    waiting = [make_job(STUDY, "smoke", "b", data, seed) for data in ("em", "hela") for seed in (0, 1, 7)]
    assert compare.without_partner(STUDY, waiting, known, "fp32") == 0
    assert compare.without_partner(STUDY, waiting, known, "bf16") == 4  # of seed 7 nothing is known
    assert compare.without_partner(STUDY, [make_job(STUDY, "smoke", "a", "em", 0)], known, "bf16") == 1


def test_an_arm_with_anothers_weights_is_judged_by_its_last_weights_alone(results):
    turned = replace(STUDY, arms=(STUDY.arms[0], replace(STUDY.arms[1], weights_of="a")))
    assert found(results)["em"].score == "mean_iou_last5"
    runs = choice.by_key(evidence.load_all(results))
    finding = found(results, turned)["em"]
    assert finding.score == "mean_iou"
    assert finding.differences == tuple(
        runs["b", "em", seed].values["mean_iou"] - runs["a", "em", seed].values["mean_iou"] for seed in range(5)
    )
    row = next(
        line for line in study_report.make(turned, "smoke", results).splitlines() if line.startswith("| setting b |")
    )
    assert row.split(" | ")[3] == "-"


def test_the_figure_names_the_arms_that_ran_and_draws_no_borrowed_curves(results, tmp_path, monkeypatch):
    drawn, named, original = [], [], figure._dots
    monkeypatch.setattr(figure, "_curves", lambda _, series, __: drawn.append(len(series)))
    monkeypatch.setattr(
        figure, "_dots", lambda axis, arms, *rest: named.extend(a[1] for a in arms) or original(axis, arms, *rest)
    )
    turned = replace(STUDY, arms=(*STUDY.arms, replace(STUDY.arms[1], name="c", what="never run")))
    assert figure.draw(turned, "smoke", results, tmp_path / "figure.png")
    assert named == ["setting a", "setting b"] * 2
    assert drawn == [5] * 8  # two arms, two data sets, training and evaluation
    drawn.clear()
    turned = replace(STUDY, arms=(STUDY.arms[0], replace(STUDY.arms[1], weights_of="a")))
    assert figure.draw(turned, "smoke", results, tmp_path / "figure.png")
    assert drawn == [5] * 4


def test_arms_that_are_the_same_runs_are_drawn_once(results):
    runs = choice.by_key(evidence.load_all(results))
    runs |= {("c", data, seed): run for (arm, data, seed), run in runs.items() if arm == "a"}
    twice = replace(STUDY, arms=(*STUDY.arms, replace(STUDY.arms[0], name="c", what="the best rate")))
    found = figure.drawn(twice, "smoke", "em", twice.arms, runs)
    assert [(arm.name, label, len(own)) for arm, label, own in found] == [
        ("a", "setting a = the best rate", 5), ("b", "setting b", 5),
    ]  # fmt: skip
    del runs["c", "em", 4]  # no longer the same
    assert len(figure.drawn(twice, "smoke", "em", twice.arms, runs)) == 3


def test_the_band_goes_no_further_than_the_runs():
    x = np.arange(2.0)
    low, high = np.array([1.0, 2.0]), np.array([9.0, 4.0])
    assert figure.mean_band([(x, low)])[2] is None
    _, mean, (bottom, top) = figure.mean_band([(x, low), (x, high)])  # one std is 5.7 and 1.4
    assert mean.tolist() == [5.0, 3.0]
    assert (bottom.tolist(), top.tolist()) == ([1.0, 2.0], [9.0, 4.0])
    _, _, (bottom, top) = figure.mean_band([(x, low), (x, low), (x, high)])
    assert bottom.tolist() == [1.0, 2.0]
    assert top == pytest.approx(np.mean([low, low, high], 0) + np.std([low, low, high], 0, ddof=1))


def test_the_page_says_what_its_curves_do_not(results, tmp_path, monkeypatch):
    note = "their training losses cannot be compared"
    assert note not in study_report.make(STUDY, "smoke", results / "small-study" / "smoke")
    weights = replace(
        STUDY, arms=(STUDY.arms[0], Arm("b", "no border term", {"weight": {"w0": 0.0}})), name="weights-study"
    )
    run(tmp_path, weights)
    assert note in study_report.make(weights, "smoke", tmp_path / "results" / "weights-study" / "smoke")


def test_a_diverged_run_is_no_calm_one(results):
    diverge(results, "b-em-seed1")
    assert "spikes" not in evidence.load(results / "b-em-seed1").values
    assert evidence.load(results / "b-em-seed0").values["spikes"] == 0
    spiking = replace(STUDY, tested={"em": ("spikes",)})
    assert len(found(results, spiking)["em"].differences) == 4


def test_a_goal_is_not_reached_by_the_runs_that_did_not_diverge(results):
    goals = [Target("em", "mean_iou", 0.1, "other images")]
    runs = choice.by_key(evidence.load_all(results))
    assert "(5 runs), reached |" in claims.target_table(goals, STUDY, ["b"], "smoke", runs)
    diverge(results, "b-em-seed1")
    diverge(results, "b-em-seed2")
    runs = choice.by_key(evidence.load_all(results))
    row = claims.target_table(goals, STUDY, ["b"], "smoke", runs).splitlines()[-1]
    assert "(3 of 5 runs, 2 diverged) |" in row
    assert "reached" not in row
