"""The training loop on small images: it learns, resumes to the same bits, stops when it must, refuses bad input."""

import json
import signal
import sys
import types
from dataclasses import replace
from importlib import import_module
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

from unet.config import Config, LossConfig, from_dict
from unet.data.stack import Frame, Normalisation, Stack
from unet.device import allow_tf32
from unet.errors import ConfigError, RunError, TrainingError
from unet.evaluation.run import evaluate_run, table
from unet.loss.dispatch import Parts, choose_loss
from unet.runs.checkpoint import load_latest, load_weights
from unet.runs.folder import METRICS, RunFolder
from unet.signals import Interrupted
from unet.terminal import Terminal
from unet.training.loop import train
from unet.training.trainer import Trainer, derived_seed

QUIET = Terminal(quiet=True)
SMALL = {
    "tile": {"input_px": 52},
    "model": {"base_channels": 4, "depth": 3, "dropout": 0.3},
    "augment": {"gray": [], "elastic_std_px": 2.0},
    "weight": {"w0": 2.0},
    "optim": {"name": "adam", "lr": 3e-3},
    "train": {"updates": 24, "batch": 2, "eval_every": 8, "checkpoint_every": 8, "device": "cpu", "precision": "fp32",
              "workers": 0, "threads": 1},
    "wandb": {"mode": "disabled"},
}  # fmt: skip


def configured(**changes) -> Config:
    return from_dict(changes, from_dict(SMALL))


def discs(frames=5, size=72, seed=0) -> Stack:
    """Bright discs on a dark noisy ground: a task that a few updates show progress on."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    made = []
    for number in range(frames):
        label = np.zeros((size, size), dtype=np.uint8)
        for y, x in rng.integers(8, size - 8, (5, 2)):
            label |= ((rows - y) ** 2 + (columns - x) ** 2 < 60).astype(np.uint8)
        image = (label * 0.5 + rng.normal(0.25, 0.1, label.shape)).astype(np.float32)
        made.append(Frame(f"disc{number}", "a", image[None], label))
    return Stack("discs", tuple(made), ("ground", "disc"), Normalisation(), "made in the test", "membranes")


@pytest.fixture(autouse=True)
def data(monkeypatch):
    """The stack that runs are given in place of files."""
    monkeypatch.setattr("unet.training.loop.load", lambda *_: discs())
    monkeypatch.setattr("unet.evaluation.run.load", lambda *_: discs())


def start(path, config=None, **options):
    return train(config or configured(), path, **{"resume": False, "overwrite": False, "terminal": QUIET} | options)


def end_state(path):
    return (load_weights(path / "weights.safetensors")[0], (path / METRICS).read_bytes())


def test_fp32_is_not_tf32(tmp_path):
    """On GPUs torch lets convolutions round to TF32 unless it is told."""
    flags = (torch.backends.cudnn, torch.backends.cuda.matmul)
    allow_tf32(True)
    folder = start(tmp_path / "run", configured(train={"updates": 1}))
    assert [flag.allow_tf32 for flag in flags] == [False, False]
    assert folder.environment["tf32"] is False
    allow_tf32(True)
    evaluate_run(folder.path, QUIET)
    assert [flag.allow_tf32 for flag in flags] == [False, False]


@pytest.mark.parametrize("reduction", ["mean", "weighted_mean", "sum"])
def test_accumulated_batches_are_one_large_batch(tmp_path, monkeypatch, reduction):
    """Also where the tiles have unequal shares of known pixels, one of them none."""
    known = [20, 72, 0, 50, 9]
    frames = [
        replace(frame, label=np.where(np.arange(72)[:, None] < rows, frame.label, 255).astype(np.uint8))
        for frame, rows in zip(discs().frames, known, strict=True)
    ]
    monkeypatch.setattr("unet.training.loop.load", lambda *_: replace(discs(), frames=tuple(frames)))
    settings = {"model": {"dropout": 0.0}, "loss": {"reduction": reduction},
                "optim": {"name": "sgd", "lr": 1e-5 if reduction == "sum" else 1e-2, "clip_norm": 0.0}}  # fmt: skip
    ends = []
    for batch, accumulate in ((8, 1), (2, 4), (1, 8)):
        train = {"updates": 3, "batch": batch, "accumulate": accumulate}
        start(tmp_path / f"{batch}", configured(**settings, train=train))
        rows = [row for row in RunFolder(tmp_path / f"{batch}").rows(METRICS) if row["part"] == "train"]
        ends.append((load_weights(tmp_path / f"{batch}" / "weights.safetensors")[0], [row["loss"] for row in rows]))
    for weights, losses in ends[1:]:
        torch.testing.assert_close(weights, ends[0][0], rtol=1e-4, atol=1e-6)
        assert losses == pytest.approx(ends[0][1], rel=1e-5)
    assert all(loss > 0 for loss in ends[0][1])


def soft_dice(logits, target, weight, reduction):
    """1 - Dice of the foreground over the known pixels, summed over the images that have any."""
    known = target != 255
    found, true = logits.float().softmax(dim=1)[:, 1] * known, ((target == 1) & known).float()
    dice = (2 * (found * true).sum((1, 2)) + 1) / (found.sum((1, 2)) + true.sum((1, 2)) + 1)
    images = known.any(dim=2).any(dim=1)
    return Parts(((1 - dice) * images).sum(), torch.ones(()) if reduction == "sum" else images.sum().float())


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_loss_in_a_file_of_its_own_accumulates_too(tmp_path, monkeypatch, reduction):
    file = types.ModuleType("unet.loss.soft_dice")
    file.parts = soft_dice
    monkeypatch.setitem(sys.modules, "unet.loss.soft_dice", file)
    named = types.SimpleNamespace(name="soft_dice", implementation="auto", reduction=reduction)
    monkeypatch.setattr("unet.training.trainer.choose_loss", lambda _, device: choose_loss(named, device))
    frames = [replace(frame, label=np.where(frame.label == 0, 255, frame.label)) for frame in discs().frames[:2]]
    monkeypatch.setattr("unet.training.loop.load", lambda *_: replace(discs(), frames=(*frames, *discs().frames[2:])))
    ends = []
    for batch, accumulate in ((8, 1), (2, 4)):
        config = configured(
            model={"dropout": 0.0}, loss={"reduction": reduction},
            optim={"name": "sgd", "lr": 1e-2, "clip_norm": 0.0},
            train={"updates": 3, "batch": batch, "accumulate": accumulate},
        )  # fmt: skip
        folder = start(tmp_path / f"{batch}", config)
        rows = [row["loss"] for row in folder.rows(METRICS) if row["part"] == "train"]
        ends.append((load_weights(folder.file("weights.safetensors"))[0], rows))
        assert folder.environment["loss"] == "soft_dice"
    torch.testing.assert_close(ends[1][0], ends[0][0], rtol=1e-4, atol=1e-6)
    assert ends[1][1] == pytest.approx(ends[0][1], rel=1e-5)
    assert all((0 < loss < 1) if reduction == "mean" else (1 < loss < 8) for loss in ends[0][1])


def test_a_loss_in_a_file_of_its_own_is_0_where_nothing_is_known(monkeypatch):
    file = types.ModuleType("unet.loss.soft_dice")
    file.parts = soft_dice
    monkeypatch.setitem(sys.modules, "unet.loss.soft_dice", file)
    named = types.SimpleNamespace(name="soft_dice", implementation="auto", reduction="mean")
    logits, unknown = torch.zeros(1, 2, 4, 4, requires_grad=True), torch.full((1, 4, 4), 255)
    loss = choose_loss(named, torch.device("cpu")).function(logits, unknown, torch.zeros(1, 4, 4))
    loss.backward()
    assert (loss.item(), logits.grad.abs().max().item()) == (0, 0)


def test_there_is_no_fused_kernel_of_another_loss():
    named = types.SimpleNamespace(name="soft_dice", implementation="fused", reduction="mean")
    with pytest.raises(ConfigError, match=r"loss\.implementation: there is no fused soft_dice; use auto"):
        choose_loss(named, torch.device("cpu"))


def test_every_name_of_a_loss_has_its_file():
    for name in set(get_args(get_type_hints(LossConfig)["name"])) - {"cross_entropy"}:
        assert callable(import_module(f"unet.loss.{name}").parts)


def test_it_learns_and_leaves_a_complete_folder(tmp_path):
    folder = start(tmp_path / "run", configured(train={"updates": 150, "eval_every": 50}))
    scores = evaluate_run(tmp_path / "run", QUIET)
    assert scores["scores"]["pixel_accuracy"] > 0.93  # the ground alone is about 0.85
    assert "pixel accuracy" in table(scores)
    for name in ("config.yaml", "environment.json", "split.json", METRICS, "timing.jsonl", "weights.safetensors",
                 "scores.json", "probabilities.tif", "prediction.png"):  # fmt: skip
        assert folder.file(name).stat().st_size > 0, name
    rows = folder.rows(METRICS)
    losses = [row["loss"] for row in rows if row["part"] == "train"]
    assert len(losses) == 15
    assert losses[-1] < losses[0]
    assert [row["update"] for row in rows if row["part"] == "held_out"] == [50, 100, 150]
    assert json.loads(folder.file("scores.json").read_text())["frames"] == folder.read_json("split.json")["held_out"]


def test_the_same_command_gives_the_same_bits(tmp_path):
    start(tmp_path / "a")
    start(tmp_path / "b")
    first, second = end_state(tmp_path / "a"), end_state(tmp_path / "b")
    torch.testing.assert_close(first[0], second[0], rtol=0, atol=0)
    assert first[1] == second[1]
    start(tmp_path / "c", configured(train={"seed": 1}))
    assert end_state(tmp_path / "c")[1] != first[1]


class Killed(BaseException):
    """Stands for the death of the process at a chosen place."""


@pytest.mark.parametrize(
    "settings",
    [
        {"optim": {"name": "sgd", "lr": 1e-3, "momentum": 0.9}},
        {"optim": {"schedule": "cosine", "warmup_updates": 4, "clip_norm": 1.0}},
        {"train": {"accumulate": 2, "workers": 2, "checkpoint_every": 7}},
        {"train": {"precision": "bf16"}},
    ],
    ids=["sgd", "adam with schedule", "accumulation and workers", "bf16"],
)
def test_a_killed_and_resumed_run_is_the_run_that_was_not(tmp_path, monkeypatch, settings):
    config = configured(**settings)
    start(tmp_path / "whole", config)
    calls = 0
    original = Trainer._update

    def dies(self, stream):
        nonlocal calls
        calls += 1
        if calls in (12, 20):
            raise Killed
        original(self, stream)

    monkeypatch.setattr(Trainer, "_update", dies)
    with pytest.raises(Killed):
        start(tmp_path / "cut", config)
    with pytest.raises(Killed):
        start(tmp_path / "cut", config, resume=True)
    start(tmp_path / "cut", config, resume=True)
    whole, cut = end_state(tmp_path / "whole"), end_state(tmp_path / "cut")
    torch.testing.assert_close(whole[0], cut[0], rtol=0, atol=0)
    assert whole[1] == cut[1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_checkpoints_and_leaves_and_the_run_goes_on(tmp_path, monkeypatch, number, code):
    start(tmp_path / "whole")
    original = Trainer._update

    def signalled(self, stream):
        original(self, stream)
        if self.state.update == 13:
            signal.raise_signal(number)

    monkeypatch.setattr(Trainer, "_update", signalled)
    with pytest.raises(Interrupted) as stop:
        start(tmp_path / "cut")
    assert stop.value.exit_code == code
    saved, _ = load_latest(tmp_path / "cut" / "checkpoints")
    assert saved is not None
    assert saved["state"]["update"] == 13  # nothing is lost
    monkeypatch.setattr(Trainer, "_update", original)
    start(tmp_path / "cut", resume=True)
    assert end_state(tmp_path / "whole")[1] == end_state(tmp_path / "cut")[1]


def test_a_signal_during_the_evaluation_does_not_lose_the_updates(tmp_path, monkeypatch):
    start(tmp_path / "whole")
    original = Trainer._predict_held_out

    def signalled(self, *arguments):
        if self.state.update == 8:
            signal.raise_signal(signal.SIGTERM)
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, "_predict_held_out", signalled)
    with pytest.raises(Interrupted):
        start(tmp_path / "cut")
    monkeypatch.setattr(Trainer, "_predict_held_out", original)
    saved, _ = load_latest(tmp_path / "cut" / "checkpoints")
    assert saved is not None
    assert (saved["state"]["update"], saved["state"]["evaluated_at"]) == (8, 0)
    start(tmp_path / "cut", resume=True)
    assert end_state(tmp_path / "whole")[1] == end_state(tmp_path / "cut")[1]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9])
def test_a_loss_that_is_not_finite_or_explodes_stops_the_run_and_keeps_the_checkpoint(tmp_path, monkeypatch, value):
    original = Trainer._gradient_norm

    def spoiled(self, gradients):
        if self.state.update == 10 and np.isfinite(value):
            with torch.no_grad():
                self.model.head.bias.mul_(1e9).add_(torch.tensor([1e9, -1e9]))
        return torch.tensor(value) if self.state.update == 10 and not np.isfinite(value) else original(self, gradients)

    monkeypatch.setattr(Trainer, "_gradient_norm", spoiled)
    with pytest.raises(
        TrainingError, match=r"update 1[012] \(tiles 2[024]\.\.2[135]\).*optim\.lr.*update-000008\.pt"
    ) as e:
        start(tmp_path / "run")
    assert "\n" not in str(e.value)
    saved, _ = load_latest(tmp_path / "run" / "checkpoints")
    assert saved is not None
    assert saved["state"]["update"] == 8
    assert all(torch.isfinite(v).all() for v in saved["model"].values())


def test_an_existing_run_is_not_touched(tmp_path):
    start(tmp_path / "run")
    before = end_state(tmp_path / "run")
    with pytest.raises(RunError, match="--resume"):
        start(tmp_path / "run")
    torch.testing.assert_close(end_state(tmp_path / "run")[0], before[0], rtol=0, atol=0)


def test_bad_input_is_found_before_the_folder_is_made(tmp_path, monkeypatch):
    config = configured(data={"fold": 7})
    with pytest.raises(Exception, match="fold"):
        start(tmp_path / "run", config)
    monkeypatch.setattr("unet.device.available_bytes", lambda _: 1_500_000)
    with pytest.raises(TrainingError, match=r"a tile of \d+ px would fit"):
        start(tmp_path / "run", configured(train={"batch": 1}, tile={"input_px": 252}))
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    folder = start(tmp_path / "run")
    other = configured(model={"base_channels": 5})
    with pytest.raises(RunError, match="model.base_channels was 4 and is 5"):
        start(tmp_path / "run", other, resume=True)
    from unet.config import to_yaml
    from unet.files import write_text

    write_text(folder.file("config.yaml"), to_yaml(other))
    with pytest.raises(RunError, match="another architecture"):
        evaluate_run(tmp_path / "run", QUIET)


def test_scores_come_from_stitched_images_in_eval_mode(tmp_path):
    """The last held-out row of metrics.jsonl, made during training, is what evaluating the folder finds."""
    folder = start(tmp_path / "run")
    last = [row for row in folder.rows(METRICS) if row["part"] == "held_out"][-1]
    scores = evaluate_run(tmp_path / "run", QUIET)["scores"]
    assert scores["loss"] == pytest.approx(last["loss"], rel=1e-6)
    assert scores["mean_iou"] == last["mean_iou"]


def test_held_out_frames_must_still_be_there(tmp_path, monkeypatch):
    start(tmp_path / "run")
    monkeypatch.setattr("unet.evaluation.run.load", lambda *_: discs(frames=3).select([0]))
    folder = RunFolder(tmp_path / "run")
    folder.write_json("split.json", {"train": [], "held_out": ["disc9"]})
    with pytest.raises(RunError, match="disc9"):
        evaluate_run(tmp_path / "run", QUIET)


def test_seeds_of_updates_differ():
    seeds = {derived_seed(seed, update) for seed in range(5) for update in range(200)}
    assert len(seeds) == 1000
    assert all(0 <= s < 2**63 for s in seeds)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_compiled_training_starts(tmp_path):
    pytest.importorskip("torch._inductor")
    import shutil

    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("torch.compile needs a C++ compiler on a CPU")
    config = configured(train={"updates": 2, "compile": "on"}, model={"base_channels": 2, "depth": 2})
    start(tmp_path / "run", replace(config, tile=replace(config.tile, input_px=28)))
