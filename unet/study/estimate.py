"""How long the runs that are left will take, from those that are done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from unet.config import Config
from unet.study.design import Job
from unet.study.evidence import Evidence


@dataclass(frozen=True)
class Estimate:
    """Seconds of measured runs per unit of work, by arm and data set and over all of them."""

    by_run: dict[tuple[str, str], float]
    per_work: float | None

    @classmethod
    def of(cls, runs: Iterable[Evidence], others: Iterable[Evidence] = ()) -> Estimate:
        """From the runs of one study and profile, and, for arms without any, from those of other studies."""
        times: dict[tuple[str, str], list[float]] = {}
        seconds = done = 0.0
        for run, own in [*((run, True) for run in runs), *((run, False) for run in others)]:
            took = run.record["seconds"]
            if not took or run.diverged:
                continue
            seconds, done = seconds + took, done + work(run.config)
            if own:
                times.setdefault((run.arm, run.data), []).append(took / work(run.config))
        means = {key: sum(values) / len(values) for key, values in times.items()}
        return cls(means, seconds / done if done else None)

    def seconds(self, job: Job, updates_done: int = 0) -> float | None:
        """Seconds that a run still takes; None when nothing comparable was measured."""
        per_work = self.by_run.get((job.arm, job.data), self.per_work)
        if per_work is None:
            return None
        return per_work * work(job.config) * (1 - updates_done / job.config.train.updates)

    def total(self, jobs: list[Job], updates_done: Callable[[Job], int], at_once: int) -> float | None:
        """Seconds for all of them, `at_once` at a time; None when nothing was measured."""
        each = [self.seconds(job, updates_done(job)) for job in jobs]
        known = [seconds for seconds in each if seconds is not None]
        return sum(known) / at_once if len(known) == len(each) else None


def work(config: Config) -> float:
    """Input pixels that a run trains on, times the square of the width, as the multiplications of its convolutions.

    Of another width this is a bound rather than a guess: four times the channels took 13 times as long, not 16.
    """
    tiles = config.train.updates * config.train.batch * config.train.accumulate
    return float(tiles * config.tile.input_px**2 * config.model.base_channels**2)
