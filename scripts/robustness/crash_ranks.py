"""kill -9 of one of several processes that train one run under torchrun: all end, torchrun starts them again, the run
goes on from its checkpoint and ends with the bits of a run that nothing was done to.

    python scripts/robustness/crash_ranks.py [--seed N] [--kills N] [--processes N] [--out FOLDER]

Writes ranks.csv and README.md (experiments/results/robustness). About five minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from crash_test import COMPARED, half_written, safe_update
from harness import CHECKPOINT_EVERY, FLAGS, RESULTS, content, images, write_rows
from page import write_readme

from unet.runs.folder import CHECKPOINTS, METRICS, RunFolder

END_WITHIN_S = 30.0
PER_RUN = 5  # kills before a run is let go on to its end
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


@dataclass
class Row:
    """One kill."""

    processes: int
    rank: int
    moment: str
    last_row: int
    resumed_at: int
    all_ended_s: float
    goes_on_s: float
    half_written: str
    bit_equal: str = "no"


class Launched:
    """A run under torchrun, watched from outside. Its output goes to `log`."""

    def __init__(self, run: Path, data: Path, processes: int, log: Path) -> None:
        self.run, self.processes, self.log = run, processes, log
        words = [*TORCHRUN, "--nproc-per-node", str(processes), "--max-restarts", "100", "-m", "--", "unet", "train"]
        words += ["--run", str(run), "--resume", "--data.folder", str(data), *FLAGS, "--train.accumulate", "4"]
        with log.open("wb") as output:
            self.torchrun = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT)

    def ranks(self) -> dict[int, int]:
        """The processes that torchrun has started, those that still live: process number -> rank."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                if int(state[1]) == self.torchrun.pid and state[0] != "Z":
                    words = dict(w.split("=", 1) for w in (entry / "environ").read_text().split("\0") if "=" in w)
                    found[int(entry.name)] = int(words["RANK"])
            except (OSError, ValueError, IndexError, KeyError):
                continue
        return found

    def checkpoints(self) -> set[str]:
        """The names of those that are there."""
        return {path.name for path in (self.run / CHECKPOINTS).glob("*.pt")}

    def last_row(self) -> int:
        """The last update in metrics.jsonl, which has a row for every ten; 0 before."""
        if not (self.run / METRICS).is_file():
            return 0
        return max((int(row["update"]) for row in RunFolder(self.run).rows(METRICS)), default=0)

    def until(self, condition: Callable[[], bool], seconds: float = 180.0) -> bool:
        """Wait for the condition; False when the run has ended before. SystemExit after so long."""
        limit = time.monotonic() + seconds
        while not condition():
            if self.torchrun.poll() is not None:
                return False
            if time.monotonic() > limit:
                self.torchrun.kill()
                raise SystemExit(f"the run does not go on:\n{self.log.read_text()}")
            time.sleep(0.01)
        return True

    def kill_one(self, rng: random.Random, moment: str) -> Row | None:
        """Kill a process at a random moment; None when the run had ended before."""
        complete = self.until(lambda: len(self.ranks()) == self.processes)
        before = self.checkpoints()
        if moment == "training":
            complete = complete and self.until(lambda: bool(self.checkpoints() - before))
        time.sleep(rng.uniform(0.0, 3.0 if moment == "starting" else 0.5))
        living = self.ranks()
        if not complete or len(living) != self.processes:
            return None
        victim = rng.choice(sorted(living))
        os.kill(victim, 9)
        killed = time.monotonic()
        if not self.until(lambda: not living.keys() & self.ranks().keys()):
            return None  # the others had just come to their end
        ended = time.monotonic()
        rows, safe = self.last_row(), safe_update(self.run) if self.run.is_dir() else 0
        wrong = "; ".join(half_written(self.run)) if self.run.is_dir() else ""
        self.until(lambda: len(self.ranks()) == self.processes)
        ended_s, goes_on_s = round(ended - killed, 3), round(time.monotonic() - killed, 3)
        return Row(self.processes, living[victim], moment, rows, safe, ended_s, goes_on_s, wrong)


def crash_rows(place: Path, seed: int, kills: int, processes: int) -> list[Row]:
    """One row per kill; `kills` of them, PER_RUN to a run, every fifth while the processes start."""
    rng, data = random.Random(seed), images(place / "data")
    whole = Launched(place / "whole", data, processes, place / "whole.log")
    if whole.torchrun.wait():
        raise SystemExit(whole.log.read_text())
    wanted = content(whole.run, COMPARED)
    rows: list[Row] = []
    while len(rows) < kills:
        launched = Launched(place / f"cut-{len(rows)}", data, processes, place / f"cut-{len(rows)}.log")
        mine: list[Row] = []
        for number in range(min(PER_RUN, kills - len(rows))):
            row = launched.kill_one(rng, "starting" if number == 1 else "training")
            if row is None:
                break
            mine.append(row)
        same = launched.torchrun.wait(300) == 0 and content(launched.run, COMPARED) == wanted
        if not same:
            print(launched.log.read_text(), file=sys.stderr)
        for row in mine:
            row.bit_equal = "yes" if same else "no"
        rows += mine
        print(f"{len(rows)} of {kills} kills", file=sys.stderr, flush=True)
    return rows


def wrong_rows(rows: list[Row]) -> list[Row]:
    """The rows in which something was lost that must not be, or that took too long."""
    return [
        row
        for row in rows
        if row.last_row - row.resumed_at > CHECKPOINT_EVERY
        or row.all_ended_s > END_WITHIN_S
        or (row.half_written, row.bit_equal) != ("", "yes")
    ]


def main() -> int:
    """Returns 0 when nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    flags = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as place:
        rows = crash_rows(Path(place), flags.seed, flags.kills, flags.processes)
    write_rows(flags.out / "ranks.csv", [asdict(row) for row in rows])
    write_readme(flags.out)
    for row in wrong_rows(rows):
        print(f"lost: {row}")
    return 1 if wrong_rows(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
