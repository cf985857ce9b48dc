"""The page of a study: its README's tables, every run by name, links that exist."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.report.test_run_page import Page
from tests.study.helpers import STUDY
from tests.study.helpers import run as run_study
from unet.errors import RunError
from unet.report import study_page
from unet.study import report as readme


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("study-page")
    run_study(made, plan={"diverge": ["b-hela-seed1"], "gain": {"b": 0.1}})
    return made


def results(folder: Path) -> Path:
    return folder / "results" / STUDY.name / "smoke"


def make(folder: Path, out: Path | None = None) -> Page:
    out = out or results(folder) / "report.html"
    return Page(study_page.make(STUDY, "smoke", results(folder), out, folder / "runs" / STUDY.name / "smoke"))


def test_parts(folder):
    made = make(folder)
    names = [s["id"] for s in made.all("section")]
    assert names[:3] == ["verdict", "about", "curves"]
    assert {"em", "dic-hela", "comparisons", "cost-and-versions", "runs"} <= set(names)
    assert len(made.all("svg")) == 6
    assert "1 diverged" in made.text


def test_the_numbers_are_those_of_the_readme(folder):
    text = readme.make(STUDY, "smoke", results(folder))
    cells = [
        cell.strip() for line in text.splitlines() if line.startswith("| setting") for cell in line.split("|")[1:-1]
    ]
    assert len(cells) > 20
    shown = make(folder).text
    assert [cell for cell in cells if cell.strip("*") not in shown] == []


def test_every_run_is_linked_by_name(folder):
    made = make(folder)
    links = [unquote(a["href"] or "") for a in made.all("a") if not (a["href"] or "").startswith("#")]
    assert {f"{arm}-{data}-seed{seed}/" for arm in "ab" for data in ("em", "hela") for seed in (0, 1)} <= set(links)
    assert all((results(folder) / link).exists() for link in links)


def test_links_are_relative_to_the_page(folder, tmp_path):
    out = tmp_path / "elsewhere" / "page.html"
    links = [unquote(a["href"] or "") for a in make(folder, out).all("a") if not (a["href"] or "").startswith("#")]
    out.parent.mkdir()
    assert links
    assert all((out.parent / link).exists() for link in links)


def test_a_run_s_own_report_is_linked_where_there_is_one(folder):
    own = folder / "runs" / STUDY.name / "smoke" / "a-em-seed0" / "report.html"
    assert "report" not in [t for t in make(folder).text.split() if t == "report"]
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("x")
    try:
        assert any((a["href"] or "").endswith("a-em-seed0/report.html") for a in make(folder).all("a"))
    finally:
        own.unlink()


def test_no_numbers_of_the_paper_beside_synthetic_images(folder):
    assert "beside-the-paper" not in [s["id"] for s in make(folder).all("section")]


def test_numbers_of_the_paper_beside_real_ones(folder, tmp_path):
    copy = tmp_path / "results" / STUDY.name / "smoke"
    shutil.copytree(results(folder), copy)
    for config in copy.glob("*/config.yaml"):
        config.write_text(config.read_text().replace("synthetic-em", "em").replace("synthetic-hela", "hela"))
    made = Page(study_page.make(STUDY, "smoke", copy, copy / "report.html", tmp_path))
    assert "beside-the-paper" in [s["id"] for s in made.all("section")]
    assert "0.7756" in made.text
    assert "0.9203" not in made.text  # of a set that the study does not have


def test_hostile_commands_stay_text(folder, tmp_path):
    copy = tmp_path / "results" / STUDY.name / "smoke"
    shutil.copytree(results(folder), copy)
    record = copy / "a-em-seed0" / "record.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"command": "</code><script>alert(1)</script>"}))
    made = Page(study_page.make(STUDY, "smoke", copy, copy / "report.html", tmp_path))
    assert "</code><script>alert(1)</script>" in made.text
    assert len(made.all("script")) == 1


def test_without_runs(tmp_path):
    with pytest.raises(RunError, match="holds no ended run"):
        study_page.make(STUDY, "smoke", tmp_path, tmp_path / "report.html", tmp_path)
