"""The figure of a study: curves with bands over the seeds, every run thin behind, final scores of every run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.files import atomic_write
from unet.study import choice, compare, evidence, text
from unet.study.curves import curve
from unet.study.design import Arm, Study
from unet.study.evidence import Evidence

ROW_INCHES, COLUMN_INCHES = 2.9, 4.2
POINTS = 40  # of a training curve; the losses between two of them are averaged
Values = NDArray[np.float64]
Series = tuple[Values, Values]


def draw(study: Study, profile: str, folder: Path, path: Path) -> bool:
    """Write the PNG from the evidence below `folder`; False, and no file, when there are no runs yet."""
    runs = choice.by_key(evidence.load_all(folder))
    present = [data for data in study.data if any(d == data for _, d, _ in runs)]
    if not present:
        return False
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ran = {arm for arm, _, _ in runs}
    shown = [arm for arm in study.arms if not arm.grid and not ran.isdisjoint({arm.name, *arm.best_of})]
    width = 3 * COLUMN_INCHES
    legend = 0.25 * -(-len(shown) // 3) + 0.3
    figure = Figure(figsize=(width, ROW_INCHES * len(present) + legend), layout="constrained")
    FigureCanvasAgg(figure)
    palette = colormaps["tab10" if len(shown) <= 10 else "tab20"]
    colours = {arm.name: palette(i % palette.N) for i, arm in enumerate(shown)}
    axes = figure.subplots(len(present), 3, squeeze=False)
    for row, data in zip(axes, present, strict=True):
        own = {arm.name: compare.arm_runs(study, profile, arm, data, runs) for arm in shown}
        own = {name: found for name, found in own.items() if found}
        arms = [arm for arm in shown if arm.name in own]
        for arm in arms:
            if arm.weights_of:
                continue  # its curves are the other's
            trained = list(own[arm.name].values())
            _curves(row[0], [training_curve(run) for run in trained], colours[arm.name])
            _curves(row[1], [evaluation_curve(run) for run in trained], colours[arm.name])
        _dots(row[2], arms, own, final_score(study, data, runs), colours)
        row[0].set_ylabel(f"{text.data_name(data)}\ntraining loss")
        _scale(row[0])
        row[1].set_ylabel("held-out mean IoU")
    for axis in axes[-1][:2]:
        axis.set_xlabel("updates")
    lines = [_line(colours[arm.name], arm.what) for arm in shown]
    figure.legend(handles=lines, loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    seeds = compare.seeds_of(runs)
    figure.suptitle(
        f"{study.title} (profile {profile}, {seeds} seeds; thin: each run, band: ± one std within the runs)", fontsize=9
    )
    _save(figure, path)
    return True


def final_score(study: Study, data: str, runs: choice.Runs) -> str:
    """The challenge's score of a data set: the last that is tested, neither a count nor a loss, and that runs have."""
    known = {name for (_, d, _), run in runs.items() if d == data for name in run.values}
    tested = [s for s in study.tested.get(data, ()) if s in known and s not in ("spikes", "loss_last5")]
    return tested[-1] if tested else "mean_iou_last5"


def _scale(axis: Any) -> None:
    """Logarithmic where the values span more than a factor of twenty."""
    low, high = axis.dataLim.intervaly
    if low > 0 and high > 20 * low:
        axis.set_yscale("log")


def training_curve(run: Evidence) -> Series:
    """The training loss, averaged over stretches, so that a curve of single batches can be read."""
    updates, losses = (np.asarray(series, dtype=np.float64) for series in curve(run.rows, "train", "loss"))
    if updates.size == 0:
        return updates, losses
    parts = np.array_split(np.arange(updates.size), min(POINTS, updates.size))
    return np.array([updates[part].mean() for part in parts]), np.array([losses[part].mean() for part in parts])


def evaluation_curve(run: Evidence) -> Series:
    """The held-out mean IoU of every evaluation."""
    updates, values = curve(run.rows, "held_out", "mean_iou")
    return np.asarray(updates, dtype=np.float64), np.asarray(values)


def _curves(axis: Any, series: Sequence[Series], colour: Any) -> None:
    """Every run thin; the mean over the runs, with a band, where all of them have a point."""
    series = [(x, y) for x, y in series if x.size]
    for x, y in series:
        axis.plot(x, y, color=colour, linewidth=0.6, alpha=0.35)
    found = mean_band(series)
    if found is None:
        return
    x, mean, band = found
    axis.plot(x, mean, color=colour, linewidth=1.6)
    if band is not None:
        axis.fill_between(x, *band, color=colour, alpha=0.15, linewidth=0)


def mean_band(series: Sequence[Series]) -> tuple[Values, Values, tuple[Values, Values] | None] | None:
    """x, mean and band over the runs where all have a point; None without such.

    Band: low and high side, one standard deviation about the mean but no further than the runs reach; None of one run.
    """
    length = min((x.size for x, _ in series), default=0)
    if not length or any(not np.array_equal(x[:length], series[0][0][:length]) for x, _ in series):
        return None  # runs of different lengths have no common mean
    values = np.stack([y[:length] for _, y in series])
    x, mean = series[0][0][:length], values.mean(axis=0)
    if len(series) < 2:
        return x, mean, None
    std = values.std(axis=0, ddof=1)
    return x, mean, (np.maximum(mean - std, values.min(axis=0)), np.minimum(mean + std, values.max(axis=0)))


def _dots(axis: Any, arms: list[Arm], own: dict[str, dict[int, Evidence]], score: str, colours: dict[str, Any]) -> None:
    """The score of every run, arm by arm, and the mean of each."""
    for place, arm in enumerate(arms):
        found = list(compare.values(own[arm.name], score).values())
        if not found:
            continue
        offsets = np.linspace(-0.15, 0.15, len(found)) if len(found) > 1 else np.zeros(1)
        axis.plot(place + offsets, found, "o", color=colours[arm.name], markersize=3.5, alpha=0.7)
        mean = sum(found) / len(found)
        axis.plot([place - 0.3, place + 0.3], [mean, mean], color=colours[arm.name], linewidth=1.8)
    axis.set_xticks(range(len(arms)), [arm.name for arm in arms], rotation=35, ha="right", fontsize=6)
    axis.set_ylabel(text.score_name(score))


def _line(colour: Any, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, linewidth=1.8, label=label)


def _save(figure: Any, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())
