"""Files to take away from the app: probabilities, instances, their outlines and a table of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.app.made import Made
from unet.app.outlines import features, rois
from unet.errors import DataError
from unet.files import atomic_write
from unet.prediction.objects import Objects
from unet.runs.folder import PROBABILITIES

FILES = {
    "probabilities": PROBABILITIES,
    "instances": "instances.tif",
    "geojson": "outlines.geojson",
    "rois": "outlines.zip",
    "table": "objects.csv",
}
"""Kinds of files and how their names end, behind that of the image."""

_MEASURED = {
    "label": "object",
    "area": "area_px",
    "centroid-0": "centroid_y",
    "centroid-1": "centroid_x",
    "perimeter": "perimeter_px",
    "equivalent_diameter_area": "equivalent_diameter_px",
    "eccentricity": "eccentricity",
    "intensity_mean": "mean_gray",
}
_PROPERTIES = tuple(dict.fromkeys(name.partition("-")[0] for name in _MEASURED))

Pages = Iterator[tuple[int, NDArray[np.int32]]]


def write(made: Made, kind: str, threshold: float | None) -> tuple[Path, str]:
    """A file of one of the kinds in FILES, made where it is not there yet, and the name it is to have.

    DataError for another kind, or when objects cannot be made; RunError when the disk is full.
    """
    if kind not in FILES:
        raise DataError(f"there is no file {kind!r}; there are {', '.join(FILES)}")
    name = f"{made.image.source.stem}-{FILES[kind]}"
    if kind == "probabilities":
        return made.task.probabilities.path, name
    settings = made.settings(threshold)
    folder = made.prediction.folder
    path = folder / f"{settings.threshold:.6f}-{FILES[kind]}"
    with made.prediction.making:
        if not path.exists():
            for earlier in folder.glob(f"?.??????-{FILES[kind]}"):
                earlier.unlink()
            if kind == "instances":
                objects = Objects(made.task, made.job, settings)
                objects.write(made.prediction.check)
                objects.masks.replace(path)
            else:
                pages = ((n, made.instances(n, settings)) for n in range(made.image.shape[0]))
                _WRITERS[kind](path, pages, made)
    return path, name


def _geojson(path: Path, pages: Pages, made: Made) -> None:
    """A feature collection, written feature by feature."""
    stacked, between = made.image.shape[0] > 1, b""
    with atomic_write(path) as file:
        file.write(b'{"type": "FeatureCollection", "features": [')
        for number, ids in pages:
            for feature in features(ids, number, stacked):
                file.write(between + b"\n" + json.dumps(feature).encode())
                between = b","
        file.write(b"\n]}\n")


def _rois(path: Path, pages: Pages, made: Made) -> None:
    """A zip of ImageJ's regions of interest, as its ROI manager opens it."""
    from zipfile import ZIP_DEFLATED, ZipFile

    stacked = made.image.shape[0] > 1
    with atomic_write(path) as file, ZipFile(file, "w", ZIP_DEFLATED) as packed:
        for number, ids in pages:
            for roi in rois(ids, number, stacked):
                packed.writestr(f"{roi.name}.roi", roi.tobytes())


def _table(path: Path, pages: Pages, made: Made) -> None:
    """One row per object, measured by scikit-image's regionprops; gray values are the mean over channels."""
    from skimage.measure import regionprops_table

    raw = made.raw()
    with atomic_write(path) as file:
        rows = csv.writer(text := io.TextIOWrapper(file, "utf-8", newline=""), lineterminator="\n")
        rows.writerow(["image", *_MEASURED.values()])
        for number, ids in pages:
            gray = np.asarray(raw[number].mean(axis=0, dtype=np.float64))
            found: dict[str, Any] = regionprops_table(ids, gray, properties=_PROPERTIES)
            columns = [found[name] for name in _MEASURED]
            rows.writerows([number + 1, *map(_number, row)] for row in zip(*columns, strict=True))
        text.detach()


def _number(value: Any) -> int | float:
    return int(value) if float(value).is_integer() else float(f"{value:.6g}")


_WRITERS = {"geojson": _geojson, "rois": _rois, "table": _table}
