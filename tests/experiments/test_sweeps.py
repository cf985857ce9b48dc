"""experiments/sweeps/*.yaml are grids of learning rates in the blog's setting, run for run, and W&B takes them."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from tests.wandb_server import ENTITY, KEY, serve
from unet.commands.train import resolve
from unet.config import from_dict, profile
from unet.study.design import identity
from unet.study.settings import BLOG

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

ROOT = Path(__file__).resolve().parents[2]
SWEEPS = sorted(ROOT.glob("experiments/sweeps/*.yaml"))


def runs_of(sweep):
    """The command line of every run that `wandb agent` would start, made by wandb itself."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    choices = {key: given.get("values", [given.get("value")]) for key, given in sweep["parameters"].items()}
    for values in itertools.product(*choices.values()):
        given = {key: {"value": value} for key, value in zip(choices, values, strict=True)}
        command = create_sweep_command(sweep["command"])
        arguments = create_sweep_command_args({"args": given})["args"]
        at = command.index("${args}")
        yield [*command[:at], *arguments, *command[at + 1 :]]


def configurations(sweep):
    """Identities of the configurations that these command lines stand for."""
    found = []
    for program, command, *words in runs_of(sweep):
        assert (program, command) == ("unet", "train")
        found.append(identity(resolve(words)[0].config))
    return found


RATES = {"sgd": (3e-4, 1e-3, 3e-3, 1e-2), "adam": (1e-4, 3e-4, 1e-3, 3e-3)}
PARTS = {"em": 5, "phc": 2, "hela": 2}


def wanted(kind, data):
    """Identities of the grid: the blog's setting with every rate, every part held out once."""
    blog = from_dict(BLOG, profile("full"))
    return [
        identity(from_dict({"data": {"name": name, "fold": fold}, "train": {"seed": fold},
                            "optim": {"name": kind, "lr": lr}}, blog))
        for lr in RATES[kind] for name in data for fold in range(PARTS[name])
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize(("name", "data"), [("em", ("em",)), ("cells", ("phc", "hela"))])
def test_a_sweep_is_the_grid_of_its_rates(kind, name, data, monkeypatch):
    monkeypatch.chdir(ROOT)
    sweep = yaml.safe_load((ROOT / f"experiments/sweeps/{kind}-{name}.yaml").read_text())
    found, expected = configurations(sweep), wanted(kind, data)
    assert len(found) == len(set(found))
    assert sorted(found) == sorted(expected)
    first = f"{len(found)} runs."
    assert (ROOT / f"experiments/sweeps/{kind}-{name}.yaml").read_text().splitlines()[0].endswith(first)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optim.lr", {"values": [0.0003, 0.001, 0.003, 0.02]}),
        ("config-file", {"value": "experiments/sweeps/parts/0.yaml"}),
    ],
)
def test_another_grid_is_told_apart(key, value, monkeypatch):
    monkeypatch.chdir(ROOT)
    sweep = yaml.safe_load((ROOT / "experiments/sweeps/sgd-cells.yaml").read_text())
    sweep["parameters"][key] = value
    assert sorted(configurations(sweep)) != sorted(wanted("sgd", ("phc", "hela")))


def test_there_is_a_sweep_for_each_optimizer_and_kind_of_data():
    assert [path.stem for path in SWEEPS] == ["adam-cells", "adam-em", "sgd-cells", "sgd-em"]


def test_wandb_takes_a_sweep(tmp_path):
    with serve() as site:
        environment = os.environ | {"WANDB_BASE_URL": site.address, "WANDB_API_KEY": KEY, "HOME": str(tmp_path)}
        environment["WANDB_SILENT"] = "false"
        command = [sys.executable, "-m", "wandb", "sweep", str(ROOT / "experiments/sweeps/adam-em.yaml")]
        made = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert made.returncode == 0, made.stderr
        assert "wandb agent" in made.stderr
        (sent,) = site.sweeps
    assert sent["projectName"] == "unet-2015"
    arrived = yaml.safe_load(sent["config"])
    written = yaml.safe_load((ROOT / "experiments/sweeps/adam-em.yaml").read_text())
    assert arrived["command"] == written["command"]
    assert arrived["parameters"]["optim.lr"]["values"] == written["parameters"]["optim.lr"]["values"]


@pytest.mark.timeout(500)
def test_wandb_agent_runs_a_sweep(tmp_path):
    """A sweep of this repository, its runs made small: the agent starts each, each arrives as a run of the sweep."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "unet"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m unet "$@"\n')
    program.chmod(0o755)
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (tmp_path / "cells" / part).mkdir(parents=True)
    for number in range(5):
        label = (rng.random((60, 60)) > 0.3).astype(np.uint8)
        tifffile.imwrite(tmp_path / "cells" / "images" / f"{number}.tif", 100 * label + 20)
        tifffile.imwrite(tmp_path / "cells" / "labels" / f"{number}.tif", label)
    sweep = yaml.safe_load((ROOT / "experiments/sweeps/adam-cells.yaml").read_text())
    small = ["--data.folder", str(tmp_path / "cells"), "--tile.input-px=52", "--model.base-channels=2",
             "--train.updates=10", "--wandb.mode=auto"]  # fmt: skip
    command = ["smoke" if word == "full" else word for word in sweep["command"]]
    sweep["command"] = [*command[:-1], *small, command[-1]]
    del sweep["parameters"]["data.name"], sweep["parameters"]["config-file"]
    sweep["parameters"]["optim.lr"]["values"] = [0.003, 0.001]
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    with serve() as site:
        environment = os.environ | {
            "WANDB_BASE_URL": site.address, "WANDB_API_KEY": KEY, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1",
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
        }  # fmt: skip
        for words in (["sweep", "sweep.yaml"], ["agent", f"{ENTITY}/unet-2015/sweep1"]):
            done = subprocess.run([sys.executable, "-m", "wandb", *words], env=environment, cwd=tmp_path,
                                  capture_output=True, text=True, check=False, timeout=240)  # fmt: skip
            assert done.returncode == 0, done.stderr
        assert [given["optim.lr"]["value"] for given in site.handed_out.values()] == [0.003, 0.001]
        for number, given in site.handed_out.items():
            assert number in site.runs, done.stderr
            run = site.runs[number]
            assert (run.sweep, run.project, run.finished, run.exit_code) == ("sweep1", "unet-2015", True, 0)
            assert run.config["optim"]["lr"] == given["optim.lr"]["value"]
            assert run.values("train/loss")
            assert "scores/mean_iou" in run.summary
