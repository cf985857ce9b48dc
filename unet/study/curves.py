"""What the rows of a run's metrics.jsonl say: curves, the median of the last evaluations, loss spikes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]

LAST = 5  # evaluations whose median scores a run, as in Goyal et al. 2017, arXiv 1706.02677
SPIKE_FACTOR = 2.0
SPIKE_EVALUATIONS = 5  # before one, that its loss is compared with (at least three)
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
    """How often the loss of the held-out images leaps, which are the same at every evaluation.

    (The training loss follows the sequence of tiles, hard and easy ones, whatever the optimizer does.) An evaluation
    belongs to a spike when its loss exceeds twice the median of the five before it, or of the three or four there are.
    Neighbouring evaluations of this kind are one spike.
    """
    _, losses = curve(rows, "held_out", "loss")
    count, inside = 0, False
    for i in range(3, len(losses)):
        leaps = losses[i] > SPIKE_FACTOR * statistics.median(losses[max(0, i - SPIKE_EVALUATIONS) : i])
        count += leaps and not inside
        inside = leaps
    return count


def scores(rows: Iterable[Row]) -> dict[str, float]:
    """What a run's curves say in one number each.

    `mean_iou_last5`, `loss_last5`: medians of the last five evaluations. `train_loss`: mean of the last tenth of
    training. `spikes`: see there.
    """
    rows = list(rows)
    found = {"spikes": float(spikes(rows)), "train_loss": final_training_loss(rows)}
    for key in ("mean_iou", "loss"):
        median = last_median(rows, key)
        if median is not None:
            found[f"{key}_last5"] = median
    return found
