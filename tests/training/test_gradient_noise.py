"""Gradient noise against NumPy and against what theory says of independent batches."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.test_loop import SMALL, discs
from unet.config import from_dict
from unet.loss.dispatch import choose_loss
from unet.networks import build
from unet.tiles.shared_batches import Batch
from unet.tiles.source import TileSource
from unet.training.gradient_noise import Spread, gradient, measure, spread


def test_variance_and_signal_are_the_trace_of_the_covariance_and_the_unbiased_square():
    vectors = np.random.default_rng(0).normal(1.0, [0.5, 2.0, 3.0], (12, 3))
    found = Spread()
    for vector in vectors:
        found.add(torch.tensor(vector))
    trace = np.trace(np.cov(vectors.T))
    assert found.count == 12
    assert found.variance == pytest.approx(trace)
    assert found.signal == pytest.approx((vectors.mean(axis=0) ** 2).sum() - trace / 12)


def test_the_signal_is_unbiased_and_too_few_vectors_have_no_variance():
    rng = np.random.default_rng(1)
    signals = []
    for _ in range(400):
        found = Spread()
        for vector in rng.normal(0.3, 1.0, (4, 5)):
            found.add(torch.tensor(vector))
        signals.append(found.signal)
    assert np.mean(signals) == pytest.approx(5 * 0.3**2, abs=4 * np.std(signals) / math.sqrt(400))
    one = Spread()
    one.add(torch.ones(3))
    assert math.isnan(one.variance)


def test_large_common_parts_do_not_drown_the_variance():
    vectors = np.random.default_rng(2).normal(1e6, 1e-2, (8, 4))
    found = Spread()
    for vector in vectors:
        found.add(torch.tensor(vector))
    assert found.variance == pytest.approx(np.trace(np.cov(vectors.T)), rel=1e-3)


def pixels(rng: np.random.Generator, tiles: int) -> Batch:
    """Tiles whose pixels are independent: noise, with random labels."""
    image = torch.tensor(rng.normal(size=(tiles, 1, 6, 6)), dtype=torch.float32)
    target = torch.tensor(rng.integers(0, 2, (tiles, 6, 6)), dtype=torch.uint8)
    return Batch(image, target, torch.ones(tiles, 6, 6))


def test_of_independent_pixels_the_variance_is_inverse_to_their_number():
    """The oracle of the column "variance x loss pixels": 1 when pixels are independent, and it can fail."""
    torch.manual_seed(0)
    model, rng = nn.Conv2d(1, 2, 1), np.random.default_rng(3)
    loss = choose_loss(from_dict({}).loss, torch.device("cpu")).function
    few, labelled_few = spread(model, loss, (pixels(rng, 1) for _ in range(400)))
    many, labelled_many = spread(model, loss, (pixels(rng, 9) for _ in range(400)))
    assert (labelled_few, labelled_many) == (36, 9 * 36)
    assert few.variance / many.variance == pytest.approx(9, rel=0.2)
    copies = [Batch(*(part.repeat(9, *[1] * (part.dim() - 1)) for part in pixels(rng, 1))) for _ in range(400)]
    repeated, _ = spread(model, loss, copies)  # nine times the same pixels are worth one
    assert few.variance / repeated.variance == pytest.approx(1, rel=0.2)


def test_pixels_without_a_label_are_no_loss_pixels():
    batch = pixels(np.random.default_rng(0), 2)
    batch.target[0, :3] = 255
    loss = choose_loss(from_dict({}).loss, torch.device("cpu")).function
    assert spread(nn.Conv2d(1, 2, 1), loss, [batch, pixels(np.random.default_rng(1), 2)])[1] == (54 + 72) / 2


def test_tiles_are_others_than_those_of_training(monkeypatch):
    config, asked = from_dict(SMALL), []
    monkeypatch.setattr("unet.training.gradient_noise.batches", lambda source, *_, **__: asked.append(source) or ())
    measure(build(config.model, 1, 2, seed=0), discs(), config, 1)
    trained = TileSource(discs(), config, config.train.seed)
    assert all(asked[0].draw(i).gray_key != trained.draw(i).gray_key for i in range(20))


def test_the_gradient_is_that_of_autograd_over_all_parameters():
    model, batch = nn.Conv2d(1, 2, 1), pixels(np.random.default_rng(0), 2)
    loss = choose_loss(from_dict({}).loss, torch.device("cpu")).function
    found = gradient(model, loss, batch)
    expected = torch.autograd.grad(
        nn.functional.cross_entropy(model(batch.image), batch.target.long()), list(model.parameters())
    )
    torch.testing.assert_close(found, torch.cat([g.reshape(-1) for g in expected]))


def test_measured_on_a_network_more_tiles_mean_less_noise_and_dropout_is_off():
    config = from_dict({"augment": {"gray": []}}, from_dict(SMALL))
    one = from_dict({"train": {"batch": 1}}, config)
    model = build(config.model, 1, 2, seed=0)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small, large = (measure(model, discs(), c, 12) for c in (one, from_dict({"train": {"batch": 6}}, config)))
    assert (small.batches, small.tiles, large.tiles) == (12, 1, 6)
    assert (small.loss_pixels, large.input_pixels) == (12 * 12, 6 * 52**2)
    assert 2 < small.variance / large.variance < 18
    assert small == measure(model, discs(), one, 12)  # no dropout, the same tiles
    assert small.to_dict()["variance_per_pixel"] == small.variance * 144
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert all(p.grad is None for p in model.parameters())
