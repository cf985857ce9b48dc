"""Proof of the fused loss on an NVIDIA GPU, in one command.

    python scripts/gpu/gpu_check.py [--json FILE] [--resume] [--only NAME ...] [--no-sanitizer] [--sanitizer-seconds S]

Runs the checks of loss_checks.py and gpu_only_checks.py, compiles every kernel (in as many processes as there are
cores), then runs compute-sanitizer's memcheck and racecheck over a few launches of each kernel where that program is
installed. Prints a table; writes JSON after every check, so that what was found outlives a machine that is taken away:
with --resume the checks that passed there, on the same device and commit, are not repeated. Ends with 1 when a check
fails, with 2 where there is no GPU.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from gpu_only_checks import GPU_CHECKS, small_for_the_sanitizer
from loss_checks import CHECKS, DTYPES, TARGETS

from unet.cores import usable
from unet.errors import one_line
from unet.files import write_json
from unet.loss.compile import SOURCE, compile_source, resources
from unet.loss.driver import unusable
from unet.loss.launch import FINISH, PASSES
from unet.loss.plan import CHANNELS_LAST, PLANAR, STRIDED, kind_name
from unet.runs.environment import describe

RESULTS = Path(__file__).resolve().parents[2] / "experiments" / "results" / "benchmarks"
# The driver's answers to being asked for what it lacks are no errors of the kernels.
SANITIZER_OPTIONS = ("--report-api-errors", "no", "--error-exitcode", "9")
# Every tensor has memory of its own: in one of torch's large blocks an access beyond it would still be a valid one.
SANITIZER_ENVIRONMENT = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}


def all_kinds() -> list[str]:
    """The template arguments of every kernel there is."""
    known = itertools.product(range(2, 17), DTYPES, TARGETS, (PLANAR, CHANNELS_LAST, STRIDED))
    any_number = itertools.product((0,), DTYPES, TARGETS, (STRIDED,))
    return [kind_name(dtype, target, c, layout) for c, dtype, target, layout in (*known, *any_number)]


def compiled(kind: str, capability: int) -> tuple[str, int, int, int]:
    """(kind, most registers, bytes of stack, bytes spilled) of the kernels of a kind, which the cache then holds."""
    found = resources(compile_source(SOURCE, (*(f"{name}<{kind}>" for name in PASSES), FINISH), capability))
    return (
        kind,
        max(r.registers for r in found),
        max(r.stack_bytes for r in found),
        max(r.spilled_bytes for r in found),
    )


def compile_everything(capability: int) -> dict[str, Any]:
    """Every kernel for one architecture, and what they take."""
    started = time.perf_counter()
    kinds = all_kinds()
    with ProcessPoolExecutor(len(usable()), get_context("spawn")) as pool:
        rows = list(pool.map(compiled, kinds, itertools.repeat(capability)))
    spilled = [row for row in rows if row[3]]
    most = max(row[1] for row in rows)
    detail = f"{len(rows) * len(PASSES) + 1} kernels, at most {most} registers, {len(spilled)} kinds spill"
    return {
        "check": f"compilation_for_{capability}",
        "passed": not spilled,
        "detail": detail,
        "seconds": time.perf_counter() - started,
        "kernels": [dict(zip(("kind", "registers", "stack_bytes", "spilled_bytes"), row, strict=True)) for row in rows],
    }


def run_check(check: Any, device: torch.device) -> dict[str, Any]:
    """One check: whether it passed, what it found or why it failed, how long it took."""
    started = time.perf_counter()
    try:
        detail, passed = check(device), True
    except Exception as error:  # a check may fail in any way, and the others shall run all the same
        detail, passed = f"{type(error).__name__}: {one_line(error)}", False
    return {"check": check.__name__, "passed": passed, "detail": detail, "seconds": time.perf_counter() - started}


def sanitize(tool: str, limit_seconds: float) -> dict[str, Any]:
    """compute-sanitizer over this script's smallest run."""
    name = f"compute-sanitizer {tool}"
    program = shutil.which("compute-sanitizer")
    if program is None:
        return {"check": name, "passed": True, "detail": "left out: compute-sanitizer is not installed", "seconds": 0.0}
    started = time.perf_counter()
    passed, detail = watched([program, "--tool", tool, *SANITIZER_OPTIONS], limit_seconds)
    return {"check": name, "passed": passed, "detail": detail, "seconds": time.perf_counter() - started}


def watched(sanitizer: list[str], limit_seconds: float) -> tuple[bool, str]:
    """Whether this sanitizer found nothing, or cannot watch the device at all; and what it said."""
    try:
        done = subprocess.run(
            [*sanitizer, sys.executable, __file__, "--sanitized"],
            env=os.environ | SANITIZER_ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_seconds,
        )
    except subprocess.TimeoutExpired:
        return False, f"not done after {limit_seconds:g} s"
    said = [line.strip("= ") for line in done.stdout.splitlines() if "SUMMARY" in line or "Error" in line]
    detail = "; ".join(said[-2:]) or one_line(Exception(done.stderr[-300:]))
    judged = any("ERROR SUMMARY" in line or "RACECHECK SUMMARY" in line for line in said)
    if not judged and ("not supported" in done.stdout or "Unable to" in done.stdout):
        return True, f"left out: it cannot watch this device ({detail})"
    return done.returncode == 0, detail


def row(result: dict[str, Any]) -> str:
    """A line of the table."""
    return (
        f"{'ok  ' if result['passed'] else 'FAIL'} {result['seconds']:7.1f} s  {result['check']:42} {result['detail']}"
    )


def every_result(
    options: argparse.Namespace, device: torch.device, kept: dict[str, dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Run what is asked for, in the order of its worth; what is `kept` is given as it was."""
    major, minor = torch.cuda.get_device_capability()
    capability = 10 * major + minor
    for check in (*CHECKS, *GPU_CHECKS):
        if not options.only or check.__name__ in options.only:
            yield kept.get(check.__name__) or run_check(check, device)
    if options.only:
        return
    yield kept.get(f"compilation_for_{capability}") or compile_everything(capability)
    if not options.no_sanitizer:
        for tool in ("memcheck", "racecheck"):
            yield kept.get(f"compute-sanitizer {tool}") or sanitize(tool, options.sanitizer_seconds)


def passed_before(path: Path, environment: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The results of a record that need not be found again: of checks that passed, on this device, of this commit."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        same = all(record["environment"][name] == environment[name] for name in ("device", "commit", "packages"))
        return {r["check"]: r for r in record["results"] if same and r["passed"]} if environment["commit"] else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULTS / "gpu_check.json")
    parser.add_argument("--resume", action="store_true", help="do not repeat what passed before")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="names of checks")
    parser.add_argument("--no-sanitizer", action="store_true")
    parser.add_argument("--sanitizer-seconds", type=float, default=150, help="limit for each of its tools")
    parser.add_argument("--sanitized", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    device = torch.device("cuda")
    reason = unusable(device)
    if reason:
        print(f"gpu_check needs an NVIDIA GPU: {reason}", file=sys.stderr)
        return 2
    device = torch.device("cuda", torch.cuda.current_device())
    if options.sanitized:
        print(small_for_the_sanitizer(device))
        return 0
    results: list[dict[str, Any]] = []
    environment = describe(device)
    record = {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"), "environment": environment, "results": results}
    kept = passed_before(options.json, environment) if options.resume else {}
    for result in every_result(options, device, kept):
        results.append(result)
        print(row(result), flush=True)
        write_json(options.json, record)
    failed = [result["check"] for result in results if not result["passed"]]
    print(f"{len(results) - len(failed)} of {len(results)} passed; {options.json}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
