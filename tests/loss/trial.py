"""Runs the demands on the kernels against planted faults, each in a process of its own: a fault may crash it.

python -m tests.loss.trial RESULT.json [all]      for every fault: the demand that failed, "crash", or null
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import torch

from tests.loss.mutants import FOUND_BY, Mutant, execute
from tests.loss.shim import checks, conversions, distances, ladder, memory, orders
from tests.loss.shim.host import BuildError, Fault
from tests.loss.shim.launcher import Kernels
from unet.loss import plan
from unet.loss.compile import CSRC

DEMANDS = {
    demand.__name__: demand
    for demand in (
        conversions.to_bfloat16_rounds_as_torch,
        checks.other_ignored_targets,
        checks.digits_of_confident_pixels,
        checks.nothing_valid_is_zero,
        checks.targets_outside_the_classes_are_seen,
        checks.ways_give_the_same_bits,
        checks.masked_pixels_may_hold_anything,
        checks.special_values_propagate_as_in_torch,
        orders.several_items_per_thread,
        distances.offsets_beyond_32_bits,
        distances.class_offsets_beyond_32_bits,
        distances.items_beyond_32_bits,
        orders.finish_adds_in_the_documented_order,
        orders.sums_in_the_documented_order,
        orders.grids_and_schedules_give_the_same_bits,
        checks.agrees_with_the_reference,
        memory.only_their_arrays_are_touched,
        ladder.every_step_sums,
        ladder.everything_is_read,
        ladder.additions_are_torchs,
        ladder.the_ladder_touches_its_arrays_only,
    )
}
LIMIT_SECONDS, AT_ONCE, CRASH, UNFIT = 60, 2, "crash", "does not compile"


def planted(mutant: Mutant, folder: Path) -> Path:
    """A copy of the sources with the fault in it."""
    csrc = folder / "csrc"
    shutil.copytree(CSRC, csrc)
    shutil.copy(ladder.steps.SOURCE, folder)
    path = (folder if mutant.file == "ladder.cu" else csrc) / mutant.file
    path.write_text(mutant.plant(path))
    return csrc


def kernels_with(mutant: Mutant, folder: Path) -> Kernels:
    """The kernels with the fault in them, or in the plan by which this process starts them."""
    if mutant.file == "plan.py":
        execute(plan, mutant)
        return Kernels()
    return Kernels(planted(mutant, folder))


def trial(mutant: Mutant, names: tuple[str, ...]) -> str | None:
    """The first of these demands that the kernels with the fault do not meet."""
    with tempfile.TemporaryDirectory() as folder:
        kernels = kernels_with(mutant, Path(folder))
        for name in names:
            try:
                DEMANDS[name](kernels)
            except (AssertionError, Fault):
                return name
            except BuildError:
                return UNFIT
    return None


def main(result: Path, everything: bool = False) -> None:
    """Try all faults, two at a time; with `everything` against all demands, to learn which finds a fault first."""
    torch.set_num_threads(1)  # no thread may exist when the process is copied
    for name in ("other_ignored_targets", "ways_give_the_same_bits"):
        DEMANDS[name](Kernels())  # what torch loads at first use is loaded once, here
    found: dict[str, str | None] = {}
    running: dict[int, tuple[Mutant, int]] = {}
    waiting = [(mutant, demand) for demand, mutants in FOUND_BY.items() for mutant in mutants]
    while waiting or running:
        if waiting and len(running) < AT_ONCE:
            mutant, demand = waiting.pop()
            readable, writable = os.pipe()
            child = os.fork()
            if child == 0:
                signal.alarm(LIMIT_SECONDS)
                os.write(writable, json.dumps(trial(mutant, tuple(DEMANDS) if everything else (demand,))).encode())
                os._exit(0)
            os.close(writable)
            running[child] = mutant, readable
            continue
        child, _ = os.wait()
        mutant, readable = running.pop(child)
        answer = os.read(readable, 1000)
        os.close(readable)
        found[mutant.name] = json.loads(answer) if answer else CRASH
    result.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), "all" in sys.argv[2:])
