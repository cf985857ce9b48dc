"""Weighted softmax cross-entropy in plain torch: the contract.

E = sum over x of w(x) * -log p_{l(x)}(x), p the softmax over the classes: Ronneberger, Fischer, Brox 2015, Eq. 1
(which is printed without its minus sign), doi:10.1007/978-3-319-24574-4_28.

Axes: N images, C classes, H rows, W columns. Works in every floating dtype, float64 included; float16 and bfloat16
logits are computed in float32.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE_INDEX = 255
Reduction = Literal["mean", "weighted_mean", "sum"]


class LossResult(NamedTuple):
    """loss: scalar, differentiable. confusion: C x C int64, counts of valid pixels by [target, predicted] class."""

    loss: Tensor
    confusion: Tensor


class Differentiated(NamedTuple):
    """A loss, its confusion counts, and its gradient with respect to the logits, in their shape and type."""

    loss: Tensor
    confusion: Tensor
    gradient: Tensor


def check(logits: Tensor, target: Tensor, weight: Tensor | None, valid: Tensor | None) -> None:
    """ValueError for tensors that do not belong together: logits N x C x H x W, the others N x H x W, where weights and
    mask may have an axis of 1 that stands for all."""
    if logits.dim() != 4 or not logits.is_floating_point():
        raise ValueError(f"logits must be floating, N x C x H x W; they are {logits.dtype}, {tuple(logits.shape)}")
    if target.is_floating_point() or target.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            f"target must hold integers of the logits' N x H x W; it is {target.dtype}, {tuple(target.shape)}"
        )
    for name, array in (("weight", weight), ("valid", valid)):
        if array is not None and array.shape != target.shape and not _stands_for(array, target):
            raise ValueError(
                f"{name} must be N x H x W as the target, {tuple(target.shape)}; it is {tuple(array.shape)}"
            )
    for name, array in (("target", target), ("weight", weight), ("valid", valid)):
        if array is not None and array.device != logits.device:
            raise ValueError(f"{name} is on {array.device}, the logits are on {logits.device}")


def _stands_for(array: Tensor, target_NHW: Tensor) -> bool:
    return array.dim() == 3 and all(a in (1, b) for a, b in zip(array.shape, target_NHW.shape, strict=True))


def valid_pixels(target_NHW: Tensor, valid_NHW: Tensor | None = None, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """Boolean N x H x W: pixels that carry loss, i.e. neither ignored by their target nor masked out."""
    valid = target_NHW != ignore_index
    return valid if valid_NHW is None else valid & valid_NHW.to(torch.bool)


def pixel_losses(logits_NCHW: Tensor, target_NHW: Tensor, valid_NHW: Tensor) -> Tensor:
    """Unweighted, unreduced cross-entropy N x H x W; exactly 0, without gradient, at pixels that are not valid.

    Invalid pixels are cut out before the softmax, so that not even NaN logits there reach the loss or the gradient.
    """
    logits = logits_NCHW.float() if logits_NCHW.dtype in (torch.float16, torch.bfloat16) else logits_NCHW
    logits = torch.where(valid_NHW.unsqueeze(1), logits, torch.zeros((), dtype=logits.dtype, device=logits.device))
    target = torch.where(valid_NHW, target_NHW.long(), 0)
    losses = -F.log_softmax(logits, dim=1).gather(1, target.unsqueeze(1)).squeeze(1)
    return torch.where(valid_NHW, losses, torch.zeros((), dtype=losses.dtype, device=losses.device))


def valid_weights(losses_NHW: Tensor, weight_NHW: Tensor | None, valid_NHW: Tensor) -> Tensor:
    """Weights in the losses' dtype, 1 where none are given, 0 at pixels that are not valid (whatever stands there)."""
    weight = losses_NHW.new_ones(()) if weight_NHW is None else weight_NHW.to(losses_NHW.dtype)
    return torch.where(valid_NHW, weight, torch.zeros((), dtype=weight.dtype, device=weight.device))


def denominator(losses_NHW: Tensor, weight_NHW: Tensor | None, valid_NHW: Tensor, reduction: Reduction) -> Tensor:
    """1 ("sum"), the number of valid pixels ("mean"), the sum of their weights ("weighted_mean"), in the losses' dtype.

    Those of several batches add up to that of the batch of all their images.
    """
    if reduction == "sum":
        return losses_NHW.new_ones(())
    if reduction == "mean":
        return valid_NHW.sum().to(losses_NHW.dtype)
    if reduction == "weighted_mean":
        return valid_weights(losses_NHW, weight_NHW, valid_NHW).sum()
    raise ValueError(f"reduction {reduction!r} is unknown; use mean, weighted_mean or sum")


def divisor(losses_NHW: Tensor, weight_NHW: Tensor | None, valid_NHW: Tensor, reduction: Reduction) -> Tensor:
    """What the sum of w * loss is divided by: the denominator, or 1 where that is 0."""
    total = denominator(losses_NHW, weight_NHW, valid_NHW, reduction)
    return torch.where(total == 0, torch.ones_like(total), total)


def reduce(losses_NHW: Tensor, weight_NHW: Tensor | None, valid_NHW: Tensor, reduction: Reduction) -> Tensor:
    """Scalar loss: the sum of w * loss over the valid pixels, divided; 0 when none is valid or all weights are 0."""
    total = (losses_NHW * valid_weights(losses_NHW, weight_NHW, valid_NHW)).sum()
    return total / divisor(losses_NHW, weight_NHW, valid_NHW, reduction)


def pixel_gradients(
    logits_NCHW: Tensor, target_NHW: Tensor, weight_NHW: Tensor | None, valid_NHW: Tensor, scale: Tensor
) -> Tensor:
    """Gradient of scale * sum of w * loss with respect to the logits, N x C x H x W: scale * w * (softmax - one-hot).

    It is what autograd finds through pixel_losses and reduce (`scale` = upstream gradient / divisor), written out for
    where autograd cannot be used. 0 at pixels that are not valid.
    """
    logits = logits_NCHW.float() if logits_NCHW.dtype in (torch.float16, torch.bfloat16) else logits_NCHW
    zero = torch.zeros((), dtype=logits.dtype, device=logits.device)
    softmax = torch.where(valid_NHW.unsqueeze(1), logits, zero).softmax(dim=1)
    target = torch.where(valid_NHW, target_NHW.long(), 0).unsqueeze(1)
    factor = (scale * valid_weights(softmax, weight_NHW, valid_NHW)).unsqueeze(1)
    gradient = factor * softmax
    gradient = gradient.scatter_add(1, target, -factor.expand_as(target).to(gradient.dtype))
    return torch.where(valid_NHW.unsqueeze(1), gradient, zero)


def confusion_counts(logits_NCHW: Tensor, target_NHW: Tensor, valid_NHW: Tensor) -> Tensor:
    """C x C int64: how many valid pixels of class row are predicted (first largest logit) as class column."""
    classes = logits_NCHW.shape[1]
    predicted = logits_NCHW.detach().max(dim=1).indices  # argmax finds the same, and takes twenty times as long
    pairs = target_NHW.long() * classes + predicted
    pairs = torch.where(valid_NHW, pairs, classes * classes)
    counts = torch.zeros(classes * classes + 1, dtype=torch.int64, device=pairs.device)
    ones = torch.ones((), dtype=torch.int64, device=pairs.device).expand(pairs.numel())
    return counts.scatter_add(0, pairs.flatten(), ones)[:-1].view(classes, classes)


def weighted_cross_entropy(
    logits_NCHW: Tensor,
    target_NHW: Tensor,
    weight_NHW: Tensor | None = None,
    valid_NHW: Tensor | None = None,
    *,
    reduction: Reduction = "mean",
    ignore_index: int = IGNORE_INDEX,
) -> LossResult:
    """Weighted softmax cross-entropy and, beside it, the confusion counts.

    logits_NCHW: floating. target_NHW: integer class indices, `ignore_index` where nothing is known. weight_NHW:
    floating weights w(x) or None for 1 everywhere. valid_NHW: boolean mask or None. Targets of valid pixels outside
    0..C-1 are an error of the caller (torch raises on the CPU). ValueError for other shapes (see check).
    """
    loss = weighted_loss(logits_NCHW, target_NHW, weight_NHW, valid_NHW, reduction=reduction, ignore_index=ignore_index)
    valid = valid_pixels(target_NHW, valid_NHW, ignore_index)
    return LossResult(loss, confusion_counts(logits_NCHW, target_NHW, valid))


def weighted_loss(
    logits_NCHW: Tensor,
    target_NHW: Tensor,
    weight_NHW: Tensor | None = None,
    valid_NHW: Tensor | None = None,
    *,
    reduction: Reduction = "mean",
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """The loss of `weighted_cross_entropy` alone: the counts take a third of its time."""
    check(logits_NCHW, target_NHW, weight_NHW, valid_NHW)
    valid = valid_pixels(target_NHW, valid_NHW, ignore_index)
    return reduce(pixel_losses(logits_NCHW, target_NHW, valid), weight_NHW, valid, reduction)
