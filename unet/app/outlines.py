"""Outlines of objects along the edges of their pixels: polygons for GeoJSON, regions of interest for ImageJ.

Coordinates are x to the right and y downwards in pixels, the corner of the image's first pixel is (0, 0): a polygon's
area is the number of its pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.int32]
"""Corners M x 2 (x, y), the last not equal to the first."""

_TIMES = 3  # pixels become blocks of 3 x 3, whose outer ones tell the corners of the pixel


class Polygon(NamedTuple):
    """One connected part of an object: its outer ring, and those of its holes."""

    outer: Ring
    holes: list[Ring]


def outlines(ids_HW: NDArray[np.integer[Any]]) -> Iterator[tuple[int, list[Polygon]]]:
    """The objects 1.. of a label map in turn, each with its polygons (several where it is in pieces)."""
    from scipy.ndimage import find_objects

    for number, box in enumerate(find_objects(ids_HW), start=1):
        if box is not None:
            yield number, _polygons(ids_HW[box] == number, (box[1].start, box[0].start))


def _polygons(inside_HW: NDArray[np.bool_], offset_xy: tuple[int, int]) -> list[Polygon]:
    large = np.kron(inside_HW, np.ones((_TIMES, _TIMES), np.uint8)).astype(np.uint8)
    found, tree = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [_corners(contour[:, 0], offset_xy) for contour in found]
    parents = [int(entry[3]) for entry in tree[0]]
    return [
        Polygon(ring, [rings[i] for i, parent in enumerate(parents) if parent == own])
        for own, ring in enumerate(rings)
        if parents[own] < 0
    ]


def _corners(contour: Ring, offset_xy: tuple[int, int]) -> Ring:
    """The corners of pixels that a contour through pixels of the enlarged mask turns at.

    Of a block's columns 3 k, 3 k + 1, 3 k + 2 the outer two lie at the corners k and k + 1; the middle one goes with
    the first. A diagonal step of the contour, at an inner corner, is between two blocks and so at one corner.
    """
    points = (contour + 1) // _TIMES
    points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    steps = np.roll(points, -1, axis=0) - points
    turns = np.any(steps != np.roll(steps, 1, axis=0), axis=1)
    return np.asarray(points[turns] + np.asarray(offset_xy, np.int32), np.int32)


def features(ids_HW: NDArray[np.integer[Any]], image: int, stacked: bool) -> Iterator[dict[str, Any]]:
    """The objects as features of GeoJSON (RFC 7946), as QuPath reads them: coordinates in pixels.

    image: number of the image in its file, from 0; `stacked`: whether there are others, so that it has to be said.
    """
    for number, polygons in outlines(ids_HW):
        rings = [[_closed(polygon.outer), *map(_closed, polygon.holes)] for polygon in polygons]
        single = len(rings) == 1
        geometry: dict[str, Any] = {"type": "Polygon" if single else "MultiPolygon"}
        geometry["coordinates"] = rings[0] if single else rings
        if stacked:
            geometry["plane"] = {"c": -1, "z": image, "t": 0}
        said = {"objectType": "detection", "name": str(number), "image": image + 1, "object": number}
        yield {"type": "Feature", "properties": said, "geometry": geometry}


def _closed(ring: Ring) -> list[list[int]]:
    return [*ring.tolist(), ring[0].tolist()]


def rois(ids_HW: NDArray[np.integer[Any]], image: int, stacked: bool) -> Iterator[Any]:
    """The objects as ImageJ's polygons, which have no holes: the outer ring of each piece.

    Names are the image's and the object's number. Arguments as of `features`.
    """
    from roifile import ImagejRoi

    for number, polygons in outlines(ids_HW):
        for piece, polygon in enumerate(polygons):
            name = f"{image + 1:04}-{number:05}" + (f"-{piece + 1}" if len(polygons) > 1 else "")
            roi = ImagejRoi.frompoints(polygon.outer, name=name, position=image if stacked else None)
            roi.right, roi.bottom = map(int, polygon.outer.max(axis=0))  # else those of points, one pixel on
            yield roi
