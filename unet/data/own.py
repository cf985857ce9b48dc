"""Reader of a user's own folder: images/ and labels/ with files of the same names.

Each file is one image (TIFF, PNG, JPEG; labels not JPEG) or a TIFF stack, whose pages are consecutive slices. Images
are 8-bit, 16-bit, integer or floating-point, with one or several channels. Folders below images/ (and the same below
labels/) are sequences; so is every stack. Files and folders may be symbolic links.

What the labels are is recognised (`data.label_kind` = auto) or told:
  binary     values 0 and 1, or 0 and 255; also where classes.txt has two names and the values are 0 and 255
  classes    class numbers 0..K-1, 255 = ignore; classes.txt beside images/ may name them, one per line
  instances  every object its own number, 0 = background

Axes: C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unet.config import DataConfig
from unet.data.label_kind import LabelKind, class_labels, named, recognise
from unet.data.masks import Target
from unet.data.normalise import normalisation
from unet.data.stack import Frame, InstanceImage, Stack
from unet.data.tiff import SUFFIXES, Pixels, read_images, stores_planes
from unet.errors import DataError
from unet.files import natural_key, reading

_SILENT = (".txt", ".md", ".csv", ".json", ".yaml", ".yml", ".ini", ".db")  # notes beside images are no mistake
OnFrame = Callable[[int, int], None]

_SHOWN = 100  # offenders named in one message


@dataclass
class _Pair:
    """One frame as read: raw image C x H x W, label H x W."""

    name: str
    sequence: str
    image: Pixels
    label: Pixels
    image_place: str
    label_place: str


@dataclass
class _Found:
    pairs: list[_Pair] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def _ignore(_done: int, _total: int) -> None:
    pass


def read(folder: Path, config: DataConfig, say: Callable[[str], None], on_frame: OnFrame = _ignore) -> Stack:
    """All frames of the folder, and one line through `say` about what its labels were taken for.

    on_frame is told how many steps of how many are done (each pair is read, then prepared).

    Instance labels become the target that `config` names (see `masks.Target`); binary and class
    labels leave the objects to the weight map (4-connected components).

    Raises DataError naming every offender at once: missing counterpart, unreadable file, other shape, other number of
    channels, NaN, label value outside the classes.
    """
    found = _read_pairs(folder, on_frame)
    _check_images(found)
    names = _class_names(folder)
    kind, why = _label_kind(folder, config, found, names)
    made = Target(config.target, config.ridge_px, config.border_px)
    if kind != "instances" and made.kind != "cell":
        found.wrong.append(f"data.target {made.kind} needs labels with a number per object; these were read as {kind}")
    if wrong := _unfit_scores(config, kind):
        found.wrong.append(wrong)
    labels, class_names = (None, made.class_names) if kind == "instances" else _classes(found, kind, names)
    if config.scores == "membranes" and len(class_names) != 2:
        found.wrong.append(f"data.scores membranes needs two classes; there are {', '.join(class_names)}")
    if labels is not None and kind == "binary" and config.foreground == "low":
        labels = [np.asarray(1 - label, np.uint8) for label in labels]
    if found.wrong:
        raise DataError(_complaint(folder, found.wrong))
    normalise = normalisation(config, (pair.image.dtype for pair in found.pairs))
    frames = []
    for i, pair in enumerate(found.pairs):
        on_frame(len(found.pairs) + i, 2 * len(found.pairs))
        truth = made.of(_instances(pair.label)) if kind == "instances" else (labels[i] if labels else None, None)
        frames.append(Frame(pair.name, pair.sequence, normalise(pair.image), *truth))
    channels = frames[0].image.shape[0]
    say(
        f"data: {folder}: {len(frames)} images, {channels} channel{'s' * (channels > 1)}, "
        f"normalisation {normalise.kind}; labels read as {kind} ({why}): {', '.join(class_names)}"
    )
    source = f"{folder} (labels read as {kind})"
    said = None if config.scores == "auto" else config.scores
    return Stack(folder.resolve().name, tuple(frames), class_names, normalise, source, said, own=True)


def instances(folder: Path, config: DataConfig) -> dict[str, InstanceImage]:
    """The objects of instance labels by frame name, untouched (reference of SEG); empty for other kinds of labels."""
    found = _read_pairs(folder)
    if found.wrong:
        raise DataError(_complaint(folder, found.wrong))
    kind, _ = _label_kind(folder, config, found, _class_names(folder))
    return {p.name: _instances(p.label) for p in found.pairs} if kind == "instances" else {}


def _unfit_scores(config: DataConfig, kind: LabelKind) -> str:
    """What is wrong with the scores or the foreground asked for, where labels are of this kind; empty: nothing."""
    if config.scores == "objects" and kind != "instances":
        return f"data.scores objects needs labels with a number per object; these were read as {kind}"
    if config.foreground == "low" and kind != "binary":
        return f"data.foreground low is for labels of two values; these were read as {kind}"
    return ""


def _complaint(folder: Path, wrong: list[str]) -> str:
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    count = f"{len(wrong)} problem{'s' * (len(wrong) > 1)}"
    return f"{folder}: {count} to mend: {'; '.join(wrong[:_SHOWN])}{more}"


def _read_pairs(folder: Path, on_frame: OnFrame = _ignore) -> _Found:
    found = _Found()
    with reading(folder):
        for part in ("images", "labels"):
            if not (folder / part).is_dir():
                raise DataError(
                    f"{folder}: has no folder {part}/; put the images into images/ and the labels into labels/"
                )
        images, labels = (_list(folder, part, found.wrong) for part in ("images", "labels"))
    keys = sorted(images.keys() | labels.keys(), key=natural_key)
    for done, key in enumerate(keys):
        on_frame(done, 2 * len(keys))
        if key not in labels:
            found.wrong.append(f"images/{images[key].name}: no label of this name in labels/")
        elif key not in images:
            found.wrong.append(f"labels/{labels[key].name}: no image of this name in images/")
        else:
            _read_pair(folder, key, images[key], labels[key], found)
    if not found.pairs and not found.wrong:
        raise DataError(f"{folder}: images/ holds no image ({', '.join(SUFFIXES)})")
    return found


def _list(folder: Path, part: str, wrong: list[str]) -> dict[str, Path]:
    """Image files below folder/part by their relative name without suffix."""
    files: dict[str, Path] = {}
    base = folder / part
    for path in _files(base):
        if path.suffix.lower() in _SILENT:
            continue
        inside = path.relative_to(base)
        key = inside.with_suffix("").as_posix()
        if path.suffix.lower() not in SUFFIXES:
            wrong.append(f"{part}/{inside.as_posix()}: not a type read here ({', '.join(SUFFIXES)})")
        elif key in files:
            wrong.append(f"{part}/{inside.as_posix()}: {files[key].name} has the same name; keep one of them")
        else:
            files[key] = path
    return files


def _files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """All files below a folder but hidden ones, in order; of linked folders too, unless the link leads back `above`."""
    here = folder.resolve()
    if here in above:
        return
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        if path.is_dir():
            yield from _files(path, (*above, here))
        else:
            yield path


def _read_pair(folder: Path, key: str, image_path: Path, label_path: Path, found: _Found) -> None:
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
    if not (labels == labels[:, :1]).all():
        found.wrong.append(f"{place}: is a colour image; save one number per class or object")
    elif len(images) != len(labels):
        found.wrong.append(f"{place}: has {len(labels)} slices, its image {len(images)}")
    elif images.shape[2:] != labels.shape[2:]:
        found.wrong.append(f"{place}: has shape {labels.shape[2:]}, its image {images.shape[2:]}")
    else:
        parent = Path(key).parent.as_posix()
        sequence = key if len(images) > 1 else "images" if parent == "." else parent
        for i, (image, label) in enumerate(zip(images, labels[:, 0], strict=True)):
            slice_ = f"[{i:02}]" if len(images) > 1 else ""
            found.pairs.append(_Pair(key + slice_, sequence, image, label, image_place + slice_, place + slice_))


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
    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise DataError(f"{path}: JPEG alters label values; save labels as PNG or TIFF")
    labels = read_images(path, indices=True)
    if labels.dtype.kind == "f":
        if not (np.isfinite(labels).all() and (labels == np.rint(labels)).all() and abs(labels).max() < 2**31):
            raise DataError(f"{path}: holds values that are no whole numbers; labels are class or object numbers")
        labels = labels.astype(np.int64)
    low, high = labels.min(), labels.max()
    if low < 0 or high > np.iinfo(np.int32).max:
        raise DataError(f"{path}: label value {low if low < 0 else high} is out of range")
    return labels


def _check_images(found: _Found) -> None:
    """NaN, and files whose number of channels differs from what most have."""
    counts = [pair.image.shape[0] for pair in found.pairs]
    usual = max(set(counts), key=counts.count, default=0)
    for pair in found.pairs:
        if pair.image.dtype.kind == "f":
            bad = int(np.count_nonzero(~np.isfinite(pair.image)))
            if bad:
                found.wrong.append(f"{pair.image_place}: {bad} gray values are NaN or infinite")
        if pair.image.shape[0] != usual:
            found.wrong.append(f"{pair.image_place}: has {pair.image.shape[0]} channels, most others {usual}")


def _label_kind(folder: Path, config: DataConfig, found: _Found, names: tuple[str, ...]) -> tuple[LabelKind, str]:
    if config.label_kind != "auto":
        return config.label_kind, "as data.label_kind says"
    labels = [pair.label for pair in found.pairs]
    try:
        return named(labels, names) if names else recognise(labels)
    except DataError as error:
        raise DataError(_complaint(folder, [*found.wrong, str(error)])) from None


def _class_names(folder: Path) -> tuple[str, ...]:
    path = folder / "classes.txt"
    if not path.is_file():
        return ()
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{path}: not readable text; write one class name per line") from None
    if not 2 <= len(names) <= 255 or len(set(names)) != len(names):
        raise DataError(f"{path}: names {len(names)} classes; write 2..255 different names, one per line")
    return names


def _classes(found: _Found, kind: LabelKind, names: tuple[str, ...]) -> tuple[list[Pixels], tuple[str, ...]]:
    labels, class_names, wrong = class_labels(
        [p.label for p in found.pairs], [p.label_place for p in found.pairs], kind, names
    )
    found.wrong.extend(wrong)
    return labels, class_names


def _instances(label: Pixels) -> InstanceImage:
    return np.asarray(label, np.int32)
