"""What a run is made of before its first update, and what must be known of it to predict with its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unet.config import Config, PredictConfig, to_dict
from unet.data.split import Split, split
from unet.data.stack import Stack
from unet.device import Hardware, check_memory
from unet.tiles.source import TileSource


@dataclass(frozen=True, eq=False)
class Setup:
    """What a run is made of: its settings, the machine, all frames, which of them train, and their tiles."""

    config: Config
    hardware: Hardware
    stack: Stack
    parts: Split
    source: TileSource

    @classmethod
    def of(cls, config: Config, hardware: Hardware, stack: Stack) -> Setup:
        """Divide the frames and see whether a step fits: DataError, ConfigError or TrainingError when it cannot be."""
        parts = split(stack, config.data)
        check_memory(config, hardware, stack.channels)
        return cls(config, hardware, stack, parts, TileSource(stack.select(parts.train), config, config.train.seed))

    @property
    def evaluation_tile(self) -> int:
        """Input side of prediction tiles: free to choose (0) for aligned networks, as in training for misaligned."""
        config = self.config
        if config.predict.tile_px:
            return config.predict.tile_px
        return config.tile.input_px if config.model.allow_odd_pooling else 0

    @property
    def evaluation(self) -> PredictConfig:
        """How frames are predicted during training: without symmetries."""
        return PredictConfig(self.evaluation_tile, batch=self.config.predict.batch)

    def weights_metadata(self) -> dict[str, Any]:
        """What prediction must know besides the weights: the network, its input and its output."""
        return {
            "model": to_dict(self.config.model),
            "channels": self.stack.channels,
            "class_names": list(self.stack.class_names),
            "normalisation": vars(self.stack.normalisation).copy(),
            "tile_px": self.evaluation_tile,
            "data": self.stack.source,
            "average": self.config.optim.average,
        }
