"""A planned study from its page to its verdicts: the frozen plan is followed, tables and pages fit the evidence."""

import io
import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.study import helpers
from tests.study.helpers import GRID, STUDY, run
from unet.errors import ConfigError, RunError
from unet.study import choice, decide, evidence, frozen, registry, status, store, tables, verdicts
from unet.study.design import TUNING, Comparison
from unet.study.ledger import Ledger
from unet.study.plan import EndPoint, Look, Plan

PLAN = Plan(
    (EndPoint("b", "a", "em", "mean_iou", "smoke", 0.01), EndPoint("b", "a", "hela", "mean_iou", "smoke", 0.01)),
    {"smoke": {"em": 6, "hela": 4}},
)
PLANNED = replace(STUDY, plan=PLAN)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Results of the planned seeds, b better than a by 0.03, and of a study with a choice."""
    folder = tmp_path_factory.mktemp("planned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unet.study.runner.POLL_S", 0.02)
        run(folder, PLANNED, seeds=99, plan={"gain": {"b": 0.03}})
        run(folder, GRID, seeds=3)
    frozen.freeze(PLANNED, folder / "plans" / "small-study.yaml")
    return folder


@pytest.fixture
def place(made, tmp_path):
    """A copy that a test may change: results and the plan."""
    for name in ("results", "plans", "runs"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


def report(place, study=PLANNED):
    """The study's page, of a plan whose first run noted it."""
    frozen.note(place / "plans" / "small-study.yaml", place / "results" / "small-study", "smoke")
    return registry.write_report(study, "smoke", place / "results", place / "plans" / "small-study.yaml")


def test_only_the_planned_seeds_are_run(made):
    runs = evidence.load_all(made / "results/small-study/smoke")
    assert {(r.data, r.seed) for r in runs} == {*(("em", s) for s in range(6)), *(("hela", s) for s in range(4))}


def test_the_page_gives_the_verdicts_and_says_by_which_plan(place):
    path = report(place)
    assert path == place / "results/small-study/README.md"
    text = path.read_text()
    assert text == verdicts.make(PLANNED, place / "results")
    assert "- EM, IoU: setting b against setting a: **better**: better by +0.03" in text
    assert "- DIC-HeLa, IoU: setting b against setting a: **better**" in text
    assert "Alpha 0.01 for the question" in text
    assert (place / "results/small-study/verdicts.png").read_bytes().startswith(b"\x89PNG")
    assert (
        "The verdicts of the plan stand on the [page of the study](../README.md)"
        in (place / "results/small-study/smoke/README.md").read_text()
    )


def test_a_section_of_the_study_s_own_stands_on_the_page_of_its_verdicts(place):
    def draw(study, results):
        (results / study.name / "own.png").write_bytes(b"drawn")

    def section(study, results):
        return f"## Own\n\n{len(evidence.load_all(results / study.name / 'smoke'))} runs, ![](own.png)"

    path = report(place, replace(PLANNED, front=section, picture=draw))
    assert "**better**" in path.read_text()
    assert "\n\n## Own\n\n20 runs, ![](own.png)\n\n## Plan\n\n" in path.read_text()
    assert (path.parent / "own.png").read_bytes() == b"drawn"


def test_a_size_outside_the_plan_draws_nothing_for_the_page_of_the_verdicts(place):
    def draw(study, results):
        raise AssertionError("no run of the plan's sizes is there")

    order = tuple(replace(point, profile="quick") for point in PLAN.order)
    elsewhere = replace(PLAN, order=order, seeds={"quick": {"em": 6, "hela": 4}})
    assert report(place, replace(STUDY, plan=elsewhere, picture=draw)) == place / "results/small-study/smoke/README.md"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"seeds": {"smoke": {"em": 4, "hela": 4}}}, "seeds"),
        ({"alpha": 0.05, "looks": (Look(0.5, 0.0025), Look(1.0, 0.0475))}, "alpha, looks"),
        ({"order": PLAN.order[::-1]}, "order"),
        ({"order": (replace(PLAN.order[0], margin=0.05), PLAN.order[1])}, "order"),
        ({"most_collapsed": 0.5}, "most_collapsed"),
    ],
)
def test_a_page_that_deviates_from_its_plan_gets_no_verdict(place, changes, what):
    with pytest.raises(ConfigError, match=f"deviates from its plan .* in {what}; no verdict is given"):
        report(place, replace(STUDY, plan=replace(PLAN, **changes)))
    assert not [
        path for path in (place / "results").rglob("*") if path.suffix in (".png", ".md")
    ]  # nor drawn in a figure


def test_a_look_sees_its_share_of_the_pairs_whatever_the_rounding_of_floats():
    """0.58 * 50 is 28.999999999999996 in binary floating point."""
    point = EndPoint("a", "b", "em", "mean_iou", "decide-em", margin=0.01)
    look = Look(0.58, 0.005)
    assert Plan((point,), {"decide-em": {"em": 50}}, looks=(look, Look(1.0, 0.005))).pairs(point, look) == 29


def test_an_arm_may_be_added_after_the_plan(place):
    later = replace(PLANNED, arms=(*PLANNED.arms, replace(PLANNED.arms[0], name="c", what="setting c")))
    assert report(place, later).read_text() == verdicts.make(PLANNED, place / "results")


def test_an_arm_that_changed_after_the_plan_is_a_deviation(place):
    arms = (STUDY.arms[0], replace(STUDY.arms[1], changes={"optim": {"lr": 3e-3}}))
    with pytest.raises(ConfigError, match="deviates from its plan .* in profiles"):
        report(place, replace(PLANNED, arms=arms))


def git(folder, *words):
    who = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
    return subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True).stdout


def test_the_plan_must_be_committed_and_its_commit_is_kept_beside_the_evidence(place):
    plan, results = place / "plans" / "small-study.yaml", place / "results" / "small-study"
    git(place, "init", "-q")
    with pytest.raises(ConfigError, match="the plan is not committed"):
        frozen.note(plan, results, "smoke")
    git(place, "add", "plans")
    git(place, "commit", "-qm", "plan")
    commit = git(place, "rev-parse", "HEAD").strip()
    frozen.note(plan, results, "smoke")
    assert frozen.noted_plan(results)["smoke"]["commit"] == commit
    (place / "other").write_text("x")
    git(place, "add", "other")
    git(place, "commit", "-qm", "later")
    frozen.note(plan, results, "smoke")
    assert frozen.noted_plan(results)["smoke"]["commit"] == commit
    assert f"commit {commit[:10]}" in report(place).read_text()
    plan.write_text(plan.read_text().replace("most_collapsed: 0.1", "most_collapsed: 0.2"))
    looser = replace(PLANNED, plan=replace(PLAN, most_collapsed=0.2))  # page and file changed together
    with pytest.raises(ConfigError, match=f"was changed after the runs .* restore the plan of commit {commit}"):
        report(place, looser)


def test_a_size_is_amended_before_its_first_run_and_never_after(place):
    """Seeds of another size may change; those of the noted one, and what both share, may not."""
    file, results = place / "plans" / "small-study.yaml", place / "results" / "small-study"

    def planned(**changes):
        study = replace(STUDY, plan=replace(PLAN, **changes))
        frozen.freeze(study, file)
        return study

    seeds = {"smoke": {"em": 6, "hela": 4}, "quick": {"em": 8}}
    planned(seeds=seeds)
    frozen.note(file, results, "smoke")
    amended = planned(seeds=seeds | {"quick": {"em": 4}})
    assert report(place, amended).read_text() == verdicts.make(amended, place / "results")
    frozen.note(file, results, "quick")
    assert set(frozen.noted_plan(results)) == {"smoke", "quick"}
    for changes in ({"seeds": seeds}, {"seeds": seeds | {"quick": {"em": 4}}, "most_collapsed": 0.2}):
        with pytest.raises(ConfigError, match="was changed after the runs"):
            report(place, planned(**changes))


def test_a_size_keeps_its_commit_when_another_one_is_amended(place):
    """Runs that came before the amendment are not older than their plan."""
    file, results = place / "plans" / "small-study.yaml", place / "results" / "small-study"
    git(place, "init", "-q")
    commits = []
    for smoke, quick in ((5, 8), (6, 8), (6, 4)):
        seeds = {"smoke": {"em": smoke, "hela": 4}, "quick": {"em": quick}}
        frozen.freeze(replace(STUDY, plan=replace(PLAN, seeds=seeds)), file)
        git(place, "add", "plans")
        git(place, "commit", "-qm", "plan")
        commits.append(git(place, "rev-parse", "HEAD").strip())
    for size in ("smoke", "quick"):
        frozen.note(file, results, size)
    noted = frozen.noted_plan(results)
    assert [noted[size]["commit"] for size in ("smoke", "quick")] == commits[1:]


def test_without_a_repository_the_hash_still_tells_a_changed_plan(place):
    plan, results = place / "plans" / "small-study.yaml", place / "results" / "small-study"
    frozen.note(plan, results, "smoke")
    assert frozen.noted_plan(results)["smoke"]["commit"] == "unknown"
    text = plan.read_text()
    plan.write_text(text.replace("em: 6", "em: 8"))
    with pytest.raises(ConfigError, match="deviates from its plan"):
        report(place)
    plan.write_text("# other\n" + text)  # says the same
    report(place)
    more = replace(PLANNED, plan=replace(PLAN, seeds={"smoke": {"em": 8, "hela": 4}}))
    frozen.freeze(more, plan)
    with pytest.raises(ConfigError, match="was changed after the runs"):
        report(place, more)
    plan.unlink()
    with pytest.raises(ConfigError, match="no frozen plan; write it with --freeze"):
        report(place)


# -- ways to another verdict -------------------------------------------------------------------------------------------


def test_a_plan_whose_note_is_gone_gives_no_verdict(place):
    """Else page and plan could be changed together once the runs are known."""
    report(place)
    (place / "results/small-study" / frozen.NOTE).unlink()
    with pytest.raises(ConfigError, match=r"plan.json: says nothing of smoke, which has runs; restore it"):
        registry.write_report(PLANNED, "smoke", place / "results", place / "plans" / "small-study.yaml")


def test_a_run_of_another_configuration_gives_no_verdict(place):
    """Swapped in under the name of the planned one, as a folder and packed."""
    folder = place / "results/small-study/smoke"
    config = folder / "b-em-seed2" / "config.yaml"
    config.write_text(config.read_text().replace("lr: 0.002", "lr: 0.004"))
    for _ in range(2):
        with pytest.raises(RunError, match=r"b-em-seed2 was made with another optim.lr"):
            report(place)
        evidence.pack(folder)


def test_a_run_under_another_name_does_not_count_twice(place):
    """The better of two runs of one seed: the one whose name comes last would have stood for it."""
    folder = place / "results/small-study/smoke"
    shutil.copytree(folder / "b-em-seed2", folder / "b-em-seed2-again")
    with pytest.raises(RunError, match="b-em-seed2-again and .*b-em-seed2 are the same run; keep one"):
        report(place)


def test_a_run_of_another_seed_gives_no_verdict(place):
    record = place / "results/small-study/smoke/b-em-seed2/record.json"
    shutil.copytree(record.parents[1] / "b-em-seed3", record.parent, dirs_exist_ok=True)
    record.write_text(record.read_text().replace('"seed": 3', '"seed": 2'))
    with pytest.raises(RunError, match=r"b-em-seed2 was made with another .*train.seed"):
        report(place)


def test_a_packed_run_is_not_replaced_by_a_folder(place):
    folder = place / "results/small-study/smoke"
    shutil.copytree(folder / "b-em-seed2", place / "kept")
    evidence.pack(folder)
    shutil.copytree(place / "kept", folder / "b-em-seed2")
    assert len(evidence.load_all(folder)) == 20  # as when packing was killed before the folders went
    scores = folder / "b-em-seed2" / "scores.json"
    scores.write_text(scores.read_text().replace('"scores": {', '"scores": {"v_rand": 0.99, ', 1))
    with pytest.raises(RunError, match=r"b-em-seed2: differs from the run of that name in runs\.jsonl; keep one"):
        evidence.load_all(folder)


def test_a_packed_run_does_not_stand_there_twice(place):
    """Else the last line of a name would count."""
    folder = place / "results/small-study/smoke"
    evidence.pack(folder)
    lines = (folder / store.RUNS).read_text().splitlines()
    (folder / store.RUNS).write_text("\n".join([*lines, lines[3]]) + "\n")
    with pytest.raises(RunError, match=r"runs.jsonl: damaged \(a run stands there twice, or not whole\); restore it"):
        evidence.load_all(folder)


def test_an_arm_of_a_plan_is_the_same_on_all_data_sets(place):
    """The plan keeps an arm's settings once; what it changes on other data would be free."""

    def changes(base):
        return {"optim": {"lr": 4e-3 if base.data.name == "hela" else 2e-3}}

    arms = (STUDY.arms[0], replace(STUDY.arms[1], changes=changes))
    with pytest.raises(ConfigError, match="arm b: has other settings on hela than on em; make two arms of it"):
        frozen.freeze(replace(PLANNED, arms=arms), place / "plans" / "small-study.yaml")


def test_a_plan_keeps_the_settings_of_single_data_sets(place):
    file = place / "plans" / "small-study.yaml"
    study = replace(PLANNED, by_data={"smoke": {"hela": {"train": {"updates": 30}}}})
    with pytest.raises(ConfigError, match="the page deviates from its plan"):
        frozen.check(study, file, place / "empty")
    frozen.freeze(study, file)
    assert frozen.described(study)["profiles"]["smoke"]["by data"] == {"hela": {"train.updates": 30}}
    assert "by data" not in frozen.described(PLANNED)["profiles"]["smoke"]  # older plans keep their hash
    frozen.check(study, file, place / "empty")


PAGE = """from dataclasses import replace
from tests.study.test_plan import PLANNED
# as a page says it: STUDY = Study(
STUDY = replace(PLANNED, plan=replace(PLANNED.plan, most_collapsed={}))
"""


def test_the_tables_of_all_studies_follow_the_plans_too(place):
    """`unet study claims` writes verdicts without running anything: a page that deviates must not get one there."""
    report(place)
    page = place / "small_study.py"
    page.write_text(PAGE.format(0.5))
    for write in (registry.write_claims, registry.claims_page):
        with pytest.raises(ConfigError, match="deviates from its plan .* in most_collapsed; no verdict is given"):
            write(place, place / "results")
    assert not (place / "results" / tables.COMPARISONS).exists()


def recomputed(runs, c):
    """The five lines of experiments/README.md."""
    own = runs[(runs.study == c.study) & (runs.profile == c.profile) & (runs.data == c.data)]
    own = own[own.seed.isin([int(seed) for seed in str(c.seeds).split()])]
    x, y = (own[(own.arm == arm) | (own.stands_for == arm)].set_index("seed")[c.score] for arm in (c.arm, c.reference))
    d = (x - y).sort_index()
    return d.mean(), stats.ttest_1samp(d, 0).pvalue


def test_a_stranger_computes_effect_and_p_of_every_row_from_the_table_of_runs(place):
    grid = replace(GRID, comparisons=(Comparison("named", "best"),), tested={"hela": ("loss_last5",)})
    tables.write([PLANNED, grid], place / "results")
    runs, rows = (pd.read_csv(place / "results" / name) for name in (tables.RUNS, tables.COMPARISONS))
    assert len(runs) == 20 + len(evidence.load_all(place / "results/grid-study/smoke"))
    assert set(rows.kind) == {"primary", "exploratory"}
    assert set(rows.study) == {"small-study", "grid-study"}
    for c in rows.itertuples():
        effect, p = recomputed(runs, c)
        assert effect == pytest.approx(c.effect, abs=1e-10)
        assert p == pytest.approx(c.p, rel=1e-6)
        assert len(str(c.seeds).split()) == c.pairs
    primary = rows[rows.kind == "primary"]
    assert list(primary.verdict) == ["better", "better"]
    assert set(primary.look) <= {1, 2}


def test_page_and_table_name_the_same_number_of_pairs_for_an_open_end_point(place):
    """At the end point's own level, here half of alpha."""
    d = [0.012, -0.009, 0.005, -0.004, 0.011, -0.002]
    points = [replace(point, share=0.5) for point in PLAN.order]
    study = replace(STUDY, plan=replace(PLAN, order=tuple(points)))
    folder = place / "results/small-study/smoke"
    for seed, difference in enumerate(d):
        scores = folder / f"b-em-seed{seed}" / "scores.json"
        known = json.loads((folder / f"a-em-seed{seed}" / "scores.json").read_text())["scores"]["mean_iou"]
        held = json.loads(scores.read_text())
        held["scores"]["mean_iou"] = known + difference
        scores.write_text(json.dumps(held))
    tables.write([study], place / "results")
    row = pd.read_csv(place / "results" / tables.COMPARISONS).iloc[0]
    assert (row.verdict, row.look) == ("open", 2)
    assert row.level == pytest.approx(0.5 * 0.0095)
    assert f"**open**: {row.effect:+.4f} is neither" in verdicts.make(study, place / "results")
    assert f"; {row.pairs_needed:.0f} pairs would settle it" in verdicts.make(study, place / "results")


def test_what_a_reader_must_know_of_a_plan_stands_on_the_page(place):
    path = report(place)
    assert "## Plan\n\nMade before the runs ([plan]" in path.read_text()
    note = path.parent / frozen.NOTE
    note.write_text(note.read_text().replace('"date"', '"remark": "3 runs existed.", "date"'))
    text = report(place).read_text()
    assert "## Plan\n\nMade ([plan]" in text
    assert text.split("## Plan")[1].split("\n\n")[1].endswith(" is exploratory. smoke: 3 runs existed.")


def test_the_table_of_runs_says_what_a_run_was(place):
    tables.write([PLANNED], place / "results")
    runs = pd.read_csv(place / "results" / tables.RUNS)
    row = runs[(runs.arm == "b") & (runs.data == "em") & (runs.seed == 5)].iloc[0]
    stored = evidence.load(place / "results/small-study/smoke/b-em-seed5")
    assert row.primary == pytest.approx(stored.values["mean_iou"], rel=1e-11)
    assert (row.fold, row.minutes, row.commit, row.config) == (0, 0.03, "c" * 40, stored.config_hash)
    assert (row.collapsed, row.diverged, row.tuning) == (0, 0, 0)


# -- packed runs -------------------------------------------------------------------------------------------------------


def test_packed_runs_are_read_as_the_folders_were(place):
    folder = place / "results/small-study/smoke"
    before = {r.path.name: (r.config, r.environment, r.record, r.stored, r.rows, r.values, r.config_hash)
              for r in evidence.load_all(folder)}  # fmt: skip
    page = report(place).read_text()
    tables.write([PLANNED], place / "results")
    csv = (place / "results" / tables.RUNS).read_bytes()
    assert evidence.pack(folder) == 20
    assert not [p for p in folder.iterdir() if p.is_dir()]
    after = {r.path.name: (r.config, r.environment, r.record, r.stored, r.rows, r.values, r.config_hash)
             for r in evidence.load_all(folder)}  # fmt: skip
    assert after == before
    assert report(place).read_text() == page
    tables.write([PLANNED], place / "results")
    assert (place / "results" / tables.RUNS).read_bytes() == csv
    assert evidence.pack(folder) == 0
    back = store.unpack(folder / "b-em-seed1", place / "again" / "b-em-seed1")
    assert evidence.load(back).values == before["b-em-seed1"][5]
    curves = pd.read_csv(folder / store.CURVES)
    assert sorted(set(curves.run)) == sorted(before)
    assert np.isfinite(curves.loss).all()


def test_packed_runs_are_done_and_new_ones_join_them(place):
    folder = place / "results/small-study/smoke"
    evidence.pack(folder)
    (place / "events.jsonl").unlink(missing_ok=True)
    more = replace(PLANNED, plan=replace(PLAN, seeds={"smoke": {"em": 8, "hela": 4}}))
    run(place, more, seeds=99, plan={"gain": {"b": 0.03}})
    assert sorted(helpers.started(place)) == [f"{arm}-em-seed{seed}" for arm in "ab" for seed in (6, 7)]
    assert evidence.pack(folder) == 4
    assert len(evidence.load_all(folder)) == 24


def test_equal_runs_are_adopted_out_of_packed_ones(place):
    evidence.pack(place / "results/small-study/smoke")
    other = replace(STUDY, name="other", arms=STUDY.arms[:1], comparisons=())
    (place / "events.jsonl").unlink(missing_ok=True)
    run(place, other, seeds=2)
    assert helpers.started(place) == []
    adopted = evidence.load(place / "results/other/smoke/a-em-seed1")
    assert adopted.record["same_run_as"] == "small-study/smoke/a-em-seed1"
    assert adopted.rows == evidence.load(place / "results/small-study/smoke/a-em-seed1").rows


def test_a_diverged_run_is_packed_too(place):
    folder = place / "results/small-study/smoke"
    (folder / "b-em-seed0/scores.json").unlink()
    (folder / "b-em-seed0/failure.json").write_text('{"diverged": "update 10: loss nan"}')
    evidence.pack(folder)
    found = evidence.load(folder / "b-em-seed0")
    assert found.diverged
    assert found.failure == {"diverged": "update 10: loss nan"}
    assert found.values["mean_iou"] == 0


def test_a_damaged_store_is_named(place):
    folder = place / "results/small-study/smoke"
    evidence.pack(folder)
    (folder / store.RUNS).write_text((folder / store.RUNS).read_text()[:-9])
    with pytest.raises(evidence.RunError, match=r"runs\.jsonl: damaged"):
        evidence.load_all(folder)


# -- only what verdicts wait for ---------------------------------------------------------------------------------------


def test_runs_end_where_the_plan_is_decided(tmp_path, monkeypatch):
    monkeypatch.setattr("unet.study.runner.POLL_S", 0.02)
    assert run(tmp_path, PLANNED, seeds=6, plan={"gain": {"b": 0.03}}, decide=True).failed == {}
    decided = decide.decisions(PLANNED, verdicts.load(PLANNED, tmp_path / "results"))
    assert [d.verdict for d in decided] == ["better", "better"]
    assert decided[0].look == 1  # three pairs were enough, so that no more were made
    made = {(r.arm, r.data, r.seed) for r in evidence.load_all(tmp_path / "results/small-study/smoke")}
    assert made == {(arm, d.point.data, seed) for arm in "ab" for d in decided for seed in d.seeds}
    options = helpers.options(tmp_path, seeds=6, decide=True)
    assert status.progress(PLANNED, options).left == 0
    assert status.progress(PLANNED, replace(options, decide=False)).left == 20 - len(made)


def test_a_verdict_on_a_best_setting_waits_for_its_grid_first(tmp_path):
    plan = Plan((EndPoint("best", "named", "hela", "mean_iou", "smoke", 0.01),), {"smoke": {"hela": 4}})
    grid = replace(GRID, plan=plan)
    asked = Ledger(grid, helpers.options(tmp_path, seeds=4, decide=True)).wanted()
    assert {(job.arm, job.seed >= TUNING) for job in asked} == {
        ("named", False), ("named", True), ("low", True), ("high", True)
    }  # fmt: skip
    assert [job.seed for job in asked if job.seed < TUNING] == [0, 1]  # the two pairs of the first look


# -- how far it is -----------------------------------------------------------------------------------------------------


def test_progress_counts_runs_and_the_time_of_like_runs(place):
    options = helpers.options(place, at_once=2, seeds=99)
    assert status.progress(PLANNED, options) == status.Progress("small-study", "smoke", 20, 0, 0, 0, 0.0)
    more = replace(PLANNED, plan=replace(PLAN, seeds={"smoke": {"em": 8, "hela": 4}}))
    found = status.progress(more, options)
    assert (found.done, found.left) == (20, 4)
    assert found.seconds == pytest.approx(4 * 2.0 / 2)  # runs say they take 2 s
    lines = status.told([(place / "page.py", more)], options)
    assert lines[1].split() == ["small-study", "smoke", "20", "4", "0", "0", "0.0"]
    twice = status.told([(place / "page.py", more), (place / "page.py", replace(more, name="other"))], options)
    other = dict(zip(twice[0].split(), twice[2].split(), strict=False))
    assert (other["done"], other["left"], other["shared"]) == ("0", "24", "4")  # 20 wait to be adopted
    assert lines[-1] == "0.0 hours left at 2 runs at a time"


def test_progress_counts_the_runs_that_wait_for_a_choice(tmp_path, monkeypatch):
    monkeypatch.setattr("unet.study.runner.POLL_S", 0.02)
    plan = Plan((EndPoint("best", "named", "hela", "mean_iou", "smoke", 0.01),), {"smoke": {"hela": 4}})
    grid = replace(GRID, plan=plan)
    empty = status.progress(grid, helpers.options(tmp_path, seeds=4))
    assert (empty.done, empty.left, empty.seconds) == (0, 6 + 4 + 4, None)
    for only, left in (("low",), 2), (("best",), 6 + 2 + 2), ((), 6 + 2 + 2):  # tuning, named itself, the best of it
        assert status.progress(grid, helpers.options(tmp_path, seeds=2, only=only)).left == left
    run(tmp_path, grid, seeds=4)
    done = status.progress(grid, helpers.options(tmp_path, seeds=4))
    assert (done.left, done.seconds) == (0, 0.0)
    runs = choice.by_key(evidence.load_all(tmp_path / "results/grid-study/smoke"))
    assert len(runs) == done.done == 14


def test_a_csv_has_an_empty_cell_for_what_is_not_known():
    text = tables.text_of(["a", "b"], [{"a": float("nan"), "b": 0.1 + 0.2}, {"b": "x"}])
    assert text == "a,b\n,0.3\n,x\n"
    assert pd.read_csv(io.StringIO(text)).a.isna().all()
