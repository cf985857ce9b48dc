"""The kernels of csrc/cross_entropy.cu, called on tensors: checks, memory, parameters, order of the launches.

What launches a kernel is passed in: a GPU (unet/loss/driver.py), or in the tests a host program that runs the same
source. Nothing here waits for the device or reads from it, so that all of it can be captured in a CUDA graph.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from unet.loss.plan import CHANNELS_LAST, LOGIT_NAMES, STRIDED, TARGET_NAMES, Plan, make_plan, unrolled

REDUCTIONS = ("sum", "mean", "weighted_mean")
PASSES = ("share_pass", "forward_pass", "one_pass", "backward_pass")
FINISH = "finish"


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

    def launch(self, kind: str, kernels: Sequence[tuple[str, int]], params: Params) -> None:
        """Start kernels, each with so many blocks; `kind` is the template argument of all passes (FINISH has none)."""

    def resident_blocks(self, kind: str, kernel: str) -> int:
        """How many blocks of the kernel the device runs at a time."""


@dataclass(frozen=True)
class Inputs:
    """The tensors of a loss, brought to what the kernels read. Broadcast weights and masks have strides of 0."""

    logits: Tensor
    target: Tensor
    weight: Tensor | None
    valid: Tensor | None
    ignore_index: int


class Forward(NamedTuple):
    """loss, denominator: float32 scalars; confusion: C x C int64."""

    loss: Tensor
    confusion: Tensor
    denominator: Tensor


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
    return Inputs(logits, target, weight, valid, ignore_index)


def _expanded(array: Tensor, target_NHW: Tensor) -> Tensor:
    return array if array.shape == target_NHW.shape else array.expand(target_NHW.shape)


def supported(logits: Tensor) -> bool:
    """Whether there are kernels for logits of this type (float64 has none)."""
    return logits.dtype in LOGIT_NAMES


def forward(launcher: Launcher, inputs: Inputs, reduction: str) -> Forward:
    """Loss and confusion counts; reads logits, targets and weights once. Two launches."""
    plan, params = _start(inputs, reduction, None)
    return _sums(launcher, inputs, plan, params, ("forward_pass",))


def forward_with_gradient(launcher: Launcher, inputs: Inputs, reduction: str) -> tuple[Forward, Tensor]:
    """Also the gradient for an upstream gradient of 1, in the same pass over the logits.

    Three launches: what the loss is divided by must be known before the gradient is written, and a pass over targets
    (mean) or targets and weights (weighted_mean) finds it. For `sum` two suffice.
    """
    gradient = empty_like(inputs.logits)
    plan, params = _start(inputs, reduction, gradient)
    passes = ("one_pass",) if reduction == "sum" else ("share_pass", "one_pass")
    return _sums(launcher, inputs, plan, params, passes), gradient


def backward(
    launcher: Launcher, inputs: Inputs, upstream: Tensor, denominator: Tensor, gradient: Tensor | None = None
) -> Tensor:
    """The gradient of the logits, times the scalar `upstream`; the softmax is computed anew. One launch.

    A `gradient` of forward_with_gradient is rewritten, unless `upstream` is 1: then the kernel ends at once, having
    read that one number on the device.
    """
    rewrites = gradient is not None
    gradient = empty_like(inputs.logits) if gradient is None else gradient
    plan, params = _start(inputs, "sum", gradient)
    upstream = upstream if upstream.dtype == torch.float32 else upstream.to(torch.float32)
    params.skip_if_one = rewrites
    params.upstream, params.denominator = upstream.data_ptr(), denominator.data_ptr()
    if plan.chunks:
        launcher.launch(plan.kind, [("backward_pass", _grid(launcher, plan, "backward_pass"))], params)
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


_plans: dict[tuple[Any, ...], tuple[Plan, bytes]] = {}
MOST_PLANS = 1024


def forget_plans() -> None:
    """Make every plan anew, for tests that change how plans are made."""
    _plans.clear()


def _start(inputs: Inputs, reduction: str, gradient: Tensor | None) -> tuple[Plan, Params]:
    """The plan and all parameters that follow from the tensors. Kept for tensors that differ in their values and in
    their addresses but by multiples of 16 bytes."""
    addresses: list[int | None] = []
    logits, target = inputs.logits, inputs.target
    described: list[Any] = [logits.shape, logits.dtype, target.dtype, reduction, inputs.ignore_index]
    for array in (logits, gradient, target, inputs.weight, inputs.valid):
        address = None if array is None else array.data_ptr()
        addresses.append(address)
        described += (None,) if array is None or address is None else (array.stride(), address & 15)
    key = tuple(described)
    found = _plans.get(key)
    if found is None:
        if len(_plans) >= MOST_PLANS:
            _plans.clear()
        plan = make_plan(logits, target, inputs.weight, inputs.valid, gradient)
        found = _plans[key] = plan, bytes(_described(plan, inputs, reduction, gradient))
    plan, description = found
    params = Params.from_buffer_copy(description)
    params.logits, params.gradient, params.target, params.weight, params.valid = addresses
    return plan, params


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


def _grid(launcher: Launcher, plan: Plan, kernel: str) -> int:
    return min(plan.chunks, launcher.resident_blocks(plan.kind, kernel))


def _sums(launcher: Launcher, inputs: Inputs, plan: Plan, params: Params, passes: tuple[str, ...]) -> Forward:
    """Launch the passes that sum chunk by chunk, and `finish`. Their memory is torch's, freed in the stream's order."""
    classes, device = inputs.logits.shape[1], inputs.logits.device
    table = unrolled(classes) > 0  # else the kernel counts into `confusion` itself, which must begin with zeros
    kernels = [(kernel, _grid(launcher, plan, kernel)) for kernel in passes] if plan.chunks else []
    params.blocks = kernels[-1][1] if kernels else 0
    with unfilled():
        partials = torch.empty((2, max(plan.chunks, 1)), dtype=torch.float32, device=device)
        loss = torch.empty((), dtype=torch.float32, device=device)
        denominator = torch.empty((), dtype=torch.float32, device=device)
        confusion = (torch.empty if table else torch.zeros)((classes, classes), dtype=torch.int64, device=device)
        if table:
            counts = torch.empty(max(params.blocks, 1) * classes**2, dtype=torch.int32, device=device)
            params.block_confusions = counts.data_ptr()
    params.partial_losses = partials.data_ptr()
    params.partial_shares = params.partial_losses + 4 * partials.shape[1]
    params.confusion, params.loss = confusion.data_ptr(), loss.data_ptr()
    params.denominator = denominator.data_ptr()
    launcher.launch(plan.kind, [*kernels, (FINISH, 1)], params)
    return Forward(loss, confusion, denominator)
