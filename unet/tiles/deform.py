"""The coordinate map of a tile: shift, rotation, flips, zoom and elastic field in one, and sampling through it.

The map takes each pixel p of the tile to the place s(p) in the image that it shows:

    s(p) = centre + F R (p - k) / z + u(p)

k is the tile's centre, F the flips, R the rotation, z the zoom, u the elastic displacement: random vectors on a coarse
grid spanned over the tile, interpolated by bicubic B-splines (Ronneberger, Fischer, Brox 2015,
doi:10.1007/978-3-319-24574-4_28, section 3.1: "random displacement vectors on a coarse 3 by 3 grid", "Gaussian
distribution with 10 pixels standard deviation", "bicubic interpolation"). Splines on a grid are separable, u = B U B^T,
so each coordinate of s is ONE product of two thin matrices, [B, p_row - k, 1] times [U B^T; ...], and rotation, flips
and zoom cost nothing.

Axes: H rows, W columns; y runs down, x to the right; coordinates in pixels, 0 at the centre of the first pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet.geometry import mirror_indices

CUBIC = int(cv2.INTER_CUBIC)
"""Cubic convolution over 4 x 4 pixels with a = -0.75 (Keys 1981, doi:10.1109/TASSP.1981.1163711)."""
LINEAR = int(cv2.INTER_LINEAR)
NEAREST = int(cv2.INTER_NEAREST)

_SUPPORT_PX = 3  # pixels that cubic interpolation may read beyond the outermost coordinate, and one for rounding
_OPENCV_LIMIT_PX = 32_766  # cv2.remap counts pixels in 16 bits
_BLOCK_MULTIPLICATIONS = 200_000  # OpenBLAS starts threads above 262,144: they would compete with the other workers


@dataclass(frozen=True, eq=False)
class Deformation:
    """What is drawn for one tile.

    centre_yx: place in the image, in pixels, that the tile's centre shows when nothing is displaced. angle_rad:
    rotation of the content, counter-clockwise as displayed (np.rot90's sense), after the flips. displacements_2GG:
    elastic displacements (y, x) in pixels at the G x G points of the coarse grid, whose corners are the tile's corner
    pixels. zoom: factor by which the content is magnified.
    """

    centre_yx: tuple[float, float]
    angle_rad: float
    flip_y: bool
    flip_x: bool
    displacements_2GG: NDArray[np.float64]
    zoom: float = 1.0


@dataclass(frozen=True, eq=False)
class CoordinateMap:
    """Where each pixel of a tile lies in the image: (top + y_HW, left + x_HW), in pixels.

    The rectangle of bottom - top rows and right - left columns from (top, left) holds every pixel that interpolation
    needs; it may reach beyond the image. Coordinates relative to it are small, so single precision serves images of any
    size.
    """

    top: int
    left: int
    bottom: int
    right: int
    y_HW: NDArray[np.float32]
    x_HW: NDArray[np.float32]

    def part(self, rows: slice, columns: slice) -> CoordinateMap:
        """The same map for some of the tile's rows and columns, with the smallest rectangle for these."""
        y_HW, x_HW = self.y_HW[rows, columns], self.x_HW[rows, columns]
        down, across = math.floor(y_HW.min()) - _SUPPORT_PX, math.floor(x_HW.min()) - _SUPPORT_PX
        return CoordinateMap(
            self.top + down,
            self.left + across,
            self.top + math.ceil(y_HW.max()) + _SUPPORT_PX + 1,
            self.left + math.ceil(x_HW.max()) + _SUPPORT_PX + 1,
            y_HW - np.float32(down),
            x_HW - np.float32(across),
        )

    def sample(self, image_HW: NDArray[np.generic], interpolation: int) -> NDArray[np.generic]:
        """Values of an image at the map's coordinates, mirrored beyond its border: the map's shape, the image's type.

        interpolation: CUBIC, LINEAR or NEAREST.
        """
        if max(self.bottom - self.top, self.right - self.left) > _OPENCV_LIMIT_PX and self.y_HW.size > 1:
            height, width = self.y_HW.shape
            upper, lower, before, behind = (
                slice(0, -(-height // 2)), slice(-(-height // 2), height),
                slice(0, -(-width // 2)), slice(-(-width // 2), width),
            )  # fmt: skip
            return np.block([
                [self.part(r, c).sample(image_HW, interpolation) for c in (before, behind) if c.stop > c.start]
                for r in (upper, lower) if r.stop > r.start
            ])  # fmt: skip
        window_HW = self._window(image_HW)
        return np.asarray(cv2.remap(window_HW, self.x_HW, self.y_HW, interpolation, borderMode=cv2.BORDER_REFLECT_101))

    def _window(self, image_HW: NDArray[np.generic]) -> NDArray[np.generic]:
        """The rectangle of an image, mirrored beyond its border; a view where it lies inside."""
        rows, above, below = _folded(self.top, self.bottom, image_HW.shape[0])
        columns, before, behind = _folded(self.left, self.right, image_HW.shape[1])
        used = image_HW[rows, columns]
        if above or below or before or behind:
            used = np.asarray(cv2.copyMakeBorder(used, above, below, before, behind, cv2.BORDER_REFLECT_101))
        row, column = (0 if above else self.top - rows.start), (0 if before else self.left - columns.start)
        return used[row : row + self.bottom - self.top, column : column + self.right - self.left]


@lru_cache(maxsize=16)
def spline_basis(side: int, grid: int) -> NDArray[np.float64]:
    """Weights side x grid that interpolate `grid` values, spread evenly from the first to the last of `side` pixels.

    Cubic B-spline interpolation (through the values), mirrored at both ends: scipy's map_coordinates of order 3 and
    mode "mirror", which is applied here to unit vectors once.
    """
    at = np.linspace(0, grid - 1, side)[None] if side > 1 else np.full((1, 1), (grid - 1) / 2)
    columns = [ndimage.map_coordinates(unit, at, order=3, mode="mirror") for unit in np.eye(grid)]
    basis = np.stack(columns, axis=1)
    basis.setflags(write=False)
    return basis


def coordinate_map(deformation: Deformation, side: int) -> CoordinateMap:
    """The coordinates that a square tile of `side` pixels shows under a deformation."""
    k = (side - 1) / 2
    offset = np.arange(side) - k
    basis = spline_basis(side, deformation.displacements_2GG.shape[-1])
    cos, sin = (f(deformation.angle_rad) / deformation.zoom for f in (math.cos, math.sin))
    flip_y, flip_x = 1 - 2 * deformation.flip_y, 1 - 2 * deformation.flip_x
    linear = ((cos * flip_y, sin * flip_y), (-sin * flip_x, cos * flip_x))
    growth = float(np.abs(basis).sum(axis=1).max()) ** 2  # of the field between grid points, at most
    corners: list[tuple[int, int]] = []
    coordinates: list[NDArray[np.float32]] = []
    for centre, (by_row, by_column), displacements in zip(
        deformation.centre_yx, linear, deformation.displacements_2GG, strict=True
    ):
        extent = (abs(by_row) + abs(by_column)) * k + growth * float(np.abs(displacements).max(initial=0))
        first, last = math.floor(centre - extent) - _SUPPORT_PX, math.ceil(centre + extent) + _SUPPORT_PX
        corners.append((first, last + 1))
        rows = np.column_stack([basis, offset, np.ones(side)]).astype(np.float32)
        columns = np.concatenate(
            [displacements @ basis.T, np.full((1, side), by_row), [by_column * offset + (centre - first)]]
        ).astype(np.float32)
        coordinates.append(_product(rows, columns))
    (top, bottom), (left, right) = corners
    return CoordinateMap(top, left, bottom, right, coordinates[0], coordinates[1])


def _folded(start: int, stop: int, size: int) -> tuple[slice, int, int]:
    """The part of an axis from which start..stop-1 can be mirrored, and by how many pixels before and behind it."""
    indices = mirror_indices(start, stop, size)
    before, behind = max(0, -start), max(0, stop - size)
    # The part must reach every border it is mirrored at: both where the way there is longer than the axis.
    first = 0 if before or behind >= size else int(indices.min())
    last = size - 1 if behind or before >= size else int(indices.max())
    return slice(first, last + 1), before, behind


def _product(a_NK: NDArray[np.float32], b_KM: NDArray[np.float32]) -> NDArray[np.float32]:
    """a @ b in blocks of rows that are too small for the linear algebra library to start threads."""
    out_NM = np.empty((len(a_NK), b_KM.shape[1]), np.float32)
    step = max(1, _BLOCK_MULTIPLICATIONS // max(1, b_KM.size))
    for start in range(0, len(a_NK), step):
        np.matmul(a_NK[start : start + step], b_KM, out=out_NM[start : start + step])
    return out_NM
