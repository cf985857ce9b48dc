"""Optimizer, learning-rate schedule and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from unet.config import OptimConfig


def make_optimizer(config: OptimConfig, model: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum, Adam or AdamW over all parameters of the model."""
    parameters = list(model.parameters())
    if config.name == "sgd":
        return torch.optim.SGD(
            parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, foreach=True
        )
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    on_cpu = all(parameter.device.type == "cpu" for parameter in parameters)
    # Fused, a CPU takes 0.65 of the time; of SGD, which has less to fuse, it takes 1.5-2 times as long.
    way = {"fused": True} if on_cpu else {"foreach": True}
    return kind(parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, **way)


def weight_average(config: OptimConfig, model: nn.Module) -> AveragedModel | None:
    """The exponential average of the model's weights, to be given each update's; None where `config` wants none.

    With decay d, the average after t updates is that of the weights w_1 .. w_t with the weights d^(t - i) (1 - d) /
    (1 - d^t): the initial weights, which are noise, have no part in it. Evaluated in place of the last weights
    (Polyak and Juditsky 1992, doi:10.1137/0330046; Tarvainen and Valpola 2017, arXiv 1703.01780).
    """
    if not config.average:
        return None
    decay = config.average

    @torch.no_grad()
    def update(averages: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor | int) -> None:
        share = (1 - decay) / (1 - decay ** (torch.as_tensor(updates).double() + 1))  # stays on the device
        steps = torch._foreach_sub(list(weights), list(averages))
        torch._foreach_mul_(steps, share.to(averages[0].dtype))
        torch._foreach_add_(list(averages), steps)

    return AveragedModel(model, multi_avg_fn=update).requires_grad_(False)


def learning_rate(config: OptimConfig, update: int, updates: int) -> float:
    """Learning rate of update `update` (0-based) of `updates`: linear warm-up, then constant, cosine or steps.

    Gradual warm-up as in Goyal et al. 2017 (arXiv 1706.02677, section 2.2), from warmup_from x lr at the first update
    to lr at the one behind the warm-up (from 0: so that the last of the warm-up has lr); constant: warmup_from x lr.
    The cosine ends at lr * final_factor.
    """
    warmup, begin = config.warmup_updates, config.warmup_from
    if update < warmup:
        if config.warmup_shape == "constant":
            return config.lr * begin
        return config.lr * ((begin + (1 - begin) * update / warmup) if begin else (update + 1) / warmup)
    if config.schedule == "cosine":
        progress = (update - warmup) / max(1, updates - 1 - warmup)
        low = config.final_factor
        return config.lr * (low + (1 - low) * (1 + math.cos(math.pi * min(1.0, progress))) / 2)
    if config.schedule == "step":
        return config.lr * config.step_factor ** ((update - warmup) // config.step_updates)
    return config.lr
