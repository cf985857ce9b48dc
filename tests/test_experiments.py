"""The pages in experiments/: what each must say, the runs it asks for, and that committed tables fit their evidence."""

import ast
import json
import re
import shutil
from pathlib import Path

import pytest

from unet.config import PROFILES, profile
from unet.geometry import output_size
from unet.study import page, pages
from unet.study.evidence import is_whole, load_all
from unet.study.matrix import SYNTHETIC_PROFILES, Arm, difference, jobs, make_job, resolve
from unet.study.settings import input_pixels, loss_pixels

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "experiments"
RESULTS = FOLDER / "results"
STUDIES = {path.stem: pages.study_of(path) for path in pages.study_pages(FOLDER)}
COMMITTED = sorted({p.parents[1] for p in RESULTS.glob("*/*/*/record.json")})


def test_all_studies_are_there():
    assert set(STUDIES) == {"baselines", "tile_vs_batch", "weight_map", "adam_vs_sgd", "faults"}
    assert all(study.name == stem.replace("_", "-") for stem, study in STUDIES.items())


@pytest.mark.parametrize("stem", STUDIES)
def test_a_page_says_what_it_asks_how_it_is_run_and_what_to_expect(stem):
    text = ast.get_docstring(ast.parse((FOLDER / f"{stem}.py").read_text())) or ""
    for part in ("Question", "What was reported", "Command", "Run time", "Expected"):
        assert re.search(rf"^{part}$", text, re.M), part
    assert f"python experiments/{stem}.py --profile full --seeds 5" in text
    assert re.search(r"\d\.\.\d|\d to \d|within \d|> \d", text.split("Expected")[1])  # a range


def test_the_lists_of_arms_in_the_docstrings_are_the_arms():
    for stem in ("tile_vs_batch", "weight_map"):
        text = ast.get_docstring(ast.parse((FOLDER / f"{stem}.py").read_text())) or ""
        listed = re.findall(r"^\s*\| ([a-z][a-z0-9-]*)\s+\|", text.split("Arms")[1], re.M)
        assert [name for name in listed if name != "arm"] == [arm.name for arm in STUDIES[stem].arms]


@pytest.mark.parametrize("name", [p for p in PROFILES if p != "quick"])
@pytest.mark.parametrize("stem", STUDIES)
def test_every_run_of_every_profile_has_a_valid_configuration(stem, name):
    made = list(jobs(STUDIES[stem], name, 2))
    assert made
    assert len({job.name for job in made}) == len(made)
    assert {job.config.data.name.startswith("synthetic-") for job in made} == {name in SYNTHETIC_PROFILES}


KEYS = {
    "baselines": {"model.variant", "model.dropout", "model.dropout_at", "train.batch"},
    "tile_vs_batch": {"tile.input_px", "train.batch"},
    "weight_map": {"weight.balance", "weight.w0"},
    "adam_vs_sgd": {"optim.name", "optim.lr"},
}


@pytest.mark.parametrize("stem", KEYS)
def test_arms_differ_in_what_is_asked_and_in_nothing_else(stem):
    study = STUDIES[stem]
    arms = [arm.name for arm in study.arms if not arm.best_of]
    configs = [resolve(study, "full", arm, "em", 3) for arm in arms]
    assert {key for config in configs[1:] for key in difference(configs[0], config)} == KEYS[stem]
    assert all(difference(a, b) for i, a in enumerate(configs) for b in configs[:i])  # no arm twice


def differs(arm: str, reference: str, data: str = "hela") -> set[str]:
    study = STUDIES["faults"]
    return set(difference(*(resolve(study, "full", name, data, 3) for name in (arm, reference))))


@pytest.mark.parametrize(
    ("arm", "keys"),
    [
        ("misaligned", {"tile.input_px", "model.allow_odd_pooling"}),
        ("random-split", {"data.split", "data.fold"}),
        ("silver", {"data.labels"}),
        ("gray-only", {"augment.rotation_deg", "augment.flips", "augment.elastic_std_px"}),
        ("elastic-only", {"augment.rotation_deg", "augment.flips", "augment.gray"}),
        ("no-augmentation", {"augment.rotation_deg", "augment.flips", "augment.elastic_std_px", "augment.gray"}),
        ("dropout-none", {"model.dropout"}),
        ("last-two-0.1", {"model.dropout_at"}),
        ("last-two-0.5", {"model.dropout", "model.dropout_at"}),
        ("rotations", {"predict.symmetries"}),
    ],
)
def test_a_fault_is_one_point(arm, keys):
    assert differs(arm, "base") == keys


@pytest.mark.parametrize("name", ["full", "reduced"])
def test_misaligned_tiles_have_the_outputs_of_the_aligned_ones(name):
    for arm, reference, sizes in (("misaligned", "base", (512, 508)), ("small-misaligned", "small", (256, 252))):
        ours, theirs = (resolve(STUDIES["faults"], name, a, "em", 0) for a in (arm, reference))
        assert (ours.tile.input_px, theirs.tile.input_px) == sizes
        depth = ours.model.depth
        assert output_size(sizes[0], depth, True) == output_size(sizes[1], depth)


@pytest.mark.parametrize(("name", "tiles"), [("full", (4, 16, 91)), ("reduced", (1, 4, 23))])
def test_tiles_and_batches_hold_as_many_pixels_as_their_names_say(name, tiles):
    study = STUDIES["tile_vs_batch"]
    large, same_input, same_loss = (resolve(study, name, arm.name, "em", 0) for arm in study.arms)
    assert tuple(c.train.batch for c in (large, same_input, same_loss)) == tiles
    assert {c.tile.input_px for c in (same_input, same_loss)} == {252}
    assert input_pixels(same_input) == pytest.approx(input_pixels(large), rel=0.02)
    assert loss_pixels(same_loss) == pytest.approx(loss_pixels(large), rel=0.02)
    assert loss_pixels(large) / loss_pixels(same_input) == pytest.approx(5.68, abs=0.01)


def test_the_reduced_profile_keeps_the_geometry():
    assert profile("reduced").model.depth == profile("full").model.depth
    assert profile("reduced").tile == profile("full").tile


def test_the_studies_share_their_base_runs():
    from unet.study.matrix import identity

    shared = [("baselines", "blog"), ("tile_vs_batch", "large-tiles"), ("weight_map", "paper"),
              ("adam_vs_sgd", "sgd-1e-3"), ("faults", "base")]  # fmt: skip
    assert len({identity(make_job(STUDIES[s], "full", arm, "phc", 1).config) for s, arm in shared}) == 1


def test_the_grids_hold_the_named_rates():
    for arm in (a for a in STUDIES["adam_vs_sgd"].arms if a.best_of):
        members = [STUDIES["adam_vs_sgd"].arm(name) for name in arm.best_of]
        assert len(members) == 4
        assert {m.grid for m in members} == {True, False}
        assert all(isinstance(m, Arm) and m.name.startswith(arm.name.split("-")[0]) for m in members)


def test_claims_and_targets_name_comparisons_and_scores_that_are_made():
    defined = pages.read(FOLDER / "claims.py")
    studies = {study.name: study for study in STUDIES.values()}
    for claim in defined["CLAIMS"]:
        study = studies[claim.study]
        pairs = {(c.arm, c.reference) for c in study.comparisons}
        assert (claim.arm, claim.reference) in pairs, claim.says
        for data in claim.data:
            assert set(claim.scores) & set(study.tested[data]), (claim.says, data)
    assert {(t.data, t.score, t.paper) for t in defined["TARGETS"]} >= {
        ("phc", "seg", 0.9203), ("hela", "seg", 0.7756), ("em", "warping_error", 0.000353),
    }  # fmt: skip
    assert set(defined["ARMS"]) == {arm.name for arm in studies["baselines"].arms}


# -- committed results -------------------------------------------------------------------------------------------------


def study_at(folder: Path):
    return STUDIES[folder.parent.name.replace("-", "_")]


def stale(folder: Path) -> bool:
    """True when the README of a study and profile is not what its stored scores give."""
    return (folder / page.README).read_text() != page.make(study_at(folder), folder.name, folder)


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_committed_tables_fit_the_stored_scores(folder):
    assert not stale(folder), f"run: unet study {folder.parent.name} --profile {folder.name} --report"
    assert (folder / page.FIGURE).is_file()


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_committed_runs_are_whole_of_one_profile_and_hold_no_path(folder):
    assert folder.name not in SYNTHETIC_PROFILES
    for path in (p for p in folder.iterdir() if p.is_dir()):
        assert is_whole(path), path
    for run in load_all(folder):
        assert (run.record["study"], run.record["profile"]) == (folder.parent.name, folder.name)
        expected = resolve(study_at(folder), folder.name, run.arm, run.data, run.seed)
        assert difference(expected, run.config) == [], run.path
        for file in run.path.iterdir():
            assert not re.search(r"(?<![\w.:/])/(work|home|root|tmp|Users)/", file.read_text()), file


def test_the_claims_page_fits_the_stored_scores():
    assert (FOLDER / "README.md").read_text() == pages.claims_page(FOLDER, RESULTS), "run: unet study claims"


def test_a_score_that_was_changed_is_noticed(tmp_path):
    """The check above can fail: on a copy of committed results where there are some, else on made-up ones."""
    from tests.study.helpers import run

    study = STUDIES["baselines"]
    run(tmp_path, study, profile="reduced", data=("em",), seeds=1)
    folder = tmp_path / "results" / "baselines" / "reduced"
    pages.write_report(study, "reduced", tmp_path / "results")
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
