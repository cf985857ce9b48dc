"""Reader of the EM stack of the ISBI 2012 challenge (ssTEM of the Drosophila larva ventral nerve cord, 4 x 4 x 50 nm).

Label 255 is cell, 0 membrane. Cardona et al. 2010, doi:10.1371/journal.pbio.1000502; Arganda-Carreras et al. 2015,
doi:10.3389/fnana.2015.00142.

Axes: N slices, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unet.data.images.tiff import Pixels, read_gray
from unet.data.stack import Frame, LabelImage, Normalisation, Stack
from unet.errors import DataError

CLASS_NAMES = ("membrane", "cell")
SLICES = 30
JPEG_FOLDER = "jpeg"  # the lossy copies live apart, so that they are never taken for the original
PIXELS_SHA256 = {
    "train-volume": "200da3d452d726e6c9ca1ce04b869d4edb727320d23b516d01cce707dc8c4760",
    "train-labels": "a7cb64000a1a7e542682927e19c91339f58f9f178e0bcce4e207371116f0ca36",
    "test-volume": "1b58fa7ec1d0ff9d39a855622db3ff66a97863036339b0d04be51b2f5a99b0e9",
}
"""SHA-256 of the gray values of the stacks (30 x 512 x 512 uint8, in that order), whatever they are stored in."""


@dataclass(frozen=True)
class Layout:
    """How a folder holds the stack: the files of the training slices, of their labels, of the test slices."""

    kind: str
    lossy: bool
    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    test: tuple[Path, ...]


def find_layout(root: Path, *, jpeg: bool = False) -> Layout | None:
    """The layout found in `root`: lossless TIFF stacks, else one PNG per slice, else (only with `jpeg`) JPEG copies."""
    tifs = tuple(root / f"{name}.tif" for name in ("train-volume", "train-labels", "test-volume"))
    if not jpeg and tifs[0].is_file():
        return Layout("lossless TIFF stacks", False, tifs[:1], tifs[1:2], tifs[2:])
    for base in () if jpeg else (root, root / "membrane", root / "data" / "membrane"):
        if (base / "train" / "image" / "0.png").is_file():
            parts = (base / "train" / "image", base / "train" / "label", base / "test")
            images, labels, test = (tuple(p / f"{i}.png" for i in range(SLICES)) for p in parts)
            return Layout("lossless PNG slices", False, images, labels, test)
    for base in (root / JPEG_FOLDER, root / "data", root) if jpeg else ():
        if (base / "images" / "train-volume00.jpg").is_file():
            names = (("images", "train-volume"), ("labels", "train-labels"), ("test", "test-volume"))
            images, labels, test = (tuple(base / d / f"{n}{i:02}.jpg" for i in range(SLICES)) for d, n in names)
            return Layout("lossy JPEG copies", True, images, labels, test)
    return None


def read(root: Path, *, jpeg: bool = False, normalise: Normalisation | None = None) -> Stack:
    """The 30 labelled slices as frames "train-volume[00]" .. "[29]" of one sequence; image = gray value / 255.

    root: the folder with train-volume.tif and train-labels.tif, or with train/image/N.png and train/label/N.png.
    jpeg: read the JPEG copies instead (mean error 2.5-4.5 gray levels; labels are then cut at 128).
    Class 1 is cell, 0 membrane; instances are left to the weight map (4-connected components of the cells).
    normalise: in place of gray value / 255.

    Raises DataError when files are missing or damaged, or when labels are not 0 and 255.
    """
    layout = _layout(root, jpeg)
    images, labels = _slices(layout.images), _slices(layout.labels)
    if images.shape != labels.shape:
        raise DataError(
            f"{root}: images have shape {images.shape} but labels {labels.shape}; they must be the same slices"
        )
    if jpeg:
        labels = np.where(labels >= 128, 255, 0).astype(np.uint8)
    return _stack("em", root, layout, images, _classes(layout.labels[0], labels), "train-volume", normalise)


def read_test(root: Path, *, normalise: Normalisation | None = None) -> Stack:
    """The challenge's 30 test slices as frames "test-volume[00]" .., without labels (see unet.data.isbi_labels)."""
    layout = _layout(root, jpeg=False)
    return _stack("em-test", root, layout, _slices(layout.test), None, "test-volume", normalise)


def _layout(root: Path, jpeg: bool) -> Layout:
    layout = find_layout(root, jpeg=jpeg)
    if layout is None:
        wanted = "images/train-volumeNN.jpg" if jpeg else "train-volume.tif (or train/image/N.png)"
        raise DataError(f"{root}: no {wanted} in it; run `unet data fetch em` or name the folder with data.root")
    return layout


def _slices(paths: tuple[Path, ...]) -> Pixels:
    parts = [read_gray(path) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        if part.shape[1:] != parts[0].shape[1:]:
            raise DataError(f"{path}: has shape {part.shape[1:]} but {paths[0].name} {parts[0].shape[1:]}")
        if part.dtype != np.uint8:
            raise DataError(f"{path}: pixels are {part.dtype}, the EM stack has uint8; fetch it again")
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _classes(path: Path, labels: Pixels) -> LabelImage:
    present = np.flatnonzero(np.bincount(labels.reshape(-1), minlength=256))
    if not set(present.tolist()) <= {0, 255}:
        other = [int(v) for v in present if v not in (0, 255)][:5]
        raise DataError(f"{path}: label values {other} are neither 0 (membrane) nor 255 (cell); fetch it again")
    return np.asarray(labels == 255, np.uint8)


def _stack(
    name: str,
    root: Path,
    layout: Layout,
    images: Pixels,
    labels: LabelImage | None,
    stem: str,
    normalise: Normalisation | None,
) -> Stack:
    normalise = normalise or Normalisation("fixed", 0.0, 255.0)
    frames = tuple(
        Frame(f"{stem}[{i:02}]", stem, normalise(image[None]), None if labels is None else labels[i])
        for i, image in enumerate(images)
    )
    return Stack(name, frames, CLASS_NAMES, normalise, f"{root} ({layout.kind})")
