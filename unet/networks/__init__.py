"""The networks: a file each, of the name that model.variant calls it.

A file defines VARIANT, how the network departs from the common assembly of unet.model (also for estimates of memory),
and may define `network(config, in_channels, classes)`, a module N x in_channels x H x W -> logits N x classes x H' x W'
whose sizes follow unet.geometry; without it the module is the common assembly.
"""

from __future__ import annotations

from importlib import import_module

import torch
from torch import nn

from unet.config import ModelConfig
from unet.model import UNet, Variant


def variant(config: ModelConfig) -> Variant:
    """How the network of this configuration departs from the common assembly."""
    found: Variant = import_module(f"unet.networks.{config.variant}").VARIANT
    return found


def network(config: ModelConfig, in_channels: int = 1, classes: int = 2) -> nn.Module:
    """The network of this configuration."""
    own = getattr(import_module(f"unet.networks.{config.variant}"), "network", None)
    if own is None:
        return UNet(config, in_channels, classes, variant(config))
    made: nn.Module = own(config, in_channels, classes)
    return made


def build(config: ModelConfig, in_channels: int, classes: int, seed: int) -> nn.Module:
    """A network with the initial weights of `seed`, whatever else has drawn random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network(config, in_channels, classes)
