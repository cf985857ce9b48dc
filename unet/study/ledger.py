"""What there is to do of a study and how far it is, read from the run folders and the evidence made from them.

Nothing else is the truth: what is done, begun or missing is read anew every time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unet.runs.folder import CONFIG, METRICS, WEIGHTS, RunFolder
from unet.study import choice, decide, evidence, verdicts
from unet.study.design import TUNING, Job, Study, identity, jobs, make_job
from unet.study.estimate import Estimate
from unet.study.evidence import Evidence

State = Literal["done", "diverged", "begun", "missing"]


@dataclass(frozen=True)
class Options:
    """How a study is run: folders, seeds, which part of it, how many runs at a time, for how long.

    decide: only what the next looks of its plan wait for, until no verdict is left to be made at this size.
    """

    profile: str
    seeds: int
    runs: Path
    results: Path
    only: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    decide: bool = False
    at_once: int = 1
    minutes: float = 0.0  # 0: until everything is done
    launcher: Literal["local", "submitit"] = "local"
    submit: tuple[str, ...] = ()  # KEY=VALUE, for submitit
    worker: tuple[str, ...] = (sys.executable, "-P", "-m", "unet.study.worker")


class Ledger:
    """The runs of one study at the size that the options name.

    runs, results: the folders in which its runs are trained and their evidence is kept, each by its job's name.
    """

    def __init__(self, study: Study, options: Options) -> None:
        self.study, self.options = study, options
        self.runs = options.runs / study.name / options.profile
        self.results = options.results / study.name / options.profile

    def wanted(self) -> list[Job]:
        """All runs of the chosen part of the study that are known by now, each once."""
        study, options = self.study, self.options
        found = {job.name: job for job in jobs(study, options.profile, options.seeds)}
        for job in choice.chosen_jobs(study, options.profile, options.seeds, choice.by_key(self.evidence())):
            found.setdefault(job.name, job)
        asked = self.asked()
        return [job for job in found.values() if asked(job.arm, job.data, job.seed)]

    def asked(self) -> Callable[[str, str, int], bool]:
        """Whether an arm on a data set at a seed belongs to the chosen part of the study, as far as it is known now."""
        options = self.options
        due = (
            decide.due(self.study, options.profile, verdicts.load(self.study, options.results))
            if options.decide
            else ()
        )
        wanted = {(name, data, seed) for arm, data, seed in due for name in self._with_grid(arm)}
        grids = {(name, data) for name, data, _ in wanted}
        only = {name for arm in options.only for name in self._with_grid(arm)}

        def asked(arm: str, data: str, seed: int) -> bool:
            if (only and arm not in only) or (options.data and data not in options.data):
                return False
            return not options.decide or ((arm, data) in grids if seed >= TUNING else (arm, data, seed) in wanted)

        return asked

    def _with_grid(self, arm: str) -> tuple[str, ...]:
        """An arm and those whose best it is."""
        return (arm, *self.study.arm(arm).best_of)

    def known(self) -> dict[tuple[str, str, int], Evidence]:
        """Evidence by (arm, data set, seed): the study's own, and what it takes over from other studies."""
        twins = self.twins()
        found = {
            (job.arm, job.data, job.seed): twins[name]
            for job in jobs(self.study, self.options.profile, self.options.seeds)
            if (name := identity(job.config)) in twins
        }
        return found | choice.by_key(self.evidence())

    def evidence(self) -> list[Evidence]:
        """What is known so far."""
        return evidence.load_all(self.results)

    def twins(self) -> dict[str, Evidence]:
        """Runs of every study at this size, by the identity of what they are."""
        return evidence.twins(self.options.results, self.options.profile)

    def state(self, job: Job) -> State:
        """How far a run is; RunError when its folder was made with another configuration."""
        kept, run = self.results / job.name, self.runs / job.name
        found = evidence.find(kept)
        if found is not None:
            evidence.check_same(kept, found.config, job)
            return "diverged" if found.diverged else "done"
        if (run / CONFIG).is_file():
            evidence.check_same(run, evidence.config_of(run), job)
            return "begun"
        return "missing"

    def updates_done(self, job: Job) -> int:
        """Updates that a run has behind it, as far as its rows tell."""
        rows = RunFolder(self.runs / job.name).rows(METRICS)
        return max((row["update"] for row in rows), default=0)

    def seconds_left(self, open_jobs: list[Job]) -> float | None:
        """Seconds until all of these are done; None when nothing comparable was measured."""
        return self.measured().total(open_jobs, self.updates_done, self.options.at_once)

    def measured(self) -> Estimate:
        """How long runs took, in this study and, of the same profile, in others."""
        others = [run for run in self.twins().values() if run.path.parent != self.results]
        return Estimate.of(self.evidence(), others)

    def sibling(self, job: Job, arm: str) -> Job:
        """The run of another arm on the same data and seed."""
        return make_job(self.study, job.profile, arm, job.data, job.seed)

    def trained(self, job: Job) -> Path | None:
        """The folder on this machine that holds a run's trained weights, its own or that of an equal run."""
        folders = [self.runs / job.name]
        twin = self.twins().get(identity(job.config))
        if twin is not None:
            folders.append(self.options.runs / twin.record["study"] / job.profile / twin.path.name)
        return next((folder for folder in folders if (folder / WEIGHTS).is_file()), None)
