"""The figure of a study: curves with bands over the seeds, every run thin behind, final scores of every run."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.study import choice, compare, decide, evidence, text, verdicts
from unet.study.curves import curve
from unet.study.design import Arm, Study, identity
from unet.study.evidence import Evidence
from unet.views.figure import png_figure

ROW_INCHES, COLUMN_INCHES = 2.9, 4.2
POINTS = 40  # of a training curve; the losses between two of them are averaged
Values = NDArray[np.float64]
Series = tuple[Values, Values]
Drawn = tuple[Arm, str, dict[int, Evidence]]
"""An arm, the names of all arms that are the same runs, its runs by seed."""


def draw(study: Study, profile: str, folder: Path, path: Path) -> bool:
    """Write the PNG from the evidence below `folder`; False, and no file, when there are no runs yet."""
    runs = choice.by_key(evidence.load_all(folder))
    present = [data for data in study.data if any(d == data for _, d, _ in runs)]
    if not present:
        return False
    from matplotlib import colormaps

    ran = {arm for arm, _, _ in runs}
    shown = [arm for arm in study.arms if not arm.grid and not ran.isdisjoint({arm.name, *arm.best_of})]
    palette = colormaps["tab10" if len(shown) <= 10 else "tab20"]
    colours = {arm.name: palette(i % palette.N) for i, arm in enumerate(shown)}
    rows = {data: own for data in present if (own := drawn(study, profile, data, shown, runs))}
    told = {data: _verdicts(study, profile, data, folder) for data in rows}
    heights = [max(ROW_INCHES, 0.24 * len(rows[data]) + 0.17 * len(told[data]) + 1.0) for data in rows]
    if not rows:
        return False
    with png_figure(path, (3.4 * COLUMN_INCHES, sum(heights) + 0.4), dpi=110) as figure:
        axes = figure.subplots(
            len(rows), 3, squeeze=False, gridspec_kw={"width_ratios": (1, 1, 1.1), "height_ratios": heights}
        )
        for axis, data in zip(axes, rows, strict=True):
            for arm, _, found in rows[data]:
                if arm.weights_of:
                    continue  # its curves are the other's
                _curves(axis[0], [training_curve(run) for run in found.values()], colours[arm.name])
                _curves(axis[1], [evaluation_curve(run) for run in found.values()], colours[arm.name])
            _dots(axis[2], rows[data], final_score(study, data, runs), colours)
            axis[2].set_title("\n".join(told[data]), fontsize=7, loc="left")
            axis[0].set_ylabel(f"{text.data_name(data)}\ntraining loss")
            _scale(axis[0])
            axis[1].set_ylabel("held-out mean IoU")
        for axis in axes[-1][:2]:
            axis.set_xlabel("updates")
        seeds = compare.seeds_of(runs)
        figure.suptitle(
            f"{study.title} (profile {profile}, {text.counted(seeds, 'seed')}; thin: each run, band: ± one std within "
            "the runs; colours: as the arms at the right)",
            fontsize=9,
        )
    return True


def drawn(study: Study, profile: str, data: str, arms: Sequence[Arm], runs: choice.Runs) -> list[Drawn]:
    """The arms that have runs on a data set; of arms that are the same runs, such as a best rate, the first for all."""
    found: dict[object, Drawn] = {}
    for arm in arms:
        own = compare.arm_runs(study, profile, arm, data, runs) if data in study.data_of(arm) else {}
        if not own:
            continue
        same = tuple((seed, identity(run.config)) for seed, run in own.items())
        first = found.get(same)
        found[same] = (arm, arm.what, own) if first is None else (first[0], f"{first[1]} = {arm.what}", first[2])
    return list(found.values())


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


def _dots(axis: Any, arms: list[Drawn], score: str, colours: dict[str, Any]) -> None:
    """The score of every run, arm below arm by their full names, and the mean of each."""
    from matplotlib.ticker import MaxNLocator

    for place, (arm, _, runs) in enumerate(arms):
        found = list(compare.values(runs, score).values())
        if not found:
            continue
        offsets = np.linspace(-0.15, 0.15, len(found)) if len(found) > 1 else np.zeros(1)
        axis.plot(found, place + offsets, "o", color=colours[arm.name], markersize=3.5, alpha=0.7)
        mean = sum(found) / len(found)
        axis.plot([mean, mean], [place - 0.3, place + 0.3], color=colours[arm.name], linewidth=1.8)
    axis.set_yticks(range(len(arms)), [textwrap.fill(label, 32) for _, label, _ in arms], fontsize=7)
    for tick, (arm, _, _) in zip(axis.get_yticklabels(), arms, strict=True):
        tick.set_color(colours[arm.name])
    axis.set_ylim(len(arms) - 0.5, -0.5)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.set_xlabel(text.score_name(score))


def _verdicts(study: Study, profile: str, data: str, folder: Path) -> list[str]:
    """Lines for the end points of the plan on these data; one that there is none."""
    points = [p for p in (study.plan.order if study.plan else ()) if (p.profile, p.data) == (profile, data)]
    if not points:
        return ["no verdict: exploratory"]
    made = decide.decisions(study, verdicts.load(study, folder.parents[1]))
    told = [
        f"{study.arm(d.point.arm).what} against {study.arm(d.point.reference).what}, "
        f"{text.score_name(d.point.score)}: {d.verdict}"
        for d in made
        if d.point in points
    ]
    return [line for one in told for line in textwrap.wrap(one, 62, subsequent_indent="    ")]
