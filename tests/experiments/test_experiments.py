"""The pages in experiments/: what each must say, the runs it asks for, and that committed tables fit their evidence."""

import ast
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from scipy import stats

from unet.config import profile
from unet.geometry import output_size
from unet.study import frozen, registry, tables, verdicts
from unet.study import report as study_report
from unet.study.design import SYNTHETIC_PROFILES, difference, identity, jobs, make_job, resolve
from unet.study.evidence import is_whole, load_all
from unet.study.settings import input_pixels, loss_pixels

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "experiments"
RESULTS = FOLDER / "results"
STUDIES = {path.stem: registry.study_of(path) for path in registry.study_pages(FOLDER)}
PLANNED = {stem: study for stem, study in STUDIES.items() if study.plan is not None}
ARCHIVE = FOLDER / "archive"
COMMITTED = sorted({*(p.parents[1] for p in RESULTS.glob("*/*/*/record.json")),
                    *(p.parent for p in RESULTS.glob("*/*/runs.jsonl"))})  # fmt: skip
ARCHIVED = sorted(p.parent for p in ARCHIVE.glob("*/*/runs.jsonl"))


def planned_arms(stem):
    """The arms that a frozen plan names, grids apart (of baselines those of the claims); others may be added."""
    study = STUDIES[stem]
    if study.plan is None:
        return list(registry.read(FOLDER / "claims.py")["ARMS"]) if stem == "baselines" else []
    profiles = yaml.safe_load(frozen.file_of(FOLDER / f"{stem}.py", study).read_text())["profiles"].values()
    return [arm.name for arm in study.arms if not arm.grid and any(arm.name in p["arms"] for p in profiles)]


def test_all_studies_are_there():
    assert set(STUDIES) >= {
        "baselines",
        "paper",
        "ablation",
        "tile_vs_batch",
        "weight_map",
        "adam_vs_sgd",
        "augmentation",
        "leakage",
        "faults",
    }  # fmt: skip
    assert all(study.name == stem.replace("_", "-") for stem, study in STUDIES.items())


@pytest.mark.parametrize("stem", STUDIES)
def test_a_page_says_what_it_asks_how_it_is_run_and_what_to_expect(stem):
    text = ast.get_docstring(ast.parse((FOLDER / f"{stem}.py").read_text())) or ""
    for part in ("Question", "What was reported", "Command", "Run time", "Expected"):
        assert re.search(rf"^{part}$", text, re.M), part
    command = f"unet study {STUDIES[stem].name}"
    assert command in text.split("Command")[1]
    for name in STUDIES[stem].plan.seeds if STUDIES[stem].plan else ():
        assert f"{command} --profile {name}" in text or (f"{command} --jobs 2" in text and "decide-cells" in text)
    assert re.search(r"\d\.\.\d|\d to \d|within \d|> \d", text.split("Expected")[1])  # a range


@pytest.mark.parametrize("stem", ["tile_vs_batch", "weight_map", "augmentation", "leakage", "faults", "ablation"])
def test_the_lists_of_arms_in_the_docstrings_are_arms(stem):
    text = ast.get_docstring(ast.parse((FOLDER / f"{stem}.py").read_text())) or ""
    listed = re.findall(r"^\s*\| ([a-z][a-z0-9-]*)\s+\|", text.split("Arms")[1], re.M)
    known = [name for name in listed if name != "arm"]
    assert known == [arm.name for arm in STUDIES[stem].arms if arm.name in known]
    assert set(known) >= set(planned_arms(stem))


@pytest.mark.parametrize("name", ["full", "reduced", "smoke", "decide-em", "decide-cells", "cells", "membranes"])
@pytest.mark.parametrize("stem", STUDIES)
def test_every_run_of_every_profile_has_a_valid_configuration(stem, name):
    made = list(jobs(STUDIES[stem], name, 2))
    planned = STUDIES[stem].plan is None or name in STUDIES[stem].plan.seeds
    assert made or not planned
    assert len({job.name for job in made}) == len(made)
    assert {job.config.data.name.startswith("synthetic-") for job in made} <= {name in SYNTHETIC_PROFILES}


KEYS = {
    "baselines": {"model.variant", "model.dropout", "model.dropout_at", "train.batch"},
    "tile_vs_batch": {"tile.input_px", "tile.loss_windows", "train.batch", "optim.lr"},
    "weight_map": {"weight.balance", "weight.w0", "data.target"},
    "adam_vs_sgd": {"optim.name", "optim.lr", "optim.momentum", "optim.schedule", "optim.warmup_updates",
                    "train.eval_every"},
    "leakage": {"data.split"},
}  # fmt: skip


@pytest.mark.parametrize("stem", KEYS)
def test_arms_differ_in_what_is_asked_and_in_nothing_else(stem):
    study = STUDIES[stem]
    frozen_arms = {name for first in planned_arms(stem) for name in (first, *study.arm(first).best_of)}
    arms = [arm.name for arm in study.arms if not arm.best_of and arm.name in frozen_arms]
    configs = [resolve(study, "decide-cells" if study.plan else "full", arm, "hela", 3) for arm in arms]
    assert {key for config in configs[1:] for key in difference(configs[0], config)} == KEYS[stem]
    assert all(difference(a, b) for i, a in enumerate(configs) for b in configs[:i])  # no arm twice


def differs(stem: str, arm: str, reference: str, data: str = "em") -> set[str]:
    return set(difference(*(resolve(STUDIES[stem], "decide-em", name, data, 8) for name in (arm, reference))))


@pytest.mark.parametrize(
    ("stem", "arm", "reference", "keys"),
    [
        ("faults", "misaligned", "base", {"tile.input_px", "model.allow_odd_pooling"}),
        ("faults", "silver", "base", {"data.labels", "train.eval_every"}),
        ("faults", "no-dropout", "base", {"model.dropout"}),
        ("faults", "average", "base", {"optim.average"}),
        ("faults", "symmetries", "base", {"predict.symmetries"}),
        ("augmentation", "no-elastic", "all", {"augment.elastic_std_px"}),
        ("augmentation", "zoom", "all", {"augment.elastic_std_px", "augment.zoom"}),
        ("augmentation", "three-all", "three-no-elastic", {"augment.elastic_std_px"}),
        ("augmentation", "three-all", "all", {"data.limit", "data.seed"}),  # of seed 8: the second draw of its part
    ],
)
def test_an_arm_is_one_point(stem, arm, reference, keys):
    assert differs(stem, arm, reference) == keys


@pytest.mark.parametrize("name", ["full", "decide-em", "decide-cells"])
def test_misaligned_tiles_have_the_outputs_of_the_aligned_ones(name):
    ours, theirs = (resolve(STUDIES["faults"], name, a, "em", 0) for a in ("misaligned", "base"))
    depth = ours.model.depth
    assert ours.tile.input_px - theirs.tile.input_px == 2 ** (depth - 3)
    assert output_size(ours.tile.input_px, depth, True) == output_size(theirs.tile.input_px, depth)


def test_tiles_and_batches_hold_as_many_pixels_as_the_page_says():
    study = STUDIES["tile_vs_batch"]
    large, small, windows = (
        resolve(study, "decide-cells", study.arm(name).best_of[0], "em", 0) for name in ("large", "small", "windows")
    )
    assert [input_pixels(c) for c in (large, small, windows)] == [258_064, 254_016, 258_064]
    assert [loss_pixels(c) for c in (large, small, windows)] == [104_976, 18_496, 18_496]
    assert [c.train.batch for c in (large, small, windows)] == [1, 4, 1]


def test_the_reduced_profile_keeps_the_geometry():
    assert profile("reduced").model.depth == profile("full").model.depth
    assert profile("reduced").tile == profile("full").tile


def test_the_studies_share_their_base_runs():
    def identities(name, data, arms):
        return {identity(make_job(STUDIES[s], name, arm, data, 1).config) for s, arm in arms}

    em = [("weight_map", "none"), ("augmentation", "all"), ("faults", "base"), ("adam_vs_sgd", "adam-0.002")]
    assert len(identities("decide-em", "em", em)) == 1
    cells = [
        ("augmentation", "all"),
        ("faults", "base"),
        ("adam_vs_sgd", "adam-0.002"),
        ("tile_vs_batch", "large-0.002"),
    ]
    for data in ("hela", "phc"):
        assert len(identities("decide-cells", data, cells)) == 1
    amended = identities("decide-cells", "hela", [("weight_map", "paper"), cells[0]])
    assert len(amended) == 2  # gray values of mean 0, see experiments/README.md


def test_the_recipe_is_that_of_the_design():
    em, cells = profile("decide-em"), profile("decide-cells")
    assert (em.model.base_channels, em.model.depth, em.tile.input_px, em.train.updates) == (16, 4, 252, 2400)
    assert (cells.model.base_channels, cells.model.depth, cells.tile.input_px, cells.train.updates) == (
        16,
        5,
        508,
        1200,
    )
    for config in (em, cells):
        assert (config.optim.name, config.optim.lr, config.optim.schedule) == ("adam", 2e-3, "cosine")
        assert (config.optim.final_factor, config.optim.warmup_updates) == (0.02, 100)
        assert (config.loss.reduction, config.model.dropout, config.train.precision) == ("weighted_mean", 0.1, "bf16")


@pytest.mark.parametrize("stem", PLANNED)
def test_the_frozen_plan_is_what_the_page_says(stem):
    """The plan of every study is in the repository; a page that says otherwise decides nothing."""
    study = PLANNED[stem]
    frozen.check(study, frozen.file_of(FOLDER / f"{stem}.py", study), RESULTS / study.name)


def test_every_plan_spends_its_alpha_once_and_looks_at_every_fold():
    for study in PLANNED.values():
        plan = study.plan
        assert plan.alpha == 0.01
        assert math.isclose(sum(look.p for look in plan.looks), 0.01)
        for point in plan.order:
            pairs = [plan.pairs(point, look) for look in plan.looks]
            assert pairs == [plan.seeds[point.profile][point.data] // 2, plan.seeds[point.profile][point.data]]
            assert point.margin == {"mean_iou": 0.01, "v_rand": 0.01, "seg": 0.03}[point.score]


def test_claims_and_targets_name_comparisons_and_scores_that_are_made():
    defined = registry.read(FOLDER / "claims.py")
    studies = {study.name: study for study in STUDIES.values()}
    for claim in defined["CLAIMS"]:
        study = studies[claim.study]
        asked = {(c.arm, c.reference) for c in study.comparisons}
        assert (claim.arm, claim.reference) in asked, claim.says
        for data in claim.data:
            assert set(claim.scores) & set(study.tested[data]), (claim.says, data)
    assert {(t.data, t.score, t.paper) for t in defined["TARGETS"]} >= {
        ("phc", "seg", 0.9203), ("hela", "seg", 0.7756), ("em", "warping_error", 0.000353),
    }  # fmt: skip
    assert set(defined["ARMS"]) <= {arm.name for arm in studies["baselines"].arms}


# -- committed results -------------------------------------------------------------------------------------------------


def study_at(folder: Path):
    return STUDIES[folder.parent.name.replace("-", "_")]


def stale(folder: Path) -> bool:
    """True when the README of a study and profile is not what its stored scores give."""
    return (folder / study_report.README).read_text() != study_report.make(study_at(folder), folder.name, folder)


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_committed_tables_fit_the_stored_scores(folder):
    assert not stale(folder), f"run: unet study {folder.parent.name} --profile {folder.name} --report"
    assert (folder / study_report.FIGURE).is_file()


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_committed_runs_are_whole_of_one_profile_and_hold_no_path(folder):
    assert folder.name not in SYNTHETIC_PROFILES
    for path in (p for p in folder.iterdir() if p.is_dir()):
        assert is_whole(path), path
    for file in (p for p in folder.rglob("*") if p.suffix in (".json", ".jsonl", ".csv", ".yaml", ".md")):
        assert not re.search(r"(?<![\w.:/])/(work|home|root|tmp|Users)/", file.read_text()), file
    for run in load_all(folder):
        assert (run.record["study"], run.record["profile"]) == (folder.parent.name, folder.name)
        expected = resolve(study_at(folder), folder.name, run.arm, run.data, run.seed)
        assert difference(expected, run.config) == [], run.path


def test_the_claims_page_and_the_tidy_tables_fit_the_stored_scores(tmp_path):
    assert (FOLDER / "README.md").read_text() == registry.claims_page(FOLDER, RESULTS), "run: unet study claims"
    if COMMITTED:
        copy = tmp_path / "results"
        shutil.copytree(RESULTS, copy)
        tables.write(STUDIES.values(), copy)
        for name in (tables.RUNS, tables.COMPARISONS):
            assert (copy / name).read_bytes() == (RESULTS / name).read_bytes(), "run: unet study claims"


@pytest.mark.parametrize("stem", PLANNED)
def test_committed_verdicts_fit_the_stored_scores(stem):
    path = RESULTS / PLANNED[stem].name / verdicts.README
    if path.is_file():
        assert path.read_text() == verdicts.make(PLANNED[stem], RESULTS)
        noted = frozen.noted_plan(path.parent)
        assert set(noted) == {folder.name for folder in path.parent.iterdir() if folder.is_dir()}
        assert "unknown" not in {note["commit"] for note in noted.values()}


@pytest.mark.parametrize("stem", PLANNED)
def test_no_run_is_older_than_its_plan_unless_the_page_says_so(stem):
    """The commit that a run was made with holds the plan; the page tells how many runs are exceptions."""
    folder = RESULTS / PLANNED[stem].name
    page = (folder / verdicts.README).read_text() if folder.is_dir() else ""
    for size, note in frozen.noted_plan(folder).items():
        assert frozen.hash_of(plan_at(note["commit"], PLANNED[stem].name), size) == note["sha256"]
        commits = [run.environment["commit"] for run in load_all(folder / size)]
        assert not [commit for commit in commits if "+" in commit]  # of trees that were not committed
        older = {commit for commit in set(commits) if not is_ancestor(note["commit"], commit)}
        runs = sum(commit in older for commit in commits)
        assert not runs or f"{size}: {runs} runs" in page


def plan_at(commit, name):
    """The plan of a study as a commit has it."""
    command = ["git", "-C", str(ROOT), "show", f"{commit}:experiments/plans/{name}.yaml"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    if shown.returncode:
        pytest.skip("the history is not here")
    return yaml.safe_load(shown.stdout)


def is_ancestor(commit, later):
    command = ["git", "-C", str(ROOT), "merge-base", "--is-ancestor", commit, later]
    code = subprocess.run(command, capture_output=True, check=False).returncode
    if code not in (0, 1):
        pytest.skip("the history is not here")
    return code == 0


def test_the_five_lines_of_the_readme_compute_every_comparison():
    """The code is taken out of the README and run on the committed tables, for every row."""
    if not (RESULTS / tables.COMPARISONS).is_file():
        pytest.skip("no study has results")
    text = (FOLDER / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0].replace("experiments/results", str(RESULTS))
    rows = pd.read_csv(RESULTS / tables.COMPARISONS)
    for number in rows.index[rows.pairs > 1]:
        scope: dict[str, object] = {"pd": pd, "stats": stats}
        exec(code.replace(".iloc[0]", f".iloc[{number}]"), scope)
        assert scope["d"].mean() == pytest.approx(rows.effect[number], abs=1e-10)  # type: ignore[attr-defined]
        assert scope["p"] == pytest.approx(rows.p[number], rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("folder", ARCHIVED, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_archived_runs_are_read_and_stand_in_the_table(folder):
    found = load_all(folder)
    table = pd.read_csv(ARCHIVE / tables.RUNS)
    own = table[(table.study == folder.parent.name) & (table.profile == folder.name)]
    assert len(own) == len(found) > 0
    for run in found:
        assert run.rows
        row = own[(own.arm == run.arm) & (own.data == run.data) & (own.seed == run.seed)].iloc[0]
        assert row.config == run.config_hash
        assert row.mean_iou == pytest.approx(run.values["mean_iou"], rel=1e-9)


def test_a_score_that_was_changed_is_noticed(tmp_path, monkeypatch):
    """The check above can fail: on a copy of committed results where there are some, else on made-up ones."""
    from tests.study.helpers import run

    monkeypatch.setattr("unet.data.load.require", lambda *_: None)  # nothing is trained: the images need not be here
    study = STUDIES["baselines"]
    run(tmp_path, study, profile="reduced", data=("em",), seeds=1)
    folder = tmp_path / "results" / "baselines" / "reduced"
    registry.write_report(study, "reduced", tmp_path / "results", tmp_path / "no-plan.yaml")
    assert not stale(folder)
    file = folder / "paper-em-seed0" / "scores.json"
    scores = json.loads(file.read_text())
    scores["scores"]["v_rand"] = 0.5
    file.write_text(json.dumps(scores))
    assert stale(folder)
    shutil.rmtree(folder / "paper-em-seed0")
    assert stale(folder)


def test_the_readme_names_pages_that_exist():
    text = (FOLDER / "README.md").read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (FOLDER / target).exists(), target
    assert all(f"({stem}.py)" in text for stem in STUDIES)


@pytest.mark.parametrize(("size", "data"), [("membranes", "em"), ("cells", "hela"), ("cells", "phc")])
def test_the_ablation_leaves_out_one_ingredient_of_the_recipe_at_a_time(size, data):
    study = STUDIES["ablation"]
    recipe = resolve(study, size, "recipe", data, 3)
    two = {"data.target", "weight.classes", "weight.w0"}
    for arm in study.arms:
        if data in study.data_of(arm) and arm.name != "recipe":
            keys = set(difference(recipe, resolve(study, size, arm.name, data, 3)))
            assert keys == two if arm.name == "two-classes" else len(keys) == 1, arm.name
    if data != "em":  # the recipe of the paper page, but for its length
        changed = difference(recipe, resolve(STUDIES["paper"], size, "gold", data, 3))
        assert set(changed) == {"train.updates", "train.eval_every"}
        assert recipe.train.updates == 1200
