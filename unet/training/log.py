"""What a run tells while it trains: rows of metrics.jsonl and timing.jsonl, the dashboard's copy, the progress line.

Rows of metrics.jsonl are a function of the run's settings; what the clock says goes to timing.jsonl.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from unet.config import Config
from unet.errors import Diverged, RunError
from unet.metrics.pixel import mean_iou, pixel_accuracy
from unet.runs.dashboard import Dashboard
from unet.runs.folder import METRICS, TIMING, RunFolder
from unet.runs.mirrored import mirrored_row, place
from unet.terminal import Bar
from unet.training.optim import learning_rate

LOG_EVERY = 10  # updates per row of metrics.jsonl


@dataclass
class State:
    """Where the run stands; with weights and optimizer it is all that a resumed run needs."""

    update: int = 0
    evaluated_at: int = 0
    first_loss: float = 0.0
    window: list[list[float]] = field(default_factory=list)  # since the last row: [loss, gradient norm, confusion ...]
    best: dict[str, float] = field(default_factory=dict)
    metrics_bytes: int = 0
    metrics_sha256: str = ""  # of these bytes, when the state was saved; empty in older checkpoints


class Journal:
    """Keeps the `state` of a run up to date with what was written about it."""

    def __init__(
        self, config: Config, folder: RunFolder, dashboard: Dashboard, spent: dict[str, float] | None = None
    ) -> None:
        self.config, self.folder, self.dashboard = config, folder, dashboard
        self._spent = {} if spent is None else spent  # seconds, by what on, beside those of waiting for data
        self.state = State()
        self._pending: list[tuple[int, Tensor, Tensor, Tensor | None]] = []  # still on the device
        self._waited = 0.0
        self._last: list[float] = []  # the newest entry of the window
        self._clock = (time.perf_counter(), 0)  # when the timing row began, and at which update

    def begin(self, lost: bool = False) -> None:
        """Go on from `state`: rows of updates that will be made again are cut off.

        RunError when the rows before are not those that the state was saved with; `lost`: begin without any then, and
        what is there is set aside.
        """
        try:
            self.folder.truncate(METRICS, self.state.metrics_bytes, self.state.metrics_sha256)
        except RunError:
            if not lost:
                raise
            self.folder.set_aside(METRICS)
            self.state.metrics_bytes = 0
        self._clock = (time.perf_counter(), self.state.update)

    def seal(self) -> None:
        """Flush the rows to disk and note their checksum: a checkpoint counts on the rows before it."""
        self.folder.sync(METRICS)
        self.state.metrics_sha256 = self.folder.sha256_of(METRICS, self.state.metrics_bytes)

    def add(self, update: int, loss: Tensor, norm: Tensor, counts: Tensor | None = None) -> None:
        """Take the loss, the gradient norm and, where it is known, the confusion (C x C, [target, predicted]) of an
        update, left on their device until `flush`."""
        self._pending.append((update, loss, norm, counts))

    def flush(self) -> None:
        """Bring losses from the device and write a row every LOG_EVERY updates.

        Diverged, with the tiles it came from, when one of them is not finite or has exploded.
        """
        state = self.state
        for update, loss_tensor, norm_tensor, counts in self._pending:
            loss, norm = float(loss_tensor), float(norm_tensor)
            state.first_loss = state.first_loss or loss
            self._check(update, loss, norm)
            self._last = [loss, norm, *([] if counts is None else counts.flatten().tolist())]
            state.window.append(self._last)
            if (update + 1) % LOG_EVERY == 0 or update + 1 == self.config.train.updates:
                self._log_window(update)
        self._pending.clear()

    def held_out(self, scores: dict[str, Any]) -> None:
        """Write the scores of an evaluation, and the speed since the last one; remembers the best mean IoU."""
        state = self.state
        state.evaluated_at = state.update
        if (scores["mean_iou"] or 0.0) > state.best.get("mean_iou", -1.0):
            state.best = {"mean_iou": scores["mean_iou"] or 0.0, "update": float(state.update)}
        self._log({"update": state.update, "part": "held_out", **scores})

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time within as spent on waiting for data."""
        started = time.perf_counter()
        yield
        self._waited += time.perf_counter() - started

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Count the time within as an evaluation, which the speed of training leaves out; then write `timing`."""
        started = time.perf_counter()
        yield
        self.timing(time.perf_counter() - started)

    def timing(self, evaluation_s: float = 0.0) -> None:
        """Write the speed since the last call, without the seconds of an evaluation, and start the clock again."""
        now, update = time.perf_counter(), self.state.update
        began, first = self._clock
        if update > first:
            row = self._speed(now - began - evaluation_s, update - first) | {"evaluation_s": evaluation_s}
            self.folder.append(TIMING, {"update": update, **row})
            self.dashboard.log({f"timing/{k}": v for k, v in row.items()} | place(update, self.config))
        self._waited, self._clock = 0.0, (time.perf_counter(), update)
        self._spent.update(dict.fromkeys(self._spent, 0.0))

    def show(self, bar: Bar) -> None:
        """Move the progress bar: loss, speed, share of the time spent on waiting for data."""
        began, first = self._clock
        speed = self._speed(time.perf_counter() - began, max(1, self.state.update - first))
        shown = f"loss {self._last[0]:.4f}, " if self._last else ""
        if right := _shares_right(self._last[2:]):
            shown += f"accuracy {right['pixel_accuracy']:.1%}, "
        note = f"{shown}{speed['tiles_per_s']:.1f} tiles/s, waiting for data {speed['data_wait_share']:.1%}"
        bar.update(self.state.update, note)

    def _check(self, update: int, loss: float, norm: float) -> None:
        limit = self.config.train.explode_factor * max(self.state.first_loss, 1e-3)
        if math.isfinite(loss) and math.isfinite(norm) and (not self.config.train.explode_factor or loss <= limit):
            return
        per_update = self.config.train.batch * self.config.train.accumulate
        first = update * per_update
        raise Diverged(
            f"update {update} (tiles {first}..{first + per_update - 1}): loss {loss:.4g}, gradient norm {norm:.4g}; "
            f"lower optim.lr (now {self.config.optim.lr:g}) or set optim.clip-norm, and check these tiles' frames"
        )

    def _log_window(self, update: int) -> None:
        losses, norms, *confusion = zip(*self.state.window, strict=True)
        self.state.window = []
        self._log(
            {
                "update": update + 1,
                "part": "train",
                "loss": sum(losses) / len(losses),
                "loss_max": max(losses),
                "gradient_norm": sum(norms) / len(norms),
                "lr": learning_rate(self.config.optim, update, self.config.train.updates),
                **_shares_right([sum(counts) for counts in confusion]),
            }
        )

    def _log(self, row: dict[str, Any]) -> None:
        self.state.metrics_bytes = self.folder.append(METRICS, row)
        self.dashboard.log(mirrored_row(row, self.config))

    def _speed(self, seconds: float, updates: int) -> dict[str, float]:
        tiles = updates * self.config.train.batch * self.config.train.accumulate
        return {
            "tiles_per_s": tiles / seconds,
            "seconds_per_update": seconds / updates,
            "data_wait_share": self._waited / seconds,
            **{f"{what}_share": spent / seconds for what, spent in self._spent.items()},
        }


def _shares_right(confusion: Sequence[float]) -> dict[str, float]:
    """Pixel accuracy and mean IoU on training tiles, of a flattened confusion; nothing where there is none."""
    if not sum(confusion):
        return {}
    classes = math.isqrt(len(confusion))
    counts = np.array(confusion, dtype=np.int64).reshape(classes, classes)
    return {"pixel_accuracy": pixel_accuracy(counts), "mean_iou": mean_iou(counts)}
