"""Runs what is missing of a study, n runs at a time, and collects the evidence.

The truth is the run folders and the evidence made from them: what is done, begun or missing is read from them every
time, so that this process may be killed at any moment and started again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from unet.config import to_yaml
from unet.files import atomic_write, write_text
from unet.runs.folder import CONFIG, ENVIRONMENT, METRICS, SPLIT, WEIGHTS
from unet.signals import Stopper
from unet.study import evidence, noise
from unet.study.claim import RENEW_S, Claims
from unet.study.cluster import ClusterPool, parse_options
from unet.study.collect import adopt, collect
from unet.study.design import Job, Study, identity
from unet.study.estimate import Estimate
from unet.study.ledger import Ledger, Options
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


class Runner:
    """Runs one study. `run` returns when nothing is left to do or time is over, or raises Interrupted."""

    def __init__(self, study: Study, options: Options, terminal: Terminal) -> None:
        self.study, self.options, self.terminal = study, options, terminal
        self.ledger = Ledger(study, options)
        folder = self.ledger.runs
        self.claims = Claims(folder / "claims")
        self.pool: Pool | ClusterPool = Pool(options.at_once)
        if options.launcher == "submitit":
            self.pool = ClusterPool(options.at_once, folder / "jobs", parse_options(options.submit))
        self.failed: dict[str, str] = {}  # name: why, in this session
        self.estimate = Estimate({}, None)
        self._waiting: list[Job] = []
        self._busy: Counter[str] = Counter()  # how often a run was found so, or killed, by name
        self._killed: Counter[str] = Counter()
        self._not_before: dict[str, float] = {}
        self._started: dict[str, Job] = {}
        self._shown = self._looked = 0.0  # when progress was shown last, and when the claims were looked at
        self._outdated = False  # what is known of the runs

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Run what is missing; True when everything asked for is done, False when time was over or a run failed."""
        self.ledger.runs.mkdir(parents=True, exist_ok=True)
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
        left = self.ledger.seconds_left(self._waiting)
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
        left = self.estimate.total([*running, *self._waiting], self.ledger.updates_done, self.options.at_once)
        total = len(self.ledger.wanted())
        done = total - len(self._waiting) - len(running) - len(self.failed)
        about = f" (about {format_seconds(left)} left)" if left else ""
        names = ", ".join(f"{job.name} {self.ledger.updates_done(job)}/{job.config.train.updates}" for job in running)
        bar.update(done, names + about, total)

    def _open_jobs(self) -> Iterator[Job]:
        taken = self.pool.names | set(self.failed)
        return (
            job
            for job in self.ledger.wanted()
            if job.name not in taken and self.ledger.state(job) in ("begun", "missing")
        )

    def _settle(self) -> None:
        """Collect the evidence of runs that have ended, and take over that of equal runs in other studies."""
        twins = self.ledger.twins()
        self._outdated = False
        again = True
        while again:  # evidence may decide a choice, which makes new runs known
            again = False
            for job in list(self._open_jobs()):
                again |= self._gather(job, twins.get(identity(job.config)))
        self.claims.keep(self.pool.names)
        self._waiting = list(self._open_jobs())
        self.estimate = self.ledger.measured()

    def _gather(self, job: Job, twin: evidence.Evidence | None) -> bool:
        """Make the evidence of a run that has ended, here or as a twin in another study; whether anything was done."""
        run, kept = self.ledger.runs / job.name, self.ledger.results / job.name
        ended = evidence.has_ended(run)
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
        if source and self.ledger.sibling(job, source).name in self.pool.names | {
            other.name for other in self._waiting
        }:
            return False  # its weights are still to be trained
        if self._postponed(job):
            return False
        seconds = self.estimate.seconds(job, self.ledger.updates_done(job))
        return deadline is None or seconds is None or seconds <= deadline - time.monotonic()

    def _is_ours(self, job: Job) -> bool:
        """Whether this engine may make the run now; one that another engine has claimed is looked at again later."""
        if not self.claims.take(job.name):
            self._not_before[job.name] = time.monotonic() + ELSEWHERE_S
            return False
        if self.ledger.state(job) in ("begun", "missing") and not evidence.has_ended(self.ledger.runs / job.name):
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
        run = self.ledger.runs / job.name
        self._started[job.name] = job
        self._take_weights(job)
        self.terminal.say(f"{job.name}: {'goes on' if (run / CONFIG).is_file() else 'begins'}")
        self._spawn(job.name, [*self.options.worker, str(run), PARENT], to_yaml(job.config))

    def _spawn(self, name: str, command: list[str], text: str) -> None:
        log = self.ledger.runs / "logs" / f"{name}.log"
        self.pool.start(name, command, text, log)

    def _look_at(self, ended: Ended) -> None:
        """Say how a run ended; one whose folder was in use is tried again."""
        took = format_seconds(ended.seconds)
        if evidence.has_ended(self.ledger.runs / ended.name):
            self.terminal.say(f"{ended.name}: ended after {took}")
        elif ended.code < 0 and self._killed[ended.name] < KILLED_TRIES:
            self._killed[ended.name] += 1
            self.terminal.say(
                f"{ended.name}: killed after {took} (signal {-ended.code}); it goes on from its checkpoint"
            )
        elif ended.code == BUSY and self._busy[ended.name] < BUSY_TRIES:
            self._busy[ended.name] += 1
            self._not_before[ended.name] = time.monotonic() + BUSY_WAIT_S
        else:
            self.failed[ended.name] = ended.last_line
            self.terminal.say(f"{ended.name}: failed after {took}: {ended.last_line} (see {ended.log})")

    def _take_weights(self, job: Job) -> None:
        """Where an arm only evaluates anew: copy the trained run, unless it is not on this machine."""
        run, name = self.ledger.runs / job.name, self.study.arm(job.arm).weights_of
        if not name or (run / CONFIG).is_file():
            return
        source = self.ledger.trained(self.ledger.sibling(job, name))
        if source is None or not all((source / file).is_file() for file in COPIED):
            return  # it is trained once more, to the same bits
        for file in COPIED:
            with atomic_write(run / file) as copy:
                copy.write((source / file).read_bytes())
        write_text(run / CONFIG, to_yaml(job.config))

    # -- gradient noise ----------------------------------------------------------------------------------------------

    def _measure_noise(self, stopper: Stopper, deadline: float | None) -> bool:
        """Measure the gradient noise at the trained weights where the study asks for it and they are here."""
        waiting = noise.asked(self.ledger, self.terminal.say)
        self._require_data([job for job, _, _ in waiting])
        while waiting or self.pool.names:
            stopper.check()
            for ended in self.pool.reap():
                if ended.code:
                    self.failed[ended.name] = ended.last_line
                    self.terminal.say(f"{ended.name}: failed: {ended.last_line} (see {ended.log})")
            if waiting and _over(deadline):
                return False
            while waiting and self.pool.free:
                job, command, text = waiting.pop(0)
                name = f"{job.name}-noise"
                if self.claims.take(name):
                    self._spawn(name, command, text)
            time.sleep(POLL_S)
        return True


def _over(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
