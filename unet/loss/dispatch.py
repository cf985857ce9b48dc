"""Which loss a run uses, in which implementation, and why.

A loss beside the paper's is a file of this room, of the name that loss.name calls it, with a function

    parts(logits N x C x H x W, target N x H x W, weight N x H x W, reduction) -> Parts

where target is 255 where nothing is known, which must carry no loss.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import NamedTuple

import torch
from torch import Tensor

from unet.config import LossConfig
from unet.errors import ConfigError
from unet.loss import reference
from unet.loss.reference import Differentiated

BUILT_IN: tuple[str, ...] = ("cross_entropy",)

LossFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits N x C x H x W, target N x H x W, weight N x H x W) -> scalar loss, differentiable."""


class Parts(NamedTuple):
    """A loss as what it sums and what that is divided by; those of several batches add up to those of all at once.

    total: scalar, differentiable. denominator: scalar without gradient, 0 where nothing carries loss; 1 for the
    reduction "sum".
    """

    total: Tensor
    denominator: Tensor


class ChosenLoss(NamedTuple):
    """The function, its name for the run's record, and a line to print (empty when there is nothing to say).

    differentiated: the loss with its gradient and its confusion counts, from (logits, target, weight, None, upstream),
    where kernels compute them together; None elsewhere (on a CPU the counts would take a third of its time). parts: of
    a loss beside the paper's, what it sums and what that is divided by.
    """

    function: LossFunction
    name: str
    message: str
    differentiated: Callable[..., Differentiated] | None = None
    parts: Callable[[Tensor, Tensor, Tensor], Parts] | None = None


def choose_loss(config: LossConfig, device: torch.device) -> ChosenLoss:
    """The loss of this configuration, of cross_entropy the implementation for this device.

    auto: the fused kernels on a GPU that can run them, else the reference; on a GPU the message then says why. Asking
    for `fused` where it cannot run, or of another loss, is a ConfigError.
    """
    if config.name not in BUILT_IN:
        return _other(config)
    plain = ChosenLoss(partial(reference.weighted_loss, reduction=config.reduction), "reference", "")
    if config.implementation == "reference" or (config.implementation == "auto" and device.type == "cpu"):
        return plain
    from unet.loss import driver, fused  # registering operators takes time that a run without them need not spend

    reason = driver.unusable(device)
    if not reason:
        function = partial(fused.weighted_cross_entropy, reduction=config.reduction)
        differentiated = partial(fused.differentiated, reduction=config.reduction)
        return ChosenLoss(lambda *inputs: function(*inputs).loss, "fused", "", differentiated)
    if config.implementation == "fused":
        raise ConfigError(f"loss.implementation: fused cannot be used, {reason}; use auto or reference")
    return plain._replace(message=f"loss: reference implementation ({reason})")


def _other(config: LossConfig) -> ChosenLoss:
    if config.implementation == "fused":
        raise ConfigError(f"loss.implementation: there is no fused {config.name}; use auto")
    parts = partial(import_module(f"unet.loss.{config.name}").parts, reduction=config.reduction)

    def function(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        total, denominator = parts(logits, target, weight)
        quotient: Tensor = total / torch.where(denominator == 0, torch.ones_like(denominator), denominator)
        return quotient

    return ChosenLoss(function, config.name, "", parts=parts)
