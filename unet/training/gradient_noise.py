"""How much the gradient differs from batch to batch at fixed weights, for any size and number of tiles.

With g_k the gradient of batch k's mean loss (k = 1..K, all at the same weights, dropout off, single precision):

    variance   sum_k |g_k - mean g|^2 / (K - 1), the trace of the covariance of the batch gradient
    signal     |mean g|^2 - variance / K, an unbiased estimate of the squared length of the expected gradient

Were the pixels of the loss independent, the variance would be inversely proportional to their number, and variance x
loss pixels the same for all tiles and batches; it shows how much a pixel of each kind of tile is worth. variance /
signal is the "simple noise scale" of McCandlish et al. 2018 (arXiv 1812.06162), in batches.

Axes: N tiles of a batch, C channels, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from unet.config import Config
from unet.data.stack import IGNORE, Stack
from unet.loss.dispatch import LossFunction, choose_loss
from unet.tiles.batches import batches
from unet.tiles.shared_batches import Batch
from unet.tiles.source import TileSource

FRESH_TILES = 2**32  # added to the run's seed: tiles that it was not trained on


@dataclass(frozen=True)
class GradientNoise:
    """A measurement over `batches` batches of `tiles` tiles.

    input_pixels, loss_pixels: mean number per batch (loss: labelled ones). signal and variance: see the module.
    """

    batches: int
    tiles: int
    input_pixels: int
    loss_pixels: float
    signal: float
    variance: float

    @property
    def variance_per_pixel(self) -> float:
        """variance x loss pixels: the variance that a batch of one such loss pixel would have."""
        return self.variance * self.loss_pixels

    def to_dict(self) -> dict[str, float]:
        """Plain values for a JSON file, derived ones included."""
        return asdict(self) | {"variance_per_pixel": self.variance_per_pixel}


class Spread:
    """Mean and total variance of vectors that come one by one (Welford's recurrence, in double precision)."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._squares = 0.0

    def add(self, vector: Tensor) -> None:
        """Take in one more vector."""
        x = vector.detach().double()
        mean = torch.zeros_like(x) if self._mean is None else self._mean
        self.count += 1
        off = x - mean
        self._mean = mean + off / self.count
        self._squares += float(off @ (x - self._mean))

    @property
    def variance(self) -> float:
        """Sum over all components of their sample variance; NaN for fewer than two vectors."""
        return self._squares / (self.count - 1) if self.count > 1 else math.nan

    @property
    def signal(self) -> float:
        """Unbiased estimate of the squared length of the expected vector (may come out negative)."""
        if self._mean is None:
            return math.nan
        return float(self._mean @ self._mean) - self.variance / self.count


def gradient(model: nn.Module, loss: LossFunction, batch: Batch) -> Tensor:
    """Gradient of a batch's loss with respect to all parameters, as one vector."""
    model.zero_grad(set_to_none=True)
    loss(model(batch.image), batch.target, batch.weight).backward()  # type: ignore[no-untyped-call]
    return torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])


def spread(model: nn.Module, loss: LossFunction, stream: Iterable[Batch]) -> tuple[Spread, float]:
    """The spread of the gradients of these batches, and the mean number of labelled pixels in a batch."""
    device = next(model.parameters()).device
    found, labelled = Spread(), 0
    model.eval()
    for batch in stream:
        on_device = Batch(*(part.to(device) for part in batch))
        found.add(gradient(model, loss, on_device))
        labelled += int((on_device.target != IGNORE).sum())
    model.zero_grad(set_to_none=True)
    return found, labelled / max(1, found.count)


def measure(model: nn.Module, stack: Stack, config: Config, count: int) -> GradientNoise:
    """The gradient noise of `config`'s tiles and batch at the weights of `model`.

    stack: the training frames. The tiles are drawn as in training, from a seed of their own.
    """
    per_batch = config.train.batch * config.train.accumulate
    source = TileSource(stack, config, config.train.seed + FRESH_TILES)
    loss = choose_loss(config.loss, next(model.parameters()).device).function
    stream = batches(source, 0, count * per_batch, per_batch, workers=0, pin=False)
    found, labelled = spread(model, loss, stream)
    pixels = per_batch * config.tile.input_px**2
    return GradientNoise(found.count, per_batch, pixels, labelled, found.signal, found.variance)
