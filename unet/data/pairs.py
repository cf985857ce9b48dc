"""The pixels of the images of a user's own folder and of their labels (`names` says which belong together).

Axes: N images of a file, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unet.config import DataConfig
from unet.data.images.tiff import SMALLEST_SIDE_PX, Pixels, check_lossless, indexed_colours, read_images, stores_planes
from unet.data.label_map import packed
from unet.data.names import IMAGES, LABELS, list_images, nothing_in, part, renamed, without_channel, without_partner
from unet.data.stack import IGNORE
from unet.errors import DataError
from unet.files import natural_key, reading

OnFrame = Callable[[int, int], None]
_FEW_COLOURS = 6  # of a label image in colours, that are shown


@dataclass
class Pair:
    """One frame as read: raw image C x H x W, label H x W."""

    name: str
    sequence: str
    image: Pixels
    label: Pixels
    image_place: str
    label_place: str


@dataclass
class Found:
    """The pairs, what is wrong with other files, and what is odd about these, a line each."""

    pairs: list[Pair] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)


def read_pairs(
    folder: Path, config: DataConfig, colours: bool = False, on_frame: OnFrame = lambda _done, _total: None
) -> Found:
    """All pairs of the folder, in natural order of their names; a single image is cut into blocks where asked to be.

    colours: the labels' colours are classes (see `label_map.packed`). on_frame is told how many steps of how many are
    done (a pair is one of two steps). DataError when a folder is missing or empty.
    """
    found = Found()
    with reading(folder):
        parts = part(folder, IMAGES), part(folder, LABELS)
        images, labels = (list_images(folder, name, found.wrong) for name in parts)
        for name, files in zip(parts, (images, labels), strict=True):
            if not files:
                raise DataError(nothing_in(folder, name, labels=files is labels))
    images = without_channel(parts[0], images, found.wrong) if parts[0] == "imagesTr" else images
    labels = renamed(images, labels)
    found.wrong += without_partner(parts, images, labels)
    keys = sorted(images.keys() & labels.keys(), key=natural_key)
    for done, key in enumerate(keys):
        on_frame(done, 2 * len(keys))
        _read_pair(folder, key, images[key], labels[key], colours, found)
    if len(found.pairs) == 1 and not found.wrong and config.split in ("auto", "blocks"):
        found.pairs = _blocks(found.pairs[0], config.folds)
    return found


def _blocks(pair: Pair, folds: int) -> list[Pair]:
    """One image as `folds` blocks of its rows, or of its columns where it is wider than high, to hold some of it out.

    One that is too small for blocks of SMALLEST_SIDE_PX stays whole.
    """
    axis = 1 if pair.image.shape[1] >= pair.image.shape[2] else 2
    if pair.image.shape[axis] < folds * SMALLEST_SIDE_PX:
        return [pair]
    parts = zip(
        np.array_split(pair.image, folds, axis), np.array_split(pair.label, folds, axis - 1), range(folds), strict=True
    )
    return [
        Pair(f"{pair.name}[{i:02}]", pair.name, image, label, f"{pair.image_place}[{i:02}]", pair.label_place)
        for image, label, i in parts
    ]


def _read_pair(folder: Path, key: str, image_path: Path, label_path: Path, colours: bool, found: Found) -> None:
    read: list[Pixels] = []
    for path in (image_path, label_path):
        try:
            read.append(_read_label(path) if path is label_path else read_images(path, palette_rgb=True))
        except DataError as error:
            found.wrong.append(str(error).replace(f"{folder}/", "", 1))
    if len(read) < 2:
        return
    images, labels = _planes_as_slices(read[0], read[1], image_path, label_path)
    image_place, place = (path.relative_to(folder).as_posix() for path in (image_path, label_path))
    if not colours and not (labels == labels[:, :1]).all():
        found.wrong.append(colour_label(place, labels))
    elif is_channel_axis(images.shape):
        found.wrong.append(f"{image_place}: {channel_axis(images.shape)}")
    elif len(images) != len(labels):
        found.wrong.append(f"{place}: has {len(labels)} slices, its image {len(images)}")
    elif images.shape[2:] != labels.shape[2:]:
        found.wrong.append(
            f"{place}: has shape {labels.shape[2:]}, its image {images.shape[2:]}; export both again, at one size "
            "(resizing a label by anything but nearest neighbour makes new values)"
        )
    else:
        if text := indexed_colours(image_path):
            found.odd.append(f"{image_place}: {text}")
        parent = Path(key).parent.as_posix()
        sequence = key if len(images) > 1 else "images" if parent == "." else parent
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            slice_ = f"[{i:02}]" if len(images) > 1 else ""
            numbers = packed(label, colours)
            found.pairs.append(Pair(key + slice_, sequence, image, numbers, image_place + slice_, place + slice_))


def colour_label(place: str, labels_NCHW: Pixels) -> str:
    """What is said of a label image in colours: the table that reads it, where there are few."""
    said = f"{place}: is a colour image; save one number per class or object, or set data.label_map"
    if labels_NCHW.shape[1] < 3 or labels_NCHW.dtype != np.uint8:
        return said
    colours = np.unique(np.concatenate([packed(label, colours=True).ravel() for label in labels_NCHW]))
    if not 2 <= len(colours) <= _FEW_COLOURS:
        return f"{said} ({len(colours)} colours)"
    table = " ".join(f"'#{c:06x}={f'class-{i}' if i else 'background'}'" for i, c in enumerate(colours))
    return f"{place}: is a colour image; name its colours by --data.label-map {table}"


def is_channel_axis(shape_NCHW: tuple[int, ...]) -> bool:
    """Whether a side of images is too short for one: below SMALLEST_SIDE_PX, or, of stacks, below twice that and an
    eighth of the other."""
    images, _, height, width = shape_NCHW
    short, long = min(height, width), max(height, width)
    return short < SMALLEST_SIDE_PX or (images > 1 and short < min(2 * SMALLEST_SIDE_PX, long / 8))


def channel_axis(shape_NCHW: tuple[int, ...]) -> str:
    """What is said of such images."""
    images, _, height, width = shape_NCHW
    return (
        f"reads as {images} image{'s' * (images > 1)} of {height} x {width} px; a side of {min(height, width)} px is "
        "a channel axis in the wrong place, save the channels in front (C x H x W)"
    )


def _planes_as_slices(images: Pixels, labels: Pixels, image_path: Path, label_path: Path) -> tuple[Pixels, Pixels]:
    """Some programs store slices as the planes of one colour image, or as its channels; labels show that it is none.

    Only where the files do hold planes: colours stored pixel by pixel (PNG, most TIFFs) are colours, in labels too.
    """
    planes = images.shape[1]
    if len(images) > 1 or planes == 1 or not stores_planes(image_path):
        return images, labels
    slices = images.transpose(1, 0, 2, 3)
    if planes == len(labels):
        return slices, labels
    differ = len(labels) == 1 and planes == labels.shape[1] and not (labels == labels[:, :1]).all()
    if differ and stores_planes(label_path):
        return slices, labels.transpose(1, 0, 2, 3)
    return images, labels


def _read_label(path: Path) -> Pixels:
    """Label image or stack, N x C x H x W integers. Raises DataError."""
    check_lossless(path)
    labels = read_images(path, indices=True)
    if labels.dtype.kind == "f":
        if not (np.isfinite(labels).all() and (labels == np.rint(labels)).all() and abs(labels).max() < 2**31):
            raise DataError(f"{path}: holds NaN or fractions; labels are class or object numbers, pixels to ignore 255")
        labels = labels.astype(np.int64)
    low, high = labels.min(), labels.max()
    if low < 0 or high > np.iinfo(np.int32).max:
        what = f"{low} is below 0; pixels to ignore are {IGNORE}" if low < 0 else f"{high} is too large; number from 1"
        raise DataError(f"{path}: label value {what}")
    return labels
