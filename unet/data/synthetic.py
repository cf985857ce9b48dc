"""Seeded synthetic stacks that stand for the real ones: the offline default and the tests' data.

Axes: S slices, H rows, W columns.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from unet.data.stack import FloatImage, Frame, Normalisation, Stack

_SLICE_PX = 12.5  # distance of two slices in pixels of a slice: 50 nm at 4 nm per pixel, as in the EM stack
_CELL_PX = 3000.0  # mean area of a cell's section
_MEMBRANE_PX = 2.4  # half width of the labelled membrane


def em_like(slices: int = 12, size: int = 512, seed: int = 0) -> Stack:
    """Consecutive sections through a bundle of neurites: dark membranes, mitochondria, vesicles, noise.

    The cells are a power diagram in three dimensions, warped by smooth noise and cut every 12.5 px, so that
    neighbouring slices are related, membranes that run obliquely are wide and faint, and no gray value separates
    membrane from cell.
    Frames "synthetic-em[00]" .. of one sequence, 1 x size x size, classes membrane and cell as in the real stack.
    """
    rng = np.random.default_rng([seed, 1])
    tree, points, radii = _bundle(rng, slices, size)
    noise = _SliceNoise(rng, size, slices)
    normalise = Normalisation("fixed", 0.0, 255.0)
    frames = []
    for s in range(slices):
        distance, nearest = _membrane_distance(tree, points, noise, s, size)
        label = (distance > _MEMBRANE_PX).astype(np.uint8)
        image = _render(rng, distance, nearest, points, radii, noise, s)
        name = f"synthetic-em[{s:02}]"
        instances = cv2.connectedComponents(label, connectivity=4, ltype=cv2.CV_32S)[1].astype(np.int32)
        frames.append(Frame(name, "synthetic-em", normalise(image[None]), label, instances))
    return Stack("synthetic-em", tuple(frames), ("membrane", "cell"), normalise, f"built-in generator, seed {seed}")


class _SliceNoise:
    """Smooth random images that change slowly from slice to slice: a rotating mixture of two fields."""

    def __init__(self, rng: np.random.Generator, size: int, slices: int) -> None:
        self._rng, self._size, self._slices = rng, size, slices
        self._fields: dict[str, tuple[FloatImage, FloatImage]] = {}

    def __call__(self, key: str, sigma: float, s: int, turn: float) -> FloatImage:
        """Field `key` at slice s, standard deviation 1, correlation length sigma px, `turn` radians per slice."""
        if key not in self._fields:
            self._fields[key] = (smooth_noise(self._rng, self._size, sigma), smooth_noise(self._rng, self._size, sigma))
        a, b = self._fields[key]
        return np.asarray(np.cos(turn * s) * a + np.sin(turn * s) * b, np.float32)


def smooth_noise(rng: np.random.Generator, size: int, sigma: float) -> FloatImage:
    """Gaussian random field size x size float32 with correlation length sigma px and standard deviation 1."""
    step = max(1, int(sigma / 3))  # a smooth field needs few samples
    coarse = rng.standard_normal((-(-size // step) + 8, -(-size // step) + 8)).astype(np.float32)
    blurred = cv2.GaussianBlur(coarse, (0, 0), sigma / step)
    full = cv2.resize(blurred, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)[2 * step :, 2 * step :]
    field = full[:size, :size]
    return np.asarray((field - field.mean()) / field.std(), np.float32)


def _bundle(
    rng: np.random.Generator, slices: int, size: int
) -> tuple[cKDTree, NDArray[np.float64], NDArray[np.float64]]:
    """Cell centres in three dimensions; a fourth coordinate makes nearest-neighbour search a power diagram."""
    margin = 80.0
    depth = slices * _SLICE_PX * 0.45 + 2 * margin  # neurites run along the depth: the diagram is stretched there
    side = size + 2 * margin
    count = int(side * side * depth / _CELL_PX**1.5)
    centre = np.stack(
        [rng.uniform(-margin, size + margin, count), rng.uniform(-margin, size + margin, count),
         rng.uniform(-margin, depth - margin, count)], axis=1)  # fmt: skip
    radius = np.minimum(rng.lognormal(np.log(22.0), 0.6, count), 90.0)
    lift = np.sqrt(95.0**2 - radius**2)
    points = np.concatenate([centre, lift[:, None]], axis=1)
    return cKDTree(points), points, radius


def _membrane_distance(
    tree: cKDTree, points: NDArray[np.float64], noise: _SliceNoise, s: int, size: int
) -> tuple[FloatImage, NDArray[np.int64]]:
    """Distance of each pixel from the nearest cell border, in three dimensions, and the index of its cell."""
    half = -(-size // 2)
    rows, columns = np.meshgrid(np.arange(half) * 2.0, np.arange(half) * 2.0, indexing="ij")
    dy, dx = (
        noise(f"warp {axis}", 28.0, s, 0.05)[::2, ::2] * 9.0 + noise(f"ripple {axis}", 7.0, s, 0.15)[::2, ::2] * 1.6
        for axis in "yx"
    )
    depth = np.full_like(rows, s * _SLICE_PX * 0.45)
    query = np.stack([rows + dy, columns + dx, depth, np.zeros_like(rows)], axis=-1).reshape(-1, 4)
    found = tree.query(query, k=3)
    distances, indices = np.asarray(found[0], np.float64), np.asarray(found[1], np.int64)
    first = points[indices[:, 0], :3]
    gaps = []
    for other in (1, 2):  # two candidates: the second nearest in power is not always the nearest border
        apart = np.linalg.norm(points[indices[:, other], :3] - first, axis=1)
        gaps.append((distances[:, other] ** 2 - distances[:, 0] ** 2) / (2.0 * np.maximum(apart, 1.0)))
    gap = np.minimum(*gaps).reshape(half, half).astype(np.float32)
    full = cv2.resize(gap, (2 * half, 2 * half), interpolation=cv2.INTER_LINEAR)[:size, :size]
    nearest = indices[:, 0].reshape(half, half).repeat(2, 0).repeat(2, 1)[:size, :size]
    return np.asarray(full, np.float32), nearest


def _render(
    rng: np.random.Generator,
    distance: FloatImage,
    nearest: NDArray[np.int64],
    points: NDArray[np.float64],
    radii: NDArray[np.float64],
    noise: _SliceNoise,
    s: int,
) -> NDArray[np.uint8]:
    """Gray values of one slice, uint8, with about the mean, contrast and confusion of the real stack."""
    size = distance.shape[0]
    shade = np.random.default_rng(len(points)).normal(0.0, 0.05, len(points)).astype(np.float32)
    cytoplasm = 0.60 + cv2.GaussianBlur(shade[nearest], (0, 0), 1.5)
    cytoplasm = cytoplasm + 0.035 * smooth_noise(rng, size, 2.2) + 0.03 * noise("stain", 60.0, s, 0.3)
    membrane = np.exp(-((distance / 2.3) ** 2))
    # the stain of a membrane varies along it, and fails in places
    strength = np.clip(0.36 + 0.13 * noise("strength", 9.0, s, 0.8), 0.04, 0.5)
    image = cytoplasm - strength * membrane
    rim, body = _mitochondria(points, radii, distance, nearest, noise, s)
    cristae = 0.5 + 0.5 * np.sin(noise("cristae", 9.0, s, 0.4) * 11.0)
    image = image - 0.25 * rim - body * (0.12 + 0.12 * cristae)
    vesicles = np.clip(smooth_noise(rng, size, 1.7) - 1.6, 0.0, 1.0) * (noise("clusters", 22.0, s, 0.3) > 0.7)
    image = cv2.GaussianBlur(np.asarray(image - 0.25 * vesicles, np.float32), (0, 0), 0.9)
    image = image + 0.055 * rng.standard_normal(image.shape) + 0.04 * smooth_noise(rng, size, 1.2)
    contrast, brightness = rng.normal(1.0, 0.05), rng.normal(0.0, 0.02)
    gray = np.clip(((image - 0.5) * contrast + 0.5 + brightness) * 255.0, 0, 255)
    return np.asarray(np.rint(gray), np.uint8)


def _mitochondria(
    points: NDArray[np.float64],
    radii: NDArray[np.float64],
    distance: FloatImage,
    nearest: NDArray[np.int64],
    noise: _SliceNoise,
    s: int,
) -> tuple[FloatImage, FloatImage]:
    """Rim and body (0..1) of the mitochondria: a dark blob in the middle of the larger cells; cell, not membrane."""
    size = distance.shape[0]
    large = (radii > 26.0) & (np.arange(len(radii)) % 3 != 0)
    rows, columns = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    centre = points[nearest]
    wobble = noise("mitochondria", 12.0, s, 0.15)
    away = np.sqrt(
        (rows - centre[..., 0]) ** 2 + (columns - centre[..., 1]) ** 2 + (s * _SLICE_PX * 0.45 - centre[..., 2]) ** 2
    )
    extent = np.clip(0.55 * radii[nearest], 8.0, 22.0) + 3.0 * wobble
    inside = np.where(large[nearest], extent - away, -50.0)
    inside = np.minimum(inside, distance - 5.0)
    rim = np.exp(-((inside / 1.8) ** 2)) * (inside > -5.0)
    body = np.clip(inside / 2.0, 0.0, 1.0)
    return np.asarray(rim, np.float32), np.asarray(body, np.float32)
