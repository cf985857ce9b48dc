"""One run of a study as a process of its own: `python -m unet.study.worker RUN_FOLDER PARENT_PID < config.yaml`.

Does what `unet train` does with the same configuration (train, then score), resumes what it finds begun, and needs
neither the parser of the command line nor a dashboard to be installed. Exit codes: 0 the run has ended (its scores, or
failure.json when it diverged), 2 user error, 75 another process has the folder, 130 / 143 stopped with a checkpoint.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from unet.config import Config, from_dict, parse_yaml
from unet.datasets import DATA_SETS
from unet.errors import Diverged, RunError, UserError, printable
from unet.runs.dashboard import Dashboard
from unet.runs.final import send_scores
from unet.runs.folder import ATTEMPTS, CONFIG, FAILURE, WEIGHTS, RunFolder
from unet.runs.lock import keep_run_locks, run_lock
from unet.signals import Interrupted
from unet.terminal import Terminal

BUSY = 75


def main(argv: list[str]) -> int:
    """Run to the end; returns the exit code."""
    run, parent = Path(argv[0]), int(argv[1])
    text = sys.stdin.read()
    if not text:
        print("unet: no configuration came; the study that starts this run has ended", file=sys.stderr)
        return UserError.exit_code
    config = from_dict(parse_yaml(text))
    watch(parent)
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    if (run / CONFIG).is_file():
        try:
            with run_lock(run):
                pass
        except RunError as error:
            print(f"unet: {printable(str(error))}", file=sys.stderr)
            return BUSY
    started = time.monotonic()
    outcome = "stopped"
    try:
        outcome = execute(config, run, Terminal())
    except Interrupted as interruption:
        print(f"unet: {interruption}", file=sys.stderr)
        return interruption.exit_code
    except UserError as error:
        print(f"unet: {printable(str(error))}", file=sys.stderr)
        return error.exit_code
    finally:
        if (run / CONFIG).is_file():
            row = {"outcome": outcome, "seconds": round(time.monotonic() - started, 2)}
            RunFolder(run).append(ATTEMPTS, row)
    return 0


def execute(config: Config, run: Path, terminal: Terminal) -> str:
    """Train what is left to train, then score; returns "ended" or "diverged".

    A run that held nothing out is scored on the test slices where there are such (EM).
    """
    from unet.evaluation.run import evaluate_run
    from unet.training.loop import train

    with keep_run_locks(), Dashboard(terminal.say, "study") as dashboard:
        if not (run / WEIGHTS).is_file():
            resume = (run / CONFIG).is_file()
            try:
                train(config, run, resume=resume, overwrite=False, terminal=terminal, dashboard=dashboard)
            except Diverged as error:
                RunFolder(run).write_json(FAILURE, {"diverged": str(error)})
                dashboard.summary({"diverged": str(error)})
                dashboard.finish(exit_code=1)
                return "diverged"
        if not RunFolder(run).held_nothing_out:
            send_scores(dashboard, RunFolder(run), evaluate_run(run, terminal))
        elif config.data.name in DATA_SETS and DATA_SETS[config.data.name].test_labels:
            from unet.evaluation.leaderboard import evaluate_test

            try:
                evaluate_test([run], terminal)
            except UserError as error:  # the slices or their labels are not here
                terminal.say(f"not scored on the test slices: {error}")
    return "ended"


def watch(parent: int) -> None:
    """Stop in good order when the process that started this one is gone, however it ended."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
