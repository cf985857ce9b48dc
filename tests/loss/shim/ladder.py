"""What is demanded of the kernels of experiments/reduction_ladder. Functions as in checks.py."""

from __future__ import annotations

import ctypes
import importlib
import itertools
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from tests.loss.shim.checks import SCHEDULES
from tests.loss.shim.distances import far_memory
from tests.loss.shim.host import BACKWARD, FORWARD, RANDOM, WATCHED, Program
from tests.loss.shim.launcher import Kernels
from tests.loss.shim.memory import READ, WRITE, allowed_bytes

FOLDER = Path(__file__).parents[3] / "experiments" / "reduction_ladder"


@cache
def script(name: str) -> ModuleType:
    """A module of the experiment, which is run as a script, not as a package."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    return importlib.import_module(name)


steps = script("ladder_steps")


@cache
def _program(csrc: Path, source: Path, flags: tuple[str, ...]) -> Program:
    return Program(source, steps.KERNELS, csrc, flags)


def program(kernels: Kernels, *flags: str) -> Program:
    """The ladder; a mutant's copy stands beside its copy of csrc."""
    copy = kernels.csrc.parent / "ladder.cu"
    return _program(kernels.csrc, copy if copy.exists() else steps.SOURCE, (*kernels.flags, *flags))


def sums_of(kernels: Kernels, step: object, values: Tensor, resident: int = 2, **schedule: int) -> Tensor:
    """The sums of the rows by one step."""
    vectors, length = values.shape
    sums = torch.full((vectors,), 0.0 if step is steps.STEPS[0] else torch.nan)
    params = steps.Vectors(values.data_ptr(), sums.data_ptr(), vectors, length, 0)
    blocks = step.blocks(vectors, resident)  # type: ignore[attr-defined]
    program(kernels).run(step.kernel, params, blocks, threads=step.threads, **schedule)  # type: ignore[attr-defined]
    return sums


def every_step_sums(kernels: Kernels) -> None:
    """Short and long vectors, of lengths that fill no block or tile, in all schedules; and to the same bits but for
    the first step."""
    for length, vectors in ((2052, 2), (4, 3), (36, 40), (1024, 2), (2048, 3), (4500, 2)):
        values = torch.randn(vectors, length, generator=torch.Generator().manual_seed(length))
        for step in steps.STEPS:
            results = [
                sums_of(kernels, step, values, resident, schedule=schedule, seed=seed)
                for resident, (schedule, seed) in zip((1, 2, 3, 50), SCHEDULES, strict=True)
            ]
            for result in results:
                torch.testing.assert_close(result.double(), values.double().sum(dim=1), rtol=1e-5, atol=1e-4)
                if step is not steps.STEPS[0]:
                    torch.testing.assert_close(result, results[0], rtol=0, atol=0)


def everything_is_read(kernels: Kernels) -> None:
    """Whichever value is the magic one, the thread that reads it says so."""
    vectors, length = 7, 1204
    count = vectors * length
    for place in (0, 1, 2, 3, count // 2 + 1, count - 1, *range(5, count, 997)):
        values, sums = torch.zeros(vectors, length), torch.zeros(vectors)
        values.view(torch.int32).view(-1)[place] = 0x5EED5EED
        params = steps.Vectors(values.data_ptr(), sums.data_ptr(), vectors, length, 0)
        program(kernels).run(steps.READ.kernel, params, 1 + place % 3, threads=steps.READ.threads)
        assert sums[0] == 1


def figures_are_those_of_the_kernels(kernels: Kernels) -> None:
    """Barriers and shuffles that a thread meets with a vector of 2,048 values."""
    values, sums = torch.zeros(1, steps.LENGTH), torch.zeros(1)
    run = program(kernels)
    for step in (*steps.STEPS, steps.READ):
        params = steps.Vectors(values.data_ptr(), sums.data_ptr(), 1, steps.LENGTH, 0)
        before = run.barriers_and_shuffles()
        run.run(step.kernel, params, 1, threads=step.threads)
        met = tuple(b - a for a, b in zip(before, run.barriers_and_shuffles(), strict=True))
        assert met == (step.figures.barriers, step.figures.shuffles), step.title


def far_vectors_and_elements(kernels: Kernels) -> None:
    """The last of more than 2^31 values, alone: vectors, reading, additions."""
    length, vectors = 2**20, 2**11 + 1
    values = far_memory(vectors * length, torch.float32)
    values[-length:] = torch.arange(length) % 7
    wanted = float(values[-length:].double().sum())
    for step in steps.STEPS:
        sums = torch.zeros(vectors)
        params = steps.Vectors(values.data_ptr(), sums.data_ptr(), vectors, length, 0)
        grid = step.blocks(vectors, -(-vectors // 8))
        program(kernels).run(step.kernel, params, grid, threads=step.threads, blocks=(grid - 1, grid))
        torch.testing.assert_close(sums[-1].double(), torch.tensor(wanted, dtype=torch.double), rtol=1e-5, atol=0)
    values.view(torch.int32)[-1] = 0x5EED5EED
    values[-length:-1] = 0
    sums = torch.zeros(vectors)
    params = steps.Vectors(values.data_ptr(), sums.data_ptr(), vectors, length, 0)
    grid = vectors * length // 4 // steps.READ.threads
    program(kernels).run(steps.READ.kernel, params, grid, threads=steps.READ.threads, blocks=(grid - 1, grid))
    assert sums[0] == 1
    count = 2**31 + 4096
    a, b, total = (far_memory(count, torch.bfloat16) for _ in range(3))
    a[-8:], b[-8:] = torch.arange(8).to(torch.bfloat16), 2
    for step in steps.ADDITIONS:
        total[-8:] = torch.nan
        params = steps.Arrays(a.data_ptr(), b.data_ptr(), total.data_ptr(), count)
        grid = step.blocks(count, 2)
        program(kernels).run(step.kernel, params, grid, threads=step.threads, blocks=(grid - 1, grid))
        torch.testing.assert_close(total[-8:], a[-8:] + b[-8:], rtol=0, atol=0)


def additions_are_torchs(kernels: Kernels) -> None:
    """To the bit, NaN and infinities included, for counts that fill no block."""
    for count in (8, 2056, 4096):
        a, b = (torch.randn(count, generator=torch.Generator().manual_seed(s)).to(torch.bfloat16) for s in (1, 2))
        a[:4] = torch.tensor([torch.inf, -torch.inf, torch.nan, 3e38])
        b[:4] = torch.tensor([-torch.inf, 1.0, 1.0, 3e38])
        for step in steps.ADDITIONS:
            total = torch.full_like(a, torch.nan)
            params = steps.Arrays(a.data_ptr(), b.data_ptr(), total.data_ptr(), count)
            program(kernels).run(step.kernel, params, step.blocks(count, 2), threads=step.threads, schedule=BACKWARD)
            torch.testing.assert_close(total, a + b, rtol=0, atol=0, equal_nan=True)


def the_ladder_touches_its_arrays_only(kernels: Kernels) -> None:
    """No access outside the arrays, none misaligned, and nothing in shared memory without a barrier between."""
    watched = program(kernels, *WATCHED)

    def watch(*arrays: tuple[Tensor, int]) -> list[Tensor]:
        watched.library.watch_nothing()
        kept = []
        for array, allowed in arrays:
            marks = allowed_bytes(array, allowed)
            storage = array.untyped_storage()
            watched.library.watch_array(storage.data_ptr(), storage.nbytes(), marks.data_ptr())
            kept.append(marks)
        return kept

    for length, vectors in ((36, 3), (2052, 2)):
        values = torch.randn(vectors * length + 8)[:-8].view(vectors, length)
        for step, resident in itertools.product((*steps.STEPS, steps.READ), (1, 2)):
            sums = torch.zeros(vectors + 4)[:-4]
            kept = watch((values, READ), (sums, READ | WRITE if step is steps.STEPS[0] else WRITE))
            params = steps.Vectors(values.data_ptr(), sums.data_ptr(), vectors, length, 0)
            watched.run(step.kernel, params, step.blocks(vectors, resident), threads=step.threads, schedule=RANDOM)
            assert kept
    a, b, total = (torch.zeros(4096, dtype=torch.bfloat16)[:2056] for _ in range(3))
    for step in steps.ADDITIONS:
        kept = watch((a, READ), (b, READ), (total, WRITE))
        params = steps.Arrays(a.data_ptr(), b.data_ptr(), total.data_ptr(), 2056)
        watched.run(step.kernel, params, step.blocks(2056, 2), threads=step.threads, schedule=FORWARD)
        assert kept
    watched.library.watch_nothing()


class ShimDevice:
    """Stands in for the GPU of ladder.py."""

    name = "cpu"

    def __init__(self, kernels: Kernels) -> None:
        self.program = program(kernels)

    def start(self, step: object, params: ctypes.Structure, count: int) -> None:
        blocks = step.blocks(count, 2)  # type: ignore[attr-defined]
        self.program.run(step.kernel, params, blocks, threads=step.threads)  # type: ignore[attr-defined]

    def seconds_of(self, call: Callable[[], object]) -> list[float]:
        call()
        return [1e-3, 2e-3, 4e-3]
