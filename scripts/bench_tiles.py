"""Tiles per second against other pipelines that deform image, label and weight together, on one core.

    python scripts/bench_tiles.py [--rounds N] [--seconds S] [--workers N] [--csv FILE]

EM from $UNET_DATA, else the synthetic EM-like stack. Every pipeline makes the same thing: an input tile with mirrored
context, randomly rotated, flipped and elastically deformed by a 3 x 3 grid of standard deviation 10 px, with the label
and the weights of its output window. Targets with cubic images: 300 tiles/s at 508 px, 1400 at 252 px, and a DataLoader
of two workers within 15 % of twice one core.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import tile_rivals
import torch
from measure import RESULTS, Timing, append_rows, in_turns, table

from unet.batches import batches
from unet.config import AugmentConfig, Config, DataConfig, TileConfig
from unet.data.load import load
from unet.data.stack import Stack
from unet.tiles import TileSource

PACKAGES = ("numpy", "scipy", "opencv-python-headless", "albumentations", "monai", "torch")
OURS = "ours: one map, cubic, with gray values"


def sources(stack: Stack, input_px: int) -> dict[str, Callable[[int], object]]:
    """This package's tiles in three settings."""
    base = Config(tile=TileConfig(input_px))
    settings = {
        OURS: base,
        "ours: cubic, geometry only": replace(base, augment=AugmentConfig(gray=())),
        "ours: linear, geometry only": replace(base, augment=AugmentConfig(gray=(), interpolation="linear")),
    }
    return {name: TileSource(stack, config, 0).__getitem__ for name, config in settings.items()}


def worker_rate(source: TileSource, workers: int, seconds: float) -> float:
    """Tiles per second that a DataLoader of so many processes delivers, after a warm-up."""
    batch = 4
    stream = batches(source, 0, 10**6, batch, workers, pin=False)
    for _ in range(4 * workers):  # the first tiles wait in the queues already
        next(stream)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(stream)
        count += batch
    return count / (time.perf_counter() - start)


def report_workers(stack: Stack, input_px: int, workers: int, rounds: int, seconds: float) -> dict[str, Timing]:
    """One core and a DataLoader in turns, so that both meet the same load; the best round of each counts."""
    source = TileSource(stack, Config(tile=TileConfig(input_px)), 0)
    best = {1: 0.0, workers: 0.0}
    for _ in range(rounds):
        single = in_turns({"one": source.__getitem__}, 1, seconds)["one"]
        best[1] = max(best[1], single.per_second)
        best[workers] = max(best[workers], worker_rate(source, workers, seconds))
    share = best[workers] / (workers * best[1])
    rates = f"one core {best[1]:.0f} tiles/s, DataLoader with {workers} workers {best[workers]:.0f} tiles/s"
    print(f"{input_px} px: {rates}: {share:.0%} of {workers} x one core\n")
    return {
        "one core, same rounds": Timing(np.array([1 / best[1]]), best[1]),
        f"DataLoader, {workers} workers": Timing(np.array([1 / best[workers]]), best[workers]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="per pipeline and round")
    parser.add_argument("--workers", type=int, default=2, help="0: no DataLoader")
    parser.add_argument("--csv", type=Path, default=RESULTS / "tiles.csv")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    stack = load(DataConfig(name="em" if os.environ.get("UNET_DATA") else "synthetic-em"), print)
    for input_px in (508, 252):
        frames = tile_rivals.prepare(stack, input_px)
        timings = in_turns(
            sources(stack, input_px) | tile_rivals.pipelines(frames, input_px), arguments.rounds, arguments.seconds
        )
        side = TileSource(stack, Config(tile=TileConfig(input_px)), 0).output_px
        case = f"{stack.name} {input_px} -> {side} px"
        print(table(f"{case}: one tile, one core", timings, OURS))
        if arguments.workers:
            timings |= report_workers(stack, input_px, arguments.workers, arguments.rounds, arguments.seconds)
        append_rows(arguments.csv, "tiles", case, timings, PACKAGES)
    print(f"rows added to {arguments.csv}")


if __name__ == "__main__":
    main()
