"""Time of the loss, forward and backward, against torch's own: eager and compiled.

    python scripts/bench/bench_loss.py [--seconds S] [--only CASE ...] [--csv FILE] [--resume] [--no-compile]

On an NVIDIA GPU: single calls and replays of a CUDA graph, over so many inputs that no cache holds them all; number of
launches, peak memory, and the share of a copy's bandwidth at which the bytes that must be moved at least (logits,
targets and weights read once, the gradient written once) were moved. Elsewhere it says so and compares the CPU's paths:
wall time alone.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from measure import RESULTS, here
from torch import Tensor

from unet.files import append_csv
from unet.loss import fused, reference
from unet.loss.driver import unusable

CASES = {"4 x 324^2": (4, 324), "16 x 68^2": (16, 68), "64 x 388^2": (64, 388)}
CPU_CASES = ("4 x 324^2", "16 x 68^2")
CACHES_BYTES = 128 << 20  # more than any cache the inputs could stay in
MOST_SETS = 256
COLUMNS = (
    *("date", "case", "classes", "dtype", "layout", "rival", "way", "p20_us", "p50_us", "p80_us", "calls"),
    *("least_bytes", "share_of_copy", "launches", "peak_mib"),
    *("device", "cores", "threads", "load", "torch", "cuda", "commit"),
)


@dataclass(frozen=True)
class Inputs:
    """One set of tensors."""

    logits: Tensor
    target: Tensor
    weight: Tensor

    @property
    def read_bytes(self) -> int:
        """Logits, targets and weights read once."""
        return sum(t.numel() * t.element_size() for t in (self.logits, self.target, self.weight))

    @property
    def least_bytes(self) -> int:
        """What is read, and the gradient written once."""
        return self.read_bytes + self.logits.numel() * self.logits.element_size()


@dataclass(frozen=True)
class Row:
    """What was measured of one rival in one way: durations of single calls in seconds."""

    rival: str
    way: str
    seconds: Sequence[float]
    launches: int | None = None
    peak_mib: float | None = None


Step = Callable[[Inputs], Any]


def make_inputs(device: torch.device, case: tuple[int, int], classes: int, dtype: torch.dtype, layout: str) -> Inputs:
    """Random scores, targets of which a few are ignored, weights."""
    images, side = case
    memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    logits = torch.randn(images, classes, side, side, device=device).to(dtype).to(memory_format=memory_format)
    target = torch.randint(0, classes, (images, side, side), device=device, dtype=torch.uint8)
    target[torch.rand(target.shape, device=device) < 0.02] = reference.IGNORE_INDEX
    return Inputs(logits.requires_grad_(), target, torch.rand(target.shape, device=device) * 4)


def number_of_sets(read_bytes: int) -> int:
    """How many sets of inputs, each of which is read once, no cache holds."""
    return min(-(-CACHES_BYTES // read_bytes), MOST_SETS)


def torchs_own(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted cross-entropy, mean over the valid pixels, as one writes it with torch's functions."""
    losses = F.cross_entropy(logits.float(), target.long(), reduction="none", ignore_index=reference.IGNORE_INDEX)
    return (losses * weight).sum() / (target != reference.IGNORE_INDEX).sum()


def backward_too(loss: Callable[[Tensor, Tensor, Tensor], Any]) -> Step:
    """Loss, counts where there are any, and the gradient of the logits."""

    def step(inputs: Inputs) -> Any:
        result = loss(inputs.logits, inputs.target, inputs.weight)
        value, *counts = result if isinstance(result, tuple) else (result,)
        return value.detach(), *counts, *torch.autograd.grad(value, inputs.logits)

    return step


def rivals(with_compile: bool, on_gpu: bool) -> dict[str, Step]:
    """What is compared."""
    found = {
        "eager": backward_too(torchs_own),
        "reference (with counts)": backward_too(reference.weighted_cross_entropy),
    }
    if with_compile:
        found["torch.compile"] = backward_too(torch.compile(torchs_own))
    modes: tuple[fused.Mode, ...] = ("recompute", "one_pass") if on_gpu else ("recompute",)
    for mode in modes:
        name = f"fused, {mode} (with counts)" if on_gpu else "operator of the fused loss, plain (with counts)"
        found[name] = backward_too(partial(fused.weighted_cross_entropy, mode=mode))
    return found


def check(step: Step, inputs: Inputs, name: str) -> None:
    """No rival is timed that computes something else."""
    exact = backward_too(reference.weighted_cross_entropy)(
        Inputs(inputs.logits.detach().double().requires_grad_(), inputs.target, inputs.weight.double())
    )
    actual = step(inputs)
    loose = 1e-2 if inputs.logits.dtype != torch.float32 else 1e-4
    torch.testing.assert_close(actual[0].double(), exact[0], rtol=1e-4, atol=0, msg=lambda m: f"{name}: {m}")
    torch.testing.assert_close(actual[-1].double(), exact[-1], rtol=loose, atol=1e-9, msg=lambda m: f"{name}: {m}")


# -- on a GPU --------------------------------------------------------------------------------------------------------


def event_seconds(call: Callable[[], object], seconds: float) -> list[float]:
    """Durations on the device, of at least 20 calls."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    found: list[float] = []
    while len(found) < 20 or sum(found) < seconds:
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        before.record()
        call()
        after.record()
        after.synchronize()
        found.append(before.elapsed_time(after) / 1e3)
    return found


def captured(step: Step, sets: Sequence[Inputs]) -> torch.cuda.CUDAGraph:
    """A graph of one step per set."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for inputs in sets:
            step(inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = [step(inputs) for inputs in sets]
    del results  # not before: a step would write its gradient where the one before did, which is in the cache
    return graph


def count_launches(step: Step, inputs: Inputs) -> int:
    """Kernels and fillings that one step starts."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step(inputs)
        torch.cuda.synchronize()
    return sum("CUDA" in str(event.device_type) for event in profile.events())


def peak_mib(step: Step, inputs: Inputs) -> float:
    """Memory of one step above its inputs."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step(inputs)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def measure_on_gpu(steps: dict[str, Step], sets: Sequence[Inputs], seconds: float) -> list[Row]:
    """Single calls, one set after the other, and replays of a graph of all sets, per set."""
    rows = []
    for name, step in steps.items():
        step(sets[0])
        launches, memory = count_launches(step, sets[0]), peak_mib(step, sets[0])
        turns = itertools.cycle(range(len(sets)))
        results: list[Any] = [None] * len(sets)  # kept for a round, so that gradients go to other places too

        def call(step: Step = step, turns: Iterator[int] = turns, results: list[Any] = results) -> None:
            turn = next(turns)
            results[turn] = step(sets[turn])

        rows.append(Row(name, "calls", event_seconds(call, seconds), launches, memory))
        results.clear()
        graph = captured(step, sets)
        per_set = [s / len(sets) for s in event_seconds(graph.replay, seconds)]
        rows.append(Row(name, "graph", per_set, launches, memory))
        del graph
    return rows


def copy_rate() -> float:
    """Bytes per second of a large copy, read and written bytes counted."""
    source = torch.randn(1 << 29, device="cuda")
    target = torch.empty_like(source)
    seconds = float(np.median(event_seconds(lambda: target.copy_(source), 0.2)))
    return 2 * source.numel() * 4 / seconds


# -- on the CPU ------------------------------------------------------------------------------------------------------


def measure_on_cpu(steps: dict[str, Step], inputs: Inputs, seconds: float) -> list[Row]:
    """Wall time of single calls; the rivals in turns, so that all meet the same load."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step(inputs)
    for _ in range(3):
        for name, step in steps.items():
            stop = time.perf_counter() + seconds / 3
            while time.perf_counter() < stop or len(found[name]) < 3:
                start = time.perf_counter()
                step(inputs)
                found[name].append(time.perf_counter() - start)
    return [Row(name, "calls", seconds) for name, seconds in found.items()]


# -- what comes of it ------------------------------------------------------------------------------------------------


def table(title: str, rows: Sequence[Row], least_bytes: int, rate: float | None) -> str:
    """Text."""
    lines = [title, f"{'':50}{'p20':>9}{'p50':>9}{'p80':>9} µs{'of copy':>9}{'launches':>10}{'peak MiB':>10}"]
    for row in rows:
        low, middle, high = np.percentile(row.seconds, (20, 50, 80)) * 1e6
        share = "" if rate is None else f"{least_bytes / (middle * 1e-6) / rate:.1%}"
        launches = "" if row.launches is None else str(row.launches)
        memory = "" if row.peak_mib is None else f"{row.peak_mib:.1f}"
        name = f"{row.rival}, {row.way}"
        lines.append(f"{name:50}{low:9.1f}{middle:9.1f}{high:9.1f}   {share:>9}{launches:>10}{memory:>10}")
    return "\n".join(lines) + "\n"


def append(path: Path, common: dict[str, Any], rows: Sequence[Row], least_bytes: int, rate: float | None) -> None:
    """Add the rows to a CSV file (made if it is not there)."""
    measured = []
    for row in rows:
        low, middle, high = np.percentile(row.seconds, (20, 50, 80))
        measured.append(
            common
            | {"rival": row.rival, "way": row.way, "calls": len(row.seconds), "least_bytes": least_bytes}
            | {"p20_us": f"{low * 1e6:.2f}", "p50_us": f"{middle * 1e6:.2f}", "p80_us": f"{high * 1e6:.2f}"}
            | {"share_of_copy": "" if rate is None else f"{least_bytes / middle / rate:.4f}"}
            | {"launches": "" if row.launches is None else row.launches}
            | {"peak_mib": "" if row.peak_mib is None else f"{row.peak_mib:.2f}"}
        )
    append_csv(path, COLUMNS, measured)


def measured_before(path: Path, common: dict[str, Any]) -> set[tuple[str, ...]]:
    """(case, classes, dtype, layout) of the rows of this device, of this commit and torch."""
    if not path.is_file() or not common["commit"]:
        return set()
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if all(row[n] == common[n] for n in ("device", "commit", "torch"))]
    return {(row["case"], row["classes"], row["dtype"], row["layout"]) for row in rows}


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.3, help="per rival and case")
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="CASE", help=f"of {', '.join(map(repr, CASES))}")
    parser.add_argument("--csv", type=Path, default=RESULTS / "loss.csv")
    parser.add_argument("--resume", action="store_true", help="leave out what this device and commit have rows of")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    options = parser.parse_args(arguments)
    reason = unusable(torch.device("cuda"))
    on_gpu = not reason
    device = torch.device("cuda" if on_gpu else "cpu")
    rate = copy_rate() if on_gpu else None
    if rate:
        print(f"a copy moves {rate / 1e9:.0f} GB/s")
    else:
        print(f"no fused kernels here ({reason}): comparing the paths of the CPU, {torch.get_num_threads()} threads")
    layouts = ("contiguous", "channels_last") if on_gpu else ("contiguous",)
    common = here(device)
    done = measured_before(options.csv, common) if options.resume else set()
    for name, classes, dtype, layout in itertools.product(
        options.only or (CASES if on_gpu else CPU_CASES), (2, 8), (torch.float32, torch.bfloat16), layouts
    ):
        described = {"case": name, "classes": classes, "dtype": str(dtype).removeprefix("torch."), "layout": layout}
        title = f"{name}, {classes} classes, {described['dtype']}, {layout}"
        if tuple(str(value) for value in described.values()) in done:
            print(f"{title}: measured before", flush=True)
            continue
        steps = rivals(not options.no_compile, on_gpu)
        inputs = make_inputs(device, CASES[name], classes, dtype, layout)
        for rival, step in steps.items():
            check(step, inputs, rival)
        if on_gpu:
            others = range(number_of_sets(inputs.read_bytes) - 1)
            sets = [inputs] + [make_inputs(device, CASES[name], classes, dtype, layout) for _ in others]
            rows = measure_on_gpu(steps, sets, options.seconds)
        else:
            rows = measure_on_cpu(steps, inputs, options.seconds)
        print(table(title, rows, inputs.least_bytes, rate), flush=True)
        append(options.csv, here(device) | described, rows, inputs.least_bytes, rate)
        torch.compiler.reset()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
