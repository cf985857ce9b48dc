"""The ladder's table, CSV rows and plot."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from unet.files import append_csv, atomic_write, write_text
from unet.runs.environment import describe

COLUMNS = ("date", "part", "step", "p20_us", "p50_us", "p80_us", "bytes", "gb_per_s", "share_of_peak", "expected_us",
           "gain", "expected_gain", "device", "torch", "cuda", "commit")  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Durations of one step in seconds, the bytes it has to move, and the time expected beforehand."""

    title: str
    seconds: Sequence[float]
    bytes: int
    expected_us: float | None = None

    @property
    def median(self) -> float:
        """Seconds."""
        return float(np.median(self.seconds))

    @property
    def rate(self) -> float:
        """Bytes per second."""
        return self.bytes / self.median


def gains(rows: Sequence[Row]) -> list[tuple[float | None, float | None]]:
    """How many times faster each row is than the one before, measured and as expected; None where nothing was."""
    found: list[tuple[float | None, float | None]] = [(None, None)]
    for before, row in itertools.pairwise(rows):
        if row.expected_us is None or before.expected_us is None or row.title == "read only":
            found.append((None, None))
        else:
            found.append((before.median / row.median, before.expected_us / row.expected_us))
    return found[: len(rows)]


def table(title: str, rows: Sequence[Row], peak: float) -> str:
    """Markdown; `peak`: the bandwidth reached by reading alone (or by a copy), in bytes per second."""
    lines = [
        f"### {title}",
        "",
        "| step | expected µs | µs (p50) | p20 - p80 | GB/s | of the peak | gain expected | gain |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row, (gain, expected) in zip(rows, gains(rows), strict=True):
        low, middle, high = np.percentile(row.seconds, (20, 50, 80)) * 1e6
        cells = (
            row.title,
            "" if row.expected_us is None else f"{row.expected_us:.0f}",
            f"{middle:.1f}",
            f"{low:.1f} - {high:.1f}",
            f"{row.rate / 1e9:.0f}",
            f"{row.rate / peak:.1%}",
            "" if expected is None else f"{expected:.2f}",
            "" if gain is None else f"{gain:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(folder: Path, sums: Sequence[Row], additions: Sequence[Row], sizes: tuple[int, int, int]) -> str:
    """Write reduction_ladder.csv (rows are added), .md and .svg into the folder; returns the Markdown.

    sizes: vectors, their length, elements of the element-wise sum.
    """
    vectors, length, added = sizes
    here = describe(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    peak = next(row.rate for row in sums if row.title == "read only")
    copy = next(row.rate for row in sums if row.title == "copy")
    versions = f"torch {here['packages']['torch']}, CUDA {here['cuda']}"
    text = (
        f"{here['device']}, {versions}, commit {here['commit']}. Peak of the sums: reading alone, {peak / 1e9:.0f} "
        f"GB/s; of the additions: a copy, {copy / 1e9:.0f} GB/s. "
        "Expected: written down before measuring (ladder_steps.py).\n\n"
        + table(f"Sums of {vectors:,} vectors of {length:,} float32", sums, peak)
        + "\n"
        + table(f"Element-wise sum of {added:,} bfloat16", additions, copy)
    )
    common = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "device": here["device"],
        "torch": here["packages"]["torch"],
        "cuda": here["cuda"],
        "commit": here["commit"],
    }
    _append(folder / "reduction_ladder.csv", common, ((sums, "sums", peak), (additions, "additions", copy)))
    write_text(folder / "reduction_ladder.md", text)
    _plot(folder / "reduction_ladder.svg", sums, peak, str(here["device"]))
    return text


def _append(path: Path, common: dict[str, str], parts: Sequence[tuple[Sequence[Row], str, float]]) -> None:
    measured = []
    for rows, part, peak in parts:
        for row, (gain, expected) in zip(rows, gains(rows), strict=True):
            low, middle, high = (f"{value * 1e6:.2f}" for value in np.percentile(row.seconds, (20, 50, 80)))
            measured.append(
                common
                | {"part": part, "step": row.title, "p20_us": low, "p50_us": middle, "p80_us": high, "bytes": row.bytes}
                | {"gb_per_s": f"{row.rate / 1e9:.1f}", "share_of_peak": f"{row.rate / peak:.4f}"}
                | {"expected_us": row.expected_us or "", "gain": f"{gain:.3f}" if gain else ""}
                | {"expected_gain": f"{expected:.3f}" if expected else ""}
            )
    append_csv(path, COLUMNS, measured)


def _plot(path: Path, rows: Sequence[Row], peak: float, device: str) -> None:
    """Time of each step beside what was expected, and the share of the bandwidth of reading alone."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    time_axis, share_axis = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    places = np.arange(len(rows))[::-1]
    time_axis.barh(places, [row.median * 1e6 for row in rows], color="tab:blue", label="measured")
    expected = [(place, row.expected_us) for place, row in zip(places, rows, strict=True) if row.expected_us]
    time_axis.plot([us for _, us in expected], [at for at, _ in expected], "k|", markersize=14, label="expected")
    time_axis.set_xscale("log")
    time_axis.set_xlabel("time, µs")
    time_axis.set_yticks(places, [row.title for row in rows])
    time_axis.legend(frameon=False)
    share_axis.barh(places, [row.rate / peak for row in rows], color="tab:orange")
    share_axis.axvline(1, color="black", linewidth=0.8)
    share_axis.set_xlabel("share of the bandwidth of reading alone")
    figure.suptitle(device)
    with atomic_write(path) as file:
        figure.savefig(file, format="svg")
