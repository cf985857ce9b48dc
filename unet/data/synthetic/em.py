"""Synthetic sections through a bundle of neurites, as an electron microscope shows them.

Axes: H rows, W columns (equal here).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from unet.data.stack import FloatImage, InstanceImage, LabelImage
from unet.data.synthetic.noise import Drift, smooth_noise

_SLICE_PX = 5.6  # a slice further along the bundle; 12.5 px (50 nm at 4 nm) less the stretch of neurites along it
_CELL_PX = 2300.0  # mean area of a cell's section
_MEMBRANE_PX = 2.4  # half width of the labelled membrane
_MAX_RADIUS = 95.0

Slice = tuple[NDArray[np.uint8], LabelImage, InstanceImage]


def em_like(slices: int = 12, size: int = 512, seed: int = 0) -> Iterator[Slice]:
    """Consecutive slices: image uint8, label uint8 (0 membrane, 1 cell), instances int32, size x size each.

    The cells are a power diagram in three dimensions, warped by smooth noise and cut at regular depths, so that
    neighbouring slices are related, membranes that run obliquely are wide and faint, and, with mitochondria, vesicles
    and reticulum in the cells, no gray value separates membrane from cell.
    """
    rng = np.random.default_rng([seed, 1])
    bundle = _Bundle.make(rng, slices, size)
    drift = Drift(rng, (size, size))
    for s in range(slices):
        distance, cell = _membrane_distance(bundle, drift, s, size)
        label = (distance > _MEMBRANE_PX).astype(np.uint8)
        instances = cv2.connectedComponents(label, connectivity=4, ltype=cv2.CV_32S)[1].astype(np.int32)
        yield _render(rng, bundle, distance, cell, drift, s), label, instances


@dataclass(frozen=True)
class _Bundle:
    """Cells as weighted points. A fourth coordinate makes nearest-neighbour search a power diagram."""

    points: NDArray[np.float64]  # n x 4: row, column, depth, sqrt(R^2 - radius^2)
    radius: NDArray[np.float64]
    shade: NDArray[np.float32]
    tree: cKDTree

    @classmethod
    def make(cls, rng: np.random.Generator, slices: int, size: int) -> _Bundle:
        margin = 80.0
        depth = slices * _SLICE_PX + 2 * margin
        count = int((size + 2 * margin) ** 2 * depth / _CELL_PX**1.5)
        sides = [(-margin, size + margin)] * 2 + [(-margin, depth - margin)]
        centre = np.stack([rng.uniform(low, high, count) for low, high in sides], axis=1)
        radius = np.minimum(rng.lognormal(np.log(20.0), 0.65, count), _MAX_RADIUS - 5)
        points = np.concatenate([centre, np.sqrt(_MAX_RADIUS**2 - radius**2)[:, None]], axis=1)
        return cls(points, radius, rng.normal(0.0, 0.05, count).astype(np.float32), cKDTree(points))


def _membrane_distance(bundle: _Bundle, drift: Drift, s: int, size: int) -> tuple[FloatImage, NDArray[np.int64]]:
    """Distance of each pixel from the nearest cell border, in three dimensions, and the index of its cell."""
    half = -(-size // 2)  # the border is smooth: every second pixel is enough
    rows, columns = np.meshgrid(np.arange(half) * 2.0, np.arange(half) * 2.0, indexing="ij")
    shifts = [9.0 * drift(f"warp {a}", 28.0, s, 0.05) + 3.5 * drift(f"ripple {a}", 9.0, s, 0.12) for a in "yx"]
    dy, dx = (np.pad(shift, ((0, 1), (0, 1)), mode="edge")[::2, ::2][:half, :half] for shift in shifts)
    depth = np.full_like(rows, s * _SLICE_PX)
    query = np.stack([rows + dy, columns + dx, depth, np.zeros_like(rows)], axis=-1).reshape(-1, 4)
    found = bundle.tree.query(query, k=3)
    power, index = np.asarray(found[0], np.float64) ** 2, np.asarray(found[1], np.int64)
    centre = bundle.points[index[:, 0], :3]
    gaps = []
    for other in (1, 2):  # two candidates: the second nearest in power is not always the nearest border
        apart = np.linalg.norm(bundle.points[index[:, other], :3] - centre, axis=1)
        gaps.append((power[:, other] - power[:, 0]) / (2.0 * np.maximum(apart, 1.0)))
    gap = np.minimum(*gaps).reshape(half, half).astype(np.float32)
    full = cv2.resize(gap, (2 * half, 2 * half), interpolation=cv2.INTER_LINEAR)[:size, :size]
    cell = index[:, 0].reshape(half, half).repeat(2, 0).repeat(2, 1)[:size, :size]
    return np.asarray(full, np.float32), cell


def _render(
    rng: np.random.Generator, bundle: _Bundle, distance: FloatImage, cell: NDArray[np.int64], drift: Drift, s: int
) -> NDArray[np.uint8]:
    """Gray values of one slice, with about the mean, the contrast and the confusions of the real stack."""
    shape = distance.shape
    image = 0.61 + cv2.GaussianBlur(bundle.shade[cell], (0, 0), 1.5) + 0.04 * drift("stain", 60.0, s, 0.3)
    image = image + 0.045 * smooth_noise(rng, shape, 2.2)
    # the stain of a membrane varies along it and nearly fails in places
    strength = np.clip(0.37 + 0.14 * drift("strength", 9.0, s, 0.8), 0.05, 0.5)
    image = image - strength * np.exp(-((distance / 2.3) ** 2))
    rim, body = _mitochondria(bundle, distance, cell, drift, s)
    cristae = 0.5 + 0.5 * np.sin(drift("cristae", 14.0, s, 0.4) * 16.0)
    image = image - 0.26 * rim - body * (0.10 + 0.20 * cristae)
    inside = np.clip((distance - 5.0) / 3.0, 0.0, 1.0) * (1.0 - body)
    reticulum = np.exp(-((drift("reticulum", 8.0, s, 0.5) / 0.07) ** 2)) * (drift("where", 18.0, s, 0.3) > 0.6)
    vesicles = _rings(rng, shape) * (drift("clusters", 24.0, s, 0.3) > 0.3)
    image = image - inside * (0.22 * reticulum + 0.20 * vesicles)
    image = cv2.GaussianBlur(np.asarray(image, np.float32), (0, 0), 0.8)
    image = image + 0.045 * rng.standard_normal(shape) + 0.06 * smooth_noise(rng, shape, 1.0)
    contrast, brightness = rng.normal(1.0, 0.06), rng.normal(-0.02, 0.02)
    gray = np.clip(((image - 0.5) * contrast + 0.5 + brightness) * 255.0, 0, 255)
    return np.asarray(np.rint(gray), np.uint8)


def _mitochondria(
    bundle: _Bundle, distance: FloatImage, cell: NDArray[np.int64], drift: Drift, s: int
) -> tuple[FloatImage, FloatImage]:
    """Rim and body (0..1) of the mitochondria: dark blobs in the larger cells, which are cell, not membrane."""
    size = distance.shape[0]
    has_one = (bundle.radius > 24.0) & (np.arange(len(bundle.radius)) % 3 != 0)
    rows, columns = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    centre, radius = bundle.points[cell], bundle.radius[cell]
    angle = (cell % 17) / 17 * np.pi  # each lies in a direction of its own
    dy, dx = rows - centre[..., 0], columns - centre[..., 1]
    along, across = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
    away = np.sqrt((0.7 * along) ** 2 + (1.2 * across) ** 2 + (s * _SLICE_PX - centre[..., 2]) ** 2)
    extent = np.clip(0.55 * radius, 8.0, 26.0) + 3.0 * drift("mitochondria", 12.0, s, 0.15)
    inside = np.minimum(np.where(has_one[cell], extent - away, -50.0), distance - 5.0)
    rim = np.exp(-((inside / 1.8) ** 2)) * (inside > -5.0)
    return np.asarray(rim, np.float32), np.asarray(np.clip(inside / 2.0, 0.0, 1.0), np.float32)


def _rings(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatImage:
    """Vesicles: small dark rings with a bright middle, strewn at random."""
    dots = (rng.random(shape) < 0.006).astype(np.float32)
    outer, inner = (cv2.GaussianBlur(dots, (0, 0), sigma) * 2 * np.pi * sigma**2 for sigma in (2.2, 1.2))
    return np.asarray(np.clip(outer - 0.9 * inner, -0.5, 1.0), np.float32)
