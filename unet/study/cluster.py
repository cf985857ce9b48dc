"""Runs of a study as jobs of a cluster, one each, by submitit: SLURM where `sbatch` is there, else processes here."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet.errors import ConfigError, one_line
from unet.study.pool import STOP_WAIT_S, Ended, environment, with_parent


@dataclass
class Work:
    """What a job does: run the worker to its end. Where the cluster takes the machine back, the job is queued anew, and
    the worker goes on from its checkpoint there."""

    command: list[str]
    text: str
    log: Path

    def __post_init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                with_parent(self.command), stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment(1, 1)
            )
            with suppress(BrokenPipeError):
                self._process.communicate(self.text.encode())
        return self._process.returncode

    def checkpoint(self, *_: Any) -> Any:
        """What submitit calls before a job is taken away."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_WAIT_S)
        return DelayedSubmission(Work(self.command, self.text, self.log))


class ClusterPool:
    """Like unet.study.pool.Pool, with jobs in place of processes: at most `size` that wait or run.

    options: parameters of submitit's executor (`timeout_min`, `slurm_partition`, `gpus_per_node`, ...). ConfigError
    where submitit is not installed or does not know one of them.
    """

    def __init__(self, size: int, folder: Path, options: dict[str, Any]) -> None:
        try:
            import submitit
        except ImportError:
            raise ConfigError("--launcher submitit needs the package; pip install '.[cluster]'") from None
        self.size = size
        self._executor = submitit.AutoExecutor(folder=folder)
        try:
            self._executor.update_parameters(**{"timeout_min": 24 * 60, "cpus_per_task": 1, "name": "unet"} | options)
        except (NameError, ValueError, TypeError) as error:
            raise ConfigError(f"--submit: {one_line(error)}") from None
        self._jobs: dict[str, tuple[Any, Path, float]] = {}

    @property
    def names(self) -> set[str]:
        """What waits or runs."""
        return set(self._jobs)

    @property
    def free(self) -> int:
        """How many more may be submitted."""
        return self.size - len(self._jobs)

    def start(self, name: str, command: list[str], text: str, log: Path) -> None:
        """Submit a job that gives `text` to the command's standard input and appends its output to `log`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        job = self._executor.submit(Work(command, text, log.resolve()))
        self._jobs[name] = job, log, time.monotonic()

    def reap(self) -> list[Ended]:
        """The jobs that have ended since the last call."""
        ended = []
        for name, (job, log, started) in list(self._jobs.items()):
            if job.done():
                del self._jobs[name]
                ended.append(Ended(name, _code(job, log), time.monotonic() - started, log))
        return ended

    def stop(self, names: Iterable[str] | None = None) -> None:
        """Cancel these jobs (default: all); their workers write a checkpoint where the cluster gives them time."""
        stopped = [self._jobs.pop(name)[0] for name in list(self.names if names is None else names)]
        for job in stopped:
            job.cancel(check=False)
        limit = time.monotonic() + STOP_WAIT_S
        while time.monotonic() < limit and not all(job.done() for job in stopped):
            time.sleep(0.2)


def _code(job: Any, log: Path) -> int:
    """The worker's exit code; of a job without one (cancelled, out of memory) 1, with the reason in the log."""
    try:
        return int(job.result())
    except Exception as error:  # submitit raises what ended the job, of whatever kind
        with log.open("a", encoding="utf-8") as file:
            file.write(f"job {job.job_id} ended without a result: {str(error).strip().splitlines()[-1:]}\n")
        return 1


def parse_options(words: Iterable[str]) -> dict[str, Any]:
    """`KEY=VALUE` words as parameters of an executor; numbers become numbers. ConfigError for other words."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key.isidentifier() or not equals:
            raise ConfigError(f"--submit {word}: use KEY=VALUE, such as slurm_partition=gpu")
        found[key] = int(value) if value.isdecimal() else value
    return found
