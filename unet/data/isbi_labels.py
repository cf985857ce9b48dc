"""Labels of the EM challenge's 30 test slices: for scoring with `unet evaluate --test`, and for nothing else.

Published with the challenge's archive (ISBI-2012-challenge.zip) when its server was shut down. Nothing may be chosen,
tuned or stopped by them; `read` is called by the scoring alone, everything else knows their file by its digest only.

Axes: N slices, H rows, W columns.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unet.data.images.tiff import read_gray
from unet.data.isbi import SLICES
from unet.errors import DataError

Origin = Literal["published", "recovered", "unknown"]

NAME = "test-labels.tif"
FOLDERS = ("ISBI-2012-EM", "ISBI-2012-EM-test-labels")
"""Folders below the data root in which the file is looked for: the archive's own, else the recovered copy."""

BLOB = "0d6427fdfe7bacaa91bdc3d930aab31331b62d43"
"""Git's id (`git hash-object`) of the archive's own file."""

RECOVERED_SHA256 = "18787a923f4336b70ffc4e9c20b79ffab657ce60c4a47acf2eec88033c56d248"
"""SHA-256 of the recovered copy's pixels (30 x 512 x 512 uint8, in that order)."""

NOTES: dict[Origin, str] = {
    "published": "the challenge's own",
    "recovered": "recovered copy, 2.6 % of the pixels reconstructed",
    "unknown": "of unknown origin: neither the archive's own file nor the recovered copy",
}


@dataclass(frozen=True, eq=False)
class ChallengeLabels:
    """cells: N x H x W, True = cell. origin: whether the file is the published one, which every table has to say."""

    cells: NDArray[np.bool_]
    path: Path
    origin: Origin

    @property
    def note(self) -> str:
        """What every table made with these labels says of them."""
        return NOTES[self.origin]


def find(root: Path) -> Path | None:
    """The file of the labels below a data root; None when there is none."""
    return next((path for folder in FOLDERS if (path := root / folder / NAME).is_file()), None)


def origin(path: Path) -> Origin:
    """Which copy a file is, by its digests; DataError when it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    if blob == BLOB:
        return "published"
    return "recovered" if hashlib.sha256(read_gray(path).tobytes()).hexdigest() == RECOVERED_SHA256 else "unknown"


def faults(folder: Path) -> list[str]:
    """What is wrong with the labels in the data set's folder, one line; empty when they are right or not there."""
    path = folder / NAME
    if not path.is_file():
        return []
    try:
        known = origin(path) != "unknown"
    except DataError as error:
        return [f"{NAME}: truncated or damaged ({error})"]
    return [] if known else [f"{NAME}: changed (neither the archive's own file nor the recovered copy)"]


def read(root: Path) -> ChallengeLabels:
    """The labels below a data root. Only for scoring.

    DataError when they are missing (with what to do), damaged, not 30 slices or not 0 and 255.
    """
    path = find(root)
    if path is None:
        raise DataError(
            f"{root}: holds no labels of the test slices ({FOLDERS[0]}/{NAME}); they are in the challenge's archive: "
            "unet data fetch em, or with the archive at hand unet data fetch em --from-file ISBI-2012-challenge.zip"
        )
    pixels = read_gray(path)
    if len(pixels) != SLICES or not set(np.unique(pixels).tolist()) <= {0, 255}:
        found = f"{len(pixels)} slices with values {np.unique(pixels).tolist()[:5]}"
        raise DataError(f"{path}: holds {found}, expected {SLICES} with 0 (membrane) and 255 (cell); fetch it again")
    return ChallengeLabels(pixels == 255, path, origin(path))
