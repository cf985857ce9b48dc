"""Rows of metrics.jsonl as a dashboard shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unet.config import Config


def place(update: int, config: Config) -> dict[str, int]:
    """Where a row stands on the dashboard's axes; pixels_seen counts those of the input tiles."""
    tiles = update * config.train.batch * config.train.accumulate
    return {"updates": update, "pixels_seen": tiles * config.tile.input_px**2}


def mirrored_row(row: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """A row as it is sent: its values under the name of its part, and its place on the axes."""
    part, update = row["part"], row["update"]
    return {f"{part}/{k}": v for k, v in row.items() if k not in ("part", "update")} | place(update, config)
