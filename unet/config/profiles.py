"""Named starting points."""

from __future__ import annotations

from typing import Any

from unet.config.convert import from_dict
from unet.config.schema import Config
from unet.errors import ConfigError, nearest

_REDUCED: dict[str, dict[str, Any]] = {
    # Stretched gray values: at this width DIC-HeLa, of low contrast, may else not begin to learn.
    "data": {"normalise": "percentile"},
    "model": {"base_channels": 16},
    "train": {"updates": 800, "batch": 1, "eval_every": 80, "checkpoint_every": 100},
}

_DECIDE: dict[str, dict[str, Any]] = {
    "loss": {"reduction": "weighted_mean"},
    "optim": {"name": "adam", "lr": 2e-3, "schedule": "cosine", "final_factor": 0.02, "warmup_updates": 100},
}

_AVERAGED: dict[str, Any] = {
    "name": "adam", "lr": 1e-3, "schedule": "cosine", "final_factor": 0.02, "warmup_updates": 100, "average": 0.998,
}  # fmt: skip

PROFILES: dict[str, dict[str, dict[str, Any]]] = {
    "full": {},  # the defaults: the blog's setting on the paper's network, tiles aligned
    "paper": {
        "model": {"variant": "released"},
        "train": {"batch": 1},
    },
    "quick": {
        "tile": {"input_px": 252},
        "model": {"base_channels": 16, "depth": 4, "dropout": 0.1},
        # Weights trade plain pixel accuracy, the score that a minute of training is judged by, for separated borders.
        "weight": {"balance": "none", "w0": 0.0},
        "optim": {"name": "adam", "lr": 2e-3, "schedule": "cosine", "final_factor": 0.02, "warmup_updates": 100,
                  "average": 0.995},
        "train": {"updates": 2400, "batch": 1, "eval_every": 600, "checkpoint_every": 600},
    },
    # What came nearest to the paper on two CPU cores (experiments/paper.py), for images of one's own too.
    "cells": {
        "data": {"normalise": "percentile", "target": "cell-border", "foi_px": 50},
        "augment": {"zoom": 1.25},
        "model": {"base_channels": 32, "dropout": 0.2, "dropout_at": "bottleneck"},
        "weight": {"balance": "none", "classes": [1.0, 1.0, 10.0], "w0": 0.0},
        "optim": _AVERAGED,
        "train": {"updates": 3000, "batch": 1, "eval_every": 1000, "checkpoint_every": 250},
        "predict": {"symmetries": 8},
    },
    "membranes": {
        "tile": {"input_px": 316},
        "model": {"base_channels": 32, "depth": 4, "dropout": 0.1, "dropout_at": "bottleneck"},
        "weight": {"w0": 5.0},
        "optim": _AVERAGED,
        "train": {"updates": 3000, "batch": 1, "eval_every": 1000, "checkpoint_every": 250},
        "predict": {"symmetries": 8},
    },
    # The sizes at which the studies decide (experiments/): what is weighted more is not trained at a higher rate.
    "decide-em": _DECIDE
    | {
        "tile": {"input_px": 252},
        "model": {"base_channels": 16, "depth": 4, "dropout": 0.1, "dropout_at": "bottleneck"},
        "weight": {"balance": "none", "w0": 0.0},
        "train": {"updates": 2400, "batch": 1, "eval_every": 200, "checkpoint_every": 400, "precision": "bf16"},
    },
    "decide-cells": _DECIDE
    | {
        "data": {"normalise": "percentile"},
        "tile": {"input_px": 508},
        "model": {"base_channels": 16, "depth": 5, "dropout": 0.1, "dropout_at": "bottleneck"},
        "train": {"updates": 1200, "batch": 1, "eval_every": 400, "checkpoint_every": 200, "precision": "bf16"},
    },
    # The sizes of the studies besides `full`.
    "full-plain": {"augment": {"gray": []}},  # where albumentations is not installed
    "reduced": _REDUCED,
    # For processors without bf16, where rounding to it is many times slower.
    "reduced-fp32": _REDUCED | {"train": _REDUCED["train"] | {"precision": "fp32", "channels_last": False}},
    "smoke": {
        "tile": {"input_px": 100},
        "model": {"base_channels": 4, "depth": 3},
        "augment": {"gray": []},
        "train": {"updates": 20, "batch": 1, "eval_every": 4, "checkpoint_every": 5, "device": "cpu", "threads": 1,
                  "precision": "fp32"},
        "wandb": {"mode": "disabled"},
    },
}  # fmt: skip
"""Named starting points: what each changes against the defaults."""


def profile(name: str) -> Config:
    """The configuration of a named profile; ConfigError when there is none of that name."""
    if name not in PROFILES:
        raise ConfigError(f"profile {name!r} is unknown{nearest(name, PROFILES)} (there are {', '.join(PROFILES)})")
    return from_dict(PROFILES[name])
