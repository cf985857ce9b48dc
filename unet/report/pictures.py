"""The held-out frames and the worst tiles of a run as pictures inside the page.

Axes: K classes, H rows, W columns, 3 colours.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.data.load import find_root, load, references
from unet.data.stack import IGNORE, Frame, InstanceImage, Stack
from unet.errors import DataError, UserError
from unet.prediction.instances import InstanceSettings
from unet.report.encode import MAX_IMAGE_BYTES, Budget, Colours, Encoded, encoded, jpeg
from unet.report.run import Run
from unet.runs.folder import PICTURE, PROBABILITIES
from unet.views.display import gray_limits, label_colours, shrunk, stretched, visible

MOST_FRAMES, MOST_TILES = 6, 8
TILE_PX = 128
MAX_SIDE_PX = 1024  # larger frames are shrunk
MIN_KNOWN = 0.25  # share of a tile's pixels whose label must be known
Tile = tuple[float, int, int, int]
"""Loss, frame, row, column."""

LAYERS = ("image", "probability", "label", "mistakes")


@dataclass(frozen=True)
class Picture:
    """One frame or tile: a data URI for each of LAYERS (label and mistakes may be missing), and what it is."""

    title: str
    caption: str
    layers: Mapping[str, str]
    size: tuple[int, int]  # W, H of the pixels shown


@dataclass
class Pictures:
    """What the page shows; `missing` says why there is nothing, `notes` what was left out."""

    frames: list[Picture] = field(default_factory=list)
    tiles: list[Picture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: str = ""


def collect(run: Run, on_frame: Callable[[int, int], None] = lambda _done, _total: None) -> Pictures:
    """The worst frames and tiles of a scored run; `on_frame` is told how many frames of how many are done.

    The data is looked for where the run's configuration says, never downloaded.
    """
    pictures = Pictures()
    names = [str(name) for name in run.scores.get("frames", [])]
    if not names:
        pictures.missing = "The run has no scores, so there is no prediction to show."
        return pictures
    try:
        shown = _Shown.open(run, names)
    except (UserError, OSError, ValueError, KeyError, TypeError) as error:
        pictures.missing = f"No pictures: {' '.join(str(error).split())}"
        return pictures
    budget = Budget()
    tried: list[Tile] = []
    order = shown.worst_frames(run)
    for done, number in enumerate(range(len(names)), start=1):
        tried += [(loss, number, row, column) for loss, row, column in shown.tile_losses(number)]
        on_frame(done, 2 * len(names))
    wanted = _worst(tried, shown)
    best = order[:MOST_FRAMES]
    needed = list(dict.fromkeys([*best, *(number for _, number, _, _ in wanted)]))
    tiles: dict[tuple[int, int, int], Encoded] = {}
    whole: dict[int, tuple[Encoded, str]] = {}
    for done, number in enumerate(needed, start=1):  # one at a time: frames may be large
        layers, caption = shown.layers(number)
        if number in best:
            whole[number] = encoded({name: shrunk(colours, MAX_SIDE_PX) for name, colours in layers.items()}), caption
        side = shown.side(number)
        for row, column in ((row, column) for _, own, row, column in wanted if own == number):
            part = (slice(row, row + side), slice(column, column + side))
            tiles[number, row, column] = encoded({name: colours[part] for name, colours in layers.items()})
        on_frame(len(names) + done * len(names) // len(needed), 2 * len(names))
    for loss, number, row, column in wanted:
        side = shown.side(number)
        caption = f"loss {loss:.3f} (row {row}, column {column})"
        _add(pictures.tiles, budget, Picture(names[number], caption, {}, (side, side)), tiles[number, row, column])
    for number in best:
        height, width = shown.frames[number].size
        layers_of, caption = whole[number]
        if not _add(pictures.frames, budget, Picture(names[number], caption, {}, (width, height)), layers_of):
            pictures.notes.append(
                f"Further frames are left out: the pictures of a page take at most {MAX_IMAGE_BYTES / 1e6:g} MB."
            )
            break
    if len(names) > MOST_FRAMES:
        pictures.notes.append(f"The {len(pictures.frames)} worst of {len(names)} held-out frames, worst first.")
    return pictures


def _worst(tried: list[Tile], shown: _Shown) -> list[Tile]:
    """The tiles of highest loss, without those that show by more than half in each direction what a worse one shows."""
    found: list[Tile] = []
    for tile in sorted(tried, reverse=True):
        _, number, row, column = tile
        near = shown.side(number) / 2
        if all(n != number or abs(r - row) >= near or abs(c - column) >= near for _, n, r, c in found):
            found.append(tile)
        if len(found) == MOST_TILES:
            break
    return found


def png_of_run(run: Run) -> str | None:
    """The run's prediction.png as a JPEG inside the page, for when the data is not at hand; None without it."""
    from PIL import Image

    path = run.path / PICTURE
    try:
        with Image.open(path) as opened:
            picture = np.asarray(opened.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    found = Budget().uris({"all": jpeg(picture)})
    return None if found is None else found["all"]


def _add(target: list[Picture], budget: Budget, picture: Picture, layers: Encoded) -> bool:
    uris = budget.uris(layers)
    if uris is not None:
        target.append(dataclasses.replace(picture, layers=uris))
    return uris is not None


@dataclass(frozen=True)
class _Shown:
    """The held-out frames with their stored probabilities."""

    stack: Stack
    frames: list[Frame]
    maps: list[NDArray[np.float32]]  # H x W of the foreground class, or K x H x W; memory maps where possible
    gold: Mapping[str, InstanceImage]
    settings: InstanceSettings | None
    stored: Mapping[str, Any]

    @classmethod
    def open(cls, run: Run, names: list[str]) -> _Shown:
        maps = read_probabilities(run.path / PROBABILITIES, len(names))
        stack, data = _stack(run)
        index = {frame.name: frame for frame in stack.frames}
        missing = [name for name in names if name not in index]
        if missing:
            raise DataError(f"the data at hand has no frame {missing[0]!r}")
        frames = [index[name] for name in names]
        for frame, single in zip(frames, maps, strict=True):
            if single.shape[-2:] != frame.size or frame.label is None:
                raise DataError(f"the data at hand is another than the run's ({frame.name})")
        instances = run.scores.get("instances")
        settings = None if instances is None else InstanceSettings.from_dict(instances)
        return cls(stack, frames, maps, references(data, stack), settings, run.scores)

    def probabilities(self, number: int) -> NDArray[np.float32]:
        """K x H x W."""
        single = np.asarray(self.maps[number], dtype=np.float32)
        return np.stack([1 - single, single]) if single.ndim == 2 else single

    def worst_frames(self, run: Run) -> list[int]:
        """Indices of all frames, worst first."""
        from unet.evaluation.scoring import quality

        by_frame = run.scores.get("by_frame", {})
        return sorted(range(len(self.frames)), key=lambda i: quality(by_frame.get(self.frames[i].name, {})))

    def side(self, number: int) -> int:
        return min(TILE_PX, *self.frames[number].size)

    def tile_losses(self, number: int) -> Iterator[tuple[float, int, int]]:
        """(mean cross-entropy in nats, row, column) of tiles that cover the frame."""
        label, probabilities = self.frames[number].label, self.probabilities(number)
        assert label is not None
        known = label != IGNORE
        chosen = np.take_along_axis(probabilities, np.where(known, label, 0)[None].astype(np.intp), axis=0)[0]
        losses = np.where(known, -np.log(np.maximum(chosen, 1e-30)), 0.0)
        side = self.side(number)
        rows, columns = (_starts(length, side) for length in label.shape)
        for row in rows:
            for column in columns:
                part = (slice(row, row + side), slice(column, column + side))
                count = int(known[part].sum())
                loss = float(losses[part].sum()) / max(1, count)
                if count >= MIN_KNOWN * side * side and math.isfinite(loss):
                    yield loss, row, column

    def layers(self, number: int) -> tuple[dict[str, Colours], str]:
        """LAYERS of a frame at full size, and the sentence about its mistakes."""
        from unet.evaluation.frames import FramePrediction
        from unet.evaluation.scoring import Scores, picture_rows

        frame, probabilities = self.frames[number], self.probabilities(number)
        assert frame.label is not None
        prediction = FramePrediction.of(frame, probabilities)
        by_frame = {frame.name: dict(self.stored.get("by_frame", {}).get(frame.name, {}))}
        scores = Scores({}, by_frame, dict(self.stored.get("thresholds", {})))
        settings = None if self.settings is None else {frame.name: self.settings}
        row = picture_rows([prediction], self.stack, self.gold, scores, settings)[0]
        image = stretched(visible(frame.image), gray_limits(frame.image))
        shown = {
            "image": image,
            "probability": np.repeat((1 - probabilities[0])[..., None], 3, axis=-1),
            "label": label_colours(frame.label, self.stack.classes),
        }
        colours = {name: np.clip(np.rint(value * 255), 0, 255).astype(np.uint8) for name, value in shown.items()}
        return colours | {"mistakes": row.mistakes}, row.title


def read_probabilities(path: Path, count: int) -> list[NDArray[np.float32]]:
    """The maps an evaluation stored, one per frame (a stack, or a folder where sizes differ); DataError without."""
    import tifffile

    folder = path.with_suffix("")
    try:
        if path.is_file():
            stack = tifffile.memmap(path, mode="r")
            height, width = stack.shape[-2:]  # axes of length 1 are not stored
            classes = stack.size // (count * height * width)
            maps = list(stack.reshape(count, *([classes] if classes > 1 else []), height, width))
        elif folder.is_dir():
            maps = [tifffile.imread(folder / f"{number:04d}.tif") for number in range(count)]
            maps = [single[0] if single.ndim > 2 and len(single) == 1 else single for single in maps]
        else:
            raise DataError("the run's probabilities.tif is not there")
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise DataError(f"the run's probabilities cannot be read ({' '.join(str(error).split())})") from None
    return maps


def _stack(run: Run) -> tuple[Stack, Any]:
    """The run's data from this machine, and the configuration it was loaded with; DataError when it is not here."""
    from unet.datasets import DATA_SETS, SYNTHETIC

    data = run.config.data
    if data.name in DATA_SETS:
        if run.synthetic:  # the built-in stack stood in
            data = dataclasses.replace(data, name=f"{SYNTHETIC}{data.name}", root="")
        elif find_root(DATA_SETS[data.name], data.root) is None:
            raise DataError(f"the data ({data.name}) is not on this machine")
    return load(data, lambda _: None), data


def _starts(length: int, side: int) -> list[int]:
    count = math.ceil(length / side)
    return sorted({round(at) for at in np.linspace(0, length - side, count)})
