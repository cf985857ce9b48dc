"""Which files of a user's own folder belong together, by their names alone.

Images lie in images/ (or imagesTr/), labels in labels/ (or masks/, labelsTr/). A label has its image's name; where no
image has it, the name without `_mask` and the like, or in other letters (capitals); images of nnU-Net bear `_0000`.
Names count as composed Unicode and without `.ome`.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from unet.data.images.foreign import advice
from unet.data.images.tiff import SUFFIXES
from unet.errors import DataError, some
from unet.files import natural_key

IMAGES, LABELS = ("images", "imagesTr"), ("labels", "masks", "labelsTr")
"""Names of the two folders; the first that is there is taken."""

ENDINGS = re.compile(r"[_-](?:cp_)?(?:masks?|labels?|seg|segmentation|gt)$", re.IGNORECASE)  # of the names of labels
NOTES = (".txt", ".md", ".csv", ".json", ".yaml", ".yml", ".ini", ".db")
"""Endings of what lies beside images and is no mistake."""
_CHANNEL = re.compile(r"_(\d{4})$")  # of an image of nnU-Net


def part(folder: Path, names: tuple[str, ...]) -> str:
    """Which of these folders is there; DataError, with what is there instead, when none is."""
    for name in names:
        if (folder / name).is_dir():
            return name
    there = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    inner = [name for name in there if any((folder / name / images).is_dir() for images in IMAGES)]
    loose = sum(p.suffix.lower() in SUFFIXES for p in _listed(folder)) if folder.is_dir() else 0
    if inner:
        raise DataError(
            f"{folder}: has no folder {names[0]}/, but {some([f'{name}/' for name in inner])} in it "
            f"{'have one; name one of them, such as' if len(inner) > 1 else 'has one; name'} {folder / inner[0]}"
        )
    near = f" (it has {', '.join(f'{name}/' for name in there[:5])})" if there else ""
    near += f", but {loose} image files itself" if loose else ""
    raise DataError(
        f"{folder}: has no folder {names[0]}/{near}; put the images into images/ and the labels into labels/"
    )


def list_images(folder: Path, part: str, wrong: list[str]) -> dict[str, Path]:
    """Image files below folder/part by their relative name, composed, without suffix."""
    files: dict[str, Path] = {}
    base = folder / part
    for path in _files(base):
        if path.suffix.lower() in NOTES:
            continue
        inside = path.relative_to(base)
        key = unicodedata.normalize("NFC", re.sub(r"\.ome$", "", inside.with_suffix("").as_posix(), flags=re.I))
        if path.suffix.lower() not in SUFFIXES:
            how = advice(path) or f"use {', '.join(SUFFIXES)}"
            wrong.append(f"{part}/{inside.as_posix()}: not a type read here; {how}")
        elif key in files:
            wrong.append(f"{part}/{inside.as_posix()}: {files[key].name} has the same name; keep one of them")
        else:
            files[key] = path
    return files


def nothing_in(folder: Path, part: str, labels: bool) -> str:
    """The line about a folder without images, with what is made of a file that lies there instead."""
    what, suffixes = ("label image", SUFFIXES[:3]) if labels else ("image", SUFFIXES)  # JPEG alters numbers
    other = next((path for path in _files(folder / part) if advice(path)), None)
    hint = f"; {other.name}: {advice(other)}" if other else ""
    return f"{folder}: {part}/ holds no {what} ({', '.join(suffixes)}){hint}"


def _listed(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """All files below a folder but hidden ones, in order; of linked folders too, unless the link leads back `above`."""
    here = folder.resolve()
    if here in above:
        return
    for path in _listed(folder):
        if path.is_dir():
            yield from _files(path, (*above, here))
        else:
            yield path


def without_channel(part: str, images: dict[str, Path], wrong: list[str]) -> dict[str, Path]:
    """nnU-Net's images by the name of their case; a further channel in a file of its own is a mistake here."""
    cases: dict[str, Path] = {}
    for key, path in images.items():
        channel = _CHANNEL.search(key)
        if channel and int(channel[1]):
            wrong.append(f"{part}/{path.name}: a second channel in its own file; save the channels as one image")
        else:
            cases[_CHANNEL.sub("", key)] = path
    return cases


def renamed(images: dict[str, Path], labels: dict[str, Path]) -> dict[str, Path]:
    """Labels by the name of their image: their own; else without its usual ending; else in other letters."""
    free = {key: key for key in images if key not in labels}
    alike = one_of_each(free)
    result: dict[str, Path] = {}
    for key, path in labels.items():
        name = key if key in images else partner(key, free, alike)
        result[name if name and name not in result else key] = path
    return result


def one_of_each(names: dict[str, str]) -> dict[str, str]:
    """Names by how they read in small letters, but for those of which there are several."""
    found: dict[str, list[str]] = {}
    for key, name in names.items():
        found.setdefault(key.casefold(), []).append(name)
    return {key: several[0] for key, several in found.items() if len(several) == 1}


def partner(key: str, free: dict[str, str], alike: dict[str, str]) -> str | None:
    """Among the names that are free, that of a label's image; alike: what `one_of_each` makes of them."""
    short = ENDINGS.sub("", key)
    return free.get(key) or free.get(short) or alike.get(key.casefold()) or alike.get(short.casefold())


def without_partner(parts: tuple[str, str], images: dict[str, Path], labels: dict[str, Path]) -> list[str]:
    """A line for every file without a partner; one for all images where no label is left over."""
    bare = sorted(images.keys() - labels.keys(), key=natural_key)
    spare = sorted(labels.keys() - images.keys(), key=natural_key)
    if len(bare) > 1 and not spare:
        return [
            f"{len(bare)} of {len(images)} images have no label of their name in {parts[1]}/ "
            f"({some([images[key].name for key in bare])}); label them, or take them out of {parts[0]}/ "
            "(`unet predict` takes them from anywhere)"
        ]
    if len(images) == len(bare) == 1 and len(spare) > 1:
        return [
            f"{parts[1]}/: none of {len(spare)} images is named like {images[bare[0]].name}; if each is the mask of "
            "one object, draw them into one image, a number per object"
        ]
    lines = [
        (key, f"{parts[0]}/{images[key].name}: no label of this name in {parts[1]}/{nearest_name(key, labels, images)}")
        for key in bare
    ] + [
        (key, f"{parts[1]}/{labels[key].name}: no image of this name in {parts[0]}/{nearest_name(key, images, labels)}")
        for key in spare
    ]
    return [line for _, line in sorted(lines, key=lambda pair: natural_key(pair[0]))]


def nearest_name(key: str, there: dict[str, Path], own: dict[str, Path]) -> str:
    """The name most like `key` that has no partner either, in words; empty when none is like it."""
    free = [k for k in there if k not in own]
    elsewhere = [k for k in free if PurePosixPath(k).name == PurePosixPath(key).name]  # in another subfolder
    close = elsewhere or difflib.get_close_matches(key, free, n=1, cutoff=0.5)
    place = f"{close[0]}{there[close[0]].suffix}" if elsewhere else there[close[0]].name if close else ""
    return f" (nearest: {place})" if close else ""
