"""The W&B report of a study: the words of its page, plots of its runs, links to the runs that --sync sends."""

import json

import pytest

from scripts.wandb_workspace import EXPERIMENTS, main
from tests.scripts.test_wandb_workspace import STUDIES, account, needs_package  # noqa: F401  fixtures
from tests.wandb_server import ENTITY, KEY, serve
from unet.config import PROFILES
from unet.study import decide, sync, verdicts
from unet.study.evidence import load_all

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::ResourceWarning")


def texts(spec):
    """The Markdown of a report's blocks, also of those below headings."""
    blocks = [inner for block in spec["blocks"] for inner in (block, *(block.get("collapsedChildren") or []))]
    return [block["content"] for block in blocks if block["type"] == "markdown-block"]


def check(spec, name, place):
    study = STUDIES[name]
    said = [child["text"] for block in spec["blocks"] if block["type"] == "paragraph" for child in block["children"]]
    assert study.question in said
    (grid,) = (block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid")
    (runs,) = grid["runSets"]
    (condition,) = runs["filters"]["filters"]
    assert (condition["key"]["name"], condition["op"], condition["value"]) == ("study", "=", name)
    assert [key["name"] for key in runs["grouping"]] == ["group", "data.value.name"]
    drawn = grid["panelBankSectionConfig"]["panels"]
    assert {"Run History Line Plot", "Bar Chart", "Media Browser"} <= {panel["viewType"] for panel in drawn}
    linked = "\n".join(texts(spec))
    profiles = [path for path in (EXPERIMENTS / "results" / name).iterdir() if path.name in PROFILES]
    assert profiles
    for profile in profiles:
        for run in load_all(profile):
            assert f"- [{run.path.name}]({place}/runs/{sync.run_id(name, profile.name, run)})" in linked


def test_a_planned_study_is_reported_with_its_verdicts(capsys, needs_package):  # noqa: F811
    assert main(["--study", "weight-map", "--report", "--dry-run", "--entity", "lab", "--project", "cells"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["project"]["entityName"] == "lab"
    check(report["spec"], "weight-map", "https://wandb.ai/lab/cells")
    study = STUDIES["weight-map"]
    found = texts(report["spec"])[0]
    decided = decide.decisions(study, verdicts.load(study, EXPERIMENTS / "results"))
    assert decided
    for decision in decided:
        assert verdicts.sentence(study, decision) in found
    assert "| p (paired t) |" in found


def test_a_study_without_a_plan_is_reported_and_saved(capsys, monkeypatch, needs_package):  # noqa: F811
    with serve() as site:
        monkeypatch.setenv("WANDB_BASE_URL", site.address)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        assert main(["--study", "baselines", "--report"]) == 0
        (view,) = site.views
        assert site.unknown == []
    assert (view["entityName"], view["projectName"], view["type"]) == (ENTITY, "unet-2015", "runs")
    assert view["displayName"].startswith("baselines: ")
    check(view["spec"], "baselines", f"{site.address}/{ENTITY}/unet-2015")
    assert f"/{ENTITY}/unet-2015/reports/baselines" in capsys.readouterr().out


def test_a_server_that_refuses_a_report_is_one_line(capsys, monkeypatch, needs_package):  # noqa: F811
    with serve("401") as site:
        monkeypatch.setenv("WANDB_BASE_URL", site.address)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        assert main(["--study", "baselines", "--report", "--entity", "lab"]) == 2
    err = capsys.readouterr().err
    assert "the report was not saved" in err
    assert err.count("\n") == 1
