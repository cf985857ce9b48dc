"""`unet study`: its matrix, its refusals, and one study run for real on a small folder of images."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from unet.cli import main
from unet.config import load_yaml
from unet.progress import Terminal
from unet.runs.folder import METRICS, RunFolder
from unet.study.evidence import load
from unet.train import train

ROOT = Path(__file__).resolve().parents[2]
PAGE = """
from unet.study.matrix import Arm, Comparison, Study
STUDY = Study(
    name="own-images", title="A study of one's own images", question="Which rate?",
    base={"data": {"folder": "images"}, "tile": {"input_px": 52}, "model": {"base_channels": 2},
          "train": {"updates": 6, "eval_every": 2}},
    arms=(Arm("slow", "1e-3"), Arm("fast", "1e-2", {"optim": {"lr": 1e-2}}),
          Arm("lost", "diverges", {"optim": {"lr": 900.0}})),
    comparisons=(Comparison("fast", "slow"),), data=("folder",), noise=("slow",),
)
"""


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with a page and a few small images."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (tmp_path / "images" / part).mkdir(parents=True)
    for number in range(6):
        label = (rng.random((40, 44)) > 0.5).astype(np.uint8)
        cv2.imwrite(f"images/labels/{number}.png", label * 255)
        cv2.imwrite(f"images/images/{number}.png", label * 90 + rng.integers(0, 60, label.shape, dtype=np.uint8))
    (tmp_path / "page.py").write_text(PAGE)
    return tmp_path


def study(capsys, *words):
    code = main(["study", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_list_of_studies(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    code, out, _ = study(capsys)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [
        "adam-vs-sgd", "baselines", "faults", "tile-vs-batch", "weight-map",
    ]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert "no studies here" in study(capsys)[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tile-vs-bach"], "no study 'tile-vs-bach'; did you mean 'tile-vs-batch'"),
        (["absent.py"], "absent.py: no such file"),
        (["experiments/claims.py.py"], "no such file"),
        (["baselines", "--profile", "ful"], "did you mean 'full'"),
        (["baselines", "--only", "papr"], "no arm 'papr'; did you mean 'paper'"),
        (["baselines", "--data", "hel"], "--data hel: not in this study; did you mean 'hela'"),
        (["baselines", "--seeds", "0"], "count from 1"),
        (["baselines", "--seeds", "few"], "invalid int value: 'few'"),
        (["baselines", "--sedes", "3"], "unrecognized arguments"),
    ],
)
def test_mistakes_are_one_line(words, message, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    code, out, err = study(capsys, *words)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not out


def test_a_dry_run_shows_the_matrix_and_runs_nothing(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    words = ["weight-map", "--dry-run", "--seeds", "4", "--profile", "reduced"]
    code, out, _ = study(capsys, *words, "--runs", str(tmp_path), "--results", str(tmp_path))
    assert code == 0
    assert "60 runs (60 missing)" in out
    assert "balance-only  ....  ....  ...." in out
    assert "time left: not known" in out
    assert list(tmp_path.iterdir()) == []


def test_gray_values_without_their_package_are_refused_not_left_out(capsys, monkeypatch, tmp_path):
    import importlib.util

    monkeypatch.chdir(ROOT)
    original = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "albumentations" else original(name))
    code, _, err = study(capsys, "baselines", "--profile", "full", "--runs", str(tmp_path), "--results", str(tmp_path))
    assert code == 2
    assert "albumentations is not installed" in err
    assert "--profile full-plain" in err
    assert list(tmp_path.iterdir()) == []


def test_a_study_of_real_runs(workplace, capsys):
    """Train, score, diverge, measure noise, report; then the stored command gives the same bits."""
    code, out, err = study(capsys, "page.py", "--profile", "smoke", "--seeds", "1", "--jobs", "3")
    assert code == 0, err
    folder = workplace / "runs/studies/results/own-images/smoke"
    assert out.strip() == "runs/studies/results/own-images/smoke/README.md"
    text = (folder / "README.md").read_text()
    assert "| 1e-2 | 1 x 52 px | 1 |" in text
    assert "1 of them diverged" in text
    assert "## Gradient noise" in text
    assert (folder / "figure.png").is_file()
    lost = json.loads((folder / "lost-folder-seed0" / "failure.json").read_text())["diverged"]
    assert "gradient norm" in lost or "weights are not finite" in lost
    fast = load(folder / "fast-folder-seed0")
    assert fast.record["seconds"] > 0
    assert fast.config.data.fold == 0

    code, out, _ = study(capsys, "page.py", "--profile", "smoke", "--seeds", "2", "--dry-run", "--jobs", "2")
    assert "6 runs (2 done, 1 diverged, 3 missing)" in out
    assert "time left: " in out
    assert "from 2 ended runs, 2 at a time" in out or "from 3 ended runs" in out

    again = train(load_yaml(fast.path / "config.yaml"), Path("again"), resume=False, overwrite=False,
                  terminal=Terminal(quiet=True))  # fmt: skip
    trained = RunFolder(workplace / "runs/studies/own-images/smoke/fast-folder-seed0")
    assert again.file(METRICS).read_bytes() == trained.file(METRICS).read_bytes()
    assert len(again.rows(METRICS)) == len(fast.rows)


def test_a_study_runs_without_parser_dashboard_and_plots(workplace):
    """On a machine where tyro, wandb, rich and matplotlib are missing, runs are made and tables wait."""
    for name in ("tyro", "wandb", "rich", "matplotlib"):
        (workplace / "missing" / name).mkdir(parents=True)
        (workplace / "missing" / name / "__init__.py").write_text(f"raise ImportError('no {name}')")
    environment = {"PYTHONPATH": f"{ROOT}:{workplace / 'missing'}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    words = ["study", "page.py", "--profile", "smoke", "--seeds", "1", "--only", "fast"]
    command = [sys.executable, "-m", "unet", *words]
    made = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert made.returncode == 0, made.stderr
    assert "fast-folder-seed0: ended" in made.stderr
    assert "no tables and figure here (no matplotlib)" in made.stderr
    found = load(workplace / "runs/studies/results/own-images/smoke/fast-folder-seed0")
    assert found.values["mean_iou"] > 0
