"""What is demanded of the kernels' accesses to memory, each of which is watched. Functions as in checks.py."""

from __future__ import annotations

import itertools
from functools import cache

import torch
from torch import Tensor

from tests.loss.shim.cases import Arrangement, Case, make_case, run
from tests.loss.shim.checks import MODES, VARIED, kind_of, varied
from tests.loss.shim.host import RANDOM, WATCHED
from tests.loss.shim.launcher import Kernels, ShimLauncher

READ, WRITE = 1, 2


@cache
def watched(kernels: Kernels) -> Kernels:
    """The same sources, compiled so that every access is watched; each kind when it is needed, for most faults show in
    the first."""
    return kernels.with_flags(WATCHED)


def allowed_bytes(view: Tensor, allowed: int) -> Tensor:
    """For every byte of the memory a view belongs to: `allowed` where the view has a value, else 0."""
    storage = view.untyped_storage()
    elements = torch.zeros(storage.nbytes() // view.element_size(), dtype=torch.uint8)
    elements.as_strided(view.shape, view.stride(), view.storage_offset()).fill_(allowed)
    return elements.repeat_interleave(view.element_size())


class Watch:
    """Tells the program of a kind which bytes its kernels may touch."""

    def __init__(self, kernels: Kernels, kind: str) -> None:
        self.library = kernels.program(kind).library
        self.library.watch_nothing()
        self.kept: list[Tensor] = []

    def add(self, view: Tensor, allowed: int) -> None:
        marks = allowed_bytes(view, allowed)
        self.kept.append(marks)
        storage = view.untyped_storage()
        self.library.watch_array(storage.data_ptr(), storage.nbytes(), marks.data_ptr())


def only_their_arrays_are_touched(kernels: Kernels) -> None:
    """No read or write outside the arrays, in the gaps of sliced ones neither; no misaligned access; nothing in shared
    memory is read or overwritten without a barrier between."""
    seen = watched(kernels)
    for index, mode in itertools.product(range(len(VARIED)), MODES):
        case = varied(index, weights=True, mask=True, reduction="weighted_mean", upstream=0.5)
        _touches(seen, case, mode)
    for at in range(5):  # one array off its packs at a time, after none was
        offsets = (at == 1, at == 2, at == 3, at == 4)
        case = make_case(1, (2, 2, 4, 8), arrangement=Arrangement(offsets=tuple(map(int, offsets))))
        _touches(seen, case, "recompute")
    several_chunks = make_case(1, (1, 2, 40, 80))
    _touches(seen, several_chunks, "recompute")
    several_chunks.target[:, 3:5] = 77  # no class
    _touches(seen, several_chunks, "one_pass")


def _touches(kernels: Kernels, case: Case, mode: str) -> None:
    inputs = case.inputs()
    watch = Watch(kernels, kind_of(inputs))
    for array in (inputs.logits, inputs.target, inputs.weight, inputs.valid):
        if array is not None:
            watch.add(array, READ)
    run(case, ShimLauncher(kernels, 2, RANDOM, 5), mode, lambda a, read: watch.add(a, READ | WRITE if read else WRITE))
    watch.library.watch_nothing()
