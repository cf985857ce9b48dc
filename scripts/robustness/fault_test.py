"""Faults made to happen to real processes: what the user sees, the exit code, what is left, how it goes on.

    python scripts/robustness/fault_test.py [--only WORD] [--out FOLDER]

Full disks are made by a limit on the size of files or by a small tmpfs, a read-only folder by a mount (both need root
and are skipped, with the reason, without). Every fault must end in one line and an exit code that says so, and the run
must then go on to the same bits as one that met no fault. What needs no process of its own (damaged files, a clock that
goes backwards, exhausted memory of a GPU) is in tests/training/test_resume.py. Writes faults.csv and README.md
(experiments/results/robustness). About a minute on two cores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: forked processes must find no threads

from crash_test import COMPARED
from fault_bench import Bench, Ran, Result, Skipped, checkpoint_left, image, mounted, said, temporary
from harness import RESULTS, Attempt, content, unet, until, write_rows
from page import write_readme

from unet.runs.checkpoint import load_latest
from unet.runs.folder import CHECKPOINTS, ENVIRONMENT, METRICS, TIMING


@dataclass
class Row:
    """One fault; `right` is "yes", "no", or "skipped"."""

    fault: str
    seen: str
    exit_code: int | str
    left: str
    goes_on: str
    right: str


# -- full disks --------------------------------------------------------------------------------------------------------


def full_checkpoint(bench: Bench) -> Result:
    run = bench.begun("a")
    ran = bench.run("a", limit_bytes=30_000)
    left = checkpoint_left(run)
    how, same = bench.goes_on("a", "free some space, --resume")
    right = said(ran, "no space left", "update-", "resume") and not temporary(run) and "update 2" in left
    return ran.seen, ran.code, left, how, right and same


def full_jsonl(bench: Bench) -> Result:
    run = bench.begun("b", updates=29)  # a row comes before the next checkpoint
    size = (run / METRICS).stat().st_size
    environment = (run / ENVIRONMENT).stat().st_size
    (run / TIMING).unlink()
    rows = (run / METRICS).read_bytes()
    limit = max(size + 60, environment + 200)
    # A row is cut in the middle: the file is first filled up with spaces, which JSON does not mind.
    (run / METRICS).write_bytes(rows[:-1] + b" " * (limit - 60 - size) + b"\n")
    _move_end_of_rows(run, limit - 60)
    ran = bench.run("b", limit_bytes=limit)
    left = checkpoint_left(run)
    (run / METRICS).write_bytes(rows)
    _move_end_of_rows(run, size)
    how, same = bench.goes_on("b", "free some space, --resume")
    return ran.seen, ran.code, left, how, said(ran, "metrics.jsonl: no space left") and "update" in left and same


def _move_end_of_rows(run: Path, size: int) -> None:
    """Tell the checkpoint that metrics.jsonl had this length."""
    from unet.runs.checkpoint import save_checkpoint

    saved, _ = load_latest(run / CHECKPOINTS)
    assert saved is not None
    saved["state"]["metrics_bytes"] = size
    save_checkpoint(run / CHECKPOINTS, saved["state"]["update"], saved)


def full_scores(bench: Bench) -> Result:
    shutil.copytree(bench.whole, bench.place / "c")
    attempt = Attempt(unet("evaluate", str(bench.place / "c"), "--quiet"), bench.log(), limit_bytes=20_000)
    ran = Ran(bench.place / "c", attempt.wait(), bench.shown(attempt))
    kept = content(ran.folder, COMPARED) == bench.reference
    again = Attempt(unet("evaluate", str(bench.place / "c"), "--quiet"), bench.log()).wait() == 0
    right = said(ran, "probabilities.tif: no space left") and kept and again and not temporary(ran.folder)
    return ran.seen, ran.code, "the scores that were there", "the same command", right


def full_prediction(bench: Bench) -> Result:
    source, out = image(bench), bench.place / "out.tif"
    words = ("predict", str(bench.whole), str(source), "--out", str(out), "--quiet")
    attempt = Attempt(unet(*words), bench.log(), limit_bytes=200_000)
    ran = Ran(bench.place, attempt.wait(), bench.shown(attempt))
    nothing = not list(bench.place.glob("*out.tif*"))
    again = Attempt(unet(*words), bench.log()).wait() == 0 and out.exists()
    return (
        ran.seen,
        ran.code,
        "nothing" if nothing else "SOMETHING",
        "the same command",
        said(ran) and nothing and again,
    )


def small_disk(bench: Bench) -> Result:
    source = image(bench)
    with mounted(bench.place / "disk", "tmpfs", "-o", "size=400k") as disk:
        words = ("predict", str(bench.whole), str(source), "--out", str(disk / "out.tif"), "--quiet")
        attempt = Attempt(unet(*words), bench.log())
        ran = Ran(disk, attempt.wait(), bench.shown(attempt))
        nothing = not list(disk.iterdir())
    right = said(ran, "needs", "are free") and nothing
    return ran.seen, ran.code, "nothing, refused before the first tile", "another place with --out", right


def small_disk_training(bench: Bench) -> Result:
    with mounted(bench.place / "e", "tmpfs", "-o", "size=500k") as run:
        ran = bench.run("e")
        left, rest = checkpoint_left(run), temporary(run)
        shutil.copytree(run, bench.place / "larger")
    how, same = bench.goes_on("larger", "on a larger disk, --resume")
    return ran.seen, ran.code, left, how, said(ran, "no space left") and not rest and same


def read_only(bench: Bench) -> Result:
    run = bench.begun("f")
    bind = [["mount", "--bind", str(run), str(run)], ["mount", "-o", "remount,ro,bind", str(run)]]
    if os.geteuid() or any(subprocess.run(command, capture_output=True).returncode for command in bind):
        raise Skipped("mounting needs root")
    try:
        ran = bench.run("f")
    finally:
        subprocess.run(["umount", str(run)], check=True)
    left = checkpoint_left(run)
    how, same = bench.goes_on("f", "correct the rights, --resume")
    return ran.seen, ran.code, left, how, said(ran, "cannot be written", "Read-only") and same


# -- processes, memory -------------------------------------------------------------------------------------------------


def dead_worker(bench: Bench) -> Result:
    attempt = Attempt(unet(*bench.words("g", workers=2)), bench.log())
    until(lambda: attempt.reached >= 20, attempt)
    children = Path(f"/proc/{attempt.pid}/task/{attempt.pid}/children")
    if not children.exists():
        raise Skipped("needs /proc")
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    ran = Ran(bench.place / "g", attempt.wait(), bench.shown(attempt))
    left = checkpoint_left(ran.folder)
    how, same = bench.goes_on("g")
    return ran.seen, ran.code, left, how, said(ran, "cuts tiles failed", "checkpoint", "--resume") and same


def no_memory(bench: Bench) -> Result:
    """The process may take no more address space than it has and some; its network is too large for that."""

    def work() -> int:
        import resource

        has = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (has + 250 * 2**20, resource.RLIM_INFINITY))
        return unet(*bench.words("i"), "--tile.input-px", "508", "--model.base-channels", "64")()

    if not Path("/proc/self/statm").exists():
        raise Skipped("needs /proc")
    attempt = Attempt(work, bench.log())
    ran = Ran(bench.place / "i", attempt.wait(), bench.shown(attempt))
    right = said(ran, "out of memory", "input-px")
    return ran.seen, ran.code, checkpoint_left(ran.folder), "a new run with the smaller tile", right


def two_processes(bench: Bench) -> Result:
    first = Attempt(unet(*bench.words("k", workers=2)), bench.log())
    until(lambda: first.reached >= 3, first)
    ran = bench.run("k")
    first.signal(signal.SIGKILL)
    how, same = bench.goes_on("k", "after kill -9 of the first, at once: --resume")
    return ran.seen, ran.code, "the first goes on", how, said(ran, "in use by another process", str(first.pid)) and same


FAULTS: dict[str, Callable[[Bench], Result]] = {
    "disk full while a checkpoint is written": full_checkpoint,
    "disk full while a row of metrics.jsonl is written": full_jsonl,
    "disk full while the scores are written": full_scores,
    "disk full while a prediction is written": full_prediction,
    "a disk too small for the prediction": small_disk,
    "a disk too small for the run": small_disk_training,
    "read-only run folder": read_only,
    "a process that cuts tiles is killed": dead_worker,
    "out of memory on the CPU": no_memory,
    "two processes on one run folder": two_processes,
}


def fault_rows(place: Path, only: str = "") -> list[Row]:
    """Make the faults happen whose name holds `only`; one row each."""
    bench = Bench(place)
    rows = []
    for fault, happen in FAULTS.items():
        if only not in fault:
            continue
        try:
            seen, code, left, how, right = happen(bench)
            rows.append(Row(fault, seen, code, left, how, "yes" if right else "no"))
        except Skipped as reason:
            rows.append(Row(fault, f"skipped: {reason}", "", "", "", "skipped"))
        print(f"{fault}: {rows[-1].right}", file=sys.stderr, flush=True)
    return rows


def main() -> int:
    """Returns 0 when every fault ended as it should."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="faults whose name holds this; nothing is written then")
    parser.add_argument("--out", type=Path, default=RESULTS)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        rows = fault_rows(Path(place), flags.only)
    if not flags.only:
        write_rows(flags.out / "faults.csv", [asdict(row) for row in rows])
        write_readme(flags.out)
    for row in rows:
        print(row)
    return 1 if any(row.right == "no" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
