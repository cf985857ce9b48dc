"""Stands in for a GPU: runs the kernels of the loss on CPU tensors, in memory that shows what was not written."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from tests.loss.shim.host import FORWARD, Program
from unet.loss import launch
from unet.loss.compile import CSRC
from unet.loss.launch import FINISH, PASSES, Params
from unet.loss.plan import CHANNELS_LAST, LOGIT_NAMES, PLANAR, STRIDED, TARGET_NAMES, kind_name, unrolled

LOGITS, TARGETS = tuple(LOGIT_NAMES), tuple(TARGET_NAMES)
Combination = tuple[int, torch.dtype, torch.dtype]
"""Number of classes, types of logits and targets."""


def combinations() -> list[Combination]:
    """What the tests run: two classes and the kernels for any number in all types, every other number in types that
    take turns."""
    everything = [(c, a, b) for c in (1, 2, 17) for a in LOGITS for b in TARGETS]
    turns = [(c, LOGITS[c % 3], TARGETS[c // 3 % 2]) for c in (*range(3, 17), 20, 33)]
    return [*everything, *turns, (3, torch.bfloat16, torch.int64)]


def kinds_of(classes: int, logit: torch.dtype, target: torch.dtype) -> list[str]:
    """The kernels of a combination, one for every layout they can have."""
    known = unrolled(classes)
    return [kind_name(logit, target, known, at) for at in ((PLANAR, CHANNELS_LAST, STRIDED) if known else (STRIDED,))]


def portions() -> list[tuple[str, ...]]:
    """The kernels of all combinations, in portions that are compiled together."""
    kinds = list(dict.fromkeys(kind for combination in combinations() for kind in kinds_of(*combination)))
    return [tuple(kinds[i::4]) for i in range(4)]


class Kernels:
    """The kernels of one source folder; portions are compiled when first needed, two at a time by `prepare`."""

    def __init__(self, csrc: Path = CSRC, portions: Iterable[Iterable[str]] = (), flags: tuple[str, ...] = ()) -> None:
        self.csrc, self.flags = csrc, flags
        self.portions = [tuple(p) for p in portions]
        self._programs: dict[tuple[str, ...], Program] = {}

    def program(self, kind: str) -> Program:
        """The program that holds the kernels of a kind."""
        portion = next((p for p in self.portions if kind in p), (kind,))
        if portion not in self._programs:
            self._programs[portion] = self.build(portion)
        return self._programs[portion]

    def build(self, portion: tuple[str, ...]) -> Program:
        """Compile the kernels of these kinds."""
        expressions = [f"{name}<{k}>" for k in portion for name in PASSES]
        return Program(self.csrc / "cross_entropy.cu", [*expressions, FINISH], self.csrc, self.flags)

    def with_flags(self, flags: tuple[str, ...]) -> Kernels:
        """The same sources, compiled with more flags, each kind when it is needed."""
        return Kernels(self.csrc, flags=(*self.flags, *flags))

    def prepare(self) -> Kernels:
        """Compile everything."""
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda portion: self.program(portion[0]), self.portions))
        return self


@cache
def product() -> Kernels:
    """The kernels as they ship, in all the kinds the tests use."""
    return Kernels(portions=portions()).prepare()


class ShimLauncher:
    """unet.loss.launch.Launcher on the CPU. `blocks` is what the pretended device holds at a time."""

    def __init__(self, kernels: Kernels, blocks: int = 3, schedule: int = FORWARD, seed: int = 0) -> None:
        self.kernels, self.blocks, self.schedule, self.seed = kernels, blocks, schedule, seed
        self.launched: list[str] = []
        self.shares: list[float] = []  # partial results of the last pass that made them

    @property
    def holds(self) -> int | tuple[int, int | None]:
        return self.blocks

    def resident_blocks(self, kind: str, kernel: str) -> int:  # noqa: ARG002
        """Differs from kernel to kernel, as on a GPU."""
        return self.blocks + PASSES.index(kernel) % max(self.blocks, 1)

    def launch(self, kind: str, kernels: launch.Kernels, params: Params) -> None:
        program = self.kernels.program(kind)
        for kernel, blocks in kernels:
            self.launched.append(kernel)
            expression = kernel if kernel == FINISH else f"{kernel}<{kind}>"
            program.run(expression, params, blocks, schedule=self.schedule, seed=self.seed)
            if kernel in ("share_pass", "forward_pass"):
                self.shares = list((ctypes.c_float * params.chunks).from_address(params.partial_shares))


CANARY = -77  # exact in every type
GUARD = 64  # elements on either side of an array


class Memory:
    """Stands where unet.loss.launch says `torch`: what kernels write lies between guards, `intact` tells whether
    nothing was written to these, and what torch would leave unfilled is NaN or the largest integer."""

    def __init__(self) -> None:
        self.storages: list[Tensor] = []  # kept: no array takes the place of another
        self.announce: Callable[[Tensor, bool], None] | None = None  # told of every array, and whether kernels read it

    def __getattr__(self, name: str) -> object:
        return getattr(torch, name)

    def empty(self, size: tuple[int, ...] | int, **options: object) -> Tensor:
        like = torch.empty(size, **options | {"device": "meta"})
        return self._guarded(like, torch.nan if like.is_floating_point() else torch.iinfo(like.dtype).max)

    def zeros(self, size: tuple[int, ...] | int, **options: object) -> Tensor:
        return self._guarded(torch.empty(size, **options | {"device": "meta"}), 0)

    def empty_like(self, logits: Tensor) -> Tensor:
        return self._guarded(torch.empty_like(logits, device="meta"), torch.nan, read=False)

    def _guarded(self, like: Tensor, fill: float, read: bool = True) -> Tensor:
        storage = torch.full((like.numel() + 2 * GUARD,), CANARY, dtype=like.dtype)
        self.storages.append(storage)
        array = storage.as_strided(like.shape, like.stride(), GUARD).fill_(fill)
        if self.announce:
            self.announce(array, read)
        return array

    def intact(self) -> bool:
        return all(bool((s[:GUARD] == CANARY).all() and (s[-GUARD:] == CANARY).all()) for s in self.storages)


@contextmanager
def poisoned() -> Iterator[Memory]:
    """Memory that shows what the kernels do not fill, and what they write beside it."""
    memory = Memory()
    with mock.patch.object(launch, "torch", memory):
        yield memory
    assert memory.intact(), "a kernel wrote beside an array"
