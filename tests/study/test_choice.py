"""The best of a grid: by the training loss alone, fold by fold, whatever the held-out frames say."""

import json
import math

import pytest

from tests.study.helpers import GRID
from unet.errors import RunError
from unet.study import choice
from unet.study.evidence import Evidence

# training loss, held-out loss: opposite orders, in the second fold the other way round
LOSSES = {
    ("low", 90): (0.1, 0.9), ("named", 90): (0.2, 0.8), ("high", 90): (0.3, 0.7),
    ("low", 91): (0.3, 0.7), ("named", 91): (0.2, 0.8), ("high", 91): (0.1, 0.9),
}  # fmt: skip


def written(path, arm, seed, training, held_out):
    """Evidence whose held-out scores are the better the smaller its held-out loss is."""
    path.mkdir()
    rows = [{"update": update, "part": "train", "loss": training, "loss_max": training} for update in (10, 20)]
    rows.append({"update": 20, "part": "held_out", "loss": held_out, "mean_iou": 1 - held_out})
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path / "scores.json").write_text(json.dumps({"scores": {"loss": held_out, "mean_iou": 1 - held_out}}))
    return Evidence(path, arm, "hela", seed)


@pytest.mark.parametrize(("seed", "arm"), [(0, "low"), (1, "high"), (2, "low"), (3, "high")])
def test_the_best_of_a_grid_has_the_smallest_training_loss_and_not_the_smallest_held_out_loss(tmp_path, seed, arm):
    runs = choice.by_key(written(tmp_path / f"{a}{s}", a, s, *losses) for (a, s), losses in LOSSES.items())
    assert runs["low", "hela", 90].values["loss_last5"] > runs["high", "hela", 90].values["loss_last5"]
    assert choice.chosen(GRID, "smoke", GRID.arm("best"), "hela", seed, runs) == arm


def test_a_loss_that_is_no_number_is_never_the_smallest(tmp_path):
    losses = {"named": math.nan, "low": 0.3, "high": 0.1}
    runs = choice.by_key(written(tmp_path / f"{a}90", a, 90, loss, 0.5) for a, loss in losses.items())
    assert choice.chosen(GRID, "smoke", GRID.arm("best"), "hela", 0, runs) == "high"


def test_a_diverged_run_is_never_the_best(tmp_path):
    made = [
        written(tmp_path / f"{arm}90", arm, 90, loss, 0.5)
        for arm, loss in (("low", 0.1), ("named", 0.3), ("high", 0.2))
    ]
    (tmp_path / "low90" / "failure.json").write_text(json.dumps({"diverged": "update 30: loss nan"}))
    assert choice.chosen(GRID, "smoke", GRID.arm("best"), "hela", 0, choice.by_key(made)) == "high"


def test_two_runs_of_one_seed_are_refused(tmp_path):
    twice = [written(tmp_path / name, "low", 90, 0.1, 0.5) for name in ("low-hela-seed90", "low-hela-seed90-again")]
    with pytest.raises(RunError, match="low-hela-seed90-again and .*low-hela-seed90 are the same run; keep one"):
        choice.by_key(twice)
