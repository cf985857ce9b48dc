"""Sizes that the arms of several studies share, derived from the base so that they hold in every profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from unet.config import Config
from unet.geometry import nearest_valid, output_size, stride
from unet.study.design import Changes

BLOG = {"model": {"dropout": 0.1, "dropout_at": "bottleneck"}}
"""What the blog's setting changes against the profiles `full` and `reduced`: the rate of dropout."""


def half_tile(base: Config) -> int:
    """Side in pixels of the small tiles: the valid size nearest below half of the large ones (508 -> 252)."""
    return nearest_valid(base.tile.input_px // 2, base.model.depth)[0]


def misaligned(px: int, depth: int) -> int:
    """The blog's size for an aligned one: a quarter of a stride larger, same output, skips out of line (508 -> 512)."""
    return px + stride(depth) // 4


def batch_of_same_input(base: Config) -> int:
    """How many small tiles have as many input pixels as the base's batch (4 x 508^2: 16 x 252^2)."""
    return round(base.train.batch * base.tile.input_px**2 / half_tile(base) ** 2)


def loss_pixels(config: Config) -> int:
    """Pixels that one update's loss is taken over, when all of them are labelled."""
    side = output_size(config.tile.input_px, config.model.depth, config.model.allow_odd_pooling)
    windows = config.tile.loss_windows
    of_tile = windows * config.tile.loss_window_px**2 if windows else side**2
    return config.train.batch * config.train.accumulate * of_tile


def input_pixels(config: Config) -> int:
    """Pixels that one update's tiles hold."""
    return config.train.batch * config.train.accumulate * config.tile.input_px**2


def cell_recipe(labels: str, size: Changes | None = None, normalise: str = "") -> Callable[[Config], Changes]:
    """What the recipe of the paper page changes against the profile `cells` on a cell set.

    labels: gold or silver masks; size: another network than that of 16 channels; normalise: of the gray values, where
    it is not that of the profile.
    """

    def changes(base: Config) -> Changes:
        phc = base.data.name.endswith("phc")
        return {
            "data": {"labels": labels, **({"normalise": normalise} if normalise else {})},
            "augment": {"zoom": 1.6, "gray": ["strong"]} if phc else {"zoom": 1.0},
            "train": {"updates": 3000 if phc else 3500},
            **(size or {"model": {"base_channels": 16, "dropout": 0.1}}),
        }

    return changes


HELA_ON_CELLS: Mapping[str, Mapping[str, Changes]] = {"decide-cells": {"hela": {"data": {"normalise": "zscore"}}}}
"""What the studies that first ran on cells after 1 December 2026 change on DIC-HeLa: with gray values of mean 0 a
training leaves its first plateau sooner (experiments/README.md)."""

ADAM_RATES = (5e-4, 1e-3, 2e-3, 4e-3)
"""Rates that Adam is tuned on; the profiles of the studies have the third."""


def rates(name: str, values: Sequence[float]) -> tuple[str, ...]:
    """Names of the arms that an arm's rate is chosen among."""
    return tuple(f"{name}-{lr:g}" for lr in values)


def with_rate(changes: Changes | Callable[[Config], Changes], lr: float) -> Callable[[Config], Changes]:
    """The same changes at a learning rate."""

    def changed(base: Config) -> Changes:
        own = changes(base) if callable(changes) else changes
        return {**own, "optim": {**own.get("optim", {}), "lr": lr}}

    return changed
