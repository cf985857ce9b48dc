"""The forward and backward computation of one batch, of which an update of the weights is made.

Axes: N tiles of a batch, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from unet.config import LossConfig
from unet.loss.dispatch import ChosenLoss
from unet.loss.reference import denominator, valid_pixels
from unet.tiles.shared_batches import Batch


class Sums(NamedTuple):
    """What a batch adds to its update beside the gradients: scalars on the device, and C x C counts by [target,
    predicted] class.

    divisor: None where the loss is the batch's own mean, or a sum that nothing divides; else `loss` and the gradients
    are sums, to be divided by the sum of the divisors of all batches. counts: None where they would cost time.
    """

    loss: Tensor
    divisor: Tensor | None
    counts: Tensor | None


class Step(Protocol):
    """Adds the gradients of a batch, which is on the device, to those that the parameters have."""

    pooled: bool
    """Whether loss and gradients are sums that are to be divided."""

    keeps_gradients: bool
    """Whether the gradients must stay where they are, and be set to 0 in place, between two updates."""

    def __call__(self, batch: Batch) -> Sums:
        """What else the batch adds; good until the next call."""


class EagerStep:
    """The step, operator by operator.

    forward: the network, image N x C x H x W -> logits. pooled: several batches make one update, so that sums are
    wanted in place of means. bf16: compute in bfloat16 where autocast says so.
    """

    keeps_gradients = False

    def __init__(
        self, forward: Callable[[Tensor], Tensor], loss: ChosenLoss, config: LossConfig, *, pooled: bool, bf16: bool
    ) -> None:
        self.forward, self.loss, self.reduction, self.bf16 = forward, loss, config.reduction, bf16
        self.pooled = pooled and config.reduction != "sum"

    def __call__(self, batch: Batch) -> Sums:
        image, target, weight = batch
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.forward(image)
        if self.pooled and self.loss.parts is not None:
            return self._backward(*self.loss.parts(logits, target, weight))
        divisor = denominator(weight, weight, valid_pixels(target), self.reduction) if self.pooled else None
        if self.loss.differentiated is None:
            loss = self.loss.function(logits, target, weight)
            return self._backward(loss if divisor is None else loss * divisor, divisor)
        loss, counts, gradient = self.loss.differentiated(logits, target, weight, None, divisor)
        logits.backward(gradient)  # type: ignore[no-untyped-call]
        return Sums(loss if divisor is None else loss * divisor, divisor, counts)

    def _backward(self, loss: Tensor, divisor: Tensor | None) -> Sums:
        loss.backward()  # type: ignore[no-untyped-call]
        return Sums(loss.detach(), divisor, None)
