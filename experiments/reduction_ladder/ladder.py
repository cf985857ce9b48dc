"""Checks, times and draws the ladder on a GPU.

    python experiments/reduction_ladder/ladder.py [--vectors N] [--length N] [--repeats N] [--out FOLDER]

Every step is compared with float64 sums before it is timed; torch.sum and a copy are timed in the same run. Writes
reduction_ladder.csv, .md and .svg (kept in experiments/results/benchmarks). Without a GPU it says so and ends with 2.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import ladder_report
import torch
from ladder_report import Row
from ladder_steps import (
    ADDED,
    ADDITIONS,
    KERNELS,
    LENGTH,
    READ,
    SOURCE,
    STEPS,
    VECTORS,
    Arrays,
    Step,
    Vectors,
)
from torch import Tensor

from unet.loss.compile import compile_source
from unet.loss.driver import load, start, unusable

RESULTS = Path(__file__).parents[1] / "results" / "benchmarks"


class Device(Protocol):
    """Where the ladder runs: the tests have one without a GPU."""

    name: str

    def start(self, step: Step, params: ctypes.Structure, count: int) -> None:
        """Start a step for so many vectors or elements."""

    def seconds_of(self, call: Callable[[], object]) -> list[float]:
        """Durations of single calls."""


class Gpu:
    """The kernels, compiled for torch's current GPU and loaded onto it."""

    name = "cuda"

    def __init__(self, repeats: int) -> None:
        self.index, self.repeats = torch.cuda.current_device(), repeats
        properties = torch.cuda.get_device_properties(self.index)
        self.multiprocessors = properties.multi_processor_count
        binary = compile_source(SOURCE, KERNELS, properties.major * 10 + properties.minor)
        self.functions: dict[str, tuple[Any, int]] = {}
        for step in (*STEPS, READ, *ADDITIONS):
            self.functions |= load(self.index, binary, {step.kernel: step.kernel}, step.threads)

    def start(self, step: Step, params: ctypes.Structure, count: int) -> None:
        """Start a step for so many vectors or elements."""
        function, held = self.functions[step.kernel]
        start(self.index, [(function, step.blocks(count, held * self.multiprocessors))], step.threads, params)

    def seconds_of(self, call: Callable[[], object]) -> list[float]:
        """Durations of single calls on the device, after three that are not counted."""
        for _ in range(3):
            call()
        events: list[tuple[Any, Any]] = []
        for _ in range(self.repeats):
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            before.record()
            call()
            after.record()
            events.append((before, after))
        torch.cuda.synchronize()
        return [before.elapsed_time(after) / 1e3 for before, after in events]


def check_sums(step: Step, sums: Tensor, values: Tensor) -> None:
    """Every vector's sum within float32's rounding of the float64 sum; none was left unwritten."""
    parts = torch.split(values, 4096)
    exact = torch.cat([part.double().sum(dim=1) for part in parts])
    allowed = torch.cat([part.double().abs().sum(dim=1) for part in parts]) * 2e-6
    worst = ((sums.double() - exact).abs() / allowed).max()
    if not worst <= 1:
        raise SystemExit(f"{step.title}: wrong sums (error {float(worst):.3g} of what is allowed)")


def measure_sums(device: Device, vectors: int, length: int) -> list[Row]:
    """The ladder, reading alone, torch.sum and a copy over the same values."""
    torch.manual_seed(0)
    values = torch.randn(vectors, length, device=device.name)
    sums = torch.empty(vectors, device=device.name)
    params = Vectors(values.data_ptr(), sums.data_ptr(), vectors, length, 0)
    read = values.numel() * 4
    rows = []
    for step in STEPS:
        sums.fill_(torch.nan if step is not STEPS[0] else 0)
        device.start(step, params, vectors)
        check_sums(step, sums, values)
        rows.append(Row(step.title, device.seconds_of(partial(device.start, step, params, vectors)),
                        read + vectors * 4, step.expected_us))  # fmt: skip
    rows.append(
        Row(READ.title, device.seconds_of(partial(device.start, READ, params, vectors)), read, READ.expected_us)
    )
    rows.append(Row("torch.sum", device.seconds_of(lambda: torch.sum(values, dim=1, out=sums)), read + vectors * 4))
    target = torch.empty_like(values)
    rows.append(Row("copy", device.seconds_of(lambda: target.copy_(values)), 2 * read))
    return rows


def measure_additions(device: Device, count: int) -> list[Row]:
    """The element-wise sum of bfloat16 arrays, which must be torch's to the bit."""
    a, b = (torch.randn(count, device=device.name).to(torch.bfloat16) for _ in range(2))
    total = torch.empty_like(a)
    params = Arrays(a.data_ptr(), b.data_ptr(), total.data_ptr(), count)
    rows = []
    for step in ADDITIONS:
        total.fill_(torch.nan)
        device.start(step, params, count)
        if not torch.equal(total, a + b):
            raise SystemExit(f"{step.title}: wrong sums")
        seconds = device.seconds_of(partial(device.start, step, params, count))
        rows.append(Row(step.title, seconds, 3 * 2 * count, step.expected_us))
    rows.append(Row("torch.add", device.seconds_of(lambda: torch.add(a, b, out=total)), 3 * 2 * count))
    return rows


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=VECTORS)
    parser.add_argument("--length", type=int, default=LENGTH)
    parser.add_argument("--added", type=int, default=ADDED)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.length % 4 or options.added % 8 or min(options.vectors, options.length, options.added) < 1:
        parser.error("--length must be a multiple of 4 and --added one of 8")
    reason = unusable(torch.device("cuda"))
    if reason:
        print(f"the ladder needs an NVIDIA GPU: {reason}", file=sys.stderr)
        return 2
    gpu = Gpu(options.repeats)
    sums, additions = measure_sums(gpu, options.vectors, options.length), measure_additions(gpu, options.added)
    print(ladder_report.write(options.out, sums, additions, (options.vectors, options.length, options.added)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
