"""One file to predict: what is made of it, where it goes, and what determines the result.

Axes: N images of a file, C channels, K maps, H rows, W columns.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unet.config import PredictConfig
from unet.data.images.tiff import image_shape
from unet.data.pairs import channel_axis, is_channel_axis
from unet.data.stack import Normalisation
from unet.errors import DataError
from unet.files import sha256
from unet.prediction.ensemble import Predicting
from unet.prediction.output import maps_written
from unet.prediction.progress import identity
from unet.prediction.tile_plan import TilePlan, plan
from unet.prediction.trained import Trained, weights_file

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Settings:
    """How files are predicted. weights: SHA-256 of each network's weights; label_map: write the most probable class."""

    normalisation: Normalisation
    channels: int
    classes: int
    weights: tuple[str, ...]
    how: PredictConfig = field(default_factory=PredictConfig)
    label_map: bool = False


def settings_of(trained: Trained) -> Settings:
    """How networks are to predict files, as they themselves say."""
    return Settings(
        normalisation=trained.normalisation,
        channels=trained.metadata["channels"],
        classes=len(trained.class_names),
        weights=tuple(sha256(weights_file(run)) for run in trained.runs),
        how=trained.how,
    )


@dataclass(frozen=True)
class Output:
    """A file that is written: its pixels N x K x H x W, their type, the highest value they can have."""

    path: Path
    shape_NKHW: Shape
    dtype: str
    highest: float

    @property
    def part(self) -> Path:
        """The name it has until it is complete."""
        return self.path.with_name(f".{self.path.name}.part")


@dataclass(frozen=True)
class Task:
    """A file and what is to be written; `shape_NCHW` of its images."""

    source: Path
    shape_NCHW: Shape
    tiles: TilePlan
    probabilities: Output
    labels: Output | None

    @property
    def rows(self) -> int:
        """Rows of tiles in all images of the file."""
        return self.shape_NCHW[0] * len(self.tiles.rows())

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What is written; the probabilities come last and take their name last."""
        return (self.probabilities,) if self.labels is None else (self.labels, self.probabilities)

    @property
    def record(self) -> Path:
        """Where it is noted how much is done."""
        return self.probabilities.part.with_name(f"{self.probabilities.part.name}.json")


def make_task(network: Predicting, source: Path, out: Path, settings: Settings) -> Task:
    """The task for one file, from its header alone.

    `out` takes the probabilities; a label map goes beside it as NAME-classes. Raises DataError when the file cannot be
    read or has another number of channels than the network, GeometryError for a tile size it cannot take.
    """
    shape = image_shape(source, palette_rgb=settings.channels > 1)
    images, channels, height, width = shape
    if is_channel_axis(shape):
        raise DataError(f"{source}: {channel_axis(shape)}")
    if channels != settings.channels:
        wanted = "gray images" if settings.channels == 1 else f"images of {settings.channels} channels"
        raise DataError(
            f"{source}: has {channels} channel{'s' * (channels > 1)}; the network takes {wanted}, so convert it or "
            "save the channels it was trained on"
        )
    how = settings.how
    tiles = plan(height, width, network.depth, how.tile_px, network.allow_odd_pooling, how.symmetries)
    labels = None
    if settings.label_map:
        beside = out.with_name(f"{out.stem}-classes{out.suffix}")
        labels = Output(beside, (images, 1, height, width), "uint8", settings.classes - 1.0)
    maps = maps_written(settings.classes)
    return Task(source, shape, tiles, Output(out, (images, maps, height, width), "float32", 1.0), labels)


def describe(network: Predicting, task: Task, settings: Settings) -> dict[str, Any]:
    """What determines the result, as plain values: only a prediction with the same ones can be gone on with."""
    images, channels, height, width = task.shape_NCHW
    return {
        "input": identity(task.source),
        "network": {"sha256": list(settings.weights), "precision": network.precision},
        "normalisation": dataclasses.asdict(settings.normalisation),
        "tiles": {"images": images, "channels": channels, "height": height, "width": width,
                  "input_px": list(task.tiles.input_px), "symmetries": settings.how.symmetries,
                  "average": settings.how.average},
        "output": {"classes": settings.classes, "label_map": settings.label_map},
    }  # fmt: skip


def job_id(job: dict[str, Any]) -> str:
    """SHA-256 of a description; outputs carry it, so that a finished one can be told from another's."""
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()
