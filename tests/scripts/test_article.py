"""The article: every result in it is the evidence's, its text holds none of its own, and what goes with it agrees."""

from __future__ import annotations

import csv
import importlib
import json
import re
import sys
from pathlib import Path

import pytest
import yaml

import unet
from tests.study.test_paper_tables import SCORES, store
from unet.config import PROFILES
from unet.study.evidence import load_all
from unet.study.paper import TARGETS

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT / "scripts") not in sys.path:
    sys.path.append(str(ROOT / "scripts"))
paper = importlib.import_module("article")
RESULTS = ROOT / "experiments" / "results"


def rows_of(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((RESULTS / name).read_text(encoding="utf-8").splitlines()))


def words(cell) -> str:
    return "".join(text for _, text in cell)


@pytest.fixture(scope="module")
def made():
    return paper.numbers(RESULTS)


def test_the_counts_are_those_of_the_evidence(made):
    runs = rows_of("runs.csv")
    assert made["evidence"]["runs"] == len(runs)
    assert made["evidence"]["studies"] == len({run["study"] for run in runs})
    assert float(made["evidence"]["hours"]) == pytest.approx(sum(float(run["minutes"]) for run in runs) / 60, abs=0.05)
    folders = [path for path in RESULTS.glob("*/*") if path.name in PROFILES]  # beside them lie ensembles
    channels = [run.config.model.base_channels for folder in folders for run in load_all(folder)]
    assert made["evidence"]["channels"] in (f"{min(channels)} to {max(channels)}", str(min(channels)))
    counts = made["targets"]
    assert counts["total"] == len(TARGETS) == counts["reached"] + counts["missed"] + counts["open"]


def test_verdicts_are_those_of_the_comparisons(made):
    """Each end point in comparisons.csv that a plan decides stands in the article with its effect."""
    planned = [row for row in rows_of("comparisons.csv") if row["kind"] == "primary"]
    assert made["questions"]["total"] == len(planned)
    assert made["questions"]["decided"] == sum(
        row["verdict"] not in ("waiting", "open", "not tested") for row in planned
    )
    found = sorted(text for row in made["tables"]["questions"]["rows"] for style, text in row[1] if style == "strong")
    assert found == sorted(row["verdict"] for row in planned)


def test_numbers_follow_the_evidence(tmp_path):
    """Runs that were never made: the article says what they say."""
    for seed, v_rand in enumerate((0.97, 0.98)):
        found = {f"test_{name}": value for name, value in (SCORES | {"v_rand": v_rand}).items()}
        store(tmp_path, "membranes", "whole", "em", seed, found)
    store(tmp_path, "membranes", "folds", "em", 0, SCORES)
    store(tmp_path, "cells", "gold", "hela", 0, {"seg": 0.81})
    store(tmp_path, "cells", "gold", "hela", 1, {"seg": 0.79})
    (tmp_path / "runs.csv").write_text("study,minutes\npaper,90\npaper,60\nother,3\n")
    made = paper.numbers(tmp_path)
    assert made["evidence"] == {"runs": 3, "hours": "2.5", "studies": 2, "channels": "32"}
    em = made["tables"]["em"]
    (own,) = [row for row in em["rows"] if words(row[0]).startswith("ours")]
    column = [words(cell) for cell in em["head"]].index("V_rand")
    assert words(own[column]) == "0.9750 ± 0.0071"
    assert own[0][0] == ["strong", "ours, one network"]
    assert [words(cell) for cell in made["tables"]["folds"]["rows"][-1]][4] == "0.9700"
    (cells,) = [row for row in made["tables"]["seg"]["rows"] if words(row[0]).startswith("ours")]
    assert [words(cell) for cell in cells[2:5]] == ["0.8000", "0.8100", "0.7900"]
    assert made["targets"] == {"total": 7, "reached": 1, "missed": 0, "open": 6}  # no five-border, no U373
    assert any(words(line).startswith("DIC-HeLa, SEG 0.7756: reached, 0.8000") for line in made["beside"])


def test_the_text_holds_no_result():
    """But for constants of the method: what looks like a score, a share or a p value comes from the evidence."""
    text = (paper.PAPER / "article.typ").read_text(encoding="utf-8").partition("*Abstract.*")[2]
    text = re.sub(r"#results\(.*?\]|#figure\(.*?\]|wide: \(.*?\)|#import.*|\d+(?:mm|pt|cm|fr)", "", text, flags=re.S)
    assert re.findall(r"\d*\.\d+", text) == ["0.01"]  # alpha
    assert not re.search(r"\d\s?%", text)
    for name in ("evidence.runs", "targets.reached", "questions.decided", "d.beside"):
        assert name in text


def test_markdown_becomes_parts():
    assert paper.cell("a **b** `c` [d](e.md)") == [
        ["plain", "a "], ["strong", "b"], ["plain", " "], ["code", "c"], ["plain", " "], ["plain", "d"]
    ]  # fmt: skip
    assert paper.plain("**x [y](z)**") == "x y"
    made = paper.table("words\n\n| a | b |\n| --- | --- |\n| 1 | **2** |\n")
    assert made == {"head": [[["plain", "a"]], [["plain", "b"]]], "rows": [[[["plain", "1"]], [["strong", "2"]]]]}


def test_the_pdf_is_made(tmp_path):
    pytest.importorskip("typst")
    path = paper.build(RESULTS, tmp_path / "article")
    assert path.read_bytes().startswith(b"%PDF")
    assert path.stat().st_size > 20_000
    assert json.loads((path.parent / "numbers.json").read_text()) == paper.numbers(RESULTS)


def test_versions_and_names_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    zenodo = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
    meta = yaml.safe_load((ROOT / "paper" / "metadata.yaml").read_text(encoding="utf-8"))
    assert citation["version"] == zenodo["version"] == unet.__version__
    assert citation["title"] == zenodo["title"]
    assert [a["name"] for a in citation["authors"]] == [a["name"] for a in zenodo["creators"]]
    assert [a["name"] for a in citation["authors"]] == [a["name"] for a in meta["authors"]]
    assert citation["license"] == zenodo["license"] == "MIT"
    doi = citation["references"][0]["doi"]
    assert doi in (ROOT / "paper" / "references.bib").read_text(encoding="utf-8")
    assert {"doi": doi} not in meta["data"]


def test_links_of_the_pages_lead_somewhere():
    for page in ("README.md", "checklist.md"):
        text = (paper.PAPER / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)", text):
            assert (paper.PAPER / target).exists(), target


def test_the_container_copies_what_is_there():
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert copied
    assert all((ROOT / name).exists() for name in copied)
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert (ROOT / ".devcontainer" / container["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
