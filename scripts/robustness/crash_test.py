"""kill -9 at random moments: after each the run resumes, loses at most the updates since its last checkpoint, and ends
with the same bits as a run that was never stopped. SIGTERM and SIGINT leave within 10 s with a checkpoint.

    python scripts/robustness/crash_test.py [--seed N] [--scale F] [--out FOLDER]

Moments are found from outside, by watching the run folder: a checkpoint's temporary file, a row of training whose
evaluation is still to come, the weights without the scores. (A study that is killed is in tests/study/test_runner.py.)
Writes crash.csv and README.md (experiments/results/robustness). About four minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: forked processes must find no threads

from harness import (
    CHECKPOINT_EVERY,
    EVAL_EVERY,
    FLAGS,
    RESULTS,
    Attempt,
    content,
    images,
    prepare,
    unet,
    until,
    write_rows,
)
from page import write_readme

from unet.config import load_yaml
from unet.errors import UserError
from unet.runs.checkpoint import _read, load_latest, load_weights
from unet.runs.folder import CHECKPOINTS, CONFIG, METRICS, PROBABILITIES, SCORES, SPLIT, WEIGHTS, RunFolder

COMPARED = (METRICS, SCORES, WEIGHTS, PROBABILITIES, SPLIT)
LEAVE_WITHIN_S = 10.0
PER_RUN = 6  # kills before a run is let go on to its end

Moment = Callable[[Attempt, Path, random.Random], str]


@dataclass
class Row:
    """One stop: what it hit, what was done, what was lost."""

    kind: str
    workers: int
    seen: str
    after_s: float
    reached: int | str
    resumed_at: int | str
    lost: int | str
    resumed: str
    half_written: str
    leave_s: float | str
    bit_equal: str


# -- moments: each waits for one, and returns what it saw; "" when the process ended before --------------------------


def while_starting(attempt: Attempt, _: Path, rng: random.Random) -> str:
    """Anything from the first import to the first update."""
    time.sleep(rng.uniform(0.0, 1.2))
    return "" if attempt.ended() else "starting"


def during_steps(attempt: Attempt, _: Path, rng: random.Random) -> str:
    """Some updates after the process took up the run."""
    wanted = rng.randint(0, 12)
    if not until(lambda: attempt.begun_at >= 0 and attempt.reached >= attempt.begun_at + wanted, attempt):
        return ""
    time.sleep(rng.uniform(0.0, 0.03))
    return "" if attempt.ended() else "steps"


def during_checkpoint(attempt: Attempt, run: Path, rng: random.Random) -> str:
    """While a temporary file of a checkpoint, or of its record, is there."""
    wanted, suffix = rng.randint(0, 14), rng.choice((".pt.", ".pt.", ".json."))
    folder, seen = run / CHECKPOINTS, ""

    def writing() -> bool:
        nonlocal seen
        if attempt.begun_at < 0 or attempt.reached < attempt.begun_at + wanted or not folder.is_dir():
            return False
        seen = next((n for n in os.listdir(folder) if n.endswith(".part") and suffix in n), "")  # noqa: PTH208
        return bool(seen)

    if not until(writing, attempt):
        return ""
    time.sleep(rng.choice((0.0, rng.uniform(0.0, 0.003))))
    return f"{seen.rsplit('.', 2)[0].lstrip('.')} being written"


def during_evaluation(attempt: Attempt, run: Path, rng: random.Random) -> str:
    """After the row of training that comes before an evaluation, before the row of its scores."""
    wanted, update = rng.randint(0, 14), 0

    def evaluating() -> bool:
        nonlocal update
        if attempt.begun_at < 0 or attempt.reached < attempt.begun_at + wanted:
            return False
        rows = RunFolder(run).rows(METRICS)
        update = rows[-1]["update"] if rows and rows[-1]["part"] == "train" else 0
        return bool(update) and update % EVAL_EVERY == 0 and attempt.reached == update

    if not until(evaluating, attempt):
        return ""
    time.sleep(rng.uniform(0.0, 0.01))
    return f"evaluation at update {update}"


def during_scoring(attempt: Attempt, run: Path, rng: random.Random) -> str:
    """After training, while the scores and pictures are made."""
    if not until((run / WEIGHTS).exists, attempt):
        return ""
    time.sleep(rng.uniform(0.0, 0.5))
    return "" if attempt.ended() else "scoring"


KILLS: dict[str, tuple[Moment, int]] = {
    "while starting": (while_starting, 6),
    "during steps": (during_steps, 18),
    "during the checkpoint's write": (during_checkpoint, 18),
    "during an evaluation": (during_evaluation, 14),
    "during the final scoring": (during_scoring, 4),
}


# -- what must hold after every stop -----------------------------------------------------------------------------------


def half_written(run: Path) -> list[str]:
    """Files that cannot be read under their final names. The last row of a JSONL file may be cut, it is dropped."""
    wrong = []
    for path in sorted(p for p in run.rglob("*") if p.is_file() and not p.name.startswith(".")):
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".jsonl":
                RunFolder(path.parent).rows(path.name)
            elif path.suffix == ".yaml":
                load_yaml(path)
            elif path.suffix == ".safetensors":
                load_weights(path)
            elif path.suffix == ".pt" and path.with_suffix(".json").exists():
                _read(path)
        except (UserError, ValueError) as error:
            wrong.append(f"{path.name}: {error}")
    return wrong


def safe_update(run: Path) -> int:
    """The update of the newest whole checkpoint."""
    saved, _ = load_latest(run / CHECKPOINTS)
    return 0 if saved is None else int(saved["state"]["update"])


def train_words(run: Path, data: Path, workers: int) -> list[str]:
    """The command that begins or goes on with a run."""
    begun = (run / CONFIG).is_file()
    words = ["train", "--run", str(run)]
    if begun:
        return [*words, "--resume", "--quiet"]
    return [*words, "--data.folder", str(data), *FLAGS, "--train.workers", str(workers)]


class Crashes:
    """Stops runs, resumes them, and compares their ends."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place, self.rng = place, random.Random(seed)
        self.data = images(place / "data")
        self.rows: list[Row] = []
        self.references: dict[int, dict[str, bytes]] = {}
        self._runs = 0

    def _reference(self, workers: int) -> dict[str, bytes]:
        run = self.place / f"whole-{workers}"
        attempt = Attempt(unet(*train_words(run, self.data, workers)), self.place / "whole.log")
        if attempt.wait():
            raise SystemExit(attempt.output())
        return content(run, COMPARED)

    def stop(self, kind: str, moment: Moment, number: signal.Signals, times: int) -> None:
        """Stop runs `times` times at this kind of moment by this signal, a few times each, and let each end."""
        while times:
            workers = 2 * (self._runs % 2)
            run = self.place / f"run-{self._runs}"
            self._runs += 1
            mine: list[Row] = []
            fruitless = 0
            while times and len(mine) < PER_RUN and fruitless < 2:
                row = self._stop_once(kind, moment, number, run, workers, mine)
                fruitless = 0 if row else fruitless + 1
                times -= 1 if row else 0
                if fruitless and kind != "while starting" and (run / SCORES).exists():
                    break  # it has come to its end
            self._end(run, workers, mine)
            self.rows += mine
            shutil.rmtree(run)
            print(f"{kind}: {sum(row.kind == kind for row in self.rows)} done", file=sys.stderr, flush=True)

    def _stop_once(
        self, kind: str, moment: Moment, number: int, run: Path, workers: int, mine: list[Row]
    ) -> Row | None:
        attempt = Attempt(unet(*train_words(run, self.data, workers)), self.place / "cut.log")
        seen = moment(attempt, run, self.rng)
        _note_resumption(mine, attempt)
        if not seen or attempt.ended():
            attempt.wait()
            return None
        asked = time.monotonic()
        attempt.signal(number)
        leave: float | str = ""
        if number != signal.SIGKILL:
            code = attempt.wait()
            leave = round(time.monotonic() - asked, 3)
            if code != 128 + number:
                raise SystemExit(f"{kind}: exit code {code}, not {128 + number}: {attempt.output()}")
        after = round(asked - attempt.started, 3)
        wrong = "; ".join(half_written(run)) if run.exists() else ""
        reached = attempt.reached if attempt.begun_at >= 0 else safe_update(run)
        row = Row(kind, workers, seen, after, reached, "", "", "no", wrong, leave, "no")
        mine.append(row)
        return row

    def _end(self, run: Path, workers: int, mine: list[Row]) -> None:
        """Let the run come to its end and compare it with the one that was never stopped."""
        attempt = Attempt(unet(*train_words(run, self.data, workers)), self.place / "end.log")
        code = attempt.wait()
        _note_resumption(mine, attempt)
        if workers not in self.references:
            self.references[workers] = self._reference(workers)
        same = code == 0 and content(run, COMPARED) == self.references[workers]
        if not same:
            print(f"{run}: exit code {code}, not the same: {attempt.output()}", file=sys.stderr)
        for row in mine:
            row.bit_equal = "yes" if same else "no"


def _note_resumption(rows: list[Row], attempt: Attempt) -> None:
    """Enter where the process took up the run that the last rows tell the stops of; nothing when it died before."""
    for row in rows:
        if row.resumed == "no" and attempt.begun_at >= 0:
            row.resumed_at, row.resumed = attempt.begun_at, "yes"
            row.lost = int(row.reached) - attempt.begun_at


def crash_rows(place: Path, seed: int, scale: float, only: str = "") -> list[Row]:
    """Stop runs `scale` times as often as the tables above say; one row per stop.

    only: kinds of moment whose name holds this.
    """
    prepare()
    crashes = Crashes(place, seed)
    stops: list[tuple[str, Moment, signal.Signals, int]] = [
        (k, moment, signal.SIGKILL, n) for k, (moment, n) in KILLS.items()
    ]
    for number in (signal.SIGTERM, signal.SIGINT):
        stops.append((f"{number.name} during steps", during_steps, number, 5))
        stops.append((f"{number.name} during an evaluation", during_evaluation, number, 5))
    for kind, moment, number, times in stops:
        if only in kind:
            crashes.stop(kind, moment, number, max(1, round(scale * times)))
    return crashes.rows


def wrong_rows(rows: list[Row]) -> list[Row]:
    """The rows in which something was lost that must not be."""

    def right(row: Row) -> bool:
        within = row.lost == "" or (0 <= int(row.lost) <= (0 if row.kind.startswith("SIG") else CHECKPOINT_EVERY))
        in_time = row.leave_s == "" or float(row.leave_s) <= LEAVE_WITHIN_S
        return within and in_time and (row.resumed, row.bit_equal, row.half_written) == ("yes", "yes", "")

    return [row for row in rows if not right(row)]


def main() -> int:
    """Returns 0 when nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual number of stops (80)")
    parser.add_argument("--only", default="", help="kinds of moment whose name holds this; nothing is written then")
    parser.add_argument("--out", type=Path, default=RESULTS)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        rows = crash_rows(Path(place), flags.seed, flags.scale, flags.only)
    if flags.only:
        print(*rows, sep="\n")
    else:
        write_rows(flags.out / "crash.csv", [asdict(row) for row in rows])
        print(write_readme(flags.out).read_text().split("## Crashes")[1].split("\n## ")[0])
    for row in wrong_rows(rows):
        print(f"lost: {row}")
    return 1 if wrong_rows(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
