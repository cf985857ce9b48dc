"""Runs the demands on the kernels against planted faults, each in a process of its own: a fault may crash it.

python -m tests.loss.trial RESULT.json [all] [NAME ...]      for every fault: the demand that failed, "crash" (by which
an endless loop is meant too), or null
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path

import torch

from tests.loss.mutants import FOUND_BY, Mutant, execute
from tests.loss.shim import checks, conversions, distances, ladder, memory, orders
from tests.loss.shim.host import BuildError, Fault
from tests.loss.shim.launcher import Kernels
from unet.loss import launch, plan
from unet.loss.compile import CSRC

DEMANDS = {
    demand.__name__: demand
    for demand in (
        conversions.to_bfloat16_rounds_as_torch,
        conversions.logarithms_are_accurate,
        checks.other_ignored_targets,
        checks.digits_of_confident_pixels,
        checks.nothing_valid_is_zero,
        checks.targets_outside_the_classes_are_seen,
        checks.weights_may_be_negative,
        checks.weights_and_masks_of_other_shapes_and_types,
        checks.plans_are_not_mixed_up,
        checks.ways_give_the_same_bits,
        checks.masked_pixels_may_hold_anything,
        checks.special_values_propagate_as_in_torch,
        orders.several_items_per_thread,
        distances.offsets_beyond_32_bits,
        distances.class_offsets_beyond_32_bits,
        distances.items_beyond_32_bits,
        orders.more_chunks_than_threads,
        checks.one_pair_many_times,
        orders.finish_adds_in_the_documented_order,
        orders.sums_in_the_documented_order,
        orders.grids_and_schedules_give_the_same_bits,
        checks.agrees_with_the_reference,
        memory.only_their_arrays_are_touched,
        ladder.every_step_sums,
        ladder.everything_is_read,
        ladder.additions_are_torchs,
        ladder.figures_are_those_of_the_kernels,
        ladder.far_vectors_and_elements,
        ladder.the_ladder_touches_its_arrays_only,
    )
}
HOST = {"plan.py": plan, "launch.py": launch}
LIMIT_SECONDS, AT_ONCE, CRASH, UNFIT = 60, 2, "crash", "does not compile"
"""Seconds of processor time that a fault may take."""


def planted(mutant: Mutant, folder: Path) -> Path:
    """A copy of the sources with the fault in it."""
    csrc = folder / "csrc"
    shutil.copytree(CSRC, csrc)
    shutil.copy(ladder.steps.SOURCE, folder)
    path = (folder if mutant.file == "ladder.cu" else csrc) / mutant.file
    path.write_text(mutant.plant(path))
    return csrc


def home_of(mutant: Mutant) -> Path:
    """The file that a fault is planted into."""
    if mutant.file in HOST:
        return Path(str(HOST[mutant.file].__file__))
    return ladder.steps.SOURCE if mutant.file == "ladder.cu" else CSRC / mutant.file


def kernels_with(mutant: Mutant, folder: Path) -> Kernels:
    """The kernels with the fault in them, or in the plan by which this process starts them."""
    if mutant.file in HOST:
        execute(HOST[mutant.file], mutant)
        if mutant.file == "plan.py":
            execute(launch)  # which has imported its functions
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


def main(result: Path, names: tuple[str, ...] = (), everything: bool = False) -> None:
    """Try faults (all, or those named), two at a time; with `everything` against all demands, to learn which finds a
    fault first."""
    torch.set_num_threads(1)  # no thread may exist when the process is copied
    for name in ("other_ignored_targets", "ways_give_the_same_bits"):
        DEMANDS[name](Kernels())  # what torch loads at first use is loaded once, here
    found: dict[str, str | None] = {}
    running: dict[int, tuple[Mutant, int]] = {}
    waiting = [(m, demand) for demand, mutants in FOUND_BY.items() for m in mutants if not names or m.name in names]
    for mutant, _ in waiting:
        mutant.plant(home_of(mutant))  # ValueError where the sources no longer hold what is replaced
    while waiting or running:
        if waiting and len(running) < AT_ONCE:
            mutant, demand = waiting.pop()
            readable, writable = os.pipe()
            child = os.fork()
            if child == 0:
                resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_SECONDS, LIMIT_SECONDS))
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
    main(Path(sys.argv[1]), tuple(a for a in sys.argv[2:] if a != "all"), "all" in sys.argv[2:])
