"""Processor time of a training step in two states of the code, a step of one, then a step of the other.

    git worktree add ../before COMMIT
    python scripts/bench/bench_before_after.py ../before --base-channels 16 32 64 --rounds 20

Each state computes in a process of its own, on one core with one thread, with what a run sets for its memory. What is
measured is the processor time of the step, not its duration, so that it holds beside other work; beside it, caches are
shared, so the least and p20 tell more than the median. Prints TFLOP/s and appends a row per state to the CSV file.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from bench_train import BF16, flops_of_a_step
from measure import Timing, append_rows, flags

from unet.cores import pin, usable

HERE = Path(__file__).resolve().parents[2]


class State:
    """A checkout that computes steps in a process of its own."""

    def __init__(self, checkout: Path, case: tuple[int, int, int], core: int) -> None:
        command = [sys.executable, str(Path(__file__).with_name("step_server.py")), str(checkout), *map(str, case)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        pin(self.process.pid, [core])

    def step(self) -> float:
        """Seconds of processor time of one update."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def stop(self) -> None:
        """End the process."""
        self.process.communicate()


def measured(checkouts: dict[str, Path], case: tuple[int, int, int], rounds: int) -> dict[str, Timing]:
    """Timings of the states by name, in turns, after two steps that do not count."""
    states = {name: State(checkout, case, usable()[-1]) for name, checkout in checkouts.items()}
    seconds: dict[str, list[float]] = {name: [] for name in states}
    try:
        for made in range(rounds + 2):
            for name, state in states.items():
                taken = state.step()
                if made >= 2:
                    seconds[name].append(taken)
    finally:
        for state in states.values():
            state.stop()
    return {name: Timing(np.array(taken), 1 / min(taken), 1 / min(taken)) for name, taken in seconds.items()}


def commit_of(checkout: Path) -> str:
    """Abbreviated commit of a checkout."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short=7", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Command line."""
    parser = flags(__doc__, "train.csv", rounds=20)
    parser.add_argument("before", type=Path, help="checkout of the earlier state")
    parser.add_argument("--case", default="508x1", help="tile side x batch")
    parser.add_argument("--base-channels", type=int, nargs="+", default=[16, 32, 64])
    arguments = parser.parse_args()
    tile_px, batch = (int(number) for number in arguments.case.split("x"))
    places = {"before": arguments.before.resolve(), "after": HERE}
    checkouts = {f"{name} ({commit_of(place)})": place for name, place in places.items()}
    for channels in arguments.base_channels:
        timings = measured(checkouts, (tile_px, batch, channels), arguments.rounds)
        flops = flops_of_a_step(tile_px, batch, channels)
        print(f"{arguments.case}, {channels} channels: {flops / 1e9:.1f} GFLOP a step")
        for name, timing in timings.items():
            least, p20 = timing.seconds.min(), timing.percentiles_ms()[0]
            rate = flops / 1e9 / least
            print(f"  {name:18} least {least * 1e3:8.1f} ms, p20 {p20:8.1f} ms, {rate:6.1f} GFLOP/s at best")
        title = f"{arguments.case}, {channels} channels, {BF16}, one core, processor time"
        append_rows(arguments.csv, "training step before and after", title, timings, ("torch",))


if __name__ == "__main__":
    main()
