"""A run against the same training written out: tiles in their order, loss, clipping, rates, dropout, the average."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.training.test_loop import configured, data, discs, start
from unet.data.split import split
from unet.device import prepare
from unet.evaluation.frames import pixel_scores, predict_frames
from unet.networks import build
from unet.prediction.overlap import Network
from unet.runs.checkpoint import load_weights
from unet.runs.folder import METRICS
from unet.tiles.source import TileSource
from unet.training.trainer import derived_seed

__all__ = ["data"]  # the fixture that stands in for files

RATE, MOMENTUM, CLIP, DECAY, SEED, UPDATES = 0.5, 0.9, 0.1, 0.8, 3, 4


def test_a_run_is_what_a_plain_loop_makes(tmp_path):
    optim = {"name": "sgd", "lr": RATE, "momentum": MOMENTUM, "clip_norm": CLIP, "average": DECAY,
             "schedule": "step", "step_updates": 1, "step_factor": 0.8}  # fmt: skip
    config = configured(optim=optim, train={"updates": UPDATES, "eval_every": UPDATES, "seed": SEED})
    folder = start(tmp_path / "run", config)

    parts = split(discs(), config.data)
    source = TileSource(discs().select(parts.train), config, SEED)
    layout = torch.channels_last if prepare(config).channels_last else torch.contiguous_format
    model = build(config.model, 1, 2, SEED).to(memory_format=layout)
    velocities = [torch.zeros_like(p) for p in model.parameters()]
    losses, norms, kept = [], [], []
    for update in range(UPDATES):
        tiles = [source[2 * update], source[2 * update + 1]]
        image, target, weight = (
            torch.tensor(np.stack([getattr(t, n) for t in tiles])) for n in ("image", "target", "weight")
        )
        torch.manual_seed(derived_seed(SEED, update))
        pixels = cross_entropy(model(image.to(memory_format=layout)), target.long(), reduction="none")
        loss = (weight * pixels).sum() / target.numel()
        model.zero_grad()
        loss.backward()
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
        rate = RATE * 0.8**update
        with torch.no_grad():
            for parameter, velocity in zip(model.parameters(), velocities, strict=True):
                velocity.mul_(MOMENTUM).add_(parameter.grad * (CLIP / norm))
                parameter -= rate * velocity
        losses.append(loss.item())
        norms.append(norm)
        kept.append({name: value.clone() for name, value in model.state_dict().items()})
    assert min(norms) > 1.5 * CLIP  # or nothing was clipped

    shares = [DECAY ** (UPDATES - 1 - i) for i in range(UPDATES)]
    mean = {n: sum(s * w[n] for s, w in zip(shares, kept, strict=True)) / sum(shares) for n in kept[0]}
    torch.testing.assert_close(load_weights(folder.file("weights.safetensors"))[0], mean, rtol=1e-4, atol=1e-6)
    train, held_out = folder.rows(METRICS)
    assert train["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert train["loss_max"] == pytest.approx(max(losses), rel=1e-5)
    assert train["gradient_norm"] == pytest.approx(np.mean(norms), rel=1e-4)
    assert train["lr"] == pytest.approx(0.8**3 * RATE)

    def held_out_loss(weights):
        model.load_state_dict(weights)
        network = Network(model, torch.device("cpu"), depth=config.model.depth)
        return pixel_scores(predict_frames(network, discs(), parts.held_out), ("ground", "disc"))["loss"]

    assert held_out["loss"] == pytest.approx(held_out_loss(mean), rel=1e-5)
    assert held_out_loss(kept[-1]) != pytest.approx(held_out_loss(mean), rel=1e-4)
