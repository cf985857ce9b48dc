"""How folders of published data are laid out: a reader for each layout, by the name that data sets call it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from unet.config import DataConfig
from unet.data import ctc, isbi, isbi_labels
from unet.data.masks import Target
from unet.data.stack import InstanceImage, Normalisation, Stack

OnFrame = Callable[[int, int], None]
Masks = dict[str, InstanceImage]


def _none(_folder: Path) -> Masks:
    return {}


@dataclass(frozen=True)
class Reader:
    """Reads the folders of one layout; all raise DataError for missing or damaged files.

    read: every frame of the data set that config names; on_frame is told how many frames of how many are read. holds:
    whether a folder has this layout (jpeg: lossy copies count, only_jpeg: nothing else does). places: the data set's
    own files in a folder that may hold others, each with its place in a folder of this layout. references, markers: the
    reference objects of SEG and the tracking markers of DET by frame name, H x W int32; empty where there are none.
    """

    read: Callable[[Path, DataConfig, Normalisation, OnFrame], Stack]
    holds: Callable[[Path, bool, bool], bool]
    places: Callable[[Path, bool], Iterator[tuple[Path, str]]]
    references: Callable[[Path], Masks] = _none
    markers: Callable[[Path], Masks] = _none


# -- the EM challenge --------------------------------------------------------------------------------------------------


def _read_isbi(folder: Path, _config: DataConfig, normalise: Normalisation, _on_frame: OnFrame) -> Stack:
    return isbi.read(folder, jpeg=not isbi.find_layout(folder), normalise=normalise)


def _holds_isbi(folder: Path, jpeg: bool, only_jpeg: bool) -> bool:
    lossless = not only_jpeg and isbi.find_layout(folder) is not None
    return lossless or (jpeg and isbi.find_layout(folder, jpeg=True) is not None)


def _isbi_places(folder: Path, jpeg: bool) -> Iterator[tuple[Path, str]]:
    layout = isbi.find_layout(folder, jpeg=jpeg)
    assert layout is not None, "located by the same rule"
    parts = ("jpeg/images", "jpeg/labels", "jpeg/test") if layout.lossy else ("train/image", "train/label", "test")
    for paths, part in zip((layout.images, layout.labels, layout.test), parts, strict=True):
        for path in (p for p in paths if p.is_file()):
            yield path, path.name if path.suffix == ".tif" else f"{part}/{path.name}"
    if not layout.lossy and (folder / isbi_labels.NAME).is_file():
        yield folder / isbi_labels.NAME, isbi_labels.NAME


# -- the Cell Tracking Challenge ---------------------------------------------------------------------------------------


def _read_ctc(folder: Path, config: DataConfig, normalise: Normalisation, on_frame: OnFrame) -> Stack:
    return ctc.read(
        folder,
        config.name,
        labels=config.labels,
        target=Target.configured(config),
        foi_px=config.foi_px,
        normalise=normalise,
        on_frame=on_frame,
    )


def _holds_ctc(folder: Path, _jpeg: bool, _only_jpeg: bool) -> bool:
    return all((folder / s).is_dir() and (folder / f"{s}_GT").is_dir() for s in ("01", "02"))


def _ctc_places(folder: Path, _jpeg: bool) -> Iterator[tuple[Path, str]]:
    for part in (f"{s}{truth}" for s in ctc.sequences(folder) for truth in ("", "_GT", "_ST")):
        for path in (p for p in sorted((folder / part).rglob("*")) if p.is_file()):
            yield path, path.relative_to(folder).as_posix()


def _gold(folder: Path) -> Masks:
    """The gold masks, whatever labels are trained on."""
    return {name: mask for s in ctc.sequences(folder) for name, mask in ctc.gold_instances(folder, s).items()}


def _markers(folder: Path) -> Masks:
    return {name: mask for s in ctc.sequences(folder) for name, mask in ctc.tracking_markers(folder, s).items()}


READERS = {
    "isbi": Reader(_read_isbi, _holds_isbi, _isbi_places),
    "ctc": Reader(_read_ctc, _holds_ctc, _ctc_places, _gold, _markers),
}
