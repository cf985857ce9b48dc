"""The training step as a CUDA graph: with a stand-in on the CPU, and as it is where there is a card."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training import recorded
from tests.training.test_loop import configured, discs
from unet.config import from_dict
from unet.device import choose
from unet.errors import ConfigError, TrainingError
from unet.loss import fused, reference
from unet.loss.dispatch import ChosenLoss
from unet.runs.checkpoint import load_weights
from unet.runs.folder import METRICS, RunFolder
from unet.terminal import Terminal
from unet.tiles.shared_batches import Batch
from unet.training.graphs import WARM_UP, GraphedStep
from unet.training.loop import run, train
from unet.training.setup import Setup
from unet.training.step import EagerStep

QUIET = Terminal(quiet=True)


def trained(path, config, graphs, **options):
    hardware = replace(choose(config), cuda_graphs=graphs)
    setup = Setup.of(config, hardware, discs())
    run(setup, path, **{"resume": False, "overwrite": False, "terminal": QUIET} | options)
    return load_weights(path / "weights.safetensors")[0], (path / METRICS).read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train": {"accumulate": 2, "updates": 5}, "loss": {"reduction": "weighted_mean"}},
        {"optim": {"name": "sgd", "lr": 1e-2, "momentum": 0.9, "clip_norm": 0.5, "average": 0.9}},
    ],
    ids=["adam", "accumulated", "clipped-sgd-averaged"],
)
def test_replayed_steps_give_the_bits_of_eager_ones(tmp_path, monkeypatch, changes):
    config = configured(**{"train": {"updates": 6, "eval_every": 3, "checkpoint_every": 4}} | changes)
    eager = trained(tmp_path / "eager", config, graphs=False)
    made = recorded.pretend(monkeypatch)
    replayed = trained(tmp_path / "graphs", config, graphs=True)
    assert [one.replays for one in made] == [config.train.updates * config.train.accumulate]
    torch.testing.assert_close(replayed[0], eager[0], rtol=0, atol=0)
    assert replayed[1] == eager[1]


def small_step(says=None, required=False):
    """A step of one linear layer with dropout, its parameters, and batches."""
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(1, 2, 1)

    def forward(image):
        return torch.nn.functional.dropout(layer(image), 0.5)

    loss = ChosenLoss(reference.weighted_loss, "reference", "", fused.differentiated)
    eager = EagerStep(forward, loss, from_dict({}).loss, pooled=True, bf16=False)
    graphed = GraphedStep(eager, layer.parameters(), required=required, say=([] if says is None else says).append)
    generator = torch.Generator().manual_seed(1)
    batches = [
        Batch(
            torch.rand(2, 1, 4, 4, generator=generator),
            torch.randint(0, 2, (2, 4, 4), generator=generator, dtype=torch.uint8),
            torch.rand(2, 4, 4, generator=generator),
        )
        for _ in range(3)
    ]
    return layer, eager, graphed, batches


def gradients_and_sums(layer, step, batches):
    found = []
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.zero_()
    for seed, batch in enumerate(batches):
        torch.manual_seed(seed)
        found += [part.clone() for part in step(batch)]
    return [*found, *(parameter.grad.clone() for parameter in layer.parameters())]


def test_gradients_add_up_and_the_capture_leaves_no_trace(monkeypatch):
    recorded.pretend(monkeypatch)
    layer, eager, graphed, batches = small_step()
    wanted = gradients_and_sums(layer, eager, batches)
    torch.testing.assert_close(gradients_and_sums(layer, graphed, batches), wanted, rtol=0, atol=0)
    assert graphed.captured
    addresses = [parameter.grad.data_ptr() for parameter in layer.parameters()]
    torch.testing.assert_close(gradients_and_sums(layer, graphed, batches), wanted, rtol=0, atol=0)
    assert [parameter.grad.data_ptr() for parameter in layer.parameters()] == addresses


def test_another_shape_is_computed_eagerly(monkeypatch):
    made = recorded.pretend(monkeypatch)
    layer, eager, graphed, batches = small_step()
    cut = Batch(*(part[:1] for part in batches[1]))
    mixed = [batches[0], cut, batches[2]]
    wanted = gradients_and_sums(layer, eager, mixed)
    torch.testing.assert_close(gradients_and_sums(layer, graphed, mixed), wanted, rtol=0, atol=0)
    assert made[0].replays == 2


@pytest.mark.parametrize("required", [False, True])
def test_a_step_that_cannot_be_captured(monkeypatch, required):
    """It stays eager and says why in one line, or ends the run where graphs were asked for."""
    recorded.pretend(monkeypatch)
    says = []
    layer, eager, graphed, batches = small_step(says, required)
    honest = eager.forward
    eager.forward = lambda image: honest(image) * (2 if image.sum().item() > 1e9 else 1)  # waits for the device
    if required:
        with pytest.raises(TrainingError, match=r"train\.cuda_graphs: .*not permitted.*; use auto or off"):
            graphed(batches[0])
        return
    wanted = gradients_and_sums(layer, eager, batches)
    torch.testing.assert_close(gradients_and_sums(layer, graphed, batches), wanted, rtol=0, atol=0)
    assert not graphed.captured
    assert len(says) == 1
    assert "\n" not in says[0]
    assert "not permitted" in says[0]


def test_the_step_is_warmed_up_before_its_capture(monkeypatch):
    recorded.pretend(monkeypatch)
    _, eager, graphed, batches = small_step()
    calls, honest = [], eager.forward
    eager.forward = lambda image: calls.append(image.data_ptr()) or honest(image)
    for batch in batches:
        graphed(batch)
    assert len(calls) == WARM_UP + 1
    assert len(set(calls)) == 1  # the same memory, which later batches are copied into
    assert calls[0] not in [batch.image.data_ptr() for batch in batches]


def test_graphs_are_for_nvidia_gpus(monkeypatch):
    assert not choose(configured()).cuda_graphs
    with pytest.raises(ConfigError, match=r"train\.cuda_graphs: on needs an NVIDIA GPU"):
        choose(configured(train={"cuda_graphs": "on"}))
    monkeypatch.setattr("unet.device._device", lambda _: torch.device("cuda"))
    monkeypatch.setattr("unet.device._computes_in_bf16", lambda _: True)
    for asked, given in (("auto", True), ("on", True), ("off", False)):
        assert choose(configured(train={"cuda_graphs": asked})).cuda_graphs is given


def test_the_check_for_a_card_finds_other_masks(monkeypatch):
    """scripts/gpu/gpu_only_checks.py, on the stand-in: it passes, and fails where replays draw other numbers."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[2] / "scripts" / "gpu")])
    made = recorded.pretend(monkeypatch)
    check = importlib.import_module("gpu_only_checks").training_steps_as_graphs
    assert check(torch.device("cpu"))
    assert len(made) == 4
    honest = recorded.Recording.replay
    monkeypatch.setattr(recorded.Recording, "replay", lambda self: torch.manual_seed(7) and honest(self))
    with pytest.raises(AssertionError):
        check(torch.device("cpu"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.parametrize("accumulate", [1, 2])
def test_on_a_gpu_graphs_give_the_weights_of_eager_steps(tmp_path, monkeypatch, accumulate):
    monkeypatch.setattr("unet.training.loop.load", lambda *_: discs())
    ends = []
    for graphs in ("off", "on"):
        settings = {"device": "cuda", "updates": 8, "accumulate": accumulate, "cuda_graphs": graphs, "compile": "off",
                    "deterministic": True}  # fmt: skip
        folder = train(configured(train=settings), tmp_path / graphs, resume=False, overwrite=False, terminal=QUIET)
        rows = RunFolder(folder.path).rows(METRICS)
        ends.append((load_weights(tmp_path / graphs / "weights.safetensors")[0], [row["loss"] for row in rows]))
    torch.testing.assert_close(ends[1][0], ends[0][0], rtol=1e-5, atol=1e-6)
    assert ends[1][1] == pytest.approx(ends[0][1], rel=1e-5)
