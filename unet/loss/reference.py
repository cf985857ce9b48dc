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


def reduce(losses_NHW: Tensor, weight_NHW: Tensor | None, valid_NHW: Tensor, reduction: Reduction) -> Tensor:
    """Scalar loss: sum of w * loss over the valid pixels, divided by 1 ("sum"), by their number ("mean") or by the sum
    of their weights ("weighted_mean"). 0 when no pixel is valid (or all weights are 0)."""
    weight = losses_NHW.new_ones(()) if weight_NHW is None else weight_NHW.to(losses_NHW.dtype)
    weight = torch.where(valid_NHW, weight, torch.zeros((), dtype=weight.dtype, device=weight.device))
    total = (losses_NHW * weight).sum()
    if reduction == "sum":
        return total
    if reduction == "mean":
        return total / valid_NHW.sum().clamp(min=1)
    if reduction == "weighted_mean":
        denominator = weight.sum()
        return total / torch.where(denominator == 0, torch.ones_like(denominator), denominator)
    raise ValueError(f"reduction {reduction!r} is unknown; use mean, weighted_mean or sum")


def confusion_counts(logits_NCHW: Tensor, target_NHW: Tensor, valid_NHW: Tensor) -> Tensor:
    """C x C int64: how many valid pixels of class row are predicted (first largest logit) as class column."""
    classes = logits_NCHW.shape[1]
    pairs = target_NHW.long() * classes + logits_NCHW.detach().argmax(dim=1)
    pairs = torch.where(valid_NHW, pairs, classes * classes)
    counts = torch.zeros(classes * classes + 1, dtype=torch.int64, device=pairs.device)
    ones = torch.ones((), dtype=torch.int64, device=pairs.device).expand(pairs.numel())
    return counts.scatter_add_(0, pairs.flatten(), ones)[:-1].view(classes, classes)


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
    floating
    weights w(x) or None for 1 everywhere. valid_NHW: boolean mask or None. Targets of valid pixels outside 0..C-1
    are an error of the caller (torch raises on the CPU).
    """
    valid = valid_pixels(target_NHW, valid_NHW, ignore_index)
    losses = pixel_losses(logits_NCHW, target_NHW, valid)
    loss = reduce(losses, weight_NHW, valid, reduction)
    return LossResult(loss, confusion_counts(logits_NCHW, target_NHW, valid))
