"""Which cores and GPUs this process may use: a container, a scheduler or `taskset` may allow fewer than there are."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from itertools import pairwise


def usable() -> list[int]:
    """Numbers of the cores, in order; where the system does not say which may be used, all of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def shares(count: int) -> list[list[int]]:
    """The usable cores in `count` parts that differ by one core at most; all are empty where there are too few."""
    cores = usable()
    bounds = [len(cores) * part // count if len(cores) >= count else 0 for part in range(count + 1)]
    return [cores[first:stop] for first, stop in pairwise(bounds)]


def pin(process: int, cores: list[int]) -> None:
    """Keep a process that has just begun, and all its threads to come, on these cores; without effect elsewhere.

    Not on an empty list, and where it is over already or the system refuses: it then runs anywhere.
    """
    if cores and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(process, cores)


GPUS = "CUDA_VISIBLE_DEVICES"


def gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; asked without loading torch."""
    if (allowed := os.environ.get(GPUS)) is not None:
        return [name.strip() for name in allowed.split(",") if name.strip() and name.strip() != "-1"]
    try:
        told = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(number) for number in range(sum(line.startswith("GPU ") for line in told.splitlines()))]
