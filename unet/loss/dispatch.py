"""Which implementation of the loss a run uses, and why."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from unet.config import LossConfig
from unet.errors import ConfigError
from unet.loss import reference
from unet.loss.reference import LossResult

LossFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits N x C x H x W, target N x H x W, weight N x H x W) -> scalar loss, differentiable."""


class ChosenLoss(NamedTuple):
    """The function, its name for the run's record, and a line to print (empty when there is nothing to say).

    counted: the loss with its confusion counts, where these cost nothing; None elsewhere (on a CPU they would take a
    third of its time).
    """

    function: LossFunction
    name: str
    message: str
    counted: Callable[[Tensor, Tensor, Tensor], LossResult] | None = None


def choose_loss(config: LossConfig, device: torch.device) -> ChosenLoss:
    """The implementation for this configuration and device.

    auto: the fused kernels on a GPU that can run them, else the reference; on a GPU the message then says why. Asking
    for `fused` where it cannot run is a ConfigError.
    """
    plain = ChosenLoss(partial(reference.weighted_loss, reduction=config.reduction), "reference", "")
    if config.implementation == "reference" or (config.implementation == "auto" and device.type == "cpu"):
        return plain
    from unet.loss import driver, fused  # registering operators takes time that a run without them need not spend

    reason = driver.unusable(device)
    if not reason:
        counted = partial(fused.weighted_cross_entropy, reduction=config.reduction)
        return ChosenLoss(lambda *inputs: counted(*inputs).loss, "fused", "", counted)
    if config.implementation == "fused":
        raise ConfigError(f"loss.implementation: fused cannot be used, {reason}; use auto or reference")
    return plain._replace(message=f"loss: reference implementation ({reason})")
