"""`unet report`: what it takes for a run or a study, where it writes, what it refuses to write over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.report.conftest import run, trained  # noqa: F401 (fixtures)
from unet.cli import main
from unet.study import registry

PAGE = """
from unet.study.design import Arm, Comparison, Study
STUDY = Study(
    name="small-study", title="A small study", question="Is b better than a?",
    arms=(Arm("a", "setting a"), Arm("b", "setting b", {"optim": {"lr": 2e-3}})),
    comparisons=(Comparison("b", "a"),), data=("em", "hela"),
    tested={"em": ("mean_iou_last5",), "hela": ("mean_iou_last5",)},
)
"""


def report(capsys, *words: str) -> tuple[int, str, str]:
    code = main(["report", *words])
    return code, *capsys.readouterr()


def test_a_run_by_its_folder(run, capsys):  # noqa: F811
    code, out, err = report(capsys, str(run), "--quiet")
    assert (code, err) == (0, "")
    assert out.strip() == str(run / "report.html")
    assert (run / "report.html").read_text().startswith("<!doctype html>")
    assert not list(run.glob(".*.part"))


def test_the_newest_run_and_a_run_by_its_name(run, capsys, monkeypatch):  # noqa: F811
    monkeypatch.chdir(run.parents[1])
    assert report(capsys, "--quiet")[1].strip() == "runs/small/report.html"
    assert report(capsys, "small", "--out", "here.html")[1].strip() == "here.html"
    before = (run / "report.html").read_bytes()
    os.utime(run / "report.html", (0, 0))
    assert report(capsys, "small")[0] == 0  # an earlier report is replaced
    assert (run / "report.html").read_bytes() == before


def test_what_is_no_report_is_not_replaced(run, capsys, tmp_path):  # noqa: F811
    (tmp_path / "letter.html").write_text("<p>dear</p>")
    code, _, err = report(capsys, str(run), "--out", str(tmp_path / "letter.html"))
    assert code == 2
    assert "is no report of unet; name another file with --out" in err
    assert (tmp_path / "letter.html").read_text() == "<p>dear</p>"
    code, _, err = report(capsys, str(run), "--out", str(tmp_path))
    assert code == 2
    assert "is a folder" in err


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A folder with a page in experiments/ and evidence of the profile smoke beside it."""
    from tests.study.helpers import run as run_study

    folder = tmp_path_factory.mktemp("repository")
    (folder / "experiments").mkdir()
    (folder / "experiments" / "small_study.py").write_text(PAGE)
    run_study(folder / "made")
    (folder / "made" / "results").rename(folder / "experiments" / "results")
    return folder


@pytest.fixture(autouse=True)
def pages(repository, monkeypatch):
    """The package lies in that repository."""
    monkeypatch.setattr(registry, "home", lambda: repository / "experiments")


@pytest.mark.parametrize(
    "what", ["small-study", "small_study", "experiments/small_study.py", "experiments/results/small-study/smoke",
             "experiments/results/small-study"],
)  # fmt: skip
def test_a_study_by_name_page_or_folder(repository, what, capsys, monkeypatch):
    monkeypatch.chdir(repository)
    code, out, err = report(capsys, what)
    assert (code, err) == (0, "")
    path = Path(out.strip())
    assert path.resolve() == repository / "experiments/results/small-study/smoke/report.html"
    assert "A small study" in path.read_text()


def test_evidence_of_a_single_run(repository, capsys, tmp_path):
    folder = repository / "experiments/results/small-study/smoke/a-em-seed0"
    code, _, _ = report(capsys, str(folder), "--out", str(tmp_path / "page.html"))
    assert code == 0
    assert "is made again, from the repository" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["smal-study"], "there is no study 'smal-study'; did you mean 'small-study'?"),
        (["small-study", "--profile", "full"], "holds no ended run"),
        (["small-study", "--profile", "ful"], "did you mean 'full'?"),
        (["small-study", "--results", "nowhere"], "run the study first: unet study small-study"),
        (["--outt", "x"], "did you mean '--out'"),
        ([], "there is no run below runs"),
    ],
)
def test_mistakes_are_one_line(repository, words, message, capsys, monkeypatch):
    monkeypatch.chdir(repository)
    code, out, err = report(capsys, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
