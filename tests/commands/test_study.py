"""`unet study`: its matrix, its refusals, and one study run for real on a small folder of images."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from unet.cli import main
from unet.config import load_yaml
from unet.runs.folder import METRICS, RunFolder
from unet.study import registry
from unet.study.evidence import load
from unet.study.store import unpack
from unet.terminal import Terminal
from unet.training.loop import train

ROOT = Path(__file__).resolve().parents[2]
RESULTS = "runs/studies/results/own-images/smoke"
PAGE = """
from unet.study.design import Arm, Comparison, Study
STUDY = Study(
    name="own-images", title="A study of one's own images", question="Which rate?",
    base={"data": {"folder": "images"}, "tile": {"input_px": 52}, "model": {"base_channels": 2},
          "train": {"updates": 6, "eval_every": 2}},
    arms=(Arm("slow", "1e-3"), Arm("fast", "1e-2", {"optim": {"lr": 1e-2}})),
    comparisons=(Comparison("fast", "slow"),), data=("folder",), noise=("slow",),
)
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a page and small images, its study run where tyro, wandb, rich and matplotlib are missing."""
    folder = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / "images" / part).mkdir(parents=True)
    for number in range(6):
        label = np.zeros((40, 44), np.uint8)
        for cell in range(6):
            y, x = 20 * (cell // 3) + 4, 14 * (cell % 3) + 3
            label[y : y + 9, x : x + 8] = cell + 1
        image = (label > 0).astype(np.uint8) * 90 + rng.integers(0, 60, label.shape, dtype=np.uint8)
        cv2.imwrite(str(folder / f"images/labels/{number}.png"), label)
        cv2.imwrite(str(folder / f"images/images/{number}.png"), image)
    (folder / "page.py").write_text(PAGE)
    for name in ("tyro", "wandb", "rich", "matplotlib"):
        (folder / "missing" / name).mkdir(parents=True)
        (folder / "missing" / name / "__init__.py").write_text(f"raise ImportError('no {name}')")
    environment = {"PYTHONPATH": f"{ROOT}:{folder / 'missing'}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "unet", "study", "page.py", "--profile", "smoke", "--seeds", "1", "--jobs", "2"]
    made = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=folder)
    return folder, made


def study(capsys, *words):
    code = main(["study", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_list_of_studies(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    code, out, _ = study(capsys)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [
        "ablation", "adam-vs-sgd", "augmentation", "baselines", "faults", "large-minibatch", "leakage", "paper",
        "tile-vs-batch",
        "weight-map",
    ]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert study(capsys)[1] == out  # those of the package's own repository, from anywhere


@pytest.mark.parametrize(
    "words",
    [["study"], ["study", "--status"], ["study", "trap"], ["study", "claims", "--results", "none"], ["report", "trap"]],
)
def test_python_of_the_current_folder_runs_by_its_path_alone(words, capsys, monkeypatch, tmp_path):
    page = tmp_path / "experiments" / "trap.py"
    page.parent.mkdir()
    page.write_text("open('sprung', 'w').close()\n" + PAGE.replace("own-images", "trap"))
    (tmp_path / "experiments" / "claims.py").write_text("open('sprung', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "home", lambda: tmp_path / "installed" / "experiments")
    assert main(words) == (0 if words in (["study"], ["study", "--status"]) else 2)
    assert ("name its page, experiments/trap.py" in capsys.readouterr().err) == ("trap" in words)
    assert not (tmp_path / "sprung").exists()
    assert main(["study", "experiments/trap.py", "--dry-run", "--profile", "smoke"]) == 0
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tile-vs-bach"], "no study 'tile-vs-bach'; did you mean 'tile-vs-batch'"),
        (["absent.py"], "absent.py: no such file"),
        (["--status", "--only", "paper"], "--only, --data and --seeds choose a part of one study; name it"),
        (["weight-map", "--status", "--only", "papr"], "no arm 'papr'; did you mean 'paper'"),
        (["experiments/claims.py.py"], "no such file"),
        (["baselines", "--profile", "ful"], "did you mean 'full'"),
        (["baselines", "--only", "papr"], "no arm 'papr'; did you mean 'paper'"),
        (["baselines", "--data", "hel"], "--data hel: not in this study; did you mean 'hela'"),
        (["baselines", "--seeds", "0"], "count from 1"),
        (["baselines", "--seeds", "91"], "seeds from 90 on are those that settings are chosen on"),
        (["leakage", "--seeds", "21"], "the plan of leakage has 20 at decide-em, and no others count"),
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
    words = ["weight-map", "--dry-run", "--seeds", "4"]  # the first size of its plan: EM
    code, out, _ = study(capsys, *words, "--runs", str(tmp_path), "--results", str(tmp_path))
    assert code == 0
    assert "profile decide-em, seeds 0..3: 20 runs (20 missing)" in out
    assert "balance-only  ....  " in out
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


@pytest.mark.parametrize(("features", "told"), [([], True), (["avx512_bf16"], False)])
def test_runs_that_this_processor_would_leave_without_a_partner_are_told(
    features, told, capsys, monkeypatch, tmp_path, data_root
):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("UNET_DATA", str(data_root))
    monkeypatch.setattr("unet.device.cpu_features", lambda: features)
    stored = Path("experiments/archive/baselines/reduced/blog-em-seed0")  # trained in bf16
    unpack(stored, tmp_path / "results/baselines/reduced/blog-em-seed0")
    words = ["--profile", "reduced", "--only", "paper", "--data", "em", "--seeds", "1", "--minutes", "1e-9"]
    words += ["--runs", str(tmp_path), "--results", str(tmp_path / "results")]
    code, _, err = study(capsys, "baselines", *words)
    assert code == 1
    assert "1 runs wait" in err
    assert ("1 runs will be left out of comparisons: here they are trained in fp32" in err) == told


def test_runs_are_made_without_parser_dashboard_and_plots_and_tables_wait(workplace):
    folder, made = workplace
    assert made.returncode == 0, made.stderr
    assert "fast-folder-seed0: ended" in made.stderr
    assert "no tables and figure here (no matplotlib)" in made.stderr
    assert load(folder / RESULTS / "fast-folder-seed0").values["mean_iou"] > 0


def test_tables_and_figure_of_real_runs(workplace, capsys, monkeypatch):
    monkeypatch.chdir(workplace[0])
    code, out, err = study(capsys, "page.py", "--profile", "smoke", "--seeds", "1", "--report")
    assert code == 0, err
    assert out.strip() == f"{RESULTS}/README.md"
    text = Path(RESULTS, "README.md").read_text()
    assert "| 1e-2 | 1 x 52 px | 1 |" in text
    assert "| IoU, median of last 5 | SEG | foreground IoU |" in text  # of cells with a number each
    assert "Images of your own" in text
    assert "synthetic" not in text.lower()
    assert "## Gradient noise" in text
    assert Path(RESULTS, "figure.png").is_file()


def test_the_time_left_is_taken_from_runs_that_ended(workplace, capsys, monkeypatch):
    monkeypatch.chdir(workplace[0])
    code, out, _ = study(capsys, "page.py", "--profile", "smoke", "--seeds", "2", "--dry-run", "--jobs", "2")
    assert code == 0
    assert "4 runs (2 done, 2 missing)" in out
    assert "fast  #." in out
    assert "(from 2 ended runs, 2 at a time)" in out


def test_the_stored_configuration_gives_the_same_bits(workplace, monkeypatch):
    monkeypatch.chdir(workplace[0])
    fast = load(Path(RESULTS, "fast-folder-seed0"))
    again = train(load_yaml(fast.path / "config.yaml"), Path("again"), resume=False, overwrite=False,
                  terminal=Terminal(quiet=True))  # fmt: skip
    trained = RunFolder(Path("runs/studies/own-images/smoke/fast-folder-seed0"))
    assert again.file(METRICS).read_bytes() == trained.file(METRICS).read_bytes()
    assert len(again.rows(METRICS)) == len(fast.rows)
