"""What an image file says about its axes and the size of its pixels, to be handed on to what is made from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import tifffile

from unet.data.images.series import only_series, open_tiff, quiet_tifffile

Rational = tuple[int, int]

_KEPT = ("unit", "spacing", "finterval", "fps")  # what ImageJ says about pixels; its display settings are not handed on
_MICRONS = ("micron", "microns", "µm", "um", r"\u00B5m", "micrometer", "micrometre")
_IN_MICRONS = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "um": 1.0, "nm": 1e-3, "pm": 1e-6, "Å": 1e-4, "inch": 25400.0}
_NONE, _INCH, _CENTIMETRE = 1, 2, 3  # values of the tag ResolutionUnit
_LARGEST = 2**32 - 1  # of a TIFF rational's two numbers


@dataclass(frozen=True)
class Calibration:
    """Axes of the stack and pixel size, as far as the file says.

    axes: what the N images of the file are: "" (one image), "T" (time), "Z" (depth) or "TZ", `lengths` of each.
    resolution: pixels per unit along x and y as in the tags XResolution and YResolution, None: unknown.
    resolution_unit: the tag of this name: 1 none (the unit is then in `imagej`), 2 inch, 3 centimetre. imagej: unit of
    length, spacing of the slices in it, seconds between frames, by ImageJ's names.
    """

    axes: str = ""
    lengths: tuple[int, ...] = ()
    resolution: tuple[Rational, Rational] | None = None
    resolution_unit: int = _NONE
    imagej: dict[str, str | float] = field(default_factory=dict)

    def ome(self) -> dict[str, Any]:
        """The same as attributes of OME-XML (PhysicalSizeX and so on, in µm); what is unknown is left out."""
        unit = str(self.imagej.get("unit", ""))
        if self.resolution_unit in (_INCH, _CENTIMETRE):
            unit = "inch" if self.resolution_unit == _INCH else "cm"
        factor = 1.0 if unit in _MICRONS else _IN_MICRONS.get(unit)
        found: dict[str, Any] = {}
        if factor is not None and self.resolution is not None:
            for axis, (count, per) in zip("XY", self.resolution, strict=True):
                found |= {f"PhysicalSize{axis}": factor * per / count, f"PhysicalSize{axis}Unit": "µm"}
            if isinstance(spacing := self.imagej.get("spacing"), (int, float)):
                found |= {"PhysicalSizeZ": factor * spacing, "PhysicalSizeZUnit": "µm"}
        if isinstance(seconds := self.imagej.get("finterval"), (int, float)):
            found |= {"TimeIncrement": float(seconds), "TimeIncrementUnit": "s"}
        return found


def read_calibration(path: Path) -> Calibration:
    """The calibration of an image file; what cannot be read or understood counts as not said."""
    try:
        return _of_tiff(path) if path.suffix.lower() in (".tif", ".tiff") else _of_pillow(path)
    except Exception:  # whatever damaged or foreign metadata may lead to; its pixels count
        return Calibration()


def _of_tiff(path: Path) -> Calibration:
    with quiet_tifffile(), open_tiff(path) as tif:
        series = only_series(path, tif)
        kept = [(a, n) for a, n in zip(series.axes, series.shape, strict=True) if a not in "CSYX" and n > 1]
        axes, lengths = "".join(a for a, _ in kept), tuple(n for _, n in kept)
        if axes not in ("", "T", "Z", "TZ"):  # positions, views, ...: one row of images
            axes, lengths = "Z", (math.prod(lengths),)
        tags = series.keyframe.tags
        unit = int(tags.valueof("ResolutionUnit", _INCH))
        resolution = _checked(tags.valueof("XResolution"), tags.valueof("YResolution"))
        if resolution is None or (resolution == ((1, 1), (1, 1)) and unit == _NONE):
            resolution, unit = None, _NONE
        imagej = _imagej(tif.imagej_metadata or {})
        if tif.is_ome and tif.ome_metadata and (of_ome := _of_ome(tif.ome_metadata)):
            resolution, unit, imagej = of_ome
        return Calibration(axes, lengths, resolution, unit, imagej)


def _imagej(metadata: dict[str, Any]) -> dict[str, str | float]:
    kept: dict[str, str | float] = {}
    for key in _KEPT:
        value = metadata.get(key)
        if isinstance(value, str) and key == "unit":
            kept[key] = "micron" if value in _MICRONS else value.encode("ascii", "backslashreplace").decode()
        elif isinstance(value, (int, float)) and key != "unit" and math.isfinite(value):
            kept[key] = value
    return kept


def _checked(x: object, y: object) -> tuple[Rational, Rational] | None:
    """Two rationals above 0, or None."""
    pairs = []
    for value in (x, y):
        if not isinstance(value, tuple) or len(value) != 2 or not all(isinstance(v, int) and v > 0 for v in value):
            return None
        pairs.append((int(value[0]), int(value[1])))
    return pairs[0], pairs[1]


def _of_ome(xml: str) -> tuple[tuple[Rational, Rational], int, dict[str, str | float]] | None:
    """Resolution in pixels per micrometre from the first image's pixel sizes; None where they are not given."""
    try:
        image = tifffile.xml2dict(xml)["OME"]["Image"]
        pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
        sizes = {a: _microns(pixels, a) for a in "XYZ" if f"PhysicalSize{a}" in pixels}
        resolution = _rational(1 / sizes["X"]), _rational(1 / sizes["Y"])
    except (KeyError, ValueError, TypeError, IndexError, ZeroDivisionError):  # no sizes, or none that make sense
        return None
    imagej: dict[str, str | float] = {"unit": "micron"}
    if "Z" in sizes:
        imagej["spacing"] = sizes["Z"]
    if isinstance(seconds := pixels.get("TimeIncrement"), (int, float)) and pixels.get("TimeIncrementUnit", "s") == "s":
        imagej["finterval"] = float(seconds)
    return resolution, _NONE, imagej


def _microns(pixels: dict[str, Any], axis: str) -> float:
    size = float(pixels[f"PhysicalSize{axis}"]) * _IN_MICRONS[pixels.get(f"PhysicalSize{axis}Unit", "µm")]
    if not 0 < size < math.inf:
        raise ValueError("no size")
    return size


def _rational(value: float) -> Rational:
    ratio = Fraction(value).limit_denominator(10**6)
    if not 0 < ratio.numerator <= _LARGEST:
        raise ValueError("beyond a TIFF rational")
    return ratio.numerator, ratio.denominator


def _of_pillow(path: Path) -> Calibration:
    from PIL import Image

    with Image.open(path, formats=("PNG", "JPEG")) as image:
        dots = image.info.get("dpi")
    if dots is None:
        return Calibration()
    x, y = (_rational(float(d)) for d in dots)
    return Calibration(resolution=(x, y), resolution_unit=_INCH)
