"""What the rows of a run's metrics.jsonl say: curves, the median of the last evaluations, loss spikes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]

LAST = 5  # evaluations whose median scores a run, as in Goyal et al. 2017, arXiv 1706.02677
SPIKE_FACTOR = 3.0
SPIKE_ROWS = 10  # rows (of ten updates) before a row that its largest loss is compared with
FINAL_SHARE = 0.1  # of the updates, at the end, over which the training loss is averaged


def curve(rows: Iterable[Row], part: str, key: str) -> tuple[list[int], list[float]]:
    """Updates and values of one series; rows without the value are left out. part: "train" or "held_out"."""
    points = [(row["update"], row[key]) for row in rows if row["part"] == part and row.get(key) is not None]
    return [update for update, _ in points], [float(value) for _, value in points]


def last_median(rows: Iterable[Row], key: str) -> float | None:
    """Median of the last five evaluations (of all, when there are fewer); None without any."""
    _, values = curve(rows, "held_out", key)
    return statistics.median(values[-LAST:]) if values else None


def final_training_loss(rows: Iterable[Row]) -> float:
    """Mean training loss of the last tenth of the updates, at least one row; infinite when there is none."""
    updates, losses = curve(rows, "train", "loss")
    if not updates or not all(map(math.isfinite, losses)):
        return math.inf
    last = [loss for update, loss in zip(updates, losses, strict=True) if update > (1 - FINAL_SHARE) * updates[-1]]
    return sum(last) / len(last)


def spikes(rows: Iterable[Row]) -> int:
    """How often the training loss leaps.

    A row of metrics.jsonl covers ten updates. It belongs to a spike when its largest loss exceeds three times the
    median of the mean losses of the ten rows before it (hundred updates; no row is judged before there are ten).
    Neighbouring rows of this kind are one spike.
    """
    pairs = [(row["loss"], row["loss_max"]) for row in rows if row["part"] == "train"]
    count, inside = 0, False
    for i in range(SPIKE_ROWS, len(pairs)):
        usual = statistics.median(loss for loss, _ in pairs[i - SPIKE_ROWS : i])
        leaps = pairs[i][1] > SPIKE_FACTOR * usual
        count += leaps and not inside
        inside = leaps
    return count
