"""What a dashboard is given of a run that has ended: final scores, a table by frame, the best value of every score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unet.metrics.table import higher_is_better
from unet.runs.dashboard import Dashboard
from unet.runs.folder import METRICS, PICTURE, RunFolder


def send_scores(dashboard: Dashboard, folder: RunFolder, saved: Mapping[str, Any]) -> None:
    """Send a run's final scores (what scores.json holds), a table of them by frame, and the picture of the worst.

    The best value of every held-out score goes into the summary, where the last one stands already. A dashboard that is
    not open yet is opened for it.
    """
    dashboard.open(folder.config, folder.path, folder.environment)
    if not dashboard.active:
        return
    send_results(dashboard, saved, folder.rows(METRICS))
    if folder.file(PICTURE).is_file():
        dashboard.image("scores/worst_frames", folder.file(PICTURE))


def send_results(dashboard: Dashboard, saved: Mapping[str, Any], curves: Sequence[Mapping[str, Any]]) -> None:
    """Send what scores.json holds, and the best values of the rows of metrics.jsonl, to a dashboard that is open."""
    by_frame: Mapping[str, Mapping[str, Any]] = saved.get("by_frame", {})
    columns = list(dict.fromkeys(name for values in by_frame.values() for name in values))
    rows = [[frame, *(values.get(name) for name in columns)] for frame, values in by_frame.items()]
    dashboard.summary({f"scores/{name}": value for name, value in saved["scores"].items() if value is not None})
    dashboard.summary(best_values(curves))
    if rows:
        dashboard.table("scores/by_frame", ["frame", *columns], rows)


def best_values(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """best/NAME of every held-out score in the rows of metrics.jsonl, and the update of the best mean IoU."""
    held_out = [row for row in rows if row["part"] == "held_out"]
    best: dict[str, Any] = {}
    for name in dict.fromkeys(key for row in held_out for key in row if key not in ("part", "update")):
        known = [row for row in held_out if row.get(name) is not None]
        if known:
            value = (min if higher_is_better(name) is False else max)(row[name] for row in known)
            best[f"best/{name}"] = value
            if name == "mean_iou":
                best["best/update"] = next(row["update"] for row in known if row[name] == value)
    return best
