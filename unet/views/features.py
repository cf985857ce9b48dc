"""What a network makes of an image, layer by layer, and what one of its output pixels sees of it.

Axes: N images, C channels, K classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unet.errors import GeometryError
from unet.model import DoubleConv, UNet, UpConv


@torch.no_grad()
def feature_maps(model: UNet, image_NCHW: Tensor) -> dict[str, Tensor]:
    """Every feature map N x C x H x W by name, in the order and with the names of `unet.geometry.layer_sizes`.

    Maps are taken behind their ReLU, the skips before they are cropped; dropout is off. GeometryError when the image's
    size is not valid for the network.
    """
    found: dict[str, Tensor] = {"input": image_NCHW}
    with _evaluating(model), _hooks(model, found):
        found["output"] = model(image_NCHW)
    return found


def input_gradient(model: nn.Module, images_NCHW: Tensor, row: int, column: int) -> NDArray[np.float64]:
    """How strongly the output pixel (row, column) depends on each input pixel: H x W, never negative.

    The absolute gradient of every class's logit with respect to the input, summed over classes and channels, averaged
    over the images; dropout is off. Many images are needed, for a max-pooling passes gradient to one pixel of four.
    Source: the effective receptive field of Luo et al. 2016, arXiv 1701.04128. GeometryError for a pixel outside the
    output.
    """
    total = np.zeros(images_NCHW.shape[-2:])
    with _evaluating(model):
        for image_CHW in images_NCHW:
            seen = image_CHW[None].detach().clone().requires_grad_()
            logits_K = _pixel(model(seen), row, column)
            for logit in logits_K:
                (gradient,) = torch.autograd.grad(logit, seen, retain_graph=True)
                total += gradient[0].abs().sum(dim=0).double().cpu().numpy()
    return total / len(images_NCHW)


@torch.no_grad()
def set_identity_weights(model: UNet, skip_level: int | None = None) -> UNet:
    """Set the weights so that every layer hands on one of its inputs unchanged: what is left is how pixels move.

    Behind a concatenation the up-sampled map is handed on, at `skip_level` the skip. The maps of a tile of coordinates
    then say which input pixels they stand for. ReLUs still cut what is negative. Returns the model.
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.weight.zero_()
            if module.bias is not None:
                module.bias.zero_()
        if isinstance(module, nn.ConvTranspose2d):
            module.weight[0] = 1
        elif isinstance(module, nn.Conv2d):
            _pass(module, 0)
    for level, (up, merge) in enumerate(zip(model.up, model.merge, strict=True)):
        assert isinstance(up, UpConv)
        assert isinstance(merge, DoubleConv)
        last = (level == skip_level) == up.upsampled_first  # of [skip, up-sampled], or the other way round
        first = merge[0]
        assert isinstance(first, nn.Conv2d)
        first.weight.zero_()
        _pass(first, -1 if last else 0)
    return model


def _pass(conv: nn.Conv2d, channel: int) -> None:
    """Let the middle of every kernel take one input channel."""
    conv.weight[:, channel, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = 1


def _pixel(logits_NKHW: Tensor, row: int, column: int) -> Tensor:
    height, width = logits_NKHW.shape[-2:]
    if not (0 <= row < height and 0 <= column < width):
        raise GeometryError(f"output pixel ({row}, {column}) does not exist; the output is {height} x {width} px")
    return logits_NKHW[0, :, row, column]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _hooks(model: UNet, found: dict[str, Tensor]) -> Iterator[None]:
    """While it lasts, every layer leaves its output in `found`."""
    pooled: list[Tensor] = []

    def keep(name: str, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        found[name] = output

    def pool(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        pooled.append(output)  # one module serves all levels, from the highest resolution down
        found[f"pool{len(pooled)}"] = output

    def add(module: nn.Module, hook: Callable[..., None]) -> Any:
        return module.register_forward_hook(hook)

    handles = [add(model.pool, pool)]
    for side, blocks in (("down", model.down), ("up", model.merge)):
        for level, block in enumerate(blocks):
            for conv, relu in enumerate((m for m in block.modules() if isinstance(m, nn.ReLU)), start=1):
                handles.append(add(relu, partial(keep, f"{side}{level}.conv{conv}")))
    for level, up in enumerate(model.up):
        assert isinstance(up, UpConv)
        handles.append(add(up.activation, partial(keep, f"up{level}.upconv")))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
