"""The W&B view as code: a section per study, a colour per arm, seeds as bands; and what is said when it cannot be."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from scripts.wandb_workspace import EXPERIMENTS, colours, main
from tests.wandb_server import ENTITY, KEY, serve
from unet.study import registry
from unet.study.design import Arm, Comparison, Study

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::ResourceWarning")

STUDIES = {study.name: study for study in map(registry.study_of, registry.study_pages(EXPERIMENTS))}


@pytest.fixture(autouse=True)
def account(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    forget_account()
    yield
    forget_account()


def forget_account():
    """A process keeps the environment of its first run."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


@pytest.fixture
def needs_package():
    pytest.importorskip("wandb_workspaces", reason="the extra `dashboard` is not installed")


def dry_run(capsys, *words):
    assert main([*words, "--dry-run"]) == 0
    return json.loads(capsys.readouterr().out)


def check_view(spec, names):
    """What a view must hold, whether it was printed or saved."""
    (runs,) = spec["section"]["runSets"]
    assert [key["name"] for key in runs["grouping"]] == ["group", "data.value.name"]
    (condition,) = runs["filters"]["filters"]
    assert (condition["key"]["name"], sorted(condition["value"])) == ("study", sorted(names))
    sections = spec["section"]["panelBankConfig"]["sections"]
    assert [section["name"].split(":")[0] for section in sections] == names
    for section in sections:
        study = STUDIES[section["name"].split(":")[0]]
        lines = [p["config"] for p in section["panels"] if p["viewType"] == "Run History Line Plot"]
        assert {"updates", "pixels_seen"} == {line["xAxis"] for line in lines}
        assert all((line["groupAgg"], line["groupArea"]) == ("mean", "stddev") for line in lines)
        media = [p["config"]["mediaKeys"] for p in section["panels"] if p["viewType"] == "Media Browser"]
        assert ["held_out/frames"] in media
        bars = [p for p in section["panels"] if p["viewType"] == "Bar Chart"]
        assert len(bars) == len({score for scores in study.tested.values() for score in scores})
    return spec["section"]["customRunColors"]


def test_a_section_per_study_and_a_colour_per_arm_and_data_set(capsys, needs_package):
    view = dry_run(capsys)
    found = check_view(view["spec"], list(STUDIES))
    arms = [(study, arm) for study in STUDIES.values() for arm in study.arms if not arm.best_of]
    assert len(found) == sum(1 + len(study.data_of(arm)) for study, arm in arms)
    assert (view["entity"], view["project"]) == ("entity", "unet-2015")


def test_a_view_of_one_study(capsys, needs_package):
    view = dry_run(capsys, "--study", "weight-map", "--entity", "lab", "--project", "cells")
    check_view(view["spec"], ["weight-map"])
    assert (view["entity"], view["project"], view["displayName"]) == ("lab", "cells", "weight-map")


def test_arms_differ_in_colour_and_data_sets_in_shade():
    study = Study(
        name="s",
        title="t",
        question="q",
        arms=(Arm("a", "a"), Arm("b", "b", data=("em",)), Arm("c", "c", best_of=("a", "b"))),
        comparisons=(Comparison("a", "b"),),
        data=("em", "phc"),
    )
    found = colours(study)
    assert found.keys() == {("a", "em"), ("a", "phc"), ("b", "em")}
    assert len(set(found.values())) == 3
    assert found["a", "em"] == "#0072b2"
    assert found["a", "phc"] == "#59a3cd"  # 35 % of the way to white
    for made in map(colours, STUDIES.values()):
        of_em = [colour for (_, data), colour in made.items() if data == "em"]
        assert len(set(of_em)) == len(of_em)


def test_a_view_is_saved(capsys, monkeypatch, needs_package):
    with serve() as site:
        monkeypatch.setenv("WANDB_BASE_URL", site.address)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        assert main(["--study", "adam-vs-sgd"]) == 0
        (view,) = site.views
    check_view(view["spec"], ["adam-vs-sgd"])
    assert (view["entityName"], view["projectName"]) == (ENTITY, "unet-2015")
    assert f"/{ENTITY}/unet-2015" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "there is no W&B key; set WANDB_API_KEY"),
        (["--study", "weight-mapp", "--dry-run"], "did you mean 'weight-map'"),
    ],
)
def test_what_is_missing_is_one_line(words, message, capsys):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert not out


def test_a_missing_package_is_one_line(capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("wandb_workspaces")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert main(["--dry-run"]) == 2
    err = capsys.readouterr().err
    assert "wandb-workspaces is missing; pip install" in err
    assert err.count("\n") == 1


def test_a_server_that_refuses_is_one_line(capsys, monkeypatch, needs_package):
    with serve("401") as site:
        monkeypatch.setenv("WANDB_BASE_URL", site.address)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        assert main(["--entity", "lab"]) == 2
    err = capsys.readouterr().err
    assert "the view was not saved" in err
    assert err.count("\n") == 1


def test_the_package_is_pinned():
    root = Path(__file__).resolve().parents[2]
    assert "wandb-workspaces==" in (root / "constraints.txt").read_text()


def test_a_study_that_left_its_plan_gets_no_report(capsys, tmp_path):
    kept = EXPERIMENTS / "results" / "adam-vs-sgd"
    shutil.copytree(kept, tmp_path / "adam-vs-sgd")
    note = tmp_path / "adam-vs-sgd" / "plan.json"
    note.write_text(note.read_text().replace('"sha256": "', '"sha256": "0'))
    assert main(["--dry-run", "--report", "--study", "adam-vs-sgd", "--results", str(tmp_path)]) == 2
    assert "was changed after the runs" in capsys.readouterr().err
