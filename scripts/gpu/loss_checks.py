"""What the fused loss is held to on a GPU: functions of a device that return what they found or raise AssertionError.

The tests run those that need nothing of a GPU but its kernels on the CPU as well (tests/loss/test_gpu.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unet.loss import fused, reference
from unet.loss.fused import Mode, differentiated, weighted_cross_entropy
from unet.loss.reference import Reduction

MODES: tuple[Mode, ...] = ("recompute", "one_pass")
REDUCTIONS: tuple[Reduction, ...] = ("mean", "weighted_mean", "sum")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
TARGETS = (torch.uint8, torch.int64)
LAYOUTS = ("contiguous", "channels_last", "sliced", "misaligned", "channels_last, misaligned")


@dataclass(frozen=True)
class Case:
    """Arguments of the loss; `layout` is one of LAYOUTS."""

    logits: Tensor
    target: Tensor
    weight: Tensor | None
    valid: Tensor | None
    reduction: Reduction = "mean"
    upstream: float = 1.0

    def but(self, **changes: Any) -> Case:
        """The case with other arguments."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Result:
    """What an implementation makes of a case."""

    loss: Tensor
    confusion: Tensor
    gradient: Tensor


def arranged(logits: Tensor, layout: str) -> Tensor:
    """The same values in another memory layout."""
    if layout == "contiguous":
        return logits.contiguous()
    if layout == "channels_last":
        return logits.contiguous(memory_format=torch.channels_last)
    if layout == "sliced":
        return torch.nn.functional.pad(logits, (1, 2, 3, 0))[:, :, 3:, 1:-2]
    classes = logits.shape[1]
    axes = (0, 1, 2, 3) if layout == "misaligned" else (0, 2, 3, 1)
    offset = 1 if layout == "misaligned" else classes  # one value, or one pixel
    space = torch.full((logits.numel() + offset,), torch.nan, dtype=logits.dtype, device=logits.device)
    inverse = [axes.index(axis) for axis in range(4)]
    view = space[offset:].view([logits.shape[axis] for axis in axes]).permute(inverse)
    return view.copy_(logits)


def make_case(
    device: torch.device,
    shape: tuple[int, int, int, int] = (2, 2, 36, 44),
    dtype: torch.dtype = torch.float32,
    target_dtype: torch.dtype = torch.uint8,
    layout: str = "contiguous",
    seed: int = 0,
    **options: Any,
) -> Case:
    """A random case: a fifth of the pixels ignored, a fifth masked out."""
    generator = torch.Generator().manual_seed(seed)
    images, classes, rows, columns = shape
    area = (images, rows, columns)
    target = torch.randint(0, classes, area, generator=generator)
    target[torch.rand(area, generator=generator) < 0.2] = 255
    logits = (torch.randn(shape, generator=generator) * 3).to(dtype).to(device)
    weight = (torch.rand(area, generator=generator) * 4).to(device)
    valid = (torch.rand(area, generator=generator) < 0.8).to(device)
    return Case(arranged(logits, layout), target.to(target_dtype).to(device), weight, valid, **options)


def run(case: Case, mode: Mode) -> Result:
    """By the fused operators."""
    logits = case.logits.detach().requires_grad_()
    result = weighted_cross_entropy(logits, case.target, case.weight, case.valid, reduction=case.reduction, mode=mode)
    (gradient,) = torch.autograd.grad(result.loss, logits, torch.full_like(result.loss, case.upstream))
    return Result(result.loss.detach(), result.confusion, gradient)


def at_once(case: Case, mode: Mode) -> Result:
    """Loss and gradient without autograd, as the training step asks for them."""
    upstream = None if case.upstream == 1 else torch.tensor(case.upstream, device=case.logits.device)
    tensors = (case.logits, case.target, case.weight, case.valid)
    return Result(*differentiated(*tensors, upstream, reduction=case.reduction, mode=mode))


def plain(case: Case, dtype: torch.dtype | None = None) -> Result:
    """By torch's own operations, in the logits' type or the given one."""
    logits = case.logits.detach().to(dtype or case.logits.dtype).requires_grad_()
    weight = None if case.weight is None or dtype is None else case.weight.to(dtype)
    weight = case.weight if dtype is None else weight
    loss, confusion = reference.weighted_cross_entropy(
        logits, case.target, weight, case.valid, reduction=case.reduction
    )
    (gradient,) = torch.autograd.grad(loss, logits, torch.full_like(loss, case.upstream))
    return Result(loss.detach(), confusion, gradient)


def assert_same_bits(a: Result, b: Result) -> None:
    """Equal in every bit."""
    for name in ("loss", "confusion", "gradient"):
        left, right = (getattr(r, name).contiguous().view(-1).view(torch.uint8) for r in (a, b))
        assert torch.equal(left, right), f"{name} differs"


def all_cases(device: torch.device, classes: tuple[int, ...]) -> Iterator[Case]:
    """Types, layouts, numbers of classes; reductions, upstream gradients, weights and masks in turn."""
    turn = itertools.cycle(
        itertools.product(REDUCTIONS, (1.0, -0.7), ((True, True), (False, True), (True, False), (False, False)))
    )
    for n, (c, dtype, target, layout) in enumerate(itertools.product(classes, DTYPES, TARGETS, LAYOUTS)):
        reduction, upstream, (weights, mask) = next(turn)
        size = (36, 44) if n % 2 else (35, 43)
        case = make_case(device, (2, c, *size), dtype, target, layout, n, reduction=reduction, upstream=upstream)
        yield case.but(weight=case.weight if weights else None, valid=case.valid if mask else None)


def agreement(case: Case, mode: Mode) -> tuple[float, float]:
    """Errors of loss and gradient over those of torch's own operations in the same type, both against float64.

    One rounding of the result is allowed on top: torch's may be exact by luck.
    """
    actual, stock, exact = run(case, mode), plain(case), plain(case, torch.float64)
    assert torch.equal(actual.confusion, exact.confusion), "confusion counts differ"
    ratios = []
    for name, step in (("loss", 2.0**-24), ("gradient", torch.finfo(case.logits.dtype).eps / 2)):
        ours, theirs, wanted = (getattr(r, name).double() for r in (actual, stock, exact))
        assert bool(ours.isfinite().all()), f"{name} is not finite"
        largest = float(wanted.abs().max()) if wanted.numel() else 0.0
        error, allowed = (float((x - wanted).abs().max()) for x in (ours, theirs))
        ratios.append(error / (allowed + step * largest + 1e-30))
    return ratios[0], ratios[1]


MOST_OF_TORCHS_ERROR = 2.0


def held_to(case: Case, mode: Mode, worst: float = 0.0) -> float:
    """The larger of `worst` and this case's errors over torch's; AssertionError where one is more than twice."""
    ratios = agreement(case, mode)
    assert max(ratios) <= MOST_OF_TORCHS_ERROR, (
        f"{ratios} of torch's error: {case.logits.dtype} {tuple(case.logits.shape)} {mode}"
    )
    return max(worst, *ratios)


def errors_against_float64(device: torch.device, classes: tuple[int, ...] = (2, 3, 8, 16, 19)) -> str:
    """Error of loss and gradient at most twice that of torch's own operations, in every type and layout."""
    worst, count = 0.0, 0
    for case in all_cases(device, classes):
        for mode in MODES:
            worst = held_to(case, mode, worst)
            count += 1
    return f"{count} cases, at most {worst:.2f} of torch's error"


def every_number_of_classes(device: torch.device) -> str:
    """All kernels there are."""
    return errors_against_float64(device, tuple(range(1, 18)))


def gradient_is_that_of_finite_differences(device: torch.device) -> str:
    """The derivative along random directions, by differences of the float64 reference."""
    worst = 0.0
    for n, (reduction, mode) in enumerate(itertools.product(REDUCTIONS, MODES)):
        case = make_case(device, (2, 3, 12, 20), seed=n, reduction=reduction)
        gradient = run(case, mode).gradient.double()
        direction = torch.randn(case.logits.shape, generator=torch.Generator().manual_seed(n)).to(device).double()
        step = 1e-6
        losses = [
            plain(case.but(logits=case.logits.double() + sign * step * direction), torch.float64).loss
            for sign in (1, -1)
        ]
        slope = float(losses[0] - losses[1]) / (2 * step)
        along = float((gradient * direction).sum())
        error = abs(slope - along) / max(abs(slope), 1e-6)
        assert error < 1e-4, f"{along} instead of {slope}"
        worst = max(worst, error)
    return f"relative error at most {worst:.1e}"


def upstream_gradients(device: torch.device) -> str:
    """Any upstream gradient, by both ways, with autograd and without, to the same bits; a second backward computation
    too."""
    for dtype, upstream in itertools.product(DTYPES, (1.0, -2.5, 1e-3, 0.0)):
        case = make_case(device, dtype=dtype, reduction="weighted_mean", upstream=upstream)
        for mode, way in itertools.product(MODES, (run, at_once)):
            assert_same_bits(way(case, mode), run(case, MODES[0]))
        held_to(case, "one_pass")
    case = make_case(device)
    logits = case.logits.detach().requires_grad_()
    loss = weighted_cross_entropy(logits, case.target, case.weight, case.valid, mode="one_pass").loss
    first, second = (torch.autograd.grad(loss, logits, torch.full_like(loss, u), retain_graph=True)[0] for u in (3, 1))
    torch.testing.assert_close(first, second * 3)
    return "1, -2.5, 0.001, 0; twice from one graph"


def not_finite(device: torch.device) -> str:
    """NaN and infinite scores and weights of valid pixels give NaN and infinities where torch gives them."""
    inf, nan = torch.inf, torch.nan
    scores = torch.tensor([*itertools.product((0.0, 1.0, inf, -inf, nan), repeat=3)], device=device).t()
    for classes, target, value in itertools.product((2, 3), (0, 1), (1.0, 0.0, inf, nan)):
        logits = scores[:classes].reshape(1, classes, 5, 25)
        labels = torch.full((1, 5, 25), target, device=device)
        case = Case(logits, labels, torch.full((1, 5, 25), value, device=device), None, "sum")
        wanted = plain(case)
        for mode in MODES:
            actual = run(case, mode)
            torch.testing.assert_close(actual.gradient, wanted.gradient, rtol=1e-5, atol=1e-6, equal_nan=True)
            assert torch.equal(actual.confusion, wanted.confusion)
    for pixel in range(scores.shape[1]):
        case = Case(
            scores[:, pixel].reshape(1, 3, 1, 1), torch.zeros(1, 1, 1, dtype=torch.uint8, device=device), None, None
        )
        torch.testing.assert_close(run(case, "recompute").loss, plain(case).loss, equal_nan=True)
    return "125 combinations of scores, 4 weights"


def pixels_without_loss(device: torch.device) -> str:
    """Whatever stands in ignored and masked pixels changes no bit; nothing valid gives 0; a target that is no class
    makes the loss NaN."""
    for dtype, layout, mode in itertools.product(DTYPES, LAYOUTS[:2], MODES):
        case = make_case(device, dtype=dtype, layout=layout, reduction="weighted_mean")
        assert case.weight is not None
        assert case.valid is not None
        masked = ~case.valid | (case.target == 255)
        logits, weight, target = case.logits.clone(), case.weight.clone(), case.target.clone()
        logits.movedim(1, -1)[masked] = torch.nan
        weight[masked] = torch.inf
        target[~case.valid] = 99
        spoiled = run(case.but(logits=logits, weight=weight, target=target), mode)
        assert_same_bits(spoiled, run(case, mode))
        nothing = run(case.but(valid=torch.zeros_like(case.valid)), mode)
        assert nothing.loss == 0
        assert not bool(nothing.gradient.any())
        assert not bool(nothing.confusion.any())
        empty = case.but(logits=case.logits[:0], target=case.target[:0], weight=case.weight[:0], valid=case.valid[:0])
        assert run(empty, mode).loss == 0
        wrong = case.but(target=torch.where(masked, case.target, 200))
        assert bool(run(wrong, mode).loss.isnan())
        assert not bool(run(wrong, mode).confusion.any())
    return "masks, ignored pixels, empty sets, targets outside the classes"


def same_bits_every_time(device: torch.device, reruns: int = 100) -> str:
    """Reruns, in every way and type."""
    for dtype, layout, mode in itertools.product(DTYPES[::2], LAYOUTS[:2], MODES):
        case = make_case(device, (3, 2, 100, 84), dtype, layout=layout, reduction="weighted_mean")
        first = run(case, mode)
        for _ in range(reruns):
            assert_same_bits(run(case, mode), first)
    return f"{reruns} reruns"


def same_bits_on_every_grid(device: torch.device) -> str:
    """Any number of blocks at a time."""
    launcher: Any = fused._launcher(torch.empty(0, device=device))
    kept = launcher.most_blocks
    try:
        for dtype, mode in itertools.product(DTYPES[::2], MODES):
            case = make_case(device, (3, 2, 100, 84), dtype, reduction="weighted_mean")
            results = []
            for launcher.most_blocks in (None, 1, 2, 7, 10**6):
                results.append(run(case, mode))
            for result in results[1:]:
                assert_same_bits(result, results[0])
    finally:
        launcher.most_blocks = kept
    return "1, 2, 7, as many as fit"


CHECKS: tuple[Callable[[torch.device], str], ...] = (
    errors_against_float64,
    gradient_is_that_of_finite_differences,
    upstream_gradients,
    not_finite,
    pixels_without_loss,
    same_bits_every_time,
    same_bits_on_every_grid,
)
