"""Several networks that predict as one: the mean of their probabilities or logits, tile by tile.

Axes: N tiles, C channels, K classes, h x w pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unet.geometry import context

Average = Literal["probabilities", "logits"]
"""What is averaged over symmetries and networks: softmax outputs, or logits of which the softmax is taken then."""


class Predicting(Protocol):
    """What overlap-tile prediction asks of a network, or of several that predict as one."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def precision(self) -> str:
        """Type of the numbers it computes in."""

    @property
    def depth(self) -> int:
        """Resolution levels: they say which tiles are valid."""

    @property
    def allow_odd_pooling(self) -> bool:
        """Whether a pooling may drop the last row and column."""

    def logits(self, batch_NCHW: NDArray[Any]) -> Tensor:
        """N x K x h x w float32 for images N x C x H x W of a valid size."""

    def probabilities(self, batch_NCHW: NDArray[Any]) -> NDArray[np.float32]:
        """Softmax over the classes: N x K x h x w float32."""


@dataclass(frozen=True)
class Ensemble:
    """Networks of the same channels and classes; a tile is read once and goes through all of them.

    Their depths may differ: tiles are those of the deepest network, and the others see the part of a tile that they
    need for the same output pixels. It begins on the grid of their own pooling, since the stride of the deepest network
    is a multiple of theirs.
    """

    members: tuple[Predicting, ...]

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("an ensemble needs at least one network")

    @property
    def device(self) -> torch.device:
        """Of the first network; all are on one."""
        return self.members[0].device

    @property
    def precision(self) -> str:
        """Of all networks, each named once."""
        return " and ".join(sorted({member.precision for member in self.members}))

    @property
    def depth(self) -> int:
        """Of the deepest network."""
        return max(member.depth for member in self.members)

    @property
    def allow_odd_pooling(self) -> bool:
        """Only where every network allows it, and all see the same tile."""
        return all(member.allow_odd_pooling and member.depth == self.depth for member in self.members)

    def logits(self, batch_NCHW: NDArray[Any]) -> Tensor:
        """Mean of the networks' logits, N x K x h x w float32."""
        with torch.inference_mode():
            first, *others = (member.logits(self._seen_by(member, batch_NCHW)) for member in self.members)
            return sum(others, start=first) / len(self.members)

    def probabilities(self, batch_NCHW: NDArray[Any]) -> NDArray[np.float32]:
        """Mean of the networks' probabilities, N x K x h x w float32."""
        first, *others = (member.probabilities(self._seen_by(member, batch_NCHW)) for member in self.members)
        return np.asarray(sum(others, start=first) / np.float32(len(self.members)))

    def _seen_by(self, member: Predicting, batch_NCHW: NDArray[Any]) -> NDArray[Any]:
        crop = context(self.depth) - context(member.depth)
        return batch_NCHW[..., crop : batch_NCHW.shape[-2] - crop, crop : batch_NCHW.shape[-1] - crop]
