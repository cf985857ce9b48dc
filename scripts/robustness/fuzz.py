"""Generated hostile and broken files for everything that reads: each must end in a result or in one of the declared
errors, on one line, within bounded memory and time.

    python scripts/robustness/fuzz.py [--cases N] [--only WORD] [--seed N] [--out FOLDER]       (make fuzz)

Writes fuzz.json and README.md (experiments/results/robustness). 12,800 cases by default, about ten minutes on a core.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from fuzz_cases import READERS, Case
from harness import RESULTS
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from page import write_readme

from unet.errors import UserError, printable
from unet.files import write_json

SLOWEST_S = 10.0
MOST_BYTES = 3 * 2**30  # of address space beyond what the process has when it begins


@dataclass
class Count:
    """What became of the cases of one reader."""

    cases: int = 0
    results: int = 0
    refused: int = 0
    other: int = 0
    slowest_s: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)  # by where they were raised


def one(case: Case, draw: Any, count: Count) -> None:
    """Run one case and count its outcome; any undeclared error is kept with its traceback."""
    started = time.monotonic()
    quiet = io.StringIO()
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                case(draw, Path(place))
            count.results += 1
        except UserError as error:
            line = printable(str(error))
            if "\n" in line or not line or len(line) > 100_000:
                _keep(count, error)
            count.refused += 1
        except Exception as error:
            if type(error).__module__.startswith("hypothesis"):
                raise
            _keep(count, error)
    seconds = time.monotonic() - started
    count.cases += 1  # cases that hypothesis gives up while they are generated do not count
    count.slowest_s = max(count.slowest_s, seconds)
    if seconds > SLOWEST_S:
        count.other += 1
        count.failures["slow"] = f"{seconds:.1f} s"


def _keep(count: Count, error: BaseException) -> None:
    count.other += 1
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/unet/" in f.filename]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "the case itself"
    count.failures.setdefault(f"{type(error).__name__} at {place}", "".join(traceback.format_exception(error))[-3000:])


def fuzz(name: str, cases: int, random_seed: int | None) -> Count:
    """Run this many cases for one reader."""
    count = Count()

    @settings(
        max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        one(READERS[name], data.draw, count)

    (run if random_seed is None else seed(random_seed)(run))()
    return count


def main() -> int:
    """Returns 0 when every outcome was a result or a declared error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=12_800, help="in all")
    parser.add_argument("--only", default="", help="readers whose name holds this; nothing is written then")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--out", type=Path, default=RESULTS)
    flags = parser.parse_args()
    import unet.evaluation.run  # noqa: F401  what is imported now is not counted as memory of a case

    has = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (has + MOST_BYTES, resource.RLIM_INFINITY))
    names = [name for name in READERS if flags.only in name]
    counts = {}
    for name in names:
        counts[name] = fuzz(name, -(-flags.cases // len(names)), flags.seed)
        shown = {k: v for k, v in asdict(counts[name]).items() if k != "failures"}
        print(f"{name}: {shown}", file=sys.stderr, flush=True)
        for where, text in counts[name].failures.items():
            print(f"--- {name}: {where}\n{text}", file=sys.stderr, flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    if not flags.only:
        readers = {n: {k: v for k, v in asdict(c).items() if k != "failures"} for n, c in counts.items()}
        old = flags.out / "fuzz.json"
        mended = json.loads(old.read_text())["mended"] if old.exists() else []
        write_json(old, {"readers": readers, "peak_mb": round(peak), "mended": mended})
        write_readme(flags.out)
    print(f"{sum(c.cases for c in counts.values()):,} cases, peak memory {peak:,.0f} MB")
    return 1 if any(count.other for count in counts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
