"""Checksum manifests of the published data sets, and checking a folder against them.

A manifest is what `sha256sum -c` reads, one line per file, paths relative to the data set's folder. Comment lines add
the sizes ("#bytes 786432 01/t000.tif") and, for the PNG copies of the EM stack, the SHA-256 of the decoded gray values,
row by row ("#pixels <digest> train/image/0.png"), because PNG bytes differ from writer to writer. For the same reason
a TIFF of that stack is also right with the right pixels. Labels of its test slices need not be there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from unet.data import isbi, isbi_labels
from unet.data.images.tiff import read_gray
from unet.datasets import DataSet
from unet.errors import DataError
from unet.files import sha256, write_text

NAME = "manifest.sha256"


@dataclass
class Manifest:
    """Digest and size of every file, digest of the pixels of every lossless copy, by path."""

    files: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    pixels: dict[str, str] = field(default_factory=dict)


def find_manifest(data_set: DataSet, folder: Path) -> Path | None:
    """The manifest that comes with this program, else the one in the folder (written when it was fetched)."""
    ours = Path(__file__).resolve().parents[3] / "data" / data_set.folder / NAME
    return next((path for path in (ours, folder / NAME) if path.is_file()), None)


def read_manifest(path: Path) -> Manifest:
    """Manifest from a file; DataError for a line that is none."""
    manifest = Manifest()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{path}: not a readable manifest; restore it") from None
    for number, line in enumerate(lines, start=1):
        if found := re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line):
            manifest.files[found[2]] = found[1]
        elif found := re.fullmatch(r"#pixels ([0-9a-f]{64}) (.+)", line):
            manifest.pixels[found[2]] = found[1]
        elif found := re.fullmatch(r"#bytes (\d+) (.+)", line):
            manifest.sizes[found[2]] = int(found[1])
        elif line.strip() and not line.startswith("# "):
            raise DataError(f"{path}: line {number} is not '<sha256>  <path>'; restore the file")
    return manifest


def make_manifest(folder: Path, paths: Iterable[Path]) -> str:
    """Text of the manifest of these files (relative to `folder`), sorted by path."""
    names = sorted(path.as_posix() for path in paths)
    lines = ["# SHA-256 of the files as published; `sha256sum -c manifest.sha256` checks them; #bytes: their sizes"]
    lines += [f"{sha256(folder / name)}  {name}" for name in names]
    lines += [f"#bytes {(folder / name).stat().st_size} {name}" for name in names]
    return "\n".join(lines) + "\n"


def pixel_digest(path: Path) -> str:
    """SHA-256 of the decoded gray values of an image or stack, row by row."""
    return hashlib.sha256(read_gray(path).tobytes()).hexdigest()


def verify(data_set: DataSet, folder: Path, *, manifest: Path | None = None, jpeg: bool = False) -> list[str]:
    """What is wrong with the data set in `folder`, a line per file: missing, truncated, changed; empty if all is well.

    manifest: default as `find_manifest` says. jpeg: check the JPEG copies of the EM stack, of which no digest is known:
    each must be there and readable. Of the EM stack the layout that readers would take is checked.
    """
    if not folder.is_dir():
        return ["the whole folder: missing"]
    path = manifest or find_manifest(data_set, folder)
    known = read_manifest(path) if path else Manifest()
    if data_set.reader == "isbi":
        layout = isbi.find_layout(folder, jpeg=jpeg)
        if layout is None:
            return [f"{'jpeg/images' if jpeg else 'train-volume.tif or train/image/0.png'}: missing"]
        if layout.lossy:
            return [w for p in (*layout.images, *layout.labels) for w in _verify_pixels("", folder, p)]
        if layout.images[0].suffix != ".tif":
            return _verify_slices(known, folder, layout) + isbi_labels.faults(folder)
    if not known.files:
        return [f"{NAME}: missing, nothing to check against; restore it or fetch the data set again"]
    wrong = [w for name, digest in known.files.items() for w in _verify_file(known, folder, name, digest)]
    return wrong + (isbi_labels.faults(folder) if data_set.reader == "isbi" else [])


def _verify_slices(manifest: Manifest, folder: Path, layout: isbi.Layout) -> list[str]:
    """The PNG copies: each by its own digest, or, without a manifest, all together by that of the stack."""
    wrong = []
    for stem, places in zip(isbi.PIXELS_SHA256, (layout.images, layout.labels, layout.test), strict=True):
        found = [w for p in places for w in _verify_pixels(_pixels_of(manifest, p), folder, p)]
        if not found and not manifest.pixels:
            whole = hashlib.sha256(b"".join(read_gray(p).tobytes() for p in places)).hexdigest()
            if whole != isbi.PIXELS_SHA256[stem]:
                found = [f"{places[0].parent.relative_to(folder)}: changed (gray values differ from {stem}.tif)"]
        wrong += found
    return wrong


def _pixels_of(manifest: Manifest, path: Path) -> str:
    """Digest of a slice, wherever its folder lies."""
    return next((digest for name, digest in manifest.pixels.items() if path.as_posix().endswith(f"/{name}")), "")


def _verify_file(manifest: Manifest, folder: Path, name: str, digest: str) -> list[str]:
    path = folder / name
    if not path.is_file():
        return [f"{name}: missing"]
    if _has_pixels(path, isbi.PIXELS_SHA256.get(path.stem, "")):
        return []
    size, whole = path.stat().st_size, manifest.sizes.get(name)
    if whole is not None and size < whole:
        return [f"{name}: truncated ({size:,} of {whole:,} bytes)"]
    return [] if sha256(path) == digest else [f"{name}: changed (SHA-256 differs)"]


def _has_pixels(path: Path, digest: str) -> bool:
    """Whether an image of which the pixels' digest is known has these, whatever it is packed in."""
    try:
        return bool(digest) and pixel_digest(path) == digest
    except DataError:
        return False


def _verify_pixels(digest: str, folder: Path, path: Path) -> list[str]:
    name = path.relative_to(folder).as_posix()
    if not path.is_file():
        return [f"{name}: missing"]
    try:
        found = pixel_digest(path)
    except DataError as error:
        return [f"{name}: truncated or damaged ({error})"]
    return [f"{name}: changed (gray values differ)"] if digest and found != digest else []


def write_manifest(folder: Path) -> None:
    """Record the digests of the data files in a folder that has no manifest yet."""
    path = folder / NAME
    if not path.exists():
        found = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
        write_text(path, make_manifest(folder, (p for p in found if not _aside(p))))


def _aside(path: Path) -> bool:
    return path.name in ("README.md", NAME) or any(part.startswith(".") for part in path.parts)
