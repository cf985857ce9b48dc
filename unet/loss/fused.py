"""The loss for autograd: on an NVIDIA GPU fused kernels, everywhere else plain torch.

Two custom operators of torch, for what traces or watches operators (torch.compile, export, modes, subclasses):

    cross_entropy            -> loss, confusion, denominator          differentiable
    cross_entropy_gradient   -> gradient of the logits, the softmax computed anew

Everything else starts the kernels without them, in a fraction of the time.

Two ways lead to a gradient. "recompute" reads logits, targets and weights in the forward and again in the backward
computation: 34 bytes per pixel for two classes in float32. "one_pass" writes the gradient in the forward computation:
21 bytes and, but for the reduction `sum`, 1 (mean) or 5 (weighted_mean) to learn the denominator beforehand, at the
price of two more launches. An upstream gradient other than 1 costs it another 21. Both give the same bits.
"auto" takes the second where what it saves in traffic outweighs its launches; never for float16, where gradients that
are not yet multiplied by the loss scale would be lost, and never by way of the operators.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from unet.loss import launch, reference
from unet.loss.reference import IGNORE_INDEX, Differentiated, LossResult, Reduction

Mode = Literal["auto", "recompute", "one_pass"]

ONE_PASS_BYTES = 32 << 20
"""Size of the logits in bytes from which "auto" takes one pass. Reasoned, not yet measured: it saves about the bytes of
the logits and costs two launches of about 3 us together, in which an H200 (4.3 TB/s) moves 13 MB; doubled, because
small tensors stay in its cache of 50 MB, where the second reading is nearly free."""

_ARGUMENTS = "Tensor logits, Tensor target, Tensor? weight, Tensor? valid"
_OPTIONS = "str reduction, int ignore_index"
_TAGS = (torch.Tag.pt2_compliant_tag,)


def _define(name: str, schema: str) -> None:
    torch.library.define(f"unet::{name}", schema, tags=_TAGS)


_define("cross_entropy", f"({_ARGUMENTS}, {_OPTIONS}) -> (Tensor, Tensor, Tensor)")
_define("cross_entropy_gradient", f"(Tensor upstream, Tensor denominator, {_ARGUMENTS}, int ignore_index) -> Tensor")
MaybeTensor = Tensor | None


def weighted_cross_entropy(
    logits_NCHW: Tensor,
    target_NHW: Tensor,
    weight_NHW: Tensor | None = None,
    valid_NHW: Tensor | None = None,
    *,
    reduction: Reduction = "mean",
    ignore_index: int = IGNORE_INDEX,
    mode: Mode = "auto",
) -> LossResult:
    """unet.loss.reference.weighted_cross_entropy, by the operators of this module.

    On a GPU the target of a valid pixel outside 0..C-1 makes the loss and the pixel's gradient NaN, and the pixel is
    not counted. The reference computes where the operators do not reach: weights that ask for a gradient, forward-mode
    derivatives, and the transforms of torch.func.
    """
    arguments = (logits_NCHW, target_NHW, weight_NHW, valid_NHW, reduction, ignore_index)
    traced = torch.compiler.is_compiling()
    asks = weight_NHW is not None and weight_NHW.requires_grad and torch.is_grad_enabled()
    if asks or (not traced and _transformed(logits_NCHW, weight_NHW)):
        return reference.weighted_cross_entropy(*arguments[:4], reduction=reduction, ignore_index=ignore_index)
    if traced or not _is_plain(logits_NCHW):
        loss, confusion, _ = torch.ops.unet.cross_entropy(*arguments)
    else:
        loss, confusion = _directly(arguments, mode)
    return LossResult(loss, confusion)


def differentiated(
    logits_NCHW: Tensor,
    target_NHW: Tensor,
    weight_NHW: Tensor | None = None,
    valid_NHW: Tensor | None = None,
    upstream: Tensor | None = None,
    *,
    reduction: Reduction = "mean",
    ignore_index: int = IGNORE_INDEX,
    mode: Mode = "auto",
) -> Differentiated:
    """Loss and gradient at once, for a step that goes on by `logits.backward(gradient)`: the bits of
    weighted_cross_entropy and its backward computation without autograd's part, which takes the processor longer than
    the launches do.

    upstream: scalar that the gradient is multiplied by; None for 1.
    """
    rest = (target_NHW, weight_NHW, valid_NHW)
    scale = _one(logits_NCHW.device) if upstream is None else upstream
    if not _has_kernels(logits_NCHW):
        with torch.no_grad():
            loss, confusion, divisor = _forward(logits_NCHW, *rest, reduction, ignore_index)
            return Differentiated(loss, confusion, _gradient(scale, divisor, logits_NCHW, *rest, ignore_index))
    reference.check(logits_NCHW, *rest)
    inputs, launcher = launch.prepare(logits_NCHW, *rest, ignore_index), _launcher(logits_NCHW)
    if not _takes_one_pass(logits_NCHW, mode):
        loss, confusion, sums = launch.forward(launcher, inputs, reduction)
        return Differentiated(loss, confusion, launch.backward(launcher, inputs, scale, sums))
    (loss, confusion, sums), gradient = launch.forward_with_gradient(launcher, inputs, reduction)
    if upstream is not None:
        gradient = launch.backward(launcher, inputs, scale, sums, gradient)
    return Differentiated(loss, confusion, gradient)


@lru_cache
def _one(device: torch.device) -> Tensor:
    """Kept: to fill one anew is a launch."""
    return torch.ones((), device=device)


def _transformed(logits: Tensor, weight: Tensor | None) -> bool:
    """Whether torch.func is at work, or a forward-mode derivative asked for."""
    if torch._C._are_functorch_transforms_active():
        return True
    if forward_ad._current_level < 0:
        return False
    duals = (forward_ad.unpack_dual(a) for a in (logits, weight) if a is not None)  # type: ignore[no-untyped-call]
    return any(dual.tangent is not None for dual in duals)


def _is_plain(logits: Tensor) -> bool:
    """Whether nobody would notice that the operators are left out: no subclass of tensors, no mode that sees calls."""
    return type(logits) in (Tensor, torch.nn.Parameter) and torch._C._len_torch_dispatch_stack() == 0


def _directly(arguments: tuple[Any, ...], mode: Mode) -> tuple[Tensor, Tensor]:
    """Loss and counts, without torch's operators in between."""
    logits = arguments[0]
    if not (torch.is_grad_enabled() and logits.requires_grad):
        return _forward(*arguments)[:2]  # type: ignore[return-value]
    function = _OnePass if _takes_one_pass(logits, mode) else _Recompute
    counts: list[Tensor] = []
    return function.apply(logits, arguments[1:], counts), counts[0]  # type: ignore[no-untyped-call]


def _takes_one_pass(logits: Tensor, mode: Mode) -> bool:
    if mode != "auto":
        return mode == "one_pass"
    large = logits.numel() * logits.element_size() >= ONE_PASS_BYTES
    return large and logits.is_cuda and logits.dtype in (torch.float32, torch.bfloat16)


class _Recompute(torch.autograd.Function):
    """The gradient is computed when it is asked for. The counts, which have none, leave by a list."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, rest: tuple[Any, ...], counts: list[Tensor]) -> Tensor:
        loss, confusion, _ = _computed(ctx, logits, rest, with_gradient=False)
        counts.append(confusion)
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None) -> tuple[Any, ...]:
        return None if upstream is None else _asked(ctx, upstream, None), None, None


class _OnePass(torch.autograd.Function):
    """The gradient is there when the loss is; backward hands it out once and computes it anew if asked again."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, rest: tuple[Any, ...], counts: list[Tensor]) -> Tensor:
        loss, confusion, ctx.gradient = _computed(ctx, logits, rest, with_gradient=True)
        counts.append(confusion)
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None) -> tuple[Any, ...]:
        if upstream is None:
            return None, None, None
        gradient, ctx.gradient = ctx.gradient, None
        return _asked(ctx, upstream, gradient), None, None


def _computed(
    ctx: Any, logits: Tensor, rest: tuple[Any, ...], *, with_gradient: bool
) -> tuple[Tensor, Tensor, MaybeTensor]:
    """Loss, counts and, if asked for, the gradient for an upstream of 1; keeps what `_asked` needs."""
    target, weight, valid, reduction, ignore_index = rest
    ctx.set_materialize_grads(False)
    gradient = ctx.key = None
    if _has_kernels(logits):
        reference.check(logits, target, weight, valid)
        inputs = launch.prepare(logits, target, weight, valid, ignore_index)
        if with_gradient:
            (loss, confusion, sums), gradient = launch.forward_with_gradient(_launcher(logits), inputs, reduction)
        else:
            loss, confusion, sums = launch.forward(_launcher(logits), inputs, reduction)
        _, target, weight, valid, ctx.ignore_index, ctx.key = inputs
    else:
        loss, confusion, sums = _forward(logits, *rest)
        ctx.ignore_index = ignore_index
        if with_gradient:
            gradient = _gradient(torch.ones_like(loss), sums, logits, target, weight, valid, ignore_index)
    ctx.save_for_backward(logits, target, weight, valid, sums)
    return loss, confusion, gradient


def _asked(ctx: Any, upstream: Tensor, gradient: MaybeTensor) -> Tensor:
    """The gradient of the logits; `gradient` is the one for an upstream of 1 where it is there, and is used up."""
    logits, target, weight, valid, sums = ctx.saved_tensors
    if torch.is_grad_enabled():  # a second derivative will be asked for, and the operator refuses it
        denominator = sums.flatten()[0]
        arguments = (upstream, denominator, logits, target, weight, valid, ctx.ignore_index)
        found: Tensor = torch.ops.unet.cross_entropy_gradient(*arguments)
        return found
    if ctx.key is not None:
        inputs = launch.Inputs(logits, target, weight, valid, ctx.ignore_index, ctx.key)
        return launch.backward(_launcher(logits), inputs, upstream, sums, gradient)
    if gradient is not None and upstream == 1:
        return gradient
    return _gradient(upstream, sums, logits, target, weight, valid, ctx.ignore_index)


# -- shapes and types, for tracing -----------------------------------------------------------------------------------


def _fake_forward(
    logits: Tensor, target: Tensor, weight: MaybeTensor, valid: MaybeTensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    reference.check(logits, target, weight, valid)
    scalar = torch.float64 if logits.dtype == torch.float64 else torch.float32
    confusion = logits.new_empty((logits.shape[1],) * 2, dtype=torch.int64)
    return logits.new_empty((), dtype=scalar), confusion, logits.new_empty((), dtype=scalar)


def _fake_gradient(_upstream: Tensor, _denominator: Tensor, logits: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(logits)


# -- autograd --------------------------------------------------------------------------------------------------------


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits, target, weight, valid, _, ctx.ignore_index = inputs
    ctx.save_for_backward(output[2], logits, target, weight, valid)


def _backward(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Any, ...]:
    gradient = torch.ops.unet.cross_entropy_gradient(upstream, *ctx.saved_tensors, ctx.ignore_index)
    return gradient, None, None, None, None, None


def _no_second_derivative(*_: Any) -> None:
    raise RuntimeError("the fused loss has no second derivative; use unet.loss.reference for it")


# -- what the operators do -------------------------------------------------------------------------------------------


def _has_kernels(logits: Tensor) -> bool:
    return logits.is_cuda and launch.supported(logits)


def _launcher(logits: Tensor) -> launch.Launcher:
    from unet.loss.driver import launcher

    return launcher(logits.device)


def _forward(
    logits: Tensor, target: Tensor, weight: MaybeTensor, valid: MaybeTensor, reduction: Any, ignore_index: int
) -> tuple[Tensor, ...]:
    reference.check(logits, target, weight, valid)
    if _has_kernels(logits):
        inputs = launch.prepare(logits, target, weight, valid, ignore_index)
        result = launch.forward(_launcher(logits), inputs, reduction)
        return result.loss, result.confusion, result.denominator
    carries = reference.valid_pixels(target, valid, ignore_index)
    losses = reference.pixel_losses(logits, target, carries)
    loss = reference.reduce(losses, weight, carries, reduction)
    divisor = reference.divisor(losses, weight, carries, reduction)
    return loss, reference.confusion_counts(logits, target, carries), divisor


def _gradient(
    upstream: Tensor,
    denominator: Tensor,
    logits: Tensor,
    target: Tensor,
    weight: MaybeTensor,
    valid: MaybeTensor,
    ignore_index: int,
) -> Tensor:
    if _has_kernels(logits):
        inputs = launch.prepare(logits, target, weight, valid, ignore_index)
        return launch.backward(_launcher(logits), inputs, upstream, denominator)
    carries = reference.valid_pixels(target, valid, ignore_index)
    gradient = reference.pixel_gradients(logits, target, weight, carries, upstream / denominator)
    return torch.empty_like(logits).copy_(gradient)


for _name, _fake, _real in (
    ("cross_entropy", _fake_forward, _forward),
    ("cross_entropy_gradient", _fake_gradient, _gradient),
):
    torch.library.register_fake(f"unet::{_name}", _fake)
    torch.library.impl(f"unet::{_name}", ("CPU", "CUDA"), _real)

torch.library.register_autograd("unet::cross_entropy", _backward, setup_context=_save)
torch.library.register_autograd("unet::cross_entropy_gradient", _no_second_derivative)
