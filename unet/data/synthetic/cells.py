"""Synthetic cells under a light microscope: apart with bright rims, or crowded with hardly any contrast.

Axes: H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from unet.data.stack import FloatImage, InstanceImage
from unet.data.synthetic.noise import Drift, smooth_noise

_FRAMES = 8
_HARMONICS = 7  # of a cell's outline


@dataclass(frozen=True, eq=False)
class CellImage:
    """One frame: image H x W uint8, instances H x W int32 (touching cells share borders)."""

    name: str
    sequence: str
    image: NDArray[np.uint8]
    instances: InstanceImage


def phc_like(seed: int = 0, frames: int = _FRAMES, shape: tuple[int, int] = (520, 696)) -> list[CellImage]:
    """Phase contrast: few cells, apart; dark ragged seams inside bright halos, bodies as gray as the ground.

    Two sequences "01", "02". Bright specks and out-of-focus rings are no cells. Look: PhC-C2DH-U373.
    """
    out = []
    for n, sequence in enumerate(("01", "02")):
        rng = np.random.default_rng([seed, 2, n])
        cells = _scatter(rng, shape, count=8, radius=(22.0, 44.0), gap=8.0, rough=0.17)
        drift = Drift(rng, shape)
        specks = rng.uniform(0, 1, (14, 3))
        for t in range(frames):
            depth, owner = _outlines(cells, shape, t)
            instances = np.where(depth > 0, owner, 0).astype(np.int32)
            image = _phase_contrast(rng, drift, depth, cells, owner, specks, t)
            out.append(CellImage(f"{sequence}/t{t:03}", sequence, image, instances))
    return out


def hela_like(seed: int = 0, frames: int = _FRAMES, shape: tuple[int, int] = (512, 512)) -> list[CellImage]:
    """Differential interference contrast: large cells that touch; borders are faint lines, bodies only grainier.

    Two sequences "01", "02". Look: DIC-C2DH-HeLa.
    """
    out = []
    for n, sequence in enumerate(("01", "02")):
        rng = np.random.default_rng([seed, 3, n])
        cells = _scatter(rng, shape, count=22, radius=(36.0, 60.0), gap=-16.0, rough=0.08)
        drift = Drift(rng, shape)
        for t in range(frames):
            depth, owner = _outlines(cells, shape, t)
            instances = np.where(depth > 0, owner, 0).astype(np.int32)
            image = _interference(rng, drift, depth, instances, cells, t)
            out.append(CellImage(f"{sequence}/t{t:03}", sequence, image, instances))
    return out


@dataclass(frozen=True)
class _Cell:
    """Outline r(angle) = radius (1 + sum of a_k cos(k angle + phase_k + speed_k t)); the centre wanders."""

    centre: NDArray[np.float64]
    step: NDArray[np.float64]
    radius: float
    amplitude: NDArray[np.float64]
    phase: NDArray[np.float64]
    speed: NDArray[np.float64]

    def place(self, t: int) -> NDArray[np.float64]:
        """Centre (row, column) at frame t."""
        return self.centre + self.step * t

    def extent(self, farthest: bool) -> float:
        """Mean radius, or the farthest reach of the outline during a sequence."""
        around = np.linspace(0, 2 * np.pi, 90, dtype=np.float32)
        return float(max(self.reach(around, t).max() for t in (0, _FRAMES - 1))) if farthest else self.radius

    def reach(self, angle: FloatImage, t: int) -> FloatImage:
        """Distance of the outline from the centre in these directions."""
        r = np.ones_like(angle)
        for k, (a, p, v) in enumerate(zip(self.amplitude, self.phase, self.speed, strict=True), start=2):
            r += np.float32(a) * np.cos(k * angle + np.float32(p + v * t))
        return np.asarray(self.radius * r, np.float32)


def _scatter(
    rng: np.random.Generator, shape: tuple[int, int], count: int, radius: tuple[float, float], gap: float, rough: float
) -> list[_Cell]:
    """Cells at random places: at least `gap` px apart everywhere, or, if negative, in a clump in which they touch."""
    cells: list[_Cell] = []
    for _ in range(200 * count):
        if len(cells) == count:
            break
        r = rng.uniform(*radius)
        centre = rng.uniform(0.0, 1.0, 2) * shape if cells or gap >= 0 else 0.5 * np.array(shape)
        if gap < 0 and cells:  # next to a cell that is there
            beside = cells[rng.integers(len(cells))]
            angle = rng.uniform(0, 2 * np.pi)
            centre = beside.centre + (beside.radius + r + 0.9 * gap) * np.array([np.sin(angle), np.cos(angle)])
            if (centre < 0).any() or (centre > shape).any():
                continue
        amplitude = rough * rng.normal(0.0, 1.0, _HARMONICS) / np.arange(1, _HARMONICS + 1) ** 0.8
        amplitude[0] = np.sign(amplitude[0]) * (1.2 * rough + abs(amplitude[0]))  # none is round
        phase, speed = rng.uniform(0, 2 * np.pi, _HARMONICS), rng.normal(0, 0.15, _HARMONICS)
        cell = _Cell(centre, rng.normal(0, 0.8, 2), r, amplitude, phase, speed)
        if all(np.hypot(*(c.centre - centre)) >= c.extent(gap > 0) + cell.extent(gap > 0) + gap for c in cells):
            cells.append(cell)
    return cells


def _outlines(cells: list[_Cell], shape: tuple[int, int], t: int) -> tuple[FloatImage, InstanceImage]:
    """For each pixel how deep it lies inside the cell it belongs to (px, negative outside), and that cell's number.

    Where cells overlap, the one in which the pixel lies deeper has it; depth counts from the common border as well.
    """
    depth = np.full(shape, -1e3, np.float32)
    second = depth.copy()
    owner = np.zeros(shape, np.int32)
    for number, cell in enumerate(cells, start=1):
        row, column = cell.place(t)
        far = int(cell.radius * 2.2) + 40
        rows = slice(max(0, int(row) - far), max(0, int(row) + far))
        columns = slice(max(0, int(column) - far), max(0, int(column) + far))
        if depth[rows, columns].size == 0:
            continue
        y, x = np.mgrid[rows, columns][:, : shape[0] - rows.start, : shape[1] - columns.start].astype(np.float32)
        y, x = y - np.float32(row), x - np.float32(column)
        inside = cell.reach(np.arctan2(y, x), t) - np.hypot(y, x)
        here, next_here, who = depth[rows, columns], second[rows, columns], owner[rows, columns]
        wins = inside > here
        next_here[...] = np.where(wins, here, np.maximum(next_here, inside))
        here[wins], who[wins] = inside[wins], number
    shared = np.where(second > 0, np.minimum(depth, (depth - second) / 2), depth)
    return np.where(depth > 0, np.maximum(shared, 0.05), depth).astype(np.float32), owner


def _phase_contrast(
    rng: np.random.Generator,
    drift: Drift,
    depth: FloatImage,
    cells: list[_Cell],
    owner: InstanceImage,
    specks: NDArray[np.float64],
    t: int,
) -> NDArray[np.uint8]:
    shape = depth.shape
    image = 82.0 + 2.0 * drift("light", 120.0, t, 0.02) + 1.2 * drift("film", 12.0, t, 0.05)
    inside = np.clip(depth / 3.0, 0.0, 1.0)
    seam = np.clip(0.75 + 0.5 * drift("seam", 7.0, t, 0.3), 0.0, 1.8)
    image = image - 22.0 * seam * np.exp(-(((depth - 3.0) / 2.6) ** 2))
    halo = np.clip(0.8 + 0.7 * drift("halo", 14.0, t, 0.2), 0.0, 2.4)
    image = image + 22.0 * halo * np.exp(-(((depth + 2.6) / 2.6) ** 2))
    image = image + inside * (4.5 * drift("grain", 2.2, t, 0.9) + 5.0 * drift("body", 9.0, t, 0.2))
    body = inside * _nuclei(cells, owner, 0.32, t)
    image = image + body * (16.0 + 18.0 * drift("nucleus", 4.0, t, 0.4)) - 8.0 * (body > 0.3) * (body < 0.5)
    for k, (y, x, size) in enumerate(specks):
        row, column = y * shape[0] + 1.5 * t * (size - 0.5), x * shape[1] + 1.5 * t * (0.5 - size)
        area, distance = _around(shape, row, column, 60)
        if k < 9:  # dust: a bright speck with a dark seam
            spot, seam_of_it = _bump(distance, 2.0 + 3.0 * size), _bump(distance, 4.0 + 5.0 * size)
            image[area] += 34.0 * spot - 16.0 * seam_of_it * (spot < 0.3)
        else:  # out of focus: wide rings
            image[area] += 3.5 * np.cos(distance / 4.5) * _bump(distance - 26.0, 14.0)
    image = image + 1.4 * rng.standard_normal(shape)
    return np.asarray(np.clip(np.rint(image), 0, 255), np.uint8)


def _interference(
    rng: np.random.Generator, drift: Drift, depth: FloatImage, instances: InstanceImage, cells: list[_Cell], t: int
) -> NDArray[np.uint8]:
    """Gray value = slope of the optical thickness along the diagonal, as the shear of the prism shows it."""
    shape = depth.shape
    inside = np.clip(depth / 6.0, 0.0, 1.0)
    swell = np.clip(1.0 + 0.3 * drift("swell", 30.0, t, 0.1), 0.4, 2.0)
    thickness = 4.0 * swell * np.sqrt(np.clip(depth, 0.0, 12.0) / 12.0)
    thickness = thickness + inside * (0.4 * drift("organelles", 6.0, t, 0.3) + 0.3 * drift("grains", 1.5, t, 0.9))
    thickness = thickness + 0.38 * drift("ground", 3.0, t, 0.2) + 0.15 * drift("grit", 1.5, t, 0.9)
    nucleus = _nuclei(cells, instances, 0.36, t)
    thickness = thickness + 1.2 * np.clip(nucleus * 1.6, 0.0, 1.0)
    dividing = (instances > 0) & (instances % 7 == 0)  # rounded up for it: thick, smooth, easily seen
    thickness = thickness + dividing * 14.0 * np.sqrt(np.clip(nucleus - 0.1, 0.0, 1.0))
    granules = cv2.GaussianBlur((rng.random(shape) < 0.006).astype(np.float32), (0, 0), 1.4) * inside
    thickness = cv2.GaussianBlur(np.asarray(thickness + 14.0 * granules, np.float32), (0, 0), 1.1)
    slope = cv2.Sobel(thickness, cv2.CV_32F, 1, 0, ksize=3) - cv2.Sobel(thickness, cv2.CV_32F, 0, 1, ksize=3)
    contact = np.exp(-((depth / 1.3) ** 2)) * np.clip(0.5 + 0.8 * drift("contact", 14.0, t, 0.2), 0.0, 1.6)
    image = 118.0 + 4.0 * drift("light", 140.0, t, 0.03) + 24.0 * np.tanh(slope / 6.0) - 8.0 * contact
    image = image + 2.0 * smooth_noise(rng, shape, 1.0) + 2.2 * rng.standard_normal(shape)
    return np.asarray(np.clip(np.rint(image), 0, 255), np.uint8)


def _nuclei(cells: list[_Cell], owner: InstanceImage, share: float, t: int) -> FloatImage:
    """A bump of height 1 in the middle of every cell, `share` of its radius wide, cut at its border."""
    field = np.zeros(owner.shape, np.float32)
    for number, cell in enumerate(cells, start=1):
        row, column = cell.place(t)
        area, distance = _around(owner.shape, row, column, int(3.5 * share * cell.radius))
        field[area] += _bump(distance, share * cell.radius) * (owner[area] == number)
    return field


def _around(shape: tuple[int, ...], row: float, column: float, far: int) -> tuple[tuple[slice, slice], FloatImage]:
    """The part of an image within `far` px of a point, and the distance of its pixels from it."""
    rows, columns = (
        slice(max(0, int(centre) - far), max(0, min(side, int(centre) + far + 1)))
        for centre, side in zip((row, column), shape, strict=True)
    )
    y, x = np.ogrid[rows, columns]
    return (rows, columns), np.asarray(np.hypot(y - row, x - column), np.float32)


def _bump(distance: FloatImage, width: float) -> FloatImage:
    return np.asarray(np.exp(-((distance / width) ** 2)), np.float32)
