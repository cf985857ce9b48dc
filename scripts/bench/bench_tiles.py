"""Tiles per second against other pipelines that deform image, label and weight together, on one core.

    python scripts/bench/bench_tiles.py [--rounds N] [--seconds S] [--workers N] [--csv FILE]

EM from $UNET_DATA, else the synthetic EM-like stack. Every pipeline makes the same thing: an input tile with mirrored
context, randomly rotated, flipped and elastically deformed by a 3 x 3 grid of standard deviation 10 px, with the label
and the weights of its output window. Targets with cubic images: 300 tiles/s at 508 px, 1400 at 252 px, and a DataLoader
of two workers within 15 % of twice one core.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import tile_rivals
import torch
from measure import Timing, append_rows, flags, in_turns, table

from unet.config import AugmentConfig, Config, DataConfig, TileConfig
from unet.data.load import load
from unet.data.stack import Stack
from unet.tiles.batches import batches
from unet.tiles.shared_batches import PREFETCH
from unet.tiles.source import TileSource

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


def from_workers(source: TileSource, workers: int, seconds: float) -> tuple[float, float]:
    """Tiles per second, and per second of the workers' processor time, from a DataLoader of so many processes."""
    batch = 4
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    stream = batches(source, 0, 10**5, batch, workers, pin=False)
    waiting = workers * (PREFETCH + 1)  # batches that are ready when the clock starts
    for _ in range(waiting):
        next(stream)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(stream)
        count += batch
    elapsed = time.perf_counter() - start
    del stream  # ends the workers
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return count / elapsed, (count + 2 * waiting * batch) / spent


def from_free_processes(source: TileSource, workers: int, seconds: float) -> float:
    """Tiles per second of so many processes that cut tiles and throw them away: what a DataLoader can reach at most."""
    context = multiprocessing.get_context("fork")
    counts = context.SimpleQueue()

    def cut() -> None:
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            source[count]
            count += 1
        counts.put(count / (time.perf_counter() - start))

    processes = [context.Process(target=cut) for _ in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return float(sum(counts.get() for _ in processes))


def report_workers(stack: Stack, input_px: int, workers: int, rounds: int, seconds: float) -> dict[str, Timing]:
    """One core, free processes and a DataLoader in turns, so that all meet the same load; the best round counts."""
    source = TileSource(stack, Config(tile=TileConfig(input_px)), 0)
    names = ("one core, same rounds", f"{workers} free processes", f"DataLoader, {workers} workers")
    rates: list[tuple[float, float, float]] = []
    per_cpu: list[tuple[float, float]] = []
    for _ in range(rounds):
        one = in_turns({"one": source.__getitem__}, 1, seconds)["one"]
        free = from_free_processes(source, workers, seconds)
        delivered, delivered_per_cpu = from_workers(source, workers, seconds)
        rates.append((one.per_second, free, delivered))
        per_cpu.append((one.per_cpu_second, delivered_per_cpu))
    single, free, delivered = np.max(rates, axis=0)
    cpu_single, cpu_delivered = np.max(per_cpu, axis=0)
    print(
        f"{input_px} px: one core {single:.0f} tiles/s, {workers} free processes {free:.0f}, DataLoader with {workers} "
        f"workers {delivered:.0f}: {delivered / (workers * single):.0%} of {workers} x one core, "
        f"{delivered / free:.0%} of free processes\n"
        f"per second of processor time: one core {cpu_single:.0f}, workers {cpu_delivered:.0f}: "
        f"{cpu_delivered / cpu_single:.0%}\n"
    )
    found = zip(names, (single, free, delivered), (cpu_single, float("nan"), cpu_delivered), strict=True)
    return {name: Timing(1 / np.array([rate]), float(rate), float(cpu)) for name, rate, cpu in found}


def main() -> None:
    parser = flags(__doc__, "tiles.csv", seconds=1.0)
    parser.add_argument("--workers", type=int, default=2, help="0: no DataLoader")
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
