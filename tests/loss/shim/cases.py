"""Inputs for the kernels, laid into larger memory whose other values would spoil the result, and what is expected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from tests.loss.shim.launcher import ShimLauncher, poisoned
from unet.loss import launch, reference
from unet.loss.launch import Forward

PLANAR, CHANNELS_LAST, TRANSPOSED = (0, 1, 2, 3), (0, 2, 3, 1), (0, 1, 3, 2)
"""Order of the axes N, C, H, W in memory, the slowest first."""


@dataclass(frozen=True)
class Case:
    """Arguments of the loss."""

    logits: Tensor
    target: Tensor
    weight: Tensor | None
    valid: Tensor | None
    reduction: str = "mean"
    ignore_index: int = 255
    upstream: float = 1.0

    def inputs(self) -> launch.Inputs:
        return launch.prepare(self.logits, self.target, self.weight, self.valid, self.ignore_index)

    def but(self, **changes: object) -> Case:
        return replace(self, **changes)  # type: ignore[arg-type]


def embed(values: Tensor, order: tuple[int, ...], gaps: tuple[int, ...], offset: int, poison: float) -> Tensor:
    """The values as a view of larger memory: axes in this order, `gaps` elements left free at the end of each axis,
    the first value `offset` elements behind a multiple of 64 bytes; everything else is poison."""
    padded = [size + gap for size, gap in zip(values.shape, gaps, strict=True)]
    strides = [0] * values.dim()
    step = 1
    for axis in reversed(order):
        strides[axis], step = step, step * padded[axis]
    guard = 64
    storage = torch.full((prod(padded) + offset + 2 * guard,), poison, dtype=values.dtype)
    assert storage.data_ptr() % 64 == 0
    return storage.as_strided(values.shape, strides, guard + offset).copy_(values)


@dataclass(frozen=True)
class Arrangement:
    """Where the arrays of a case lie: order of the logits' axes, gaps (logits; target, weight and mask), offsets in
    elements (logits, target, weight, mask)."""

    order: tuple[int, ...] = PLANAR
    gaps: tuple[int, ...] = (0, 0, 0, 0)
    pixel_gaps: tuple[int, ...] = (0, 0, 0)
    offsets: tuple[int, int, int, int] = (0, 0, 0, 0)


def make_case(
    seed: int,
    shape: tuple[int, int, int, int],
    dtype: torch.dtype = torch.float32,
    target_dtype: torch.dtype = torch.uint8,
    arrangement: Arrangement | None = None,
    *,
    weights: bool = True,
    mask: bool = True,
    **options: object,
) -> Case:
    """A random case: a fifth of the pixels ignored, a fifth masked out, some of the scores equal."""
    at = arrangement or Arrangement()
    rng = np.random.default_rng(seed)
    images, classes, rows, columns = shape
    area = (images, rows, columns)
    logits = torch.from_numpy(np.round(rng.normal(size=shape) * 3, 1)).to(dtype)
    target = torch.from_numpy(rng.integers(0, classes, area)).to(target_dtype)
    target[torch.from_numpy(rng.random(area) < 0.2)] = int(options.get("ignore_index", 255))  # type: ignore[call-overload]
    weight = torch.from_numpy(rng.random(area).astype(np.float32) * 4)
    valid = torch.from_numpy(rng.random(area) < 0.8)
    pixels = (0, 1, 2), at.pixel_gaps
    return Case(
        embed(logits, at.order, at.gaps, at.offsets[0], torch.nan),
        embed(target, *pixels, at.offsets[1], 0),
        embed(weight, *pixels, at.offsets[2], torch.nan) if weights else None,
        embed(valid, *pixels, at.offsets[3], True) if mask else None,
        **options,  # type: ignore[arg-type]
    )


@dataclass(frozen=True)
class Result:
    """What the kernels, or the reference, make of a case."""

    loss: Tensor
    confusion: Tensor
    denominator: Tensor
    gradient: Tensor


def run(
    case: Case, launcher: ShimLauncher, mode: str, announce: Callable[[Tensor, bool], None] | None = None
) -> Result:
    """Loss and gradient by the kernels: "recompute" or "one_pass". `announce` is told of every array they write, and
    whether they read it too."""
    inputs, upstream = case.inputs(), torch.tensor(case.upstream)
    with poisoned() as memory:
        memory.announce = announce
        if mode == "recompute":
            forward: Forward = launch.forward(launcher, inputs, case.reduction)
            gradient = launch.backward(launcher, inputs, upstream, forward.denominator)
        else:
            forward, ready = launch.forward_with_gradient(launcher, inputs, case.reduction)
            gradient = launch.backward(launcher, inputs, upstream, forward.denominator, ready)
    return Result(forward.loss, forward.confusion, forward.denominator, gradient)


def expected(case: Case, dtype: torch.dtype = torch.float64) -> Result:
    """The reference, in float64 unless told otherwise."""
    logits = case.logits.detach().to(dtype).requires_grad_()
    weight = None if case.weight is None else case.weight.to(dtype)
    loss, confusion = reference.weighted_cross_entropy(
        logits,
        case.target,
        weight,
        case.valid,
        reduction=case.reduction,  # type: ignore[arg-type]
        ignore_index=case.ignore_index,
    )
    (gradient,) = torch.autograd.grad(loss * case.upstream, logits)
    valid = reference.valid_pixels(case.target, case.valid, case.ignore_index)
    divisor = reference.divisor(loss, weight, valid, case.reduction)  # type: ignore[arg-type]
    return Result(loss.detach(), confusion, divisor.detach(), gradient)


STEP = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
"""Largest relative error of rounding to the type."""
SMALLEST = {torch.float32: 0.0, torch.float16: 2.0**-24, torch.bfloat16: 0.0}
"""Distance of the type's smallest numbers."""


def assert_agrees(actual: Result, wanted: Result) -> None:
    """Equal up to float32's rounding, and that of the gradient's type."""
    dtype = actual.gradient.dtype
    torch.testing.assert_close(actual.loss.double(), wanted.loss, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(actual.denominator.double(), wanted.denominator, rtol=3e-7, atol=0)
    torch.testing.assert_close(actual.confusion, wanted.confusion, rtol=0, atol=0)
    largest = float(wanted.gradient.abs().max()) if wanted.gradient.numel() else 0.0
    torch.testing.assert_close(
        actual.gradient.double(),
        wanted.gradient,
        rtol=STEP[dtype] + 1e-6,
        atol=SMALLEST[dtype] + 3e-8 * largest,
    )


def in_order(tensor: torch.Tensor) -> torch.Tensor:
    """All elements one after the other in new memory; a single element with a stride of 2 counts as contiguous."""
    return tensor.flatten().clone(memory_format=torch.contiguous_format)


def assert_same_bits(a: Result, b: Result) -> None:
    """Equal in every bit, NaN included."""
    for name in ("loss", "confusion", "denominator", "gradient"):
        left, right = (in_order(getattr(r, name)).view(torch.uint8) for r in (a, b))
        torch.testing.assert_close(left, right, rtol=0, atol=0, msg=f"{name} differs")
