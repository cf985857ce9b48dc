"""Which implementation of the loss a run uses, and why."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from unet.config import LossConfig
from unet.loss import reference
from unet.loss.reference import LossResult

LossFunction = Callable[[Tensor, Tensor, Tensor], LossResult]
"""(logits N x C x H x W, target N x H x W, weight N x H x W) -> loss and confusion counts."""


class ChosenLoss(NamedTuple):
    """The function, its name for the run's record, and a line to print (empty when there is nothing to say)."""

    function: LossFunction
    name: str
    message: str


def choose_loss(config: LossConfig, device: torch.device) -> ChosenLoss:
    """The implementation for this configuration and device."""
    del device
    return ChosenLoss(partial(reference.weighted_cross_entropy, reduction=config.reduction), "reference", "")
