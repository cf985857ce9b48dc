"""Other ways to make the tiles of bench_tiles.py, written as their libraries' documentation suggests.

All of them deform image (cubic), label and weight of one frame together, by a random 3 x 3 grid of standard deviation
10 px and a random rotation and flips; gray values are left alone. `prepare` does once what a pipeline may do ahead.

Axes: H rows, W columns, n input side, m output side.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet.config import WeightConfig
from unet.data.stack import Stack
from unet.geometry import output_size
from unet.tiles.weightmap import weight_map

STD_PX = 10.0
GRID = 3
Array = NDArray[Any]


@dataclass(frozen=True)
class Padded:
    """A frame mirrored by `pad` pixels on every side, and its image's spline coefficients."""

    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    weight: NDArray[np.float32]
    splines: NDArray[np.float32]
    pad: int
    size: tuple[int, int]


def prepare(stack: Stack, input_px: int) -> list[Padded]:
    """Weight maps, mirrored frames (enough for a rotated tile) and spline coefficients."""
    pad = input_px
    frames = []
    for frame in stack.frames:
        label = np.asarray(frame.label, np.uint8)
        weight = weight_map(label, frame.instances, WeightConfig())
        image, label, weight = (
            np.asarray(cv2.copyMakeBorder(a, pad, pad, pad, pad, cv2.BORDER_REFLECT_101))
            for a in (frame.image[0], label, weight)
        )
        splines = np.asarray(ndimage.spline_filter(image, order=3, mode="mirror"), np.float32)
        frames.append(Padded(image, label, weight, splines, pad, frame.size))
    return frames


def pipelines(frames: list[Padded], input_px: int) -> dict[str, Callable[[int], object]]:
    """Name of each pipeline and a function that makes its tile i; those that are not installed are left out."""
    margin = (input_px - output_size(input_px)) // 2
    found: dict[str, Callable[[int], object]] = {
        "scipy map_coordinates, order 3, tile only": lambda i: _scipy_tile(frames, input_px, margin, i),
        "splines on the whole image, then crop (blog)": lambda i: _whole_image(frames, input_px, margin, i),
    }
    for name, make in (
        ("albumentations ElasticTransform, crop first", _albumentations),
        ("MONAI Rand2DElastic, crop first", _monai),
    ):
        try:
            found[name] = make(frames, input_px, margin)
        except ImportError:
            print(f"{name}: not installed, left out")
    return found


def _draw(frames: list[Padded], input_px: int, margin: int, i: int) -> tuple[Padded, int, int, np.random.Generator]:
    """Frame and first row and column of the input tile in the padded frame."""
    rng = np.random.default_rng(i)
    frame = frames[int(rng.integers(len(frames)))]
    side = input_px - 2 * margin
    y, x = (int(rng.integers(length - side + 1)) + frame.pad - margin for length in frame.size)
    return frame, y, x, rng


def _map(rng: np.random.Generator, shape: tuple[int, int], grid_shape: tuple[int, int]) -> NDArray[np.float64]:
    """Coordinates 2 x H x W of a tile of `shape`, about 0, its elastic grid spanning `grid_shape`."""
    at = np.indices(shape) * ((GRID - 1) / (np.array(grid_shape) - 1))[:, None, None]
    field = [ndimage.map_coordinates(u, at, order=3, mode="mirror") for u in rng.normal(0, STD_PX, (2, GRID, GRID))]
    y, x = np.indices(shape) - ((np.array(shape) - 1) / 2)[:, None, None]
    angle = rng.uniform(-np.pi, np.pi)
    flip_y, flip_x = rng.choice([-1, 1], 2)
    return np.stack([
        flip_y * (np.cos(angle) * y + np.sin(angle) * x) + field[0],
        flip_x * (np.cos(angle) * x - np.sin(angle) * y) + field[1],
    ])  # fmt: skip


def _scipy_tile(frames: list[Padded], input_px: int, margin: int, i: int) -> tuple[Array, Array, Array]:
    """Only the tile's pixels are computed; the image's spline coefficients are ready."""
    frame, y, x, rng = _draw(frames, input_px, margin, i)
    centre = np.array([y, x]) + (input_px - 1) / 2
    at = _map(rng, (input_px, input_px), (input_px, input_px)) + centre[:, None, None]
    inner = at[:, margin : input_px - margin, margin : input_px - margin]
    return (
        np.asarray(ndimage.map_coordinates(frame.splines, at, order=3, mode="mirror", prefilter=False)),
        np.asarray(ndimage.map_coordinates(frame.label, inner, order=0, mode="mirror")),
        np.asarray(ndimage.map_coordinates(frame.weight, inner, order=1, mode="mirror")),
    )


def _whole_image(frames: list[Padded], input_px: int, margin: int, i: int) -> tuple[Array, Array, Array]:
    """As the blog did with elasticdeform: image, label and weight deformed whole, splines of order 3, then cropped."""
    frame, y, x, rng = _draw(frames, input_px, margin, i)
    context = slice(frame.pad - margin, -(frame.pad - margin))
    whole = [a[context, context] for a in (frame.image, frame.label.astype(np.float32), frame.weight)]
    shape = (whole[0].shape[0], whole[0].shape[1])
    at = _map(rng, shape, shape) + ((np.array(shape) - 1) / 2)[:, None, None]
    image, label, weight = (ndimage.map_coordinates(a, at, order=3, mode="mirror") for a in whole)
    top, left = y - (frame.pad - margin), x - (frame.pad - margin)
    rows, columns = slice(top, top + input_px), slice(left, left + input_px)
    inner_rows = slice(top + margin, top + input_px - margin)
    inner_columns = slice(left + margin, left + input_px - margin)
    return image[rows, columns], label[inner_rows, inner_columns].round(), weight[inner_rows, inner_columns]


def _crop(frames: list[Padded], input_px: int, margin: int, i: int) -> tuple[Array, Array, Array]:
    frame, y, x, _ = _draw(frames, input_px, margin, i)
    where = slice(y, y + input_px), slice(x, x + input_px)
    return frame.image[where], frame.label[where], frame.weight[where]


def _albumentations(frames: list[Padded], input_px: int, margin: int) -> Callable[[int], object]:
    """Elastic field and rotation are two resamplings; the field is Gaussian-smoothed noise of about the same scale."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    sigma = input_px / 6
    # Noise uniform in +-1 (std 0.577), smoothed by a Gaussian of sigma: std 0.577 / (2 sqrt(pi) sigma), times alpha.
    alpha = STD_PX / 0.577 * 2 * np.pi**0.5 * sigma
    border = cv2.BORDER_REFLECT_101
    compose = albumentations.Compose(
        [
            albumentations.ElasticTransform(
                alpha=alpha, sigma=sigma, interpolation=cv2.INTER_CUBIC, border_mode=border, p=1
            ),
            albumentations.Rotate(limit=180, interpolation=cv2.INTER_CUBIC, border_mode=border, p=1),
            albumentations.HorizontalFlip(p=0.5),
            albumentations.VerticalFlip(p=0.5),
        ],
        additional_targets={"weight": "image"},
    )
    inner = slice(margin, input_px - margin)

    def make(i: int) -> object:
        image, label, weight = _crop(frames, input_px, margin, i)
        done = compose(image=image, mask=label, weight=weight)
        return done["image"], done["mask"][inner, inner], done["weight"][inner, inner]

    return make


def _monai(frames: list[Padded], input_px: int, margin: int) -> Callable[[int], object]:
    """Elastic grid, rotation and flips in one resampling."""
    import torch
    from monai.transforms import Rand2DElasticd

    spacing = (input_px - 1) / (GRID - 1)
    transform = Rand2DElasticd(
        keys=["image", "label", "weight"],
        spacing=(spacing, spacing),
        magnitude_range=(STD_PX, STD_PX),
        prob=1.0,
        rotate_range=np.pi,
        mode=["bicubic", "nearest", "bilinear"],
        padding_mode="reflection",
    )
    inner = slice(margin, input_px - margin)

    def make(i: int) -> object:
        image, label, weight = _crop(frames, input_px, margin, i)
        arrays = {"image": image, "label": label.astype(np.float32), "weight": weight}
        done = transform({key: torch.from_numpy(np.ascontiguousarray(a))[None] for key, a in arrays.items()})
        return done["image"], done["label"][:, inner, inner], done["weight"][:, inner, inner]

    return make
