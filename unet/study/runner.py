"""Runs what is missing of a study, n runs at a time, and collects the evidence.

The truth is the run folders and the evidence made from them: what is done, begun or missing is read from them every
time, so that this process may be killed at any moment and started again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from unet.config import to_yaml
from unet.files import atomic_write, write_text
from unet.runs.folder import CONFIG, ENVIRONMENT, METRICS, NOISE, SPLIT, WEIGHTS, RunFolder
from unet.signals import Stopper
from unet.study import choice, evidence, noise
from unet.study.claim import RENEW_S, Claims
from unet.study.cluster import ClusterPool, parse_options
from unet.study.collect import adopt, collect
from unet.study.design import Job, Study, identity, jobs, make_job
from unet.study.estimate import Estimate
from unet.study.pool import PARENT, Ended, Pool
from unet.study.worker import BUSY
from unet.terminal import Bar, Terminal, format_seconds

POLL_S = 0.2
SHOW_EVERY_S, LINE_EVERY_S = 5.0, 60.0  # how often progress is shown: where a bar moves, and where none can
BUSY_TRIES = 60  # a worker whose starter was killed needs a moment to notice and to write its checkpoint
BUSY_WAIT_S = 2.0
KILLED_TRIES = 3  # of a worker that something else kills, such as a system that runs out of memory
ELSEWHERE_S = 10.0  # until a run that another engine makes is looked at again
COPIED = (ENVIRONMENT, SPLIT, METRICS, WEIGHTS)  # what evaluating a run anew needs

State = Literal["done", "diverged", "begun", "missing"]


@dataclass(frozen=True)
class Options:
    """How a study is run: folders, seeds, which part of it, how many runs at a time, for how long."""

    profile: str
    seeds: int
    runs: Path
    results: Path
    only: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    at_once: int = 1
    minutes: float = 0.0  # 0: until everything is done
    launcher: Literal["local", "submitit"] = "local"
    submit: tuple[str, ...] = ()  # KEY=VALUE, for submitit
    worker: tuple[str, ...] = (sys.executable, "-P", "-m", "unet.study.worker")

    def run_folder(self, job: Job) -> Path:
        """Where a run is trained."""
        return self.runs / job.study / job.profile / job.name

    def evidence_folder(self, job: Job) -> Path:
        """Where a run's evidence is kept."""
        return self.results / job.study / job.profile / job.name


class Runner:
    """Runs one study. `run` returns when nothing is left to do or time is over, or raises Interrupted."""

    def __init__(self, study: Study, options: Options, terminal: Terminal) -> None:
        self.study, self.options, self.terminal = study, options, terminal
        folder = options.runs / study.name / options.profile
        self.claims = Claims(folder / "claims")
        self.pool: Pool | ClusterPool = Pool(options.at_once)
        if options.launcher == "submitit":
            self.pool = ClusterPool(options.at_once, folder / "jobs", parse_options(options.submit))
        self.failed: dict[str, str] = {}  # name: why, in this session
        self.twins: dict[str, evidence.Evidence] = {}  # equal runs of other studies, by identity
        self.estimate = Estimate({}, None)
        self._waiting: list[Job] = []
        self._busy: dict[str, int] = {}
        self._killed: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._started: dict[str, Job] = {}
        self._shown = self._looked = 0.0  # when progress was shown last, and when the claims were looked at
        self._outdated = False  # what is known of the runs

    # -- what there is to do -----------------------------------------------------------------------------------------

    def wanted(self) -> list[Job]:
        """All runs of the chosen part of the study that are known by now, each once."""
        study, options = self.study, self.options
        found = {job.name: job for job in jobs(study, options.profile, options.seeds)}
        for job in choice.chosen_jobs(study, options.profile, options.seeds, choice.by_key(self.evidence())):
            found.setdefault(job.name, job)
        return [job for job in found.values() if self._asked_for(job)]

    def _asked_for(self, job: Job) -> bool:
        only = set(self.options.only)
        for name in self.options.only:  # the best of a grid asks for the grid
            only |= set(self.study.arm(name).best_of)
        return (not only or job.arm in only) and (not self.options.data or job.data in self.options.data)

    def known(self) -> dict[tuple[str, str, int], evidence.Evidence]:
        """Evidence by (arm, data set, seed): the study's own, and what it takes over from other studies."""
        twins = evidence.twins(self.options.results, self.options.profile)
        found = {
            (job.arm, job.data, job.seed): twins[name]
            for job in jobs(self.study, self.options.profile, self.options.seeds)
            if (name := identity(job.config)) in twins
        }
        return found | choice.by_key(self.evidence())

    def evidence(self) -> list[evidence.Evidence]:
        """What is known so far."""
        return evidence.load_all(self.options.results / self.study.name / self.options.profile)

    def state(self, job: Job) -> State:
        """How far a run is; RunError when its folder was made with another configuration."""
        kept, run = self.options.evidence_folder(job), self.options.run_folder(job)
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
        rows = RunFolder(self.options.run_folder(job)).rows(METRICS)
        return max((row["update"] for row in rows), default=0)

    def seconds_left(self, open_jobs: list[Job]) -> float | None:
        """Seconds until all of these are done; None when nothing comparable was measured."""
        return self.measured().total(open_jobs, self.updates_done, self.options.at_once)

    def measured(self) -> Estimate:
        """How long runs took, in this study and, of the same profile, in others."""
        own = self.options.results / self.study.name
        twins = evidence.twins(self.options.results, self.options.profile).values()
        others = [run for run in twins if run.path.parent.parent != own]
        return Estimate.of(self.evidence(), others)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Run what is missing; True when everything asked for is done, False when time was over or a run failed."""
        folder = self.options.runs / self.study.name / self.options.profile
        folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + 60 * self.options.minutes if self.options.minutes else None
        with (
            self.claims,
            Stopper() as stopper,
            self.terminal.bar("runs", every_s=LINE_EVERY_S, estimate=False) as bar,
        ):
            try:
                in_time = self._train(stopper, deadline, bar) and self._measure_noise(stopper, deadline)
            finally:
                self.pool.stop()
                self._settle()
        return in_time and not self.failed

    def _train(self, stopper: Stopper, deadline: float | None, bar: Bar) -> bool:
        """Train and score all runs; False when time was over before the work was."""
        self._settle()
        self._require_data(self._waiting)
        left = self.seconds_left(self._waiting)
        about = f", about {format_seconds(left)}" if left else ""
        self.terminal.say(f"{self.study.name} ({self.options.profile}): {len(self._waiting)} runs to do{about}")
        while True:
            stopper.check()
            ended = self.pool.reap()
            for process in ended:
                self._look_at(process)
            if ended or self._outdated:
                self._settle()
            self._stop_lost()
            waiting = self._waiting
            if waiting and _over(deadline):
                self.terminal.say(
                    f"{self.study.name}: time is over, {len(waiting)} runs wait; the same command goes on"
                )
                return False
            ready = [job for job in waiting if self._may_start(job, deadline)] if self.pool.free else []
            for job in ready:
                if self.pool.free and self._is_ours(job):
                    waiting.remove(job)
                    self._start(job)
            self._show(bar)
            if not self.pool.names and not any(self._postponed(job) for job in waiting):
                if waiting:
                    self.terminal.say(f"{self.study.name}: {len(waiting)} runs do not fit into the time that is left")
                return not waiting
            time.sleep(POLL_S)

    def _require_data(self, waiting: list[Job]) -> None:
        """DataError where a run would be made on a stand-in, which would be taken for evidence."""
        from unet.data.load import require  # the readers are not needed where nothing runs

        for name in sorted({job.config.data.name for job in waiting}):
            require(name, self.terminal)

    def _show(self, bar: Bar) -> None:
        """How many runs are done, and how long the others take as far as measured runs tell."""
        if self.terminal.quiet or time.monotonic() < self._shown + SHOW_EVERY_S:
            return
        self._shown = time.monotonic()
        running = [self._started[name] for name in self.pool.names if name in self._started]
        left = self.estimate.total([*running, *self._waiting], self.updates_done, self.options.at_once)
        total = len(self.wanted())
        done = total - len(self._waiting) - len(running) - len(self.failed)
        about = f" (about {format_seconds(left)} left)" if left else ""
        names = ", ".join(f"{job.name} {self.updates_done(job)}/{job.config.train.updates}" for job in running)
        bar.update(done, names + about, total)

    def _open_jobs(self) -> Iterator[Job]:
        taken = self.pool.names | set(self.failed)
        return (job for job in self.wanted() if job.name not in taken and self.state(job) in ("begun", "missing"))

    def _settle(self) -> None:
        """Collect the evidence of runs that have ended, and take over that of equal runs in other studies."""
        self.twins = evidence.twins(self.options.results, self.options.profile)
        self._outdated = False
        again = True
        while again:  # evidence may decide a choice, which makes new runs known
            again = False
            for job in list(self._open_jobs()):
                again |= self._gather(job)
        self.claims.keep(self.pool.names)
        self._waiting = list(self._open_jobs())
        self.estimate = self.measured()

    def _gather(self, job: Job) -> bool:
        """Make the evidence of a run that has ended, here or in another study; whether there was something to do."""
        run, kept = self.options.run_folder(job), self.options.evidence_folder(job)
        twin, ended = self.twins.get(identity(job.config)), evidence.has_ended(run)
        if not ended and (twin is None or (run / CONFIG).is_file()):
            return False
        with self.claims.held(job.name) as ours:
            if not ours or evidence.find(kept) is not None:
                return False
            if ended:
                collect(run, job, kept)
            elif twin is not None:
                adopt(twin, job, kept)
                self.terminal.say(f"{job.name}: the same run as {twin.record['study']}/{twin.path.name}")
        return True

    def _may_start(self, job: Job, deadline: float | None) -> bool:
        source = self.study.arm(job.arm).weights_of
        if source and self._sibling(job, source).name in self.pool.names | {other.name for other in self._waiting}:
            return False  # its weights are still to be trained
        if self._postponed(job):
            return False
        seconds = self.estimate.seconds(job, self.updates_done(job))
        return deadline is None or seconds is None or seconds <= deadline - time.monotonic()

    def _is_ours(self, job: Job) -> bool:
        """Whether this engine may make the run now; one that another engine has claimed is looked at again later."""
        if not self.claims.take(job.name):
            self._not_before[job.name] = time.monotonic() + ELSEWHERE_S
            return False
        if self.state(job) in ("begun", "missing") and not evidence.has_ended(self.options.run_folder(job)):
            return True
        self._outdated = True
        self._not_before[job.name] = 0.0
        return False

    def _stop_lost(self) -> None:
        """Stop runs that another engine has taken over, for which this one seemed dead."""
        if time.monotonic() < self._looked + RENEW_S:
            return
        self._looked = time.monotonic()
        if lost := self.claims.lost() & self.pool.names:
            self.terminal.say(f"{', '.join(sorted(lost))}: taken over by another machine")
            self.pool.stop(lost)
            self._outdated = True

    def _postponed(self, job: Job) -> bool:
        return time.monotonic() < self._not_before.get(job.name, 0.0)

    # -- single runs -------------------------------------------------------------------------------------------------

    def _start(self, job: Job) -> None:
        run = self.options.run_folder(job)
        self._started[job.name] = job
        self._take_weights(job)
        self.terminal.say(f"{job.name}: {'goes on' if (run / CONFIG).is_file() else 'begins'}")
        self._spawn(job.name, [*self.options.worker, str(run), PARENT], to_yaml(job.config))

    def _spawn(self, name: str, command: list[str], text: str) -> None:
        log = self.options.runs / self.study.name / self.options.profile / "logs" / f"{name}.log"
        self.pool.start(name, command, text, log)

    def _look_at(self, ended: Ended) -> None:
        """Say how a run ended; one whose folder was in use is tried again."""
        took = format_seconds(ended.seconds)
        if evidence.has_ended(self.options.runs / self.study.name / self.options.profile / ended.name):
            self.terminal.say(f"{ended.name}: ended after {took}")
        elif ended.code < 0 and self._killed.get(ended.name, 0) < KILLED_TRIES:
            self._killed[ended.name] = self._killed.get(ended.name, 0) + 1
            self.terminal.say(
                f"{ended.name}: killed after {took} (signal {-ended.code}); it goes on from its checkpoint"
            )
        elif ended.code == BUSY and self._busy.get(ended.name, 0) < BUSY_TRIES:
            self._busy[ended.name] = self._busy.get(ended.name, 0) + 1
            self._not_before[ended.name] = time.monotonic() + BUSY_WAIT_S
        else:
            self.failed[ended.name] = ended.last_line
            self.terminal.say(f"{ended.name}: failed after {took}: {ended.last_line} (see {ended.log})")

    def _take_weights(self, job: Job) -> None:
        """Where an arm only evaluates anew: copy the trained run, unless it is not on this machine."""
        run, name = self.options.run_folder(job), self.study.arm(job.arm).weights_of
        if not name or (run / CONFIG).is_file():
            return
        source = self._trained(self._sibling(job, name))
        if source is None or not all((source / file).is_file() for file in COPIED):
            return  # it is trained once more, to the same bits
        for file in COPIED:
            with atomic_write(run / file) as copy:
                copy.write((source / file).read_bytes())
        write_text(run / CONFIG, to_yaml(job.config))

    def _sibling(self, job: Job, arm: str) -> Job:
        return make_job(self.study, job.profile, arm, job.data, job.seed)

    def _trained(self, job: Job) -> Path | None:
        """The folder on this machine that holds a run's trained weights, its own or that of an equal run."""
        folders = [self.options.run_folder(job)]
        twin = self.twins.get(identity(job.config))
        if twin is not None:
            folders.append(self.options.runs / twin.record["study"] / job.profile / twin.path.name)
        return next((folder for folder in folders if (folder / WEIGHTS).is_file()), None)

    # -- gradient noise ----------------------------------------------------------------------------------------------

    def _measure_noise(self, stopper: Stopper, deadline: float | None) -> bool:
        """Measure the gradient noise at the trained weights where the study asks for it and they are here."""
        waiting = list(self._noise_jobs())
        while waiting or self.pool.names:
            stopper.check()
            for ended in self.pool.reap():
                if ended.code:
                    self.failed[ended.name] = ended.last_line
                    self.terminal.say(f"{ended.name}: failed: {ended.last_line} (see {ended.log})")
            if waiting and _over(deadline):
                return False
            while waiting and self.pool.free:
                name, begin = waiting.pop(0)
                if self.claims.take(name):
                    begin()
            time.sleep(POLL_S)
        return True

    def _noise_jobs(self) -> Iterator[tuple[str, partial[None]]]:
        if not self.study.noise:
            return
        at = self.study.noise[0]
        for job in self.wanted():
            kept = self.options.evidence_folder(job)
            weights = self._trained(job)
            if job.arm != at or self.state(job) != "done" or _has_noise(kept):
                continue
            if weights is None:
                self.terminal.say(
                    f"{job.name}: its weights are not on this machine, its gradient noise is not measured"
                )
                continue
            self._require_data([job])
            arms = {arm: self._sibling(job, arm).config for arm in self.study.noise}
            command = [sys.executable, "-P", "-m", "unet.study.noise", str(weights), str(kept), PARENT]
            name = f"{job.name}-noise"
            yield name, partial(self._spawn, name, command, noise.request(arms))


def _has_noise(kept: Path) -> bool:
    found = evidence.find(kept)
    return found is not None and (found.packed is not None or found.has(NOISE))


def _over(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
