"""What the benchmarks share: timing rivals in turns, the printed table, the CSV rows."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unet.files import append_csv
from unet.runs.environment import describe
from unet.terminal import Bar

RESULTS = Path(__file__).resolve().parents[2] / "experiments" / "results" / "benchmarks"
COLUMNS = ("date", "benchmark", "case", "rival", "p20_ms", "p50_ms", "p80_ms", "calls", "per_second",
           "per_cpu_second", "error", "device",
           "cores", "load", "versions", "commit")  # fmt: skip


@dataclass(frozen=True)
class Timing:
    """Durations of single calls in seconds; calls per second and per second of processor time, best of any round.

    Processor time leaves out the waiting for a core, so that it holds on a machine that others use as well.
    """

    seconds: NDArray[np.float64]
    per_second: float
    per_cpu_second: float

    def percentiles_ms(self) -> tuple[float, float, float]:
        """p20, p50, p80 of the durations in milliseconds."""
        p20, p50, p80 = np.percentile(self.seconds, (20, 50, 80)) * 1e3
        return float(p20), float(p50), float(p80)


def in_turns(rivals: Mapping[str, Callable[[int], object]], rounds: int, seconds: float) -> dict[str, Timing]:
    """Call each rival with 0, 1, 2, ... for `seconds` per round, one after the other, so that all meet the same load.

    At least two calls per round; one call before the first round is not counted.
    """
    durations: dict[str, list[float]] = {name: [] for name in rivals}
    best, best_cpu = dict.fromkeys(rivals, 0.0), dict.fromkeys(rivals, 0.0)
    for call in rivals.values():
        call(0)
    # Lines only: a bar that moves would take time from what is measured.
    bar = Bar("measuring", rounds * len(rivals), None, quiet=False)
    for done in range(rounds):
        for place, (name, call) in enumerate(rivals.items()):
            bar.update(done * len(rivals) + place, name)
            taken: list[float] = []
            cpu = time.process_time()
            while sum(taken) < seconds or len(taken) < 2:
                start = time.perf_counter()
                call(len(durations[name]) + len(taken))
                taken.append(time.perf_counter() - start)
            durations[name] += taken
            best[name] = max(best[name], len(taken) / sum(taken))
            best_cpu[name] = max(best_cpu[name], len(taken) / (time.process_time() - cpu))
    return {name: Timing(np.array(durations[name]), best[name], best_cpu[name]) for name in rivals}


def table(title: str, timings: Mapping[str, Timing], ours: str, errors: Mapping[str, float] | None = None) -> str:
    """Text table; `x ours`: how many times the processor time of `ours` a call takes."""
    lines = [title, f"{'':44}{'p20':>9}{'p50':>9}{'p80':>9} ms{'best/s':>9}{'/cpu s':>9}{'x ours':>8}{'max error':>12}"]
    reference = timings[ours].per_cpu_second
    for name, timing in timings.items():
        p20, p50, p80 = timing.percentiles_ms()
        error = f"{errors[name]:12.1e}" if errors and name in errors else ""
        rates = "".join(f"{r:9.0f}" if r >= 10 else f"{r:9.2f}" for r in (timing.per_second, timing.per_cpu_second))
        lines.append(
            f"{name:44}{p20:9.2f}{p50:9.2f}{p80:9.2f}   {rates}{reference / timing.per_cpu_second:8.1f}{error}"
        )
    return "\n".join(lines) + "\n"


def here(device: torch.device | None = None) -> dict[str, Any]:
    """When and where something is measured, on the GPU where there is one unless `device` is another."""
    found = describe(device or torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "device": found["processor"] if found["device"] == "cpu" else found["device"],
        "cores": found["cores"],
        "threads": torch.get_num_threads(),
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "",
        "torch": found["packages"]["torch"],
        "cuda": found["cuda"] or "",
        "commit": found["commit"] or "",
    }


def flags(doc: str | None, csv: str, rounds: int = 3, seconds: float | None = None) -> argparse.ArgumentParser:
    """The flags that benchmarks share; seconds: per rival and round, None: it has no such flag."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    if seconds is not None:
        parser.add_argument("--seconds", type=float, default=seconds, help="per rival and round")
    parser.add_argument("--csv", type=Path, default=RESULTS / csv)
    return parser


def append_rows(
    path: Path,
    benchmark: str,
    case: str,
    timings: Mapping[str, Timing],
    packages: tuple[str, ...],
    errors: Mapping[str, float] | None = None,
) -> None:
    """Add one row per rival to a CSV file (made if it is not there)."""
    versions = " ".join(f"{p}={_version(p)}" for p in packages) + f" python={platform.python_version()}"
    common = {"benchmark": benchmark, "case": case, "versions": versions}
    common |= {name: value for name, value in here().items() if name in COLUMNS}
    rows = []
    for name, timing in timings.items():
        p20, p50, p80 = (f"{value:.4g}" for value in timing.percentiles_ms())
        measured = {"rival": name, "p20_ms": p20, "p50_ms": p50, "p80_ms": p80, "calls": timing.seconds.size}
        error = f"{errors[name]:.2g}" if errors and name in errors else ""
        rates = {"per_second": f"{timing.per_second:.4g}", "per_cpu_second": f"{timing.per_cpu_second:.4g}"}
        rows.append(common | measured | rates | {"error": error})
    append_csv(path, COLUMNS, rows)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "-"
