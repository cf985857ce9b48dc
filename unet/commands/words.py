"""What the words of `unet predict` stand for: networks, then images; and where what is made of the images goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unet.errors import ConfigError, DataError, RunError, some

_TIFF = (".tif", ".tiff")
_MAP = "-probabilities"
_SHOWN = 4


@dataclass(frozen=True)
class Words:
    """Run folders or weights files, and image files, folders of them or patterns."""

    networks: tuple[Path, ...]
    images: tuple[str, ...]


def sort_words(words: tuple[str, ...]) -> Words:
    """The words in front that are networks, and the rest, which are images; ConfigError when one of the kinds lacks."""
    from unet.prediction.shipped import find_network, shipped
    from unet.prediction.trained import is_network

    count = next((i for i, word in enumerate(words) if find_network(word) is None), len(words))
    networks, images = words[:count], words[count:]
    taken = f"took {_listed(networks)} for networks and {_listed(images)} for images"
    if not networks:
        raise ConfigError(
            f"unet predict RUN IMAGES needs a trained network: {taken}; name a run folder (such as runs/NAME), a "
            f"weights file or one that is there ({', '.join(shipped())}) first, or train one with unet train"
        )
    if not images:
        raise ConfigError(f"unet predict RUN IMAGES needs images: {taken}; name an image file, a folder or a pattern")
    if late := next((word for word in images if is_network(Path(word))), None):
        raise ConfigError(f"{late} is a network, but stands behind images: {taken}; name all networks first")
    return Words(tuple(path for word in networks if (path := find_network(word))), images)


def _listed(words: tuple[str, ...]) -> str:
    return some(words) or "nothing"


def image_files(source: Path) -> list[Path]:
    """The file itself, or all images of a folder in natural order (t2 before t10), or those that fit a pattern.

    Raises DataError when there are none or the folder may not be read.
    """
    from unet.data.images.foreign import advice
    from unet.data.images.tiff import SUFFIXES
    from unet.files import natural_key, reading

    with reading(source):
        if not source.is_dir() and (source.exists() or not any(sign in str(source) for sign in "*?[")):
            return [source]
        pattern = str(source.relative_to(source.anchor))
        listed = source.iterdir() if source.is_dir() else Path(source.anchor).glob(pattern)
        files = sorted(p for p in listed if p.is_file() and p.name[0] != ".")
        found = [p for p in files if p.suffix.lower() in SUFFIXES]
    if not found:
        other = next((path for path in (source, *files) if advice(path)), None)
        how = f"of {other.name}: {advice(other)}" if other else "name a file or a folder of images"
        raise DataError(f"{source}: holds no image ({', '.join(SUFFIXES)}); {how}")
    return sorted(found, key=lambda path: natural_key(str(path)))


def left_out(images: Sequence[str]) -> str:
    """A line about what lies in folders of images and is not read, though it may be images; empty: nothing does."""
    from unet.data.images.foreign import advice
    from unet.data.names import NOTES
    from unet.files import natural_key

    other = []
    for folder in (Path(word) for word in images if Path(word).is_dir()):
        for path in sorted(folder.iterdir(), key=lambda path: natural_key(path.name)):
            if path.name[0] != "." and (path.is_dir() or (advice(path) and path.suffix.lower() not in NOTES)):
                other.append(f"{path.name}/" if path.is_dir() else path.name)
    return f"left out, for no images that are read: {some(other, _SHOWN)}" if other else ""


@dataclass(frozen=True)
class Places:
    """sources: image files; outputs: where the probabilities of each go; target: file or folder named at the end."""

    sources: list[Path]
    outputs: list[Path]
    target: Path


def places(images: tuple[str, ...], out: str) -> Places:
    """The image files that words stand for and the output file of each; an error where names clash."""
    named = [Path(word) for word in images]
    found = [image_files(path) for path in named]
    sources = [source for files in found for source in files]
    single = len(named) == 1 and found[0] == named
    if single and not Path(out or "none").is_dir():
        path = Path(out) if out else Path(f"{sources[0].stem}{_MAP}.tif")
        if path.suffix.lower() not in _TIFF:
            raise ConfigError(f"--out {out}: probabilities are written as TIFF; name a file that ends in .tif")
        return Places(sources, [path], path)
    folder = Path(out) if out else Path(f"{_common_name(sources)}{_MAP}")
    if folder.suffix.lower() in _TIFF or folder.is_file():
        what = f"{named[0]} is a folder of images" if len(named) == 1 else "there are several images"
        raise ConfigError(f"--out {out}: {what}; name a folder for the results")
    outputs = [folder / f"{source.stem}.tif" for source in sources]
    if folder.exists() and any(path.is_dir() and folder.samefile(path) for path in named):
        raise RunError(f"{folder}: holds the images; name another folder with --out")
    return Places(sources, outputs, outputs[0] if single else folder)


def _common_name(sources: list[Path]) -> str:
    """Name of the folder that all files lie in, else "images"."""
    folders = {source.parent.resolve() for source in sources}
    return folders.pop().name if len(folders) == 1 else "images"


def refuse_clashes(made: Iterable[tuple[Path, Sequence[Path]]]) -> None:
    """DataError when two files would be written to one place. made: a source and what is made of it."""
    seen: dict[Path, Path] = {}
    for source, paths in made:
        for path in paths:
            if path in seen:
                both = f"{seen[path].name} and {source.name}"
                raise DataError(f"{both} would both become {path.name}; rename one of them")
            seen[path] = source
