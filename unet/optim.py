"""Optimizer and learning-rate schedule."""

from __future__ import annotations

import math

import torch
from torch import nn

from unet.config import OptimConfig


def make_optimizer(config: OptimConfig, model: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum, Adam or AdamW over all parameters of the model."""
    parameters = model.parameters()
    if config.name == "sgd":
        return torch.optim.SGD(
            parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, foreach=True
        )
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, foreach=True)


def learning_rate(config: OptimConfig, update: int, updates: int) -> float:
    """Learning rate of update `update` (0-based) of `updates`: linear warm-up, then constant, cosine or steps.

    Gradual warm-up as in Goyal et al. 2017 (arXiv 1706.02677); the cosine ends at lr * final_factor.
    """
    warmup = config.warmup_updates
    if update < warmup:
        return config.lr * (update + 1) / warmup
    if config.schedule == "cosine":
        progress = (update - warmup) / max(1, updates - 1 - warmup)
        low = config.final_factor
        return config.lr * (low + (1 - low) * (1 + math.cos(math.pi * min(1.0, progress))) / 2)
    if config.schedule == "step":
        return config.lr * config.step_factor ** ((update - warmup) // config.step_updates)
    return config.lr
