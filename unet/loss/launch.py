"""The kernels of csrc/cross_entropy.cu, called on tensors: checks, memory, parameters, order of the launches.

What launches a kernel is passed in: a GPU (unet/loss/driver.py), or in the tests a host program that runs the same
source. Nothing here waits for the device or reads from it, so that all of it can be captured in a CUDA graph.
"""

from __future__ import annotations

import ctypes
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from unet.loss.plan import CHANNELS_LAST, LOGIT_NAMES, STRIDED, TARGET_NAMES, Plan, make_plan, unrolled

REDUCTIONS = ("sum", "mean", "weighted_mean")
PASSES = ("share_pass", "forward_pass", "one_pass", "backward_pass")
FINISH = "finish"
Kernels = tuple[tuple[str, int], ...]
"""Names of kernels, and how many blocks of each are started."""


class Params(ctypes.Structure):
    """struct Params of csrc/params.cuh, field by field."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("logits", "gradient", "target", "weight", "valid", "upstream")),
        *((name, ctypes.c_void_p) for name in ("partial_losses", "partial_shares", "block_confusions")),
        *((name, ctypes.c_void_p) for name in ("confusion", "loss", "denominator")),
        ("logits_stride", ctypes.c_int64 * 4),
        ("gradient_stride", ctypes.c_int64 * 4),
        ("target_stride", ctypes.c_int64 * 3),
        ("weight_stride", ctypes.c_int64 * 3),
        ("valid_stride", ctypes.c_int64 * 3),
        *((name, ctypes.c_int64) for name in ("rows", "columns", "items", "items_per_run", "run_length", "phase")),
        *((name, ctypes.c_int64) for name in ("whole_begin", "whole_end", "chunks", "ignore_index")),
        *((name, ctypes.c_int) for name in ("items_per_thread", "classes", "reduction", "skip_if_one", "blocks")),
        ("unused", ctypes.c_int),
    )


_OF_THE_PLAN = tuple(f.name for f in fields(Plan) if f.name not in ("kind", "layout", "pixels"))


class Launcher(Protocol):
    """Runs kernels on one device, in the order of the calls."""

    @property
    def holds(self) -> Hashable:
        """What the numbers of resident blocks depend on: which device, and what bounds them."""

    def launch(self, kind: str, kernels: Kernels, params: Params) -> None:
        """Start kernels, each with so many blocks; `kind` is the template argument of all passes (FINISH has none)."""

    def resident_blocks(self, kind: str, kernel: str) -> int:
        """How many blocks of the kernel the device runs at a time."""


class Inputs(NamedTuple):
    """The tensors of a loss, brought to what the kernels read. Broadcast weights and masks have strides of 0.

    key: all that a plan depends on; equal for tensors that differ in their values, and in their addresses but by
    multiples of 16 bytes.
    """

    logits: Tensor
    target: Tensor
    weight: Tensor | None
    valid: Tensor | None
    ignore_index: int
    key: tuple[Any, ...]


class Forward(NamedTuple):
    """loss: float32 scalar; confusion: C x C int64; sums: float32, the denominator, then what the blocks found."""

    loss: Tensor
    confusion: Tensor
    sums: Tensor

    @property
    def denominator(self) -> Tensor:
        """What the sum of weight * loss was divided by, a float32 scalar."""
        return self.sums[0]


def prepare(logits: Tensor, target: Tensor, weight: Tensor | None, valid: Tensor | None, ignore_index: int) -> Inputs:
    """Convert what the kernels do not read as it is: other integers to int64, weights to float32, masks to bytes."""
    if target.dtype not in TARGET_NAMES:
        target = target.to(torch.int64)
    if target.dtype == torch.uint8:
        ignore_index &= 255  # as torch compares a byte with a number
    if weight is not None:
        weight = _expanded(weight if weight.dtype == torch.float32 else weight.to(torch.float32), target)
    if valid is not None:
        valid = _expanded(valid.to(torch.bool).view(torch.uint8), target)
    key = (
        *(logits.shape, logits.dtype, logits.stride(), logits.data_ptr() & 15),
        *(target.dtype, target.stride(), target.data_ptr() & 15, ignore_index),
        None if weight is None else (weight.stride(), weight.data_ptr() & 15),
        None if valid is None else (valid.stride(), valid.data_ptr() & 15),
    )
    return Inputs(logits, target, weight, valid, ignore_index, key)


def _expanded(array: Tensor, target_NHW: Tensor) -> Tensor:
    return array if array.shape == target_NHW.shape else array.expand(target_NHW.shape)


def supported(logits: Tensor) -> bool:
    """Whether there are kernels for logits of this type (float64 has none)."""
    return logits.dtype in LOGIT_NAMES


def forward(launcher: Launcher, inputs: Inputs, reduction: str) -> Forward:
    """Loss and confusion counts; reads logits, targets and weights once. Two launches."""
    return _sums(launcher, inputs, _found(launcher, inputs, ("forward_pass",), reduction, None), None)


def forward_with_gradient(launcher: Launcher, inputs: Inputs, reduction: str) -> tuple[Forward, Tensor]:
    """Also the gradient for an upstream gradient of 1, in the same pass over the logits.

    Three launches: what the loss is divided by must be known before the gradient is written, and a pass over targets
    (mean) or targets and weights (weighted_mean) finds it. For `sum` two suffice.
    """
    gradient = empty_like(inputs.logits)
    passes = ("one_pass",) if reduction == "sum" else ("share_pass", "one_pass")
    return _sums(launcher, inputs, _found(launcher, inputs, passes, reduction, gradient), gradient), gradient


def backward(
    launcher: Launcher, inputs: Inputs, upstream: Tensor, denominator: Tensor, gradient: Tensor | None = None
) -> Tensor:
    """The gradient of the logits, times the scalar `upstream`; the softmax is computed anew. One launch.

    denominator: that of the forward computation, or the `sums` that begin with it. A `gradient` of
    forward_with_gradient is rewritten, unless `upstream` is 1: then the kernel ends at once, having read that one
    number on the device.
    """
    rewrites = gradient is not None
    gradient = empty_like(inputs.logits) if gradient is None else gradient
    way = _found(launcher, inputs, ("backward_pass",), "sum", gradient)
    upstream = upstream if upstream.dtype == torch.float32 else upstream.to(torch.float32)
    params = _params(way, inputs, gradient)
    params.skip_if_one = rewrites
    params.upstream, params.denominator = upstream.data_ptr(), denominator.data_ptr()
    if way.kernels:
        launcher.launch(way.plan.kind, way.kernels, params)
    return gradient


def empty_like(logits: Tensor) -> Tensor:
    """Memory for the gradient, in the logits' layout."""
    with unfilled():
        return torch.empty_like(logits)


def unfilled() -> AbstractContextManager[None]:
    """Memory that a kernel writes entirely: torch's deterministic mode need not fill it first, which costs a pass."""
    return _unfilled() if torch.are_deterministic_algorithms_enabled() else _AS_IT_IS


_AS_IT_IS = nullcontext()


@contextmanager
def _unfilled() -> Iterator[None]:
    settings: Any = torch.utils.deterministic
    before = settings.fill_uninitialized_memory
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        settings.fill_uninitialized_memory = before


class Way(NamedTuple):
    """How kernels are launched for tensors of one shape, type and layout: found once, then kept."""

    plan: Plan
    kernels: Kernels
    description: bytes  # the parameters, but for addresses
    counts: int  # of the blocks that count, together


_ways: dict[tuple[Any, ...], Way] = {}
MOST_WAYS = 1024


def forget_plans() -> None:
    """Make every plan anew, for tests that change how plans are made."""
    _ways.clear()


def _found(launcher: Launcher, inputs: Inputs, passes: tuple[str, ...], reduction: str, gradient: Tensor | None) -> Way:
    """The way these passes are launched, with `finish` behind those that sum."""
    written = None if gradient is None else (gradient.stride(), gradient.data_ptr() & 15)
    key = (launcher.holds, passes, reduction, written, inputs.key)
    way = _ways.get(key)
    if way is None:
        if len(_ways) >= MOST_WAYS:
            _ways.clear()
        way = _ways[key] = _make_way(launcher, inputs, passes, reduction, gradient)
    return way


def _make_way(
    launcher: Launcher, inputs: Inputs, passes: tuple[str, ...], reduction: str, gradient: Tensor | None
) -> Way:
    logits = inputs.logits
    plan = make_plan(logits, inputs.target, inputs.weight, inputs.valid, gradient)
    kernels = [(name, min(plan.chunks, launcher.resident_blocks(plan.kind, name))) for name in passes if plan.chunks]
    params = _described(plan, inputs, reduction, gradient)
    params.blocks = kernels[-1][1] if kernels else 0
    counts = max(params.blocks, 1) * unrolled(logits.shape[1]) ** 2
    if passes != ("backward_pass",):
        kernels.append((FINISH, 1))
    return Way(plan, tuple(kernels), bytes(params), counts)


def _params(way: Way, inputs: Inputs, gradient: Tensor | None) -> Params:
    """The parameters of a launch, with the addresses of what is read and of the gradient."""
    params = Params.from_buffer_copy(way.description)
    params.logits, params.target = inputs.logits.data_ptr(), inputs.target.data_ptr()
    if inputs.weight is not None:
        params.weight = inputs.weight.data_ptr()
    if inputs.valid is not None:
        params.valid = inputs.valid.data_ptr()
    if gradient is not None:
        params.gradient = gradient.data_ptr()
    return params


def _described(plan: Plan, inputs: Inputs, reduction: str, gradient: Tensor | None) -> Params:
    """The parameters, but for addresses."""
    params = Params()
    _, classes, params.rows, params.columns = inputs.logits.shape
    for name, tensor in (("logits", inputs.logits), ("gradient", gradient)):
        if tensor is not None:
            image, class_, row, column = tensor.stride()
            if plan.layout != STRIDED:  # axes of length 1 may have any stride
                row, column = 0, classes if plan.layout == CHANNELS_LAST else 1
            setattr(params, f"{name}_stride", (ctypes.c_int64 * 4)(image, class_, row, column))
    for name, tensor in (("target", inputs.target), ("weight", inputs.weight), ("valid", inputs.valid)):
        if tensor is not None:
            image, row, column = tensor.stride()
            if plan.layout != STRIDED:
                row, column = 0, 1
            setattr(params, f"{name}_stride", (ctypes.c_int64 * 3)(image, row, column))
    for name in _OF_THE_PLAN:
        setattr(params, name, getattr(plan, name))
    params.classes, params.ignore_index = classes, inputs.ignore_index
    params.reduction = REDUCTIONS.index(reduction)
    return params


def _sums(launcher: Launcher, inputs: Inputs, way: Way, gradient: Tensor | None) -> Forward:
    """Launch the passes that sum chunk by chunk, and `finish`. Their memory is torch's, freed in the stream's order."""
    classes, device = inputs.logits.shape[1], inputs.logits.device
    params = _params(way, inputs, gradient)
    chunks = max(way.plan.chunks, 1)
    with unfilled():
        # The blocks' 32-bit counts lie behind the partial results: every array more costs the processor two us.
        sums = torch.empty(1 + 2 * chunks + way.counts, dtype=torch.float32, device=device)
        loss = torch.empty((), dtype=torch.float32, device=device)
        # Without counts of its own the kernel counts into `confusion` itself, which must begin with zeros.
        new = torch.empty if way.counts else torch.zeros
        confusion = new((classes, classes), dtype=torch.int64, device=device)
    params.denominator = place = sums.data_ptr()
    params.partial_losses = place + 4
    params.partial_shares = place + 4 * (1 + chunks)
    if way.counts:
        params.block_confusions = place + 4 * (1 + 2 * chunks)
    params.confusion, params.loss = confusion.data_ptr(), loss.data_ptr()
    launcher.launch(way.plan.kind, way.kernels, params)
    return Forward(loss, confusion, sums)
