"""Reader of a user's own folder: images/ and labels/ with files of the same names (`pairs` says which are).

Each file is one image (TIFF, PNG, JPEG; labels not JPEG) or a TIFF stack, whose pages are consecutive slices. Images
are 8-bit, 16-bit, integer or floating-point, with one or several channels. Folders below images/ (and the same below
labels/) are sequences; so is every stack. Files and folders may be symbolic links.

What the labels are is recognised (`data.label_kind` = auto) or told:
  binary     values 0 and 1, or 0 and 255; also where classes.txt has two names and the values are 0 and 255
  classes    class numbers 0..K-1, 255 = ignore; classes.txt beside images/ may name them, one per line
  instances  every object its own number, 0 = background
A table of values or colours (`data.label_map`, or classes.txt with lines VALUES=CLASS) says it all.

Axes: C channels, H rows, W columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from unet.config import DataConfig
from unet.data.images.tiff import Pixels
from unet.data.label_kind import LabelKind, class_labels, named, recognise
from unet.data.label_map import LabelMap, is_table
from unet.data.masks import Target
from unet.data.normalise import mixed, normalisation
from unet.data.pairs import Found, OnFrame, read_pairs
from unet.data.rescale import fill_value
from unet.data.stack import Frame, InstanceImage, LabelImage, Stack
from unet.errors import ConfigError, DataError, Problems
from unet.files import reading

_COMMENT = re.compile(r"(^|\s)#(\s.*|$)")  # colours have no space behind the sign
_NUMBERED = re.compile(r"(\d+)\s*[\s:;,.)]\s*(?=\S)")  # a line that was meant as a table
_MOST = 2 / 3  # of all pixels: a foreground that fills more is rare, a mask of the other polarity is not


def read(
    folder: Path, config: DataConfig, say: Callable[[str], None], on_frame: OnFrame = lambda _done, _total: None
) -> Stack:
    """All frames of the folder, and one line through `say` about what its labels were taken for.

    on_frame is told how many steps of how many are done (each pair is read, then prepared).

    Instance labels become the target that `config` names (see `masks.Target`); binary and class
    labels leave the objects to the weight map (4-connected components).

    Raises DataError naming every offender at once: missing counterpart, unreadable file, other shape, other number of
    channels, NaN, label value outside the classes.
    """
    table = label_table(folder, config)
    found = read_pairs(folder, config, table is not None and table.colours, on_frame)
    _check_images(found)
    made = Target.configured(config)
    kind, why, labels, class_names = read_labels(folder, config, found, table)
    if kind == "instances":
        class_names = made.class_names
    elif made.kind != "cell":
        found.wrong.append(f"data.target {made.kind} needs labels with a number per object; these were read as {kind}")
    if wrong := unfit_scores(config, kind, class_names):
        found.wrong.append(wrong)
    if found.wrong:
        raise Problems(folder, found.wrong)
    dtypes = {pair.image.dtype for pair in found.pairs}
    normalise = normalisation(config, dtypes)
    if warning := mixed(normalise, dtypes):
        say(f"data: {warning}")
    filled = [f"{p.image_place}: {text}" for p in found.pairs if (text := fill_value(p.image, normalise))]
    for lines in filter(None, (filled, found.odd)):
        say(f"data: {lines[0]}" + (f" (and so in {len(lines) - 1} more images)" if len(lines) > 1 else ""))
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
    if label_table(folder, config) is not None:
        return {}
    found = read_pairs(folder, config)
    if found.wrong:
        raise Problems(folder, found.wrong)
    kind, _ = _label_kind(folder, config, found, _class_names(folder))
    return {p.name: _instances(p.label) for p in found.pairs} if kind == "instances" else {}


def label_table(folder: Path, config: DataConfig) -> LabelMap | None:
    """What `data.label_map`, else classes.txt, says of values; None when neither does."""
    if config.label_map:
        return LabelMap.parse(config.label_map)
    lines = _class_lines(folder)
    return LabelMap.parse(lines) if is_table(lines) else None


def read_labels(
    folder: Path, config: DataConfig, found: Found, table: LabelMap | None
) -> tuple[LabelKind, str, list[LabelImage] | None, tuple[str, ...]]:
    """Kind of the labels, why, class indices (None of instances), names of the classes; adds what is wrong."""
    if table is not None:
        if config.label_kind != "auto" or config.foreground != "high":
            raise ConfigError("data.label_map says what the labels are; leave out data.label_kind and data.foreground")
        labels = []
        for pair in found.pairs:
            label, left_out = table.apply(pair.label)
            labels.append(label)
            if left_out:
                found.wrong.append(table.complaint(pair.label_place, left_out))
        return "classes", "by their table", labels, table.class_names
    names = _class_names(folder)
    kind, why = _label_kind(folder, config, found, names)
    if kind == "instances":
        return kind, why, None, ()
    labels, class_names = _classes(found, kind, names)
    if kind == "binary" and config.foreground == "low":
        labels = [np.asarray(1 - label, np.uint8) for label in labels]
    elif kind == "binary" and labels and (share := float(np.mean([label.mean() for label in labels]))) > _MOST:
        why += f"; the foreground fills {share:.0%}: if it is the low value, say --data.foreground low"
    return kind, why, labels, class_names


def unfit_scores(config: DataConfig, kind: LabelKind, class_names: tuple[str, ...]) -> str:
    """What is wrong with the scores or the foreground asked for, where labels are of this kind; empty: nothing."""
    if config.scores == "objects" and kind != "instances":
        return f"data.scores objects needs labels with a number per object; these were read as {kind}"
    if config.scores == "membranes" and len(class_names) != 2:
        return f"data.scores membranes needs two classes; labels read as {kind} have {', '.join(class_names) or 'none'}"
    if config.foreground == "low" and kind != "binary":
        return f"data.foreground low is for labels of two values; these were read as {kind}"
    return ""


def _check_images(found: Found) -> None:
    """NaN, and files whose number of channels differs from what most have."""
    counts = [pair.image.shape[0] for pair in found.pairs]
    usual = max(set(counts), key=counts.count, default=0)
    for pair in found.pairs:
        if pair.image.dtype.kind == "f":
            bad = int(np.count_nonzero(~np.isfinite(pair.image)))
            if bad:
                found.wrong.append(f"{pair.image_place}: {bad} gray values are NaN or infinite")
        if pair.image.shape[0] != usual:
            found.wrong.append(
                f"{pair.image_place}: has {pair.image.shape[0]} channels, most others {usual}; save all alike, gray or "
                "RGB, without opacity"
            )


def _label_kind(folder: Path, config: DataConfig, found: Found, names: tuple[str, ...]) -> tuple[LabelKind, str]:
    if config.label_kind != "auto":
        return config.label_kind, "as data.label_kind says"
    labels = [pair.label for pair in found.pairs]
    try:
        return named(labels, names) if names else recognise(labels)
    except DataError as error:
        raise Problems(folder, [*found.wrong, str(error)]) from None


def classes_file(folder: Path) -> Path | None:
    """The file classes.txt of a folder, in whatever letters it is written; None: there is none."""
    with reading(folder):
        return next((p for p in sorted(folder.iterdir()) if p.name.lower() == "classes.txt" and p.is_file()), None)


def _class_lines(folder: Path) -> list[str]:
    """The lines of classes.txt without comments, which begin with # and a space."""
    path = classes_file(folder)
    if path is None:
        return []
    try:
        lines = [_COMMENT.sub("", line).strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{path}: not readable text; save it as UTF-8, one class name per line") from None
    return [line for line in lines if line]


def _class_names(folder: Path) -> tuple[str, ...]:
    names, path = tuple(_class_lines(folder)), classes_file(folder)
    if names and all(map(_NUMBERED.match, names)):
        meant = _NUMBERED.sub(r"\1=", names[0])
        raise DataError(f"{path}: {names[0]!r} is a number and a name; write {meant} and so on, or the names alone")
    if names and not 2 <= len(set(names)) == len(names) <= 255:
        raise DataError(f"{path}: names {len(names)} classes; write 2..255 different names, one per line")
    return names


def _classes(found: Found, kind: LabelKind, names: tuple[str, ...]) -> tuple[list[Pixels], tuple[str, ...]]:
    labels, class_names, wrong = class_labels(
        [p.label for p in found.pairs], [p.label_place for p in found.pairs], kind, names
    )
    found.wrong.extend(wrong)
    return labels, class_names


def _instances(label: Pixels) -> InstanceImage:
    return np.asarray(label, np.int32)
