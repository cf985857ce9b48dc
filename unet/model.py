"""The common assembly of the networks: an unpadded U-Net with centre-cropped skips; its variants: unet.networks.

Axes: N images of a batch, C channels, H rows, W columns. All sizes follow unet.geometry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from unet.config import ModelConfig
from unet.errors import GeometryError
from unet.geometry import layer_sizes


@dataclass(frozen=True)
class Variant:
    """What the networks do differently.

    relu_after_upconv: whether a ReLU follows every up-convolution. last_upconv_halves: whether the last up-convolution
    halves its channels as the others do. upsampled_first: whether the up-sampled map comes first in the concatenation.
    dropout_levels_from_bottom: levels that have dropout where the configuration leaves it open. caffe_fan_in: see
    `initialise`.
    """

    relu_after_upconv: bool
    last_upconv_halves: bool
    upsampled_first: bool
    dropout_levels_from_bottom: int
    caffe_fan_in: bool


class DoubleConv(nn.Sequential):
    """Two unpadded 3x3 convolutions, each followed by a ReLU: N x in x H x W -> N x out x (H-4) x (W-4)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3),
            nn.ReLU(inplace=True),
        )


class UpConv(nn.Module):
    """2x2 up-convolution, crop of the skip, concatenation: N x in x H x W -> N x (out + skip channels) x 2H x 2W."""

    def __init__(self, in_channels: int, out_channels: int, variant: Variant) -> None:
        super().__init__()
        self.upconv = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.activation = nn.ReLU(inplace=True) if variant.relu_after_upconv else nn.Identity()
        self.upsampled_first = variant.upsampled_first

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        upsampled = self.activation(self._upsample(deep))
        skip = centre_crop(skip, upsampled.shape[-2], upsampled.shape[-1])
        return torch.cat([upsampled, skip] if self.upsampled_first else [skip, upsampled], dim=1)

    def _upsample(self, deep: Tensor) -> Tensor:
        """The up-convolution; in training on a CPU as a matrix product, whose weight gradient is several times faster.

        Prediction gains nothing from it and keeps the bits of the convolution.
        """
        if deep.device.type == "cpu" and torch.is_grad_enabled():
            return upconv_as_matmul(deep, self.upconv.weight, self.upconv.bias)
        upsampled: Tensor = self.upconv(deep)
        return upsampled


class UNet(nn.Module):
    """U-Net without padding.

    forward: image N x in_channels x n x n float -> logits N x classes x m x m, with m = n - 184 for the paper's five
    levels (unet.geometry.output_size). H and W need not be equal, but each must be a valid size.
    """

    def __init__(self, config: ModelConfig, in_channels: int, classes: int, variant: Variant) -> None:
        super().__init__()
        self.config = config
        channels = [config.base_channels * 2**level for level in range(config.depth)]
        self.pool = nn.MaxPool2d(2)
        self.down = nn.ModuleList(DoubleConv(i, o) for i, o in pairwise([in_channels, *channels]))
        self.dropout = nn.ModuleList(nn.Dropout(rate) for rate in dropout_rates(config, variant))
        self.up = nn.ModuleList()  # level 0 first, as in `down`
        self.merge = nn.ModuleList()
        for level, (wide, deep) in enumerate(pairwise(channels)):
            keeps = level == 0 and not variant.last_upconv_halves
            upsampled = deep if keeps else wide
            self.up.append(UpConv(deep, upsampled, variant))
            self.merge.append(DoubleConv(wide + upsampled, wide))
        self.head = nn.Conv2d(channels[0], classes, 1)
        self.apply(partial(initialise, caffe_fan_in=variant.caffe_fan_in))

    def forward(self, image: Tensor) -> Tensor:
        """image N x C x H x W -> logits N x classes x H' x W'; GeometryError when the size is not valid."""
        for size in image.shape[-2:]:
            layer_sizes(int(size), self.config.depth, self.config.allow_odd_pooling)
        skips: list[Tensor] = []
        deep = image
        for level, (block, dropout) in enumerate(zip(self.down, self.dropout, strict=True)):
            deep = dropout(block(deep if level == 0 else self.pool(deep)))
            skips.append(deep)
        skips.pop()
        for level in reversed(range(len(skips))):
            deep = self.merge[level](self.up[level](deep, skips[level]))
        logits: Tensor = self.head(deep)
        return logits


def centre_crop(tensor: Tensor, height: int, width: int) -> Tensor:
    """The central height x width part of N x C x H x W; an odd rest leaves one pixel more at the bottom and right."""
    top, left = (tensor.shape[-2] - height) // 2, (tensor.shape[-1] - width) // 2
    if top < 0 or left < 0:
        raise GeometryError(f"a map of {tuple(tensor.shape[-2:])} px cannot be cropped to {(height, width)}")
    bottom, right = tensor.shape[-2] - height - top, tensor.shape[-1] - width - left
    # Not a slice: its backward pass forgets channels_last, and what follows then runs on mixed layouts.
    return functional.pad(tensor, [-left, -right, -top, -bottom])


def upconv_as_matmul(deep: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`conv_transpose2d(deep, weight, bias, stride=2)` for a 2x2 kernel, rounding apart; the result is channels_last.

    deep N x in x H x W, weight in x out x 2 x 2, bias out -> N x out x 2H x 2W. The windows of the up-convolution do
    not overlap: every pixel is mapped to the 2 x 2 pixels that it becomes by one matrix, and these then find their
    places.
    """
    images, channels, height, width = deep.shape
    matrix = weight.permute(2, 3, 1, 0).reshape(-1, channels)  # rows: row in the 2 x 2 pixels, column, output channel
    pixels = functional.linear(deep.permute(0, 2, 3, 1), matrix, None if bias is None else bias.repeat(4))
    placed = pixels.view(images, height, width, 2, 2, -1).transpose(2, 3)
    return placed.reshape(images, 2 * height, 2 * width, -1).permute(0, 3, 1, 2)


def dropout_rates(config: ModelConfig, variant: Variant) -> list[float]:
    """Dropout rate behind each level of the contracting path, level 0 first."""
    from_bottom = {
        "variant": variant.dropout_levels_from_bottom,
        "bottleneck": 1,
        "last-two": 2,
        "none": 0,
    }[config.dropout_at]
    return [config.dropout if level >= config.depth - from_bottom else 0.0 for level in range(config.depth)]


def initialise(module: nn.Module, *, caffe_fan_in: bool = False) -> None:
    """Gaussian weights with standard deviation sqrt(2 / N), N the incoming nodes of one neuron; zero biases.

    A neuron of an up-convolution with stride 2 and a 2x2 kernel sees one pixel of every input channel, so N is the
    number of input channels there. Source: section 3.1 of the paper, after He et al. 2015 (doi:10.1109/ICCV.2015.123).
    caffe_fan_in: N of an up-convolution as Caffe's filler counts it, weights divided by the first axis of their blob;
    that is input channels for a deconvolution, so N = 4 x output channels (Jia et al. 2014,
    doi:10.1145/2647868.2654889).
    """
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        if not isinstance(module, nn.ConvTranspose2d):
            incoming = module.in_channels * math.prod(module.kernel_size)
        elif caffe_fan_in:
            incoming = module.out_channels * math.prod(module.kernel_size)
        else:
            incoming = module.in_channels
        nn.init.normal_(module.weight, std=math.sqrt(2 / incoming))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def parameters(model: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in model.parameters())
