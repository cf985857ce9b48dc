"""A trained network as one graph with the softmax inside, and what another program must know to use it.

Axes: N images, C channels, K classes, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unet.data.stack import Normalisation
from unet.device import Hardware
from unet.errors import RunError
from unet.geometry import shrinkage, smallest_valid, stride
from unet.model import UNet
from unet.prediction.trained import load_network

CPU = Hardware(torch.device("cpu"), "fp32", False, False, 0)


class Exportable(nn.Module):
    """image N x C x H x W -> probabilities N x K x (H - s) x (W - s), for every valid H and W.

    The same arithmetic as `UNet`, without its checks of sizes. The crops of the skips depend on the level alone where
    tiles are aligned, so that a graph with constant crops holds for all sizes.
    """

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        net, deep, skips = self.network, image, []
        for level, block in enumerate(net.down):
            deep = block(deep if level == 0 else net.pool(deep))
            skips.append(deep)
        skips.pop()
        crop = 4  # at the deepest skip: the two convolutions below it, seen at twice the resolution
        for level in reversed(range(len(skips))):
            up: Any = net.up[level]
            upsampled = up.activation(up.upconv(deep))
            skip = skips[level][:, :, crop:-crop, crop:-crop]
            deep = net.merge[level](torch.cat([upsampled, skip] if up.upsampled_first else [skip, upsampled], dim=1))
            crop = 2 * crop + 8
        return torch.softmax(net.head(deep), dim=1)


@dataclass(frozen=True)
class Exported:
    """The graph in eval mode (fp32, on the CPU), and what its weights say about themselves."""

    graph: Exportable
    metadata: dict[str, Any]

    @property
    def depth(self) -> int:
        """Levels of the network."""
        return int(self.metadata["model"]["depth"])

    @property
    def normalisation(self) -> Normalisation:
        """Of the gray values."""
        return Normalisation(**self.metadata["normalisation"])

    @property
    def sides(self) -> tuple[int, int, int]:
        """Smallest valid input side, step between valid sides, pixels by which the output is smaller."""
        return smallest_valid(self.depth), stride(self.depth), shrinkage(self.depth)

    def example(self) -> Tensor:
        """An input of two different valid sides, gray values of noise in 0..1."""
        smallest, step, _ = self.sides
        shape = (1, self.metadata["channels"], smallest + 2 * step, smallest + step)
        return torch.rand(shape, generator=torch.Generator().manual_seed(0))

    def described(self) -> dict[str, Any]:
        """What another program must know, as plain values."""
        smallest, step, smaller = self.sides
        return {
            "input": {"axes": "N x C x H x W float32", "channels": self.metadata["channels"]},
            "sides_px": {"smallest": smallest, "step": step, "output_smaller_by": smaller},
            "border": "mirrored without repeating the border pixel, half of output_smaller_by on each side",
            "normalisation": self.metadata["normalisation"],
            "output": {"axes": "N x K x H x W float32", "probabilities_of": self.metadata["class_names"]},
        }


def load(path: Path) -> Exported:
    """The network of a run folder or weights file; RunError when it cannot be exported."""
    network, metadata = load_network(path, CPU)
    if network.allow_odd_pooling:
        raise RunError(f"{path}: was trained on misaligned tiles, whose crops change with the size; export another")
    if not isinstance(network.model, UNet):
        raise RunError(f"{path}: holds no single U-Net to export")
    return Exported(Exportable(network.model).eval(), metadata)
