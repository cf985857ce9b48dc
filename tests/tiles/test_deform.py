"""The coordinate map against the same map written out in float64, pixel by pixel, without its matrix product."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

import unet.tiles.deform
from unet.tiles.deform import CUBIC, LINEAR, NEAREST, Deformation, coordinate_map, spline_basis

Array = NDArray[np.float64]


def reference_coordinates(d: Deformation, side: int) -> tuple[Array, Array]:
    """s(p) = centre + F R (p - k) + u(p) in float64, u by scipy on the whole two-dimensional grid."""
    grid = d.displacements_2GG.shape[-1]
    at = np.indices((side, side)) * (grid - 1) / (side - 1)
    u_y, u_x = (ndimage.map_coordinates(u, at, order=3, mode="mirror") for u in d.displacements_2GG)
    y, x = np.indices((side, side)) - (side - 1) / 2
    c, s = math.cos(d.angle_rad), math.sin(d.angle_rad)
    y, x = (c * y + s * x) / d.zoom, (c * x - s * y) / d.zoom
    y, x = (-y if d.flip_y else y), (-x if d.flip_x else x)
    return d.centre_yx[0] + y + u_y, d.centre_yx[1] + x + u_x


def fold(index: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Mirrored index, one reflection at a time."""
    index = index.copy()
    while size > 1 and ((index < 0) | (index >= size)).any():
        index = np.where(index < 0, -index, index)
        index = np.where(index >= size, 2 * (size - 1) - index, index)
    return index if size > 1 else np.zeros_like(index)


def keys_weights(t: Array) -> list[Array]:
    """Cubic convolution with a = -0.75: weights of the taps at -1, 0, 1, 2."""
    a = -0.75
    near = [(a + 2) * abs(v) ** 3 - (a + 3) * v**2 + 1 for v in (t, 1 - t)]
    far = [a * abs(v) ** 3 - 5 * a * v**2 + 8 * a * abs(v) - 4 * a for v in (1 + t, 2 - t)]
    return [far[0], near[0], near[1], far[1]]


def reference_sample(image: NDArray[np.generic], y: Array, x: Array, interpolation: int) -> Array:
    """Float64 interpolation with every tap mirrored by itself."""
    height, width = image.shape
    if interpolation == NEAREST:
        rows, columns = np.rint(y).astype(np.intp), np.rint(x).astype(np.intp)
        return image[fold(rows, height), fold(columns, width)].astype(np.float64)
    if interpolation == LINEAR and min(image.shape) > 1:
        return np.asarray(ndimage.map_coordinates(image.astype(np.float64), [y, x], order=1, mode="mirror"))
    y0, x0 = np.floor(y).astype(np.intp), np.floor(x).astype(np.intp)
    ty, tx = y - y0, x - x0
    if interpolation == LINEAR:
        taps, weights_y, weights_x = (0, 1), [1 - ty, ty], [1 - tx, tx]
    else:
        taps, weights_y, weights_x = (-1, 0, 1, 2), keys_weights(ty), keys_weights(tx)  # type: ignore[assignment]
    out = np.zeros(y.shape)
    for wy, dy in zip(weights_y, taps, strict=True):
        for wx, dx in zip(weights_x, taps, strict=True):
            out += wy * wx * image[fold(y0 + dy, height), fold(x0 + dx, width)]
    return out


def deformation(
    centre: tuple[float, float],
    degrees: float = 0,
    flips: tuple[bool, bool] = (False, False),
    std: float = 0,
    grid: int = 3,
    seed: int = 0,
    zoom: float = 1.0,
) -> Deformation:
    displacements = np.random.default_rng(seed).normal(0, 1, (2, grid, grid)) * std
    return Deformation(centre, math.radians(degrees), *flips, displacements, zoom)


CASES = [
    ((40, 50), 21, deformation((20, 25), 33, (True, False), 3)),
    ((40, 50), 64, deformation((3.5, 44.5), -120, (False, True), 10)),  # reaches far beyond the image
    ((400, 300), 100, deformation((199.5, 100.5), 10, (False, False), 10)),  # wholly inside
    ((5, 7), 60, deformation((2, 3), 77, (True, True), 5)),  # mirrored many times
    ((1, 30), 24, deformation((0, 12), 45, (False, False), 4)),
    ((30, 1), 25, deformation((12, 0), 200, (False, False), 4)),
    ((1, 1), 9, deformation((0, 0), 10, (False, False), 2)),
    ((90, 90), 50, deformation((-200.5, 300.5), 15, (False, False), 2)),  # outside the image altogether
    ((90, 90), 50, deformation((45, 45), 60, (True, False), 10, grid=2)),
    ((90, 90), 51, deformation((45, 45), 60, (True, False), 6, grid=7)),
    ((90, 90), 51, deformation((45, 45), 60, (True, False), 6, zoom=1.6)),
    ((90, 90), 51, deformation((45, 45), -30, (False, True), 4, zoom=0.5)),
]


@pytest.mark.parametrize(("shape", "side", "d"), CASES)
def test_coordinates_equal_the_definition(shape: tuple[int, int], side: int, d: Deformation) -> None:
    coordinates = coordinate_map(d, side)
    y, x = reference_coordinates(d, side)
    np.testing.assert_allclose(coordinates.top + coordinates.y_HW.astype(np.float64), y, atol=5e-5, rtol=0)
    np.testing.assert_allclose(coordinates.left + coordinates.x_HW.astype(np.float64), x, atol=5e-5, rtol=0)
    assert shape  # of the image: the map does not depend on it


@pytest.mark.parametrize(("shape", "side", "d"), CASES)
@pytest.mark.parametrize("interpolation", [CUBIC, LINEAR])
def test_sampling_equals_the_definition(shape: tuple[int, int], side: int, d: Deformation, interpolation: int) -> None:
    """On white noise, whose gradients are as steep as can be; float32 coordinates are good to some 1e-5 px."""
    image = np.random.default_rng(1).random(shape, np.float32) * 3 - 1
    found = coordinate_map(d, side).sample(image, interpolation)
    expected = reference_sample(image, *reference_coordinates(d, side), interpolation)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=5e-4, rtol=0)


@pytest.mark.parametrize(("shape", "side", "d"), CASES)
def test_nearest_equals_the_definition(shape: tuple[int, int], side: int, d: Deformation) -> None:
    label = np.random.default_rng(2).integers(0, 200, shape, np.uint8)
    y, x = reference_coordinates(d, side)
    clear = (np.abs(y - np.floor(y) - 0.5) > 1e-4) & (np.abs(x - np.floor(x) - 0.5) > 1e-4)  # not half-way between two
    found = coordinate_map(d, side).sample(label, NEAREST)
    assert found.dtype == np.uint8
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(found[clear], reference_sample(label, y, x, NEAREST)[clear])


def test_the_comparison_notices_wrong_maps() -> None:
    """Each of the mistakes one could make in the map is far outside the tolerances above."""
    image = np.random.default_rng(1).random((90, 90), np.float32)
    right = deformation((45.0, 44.0), 30, (True, False), 5)
    expected = reference_sample(image, *reference_coordinates(right, 40), CUBIC)
    wrong = {
        "shifted by half a pixel": deformation((45.5, 44.0), 30, (True, False), 5),
        "zoomed": deformation((45.0, 44.0), 30, (True, False), 5, zoom=1.02),
        "turned the other way": deformation((45.0, 44.0), -30, (True, False), 5),
        "other flip": deformation((45.0, 44.0), 30, (False, True), 5),
        "other field": deformation((45.0, 44.0), 30, (True, False), 5, seed=1),
        "axes exchanged": Deformation(right.centre_yx, right.angle_rad, True, False, right.displacements_2GG[::-1]),
    }
    for name, d in wrong.items():
        assert np.abs(coordinate_map(d, 40).sample(image, CUBIC) - expected).max() > 0.05, name
    assert np.abs(coordinate_map(right, 40).sample(image, LINEAR) - expected).max() > 0.02


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("side", [20, 21])
def test_quarter_turns_and_flips_are_numpy_s(quarter_turns: int, flips: tuple[bool, bool], side: int) -> None:
    image = np.random.default_rng(3).random((60, 70), np.float32)
    top, left = 17, 30
    crop = image[top : top + side, left : left + side]
    axes = [axis for axis, flip in enumerate(flips) if flip]
    expected = np.rot90(np.flip(crop, axes), quarter_turns)
    centre = (top + (side - 1) / 2, left + (side - 1) / 2)
    coordinates = coordinate_map(deformation(centre, 90 * quarter_turns, flips), side)
    for interpolation in (CUBIC, LINEAR, NEAREST):
        np.testing.assert_allclose(coordinates.sample(image, interpolation), expected, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 90), st.integers(2, 9))
def test_spline_basis_equals_scipy(side: int, grid: int) -> None:
    values = np.random.default_rng(side * 100 + grid).normal(size=grid)
    at = np.arange(side) * (grid - 1) / (side - 1)
    expected = ndimage.map_coordinates(values, at[None], order=3, mode="mirror")
    np.testing.assert_allclose(spline_basis(side, grid) @ values, expected, atol=1e-12)
    np.testing.assert_allclose(spline_basis(side, grid)[[0, -1]] @ values, values[[0, -1]], atol=1e-12)
    np.testing.assert_allclose(spline_basis(side, grid).sum(axis=1), 1, atol=1e-12)


def test_elastic_field_equals_scipy_at_full_size() -> None:
    """Bicubic interpolation of the 3 x 3 grid over 508 px, against a two-dimensional spline."""
    d = deformation((253.5, 253.5), std=10)
    coordinates = coordinate_map(d, 508)
    at = np.indices((508, 508)) * 2 / 507
    for axis, found in enumerate((coordinates.top + coordinates.y_HW, coordinates.left + coordinates.x_HW)):
        field = found.astype(np.float64) - np.indices((508, 508))[axis]
        expected = ndimage.map_coordinates(d.displacements_2GG[axis], at, order=3, mode="mirror")
        np.testing.assert_allclose(field, expected, atol=1e-4)
        linear = ndimage.map_coordinates(d.displacements_2GG[axis], at, order=1)
        assert np.abs(field - linear).max() > 0.5  # a bilinear field would be noticed


@pytest.mark.parametrize("inner", [slice(0, 40), slice(11, 29), slice(39, 40)])
def test_a_part_of_the_map_samples_the_same_values(inner: slice) -> None:
    image = np.random.default_rng(4).random((50, 60), np.float32)
    coordinates = coordinate_map(deformation((10, 50), 25, std=6), 40)
    whole = coordinates.sample(image, CUBIC)
    np.testing.assert_allclose(coordinates.part(inner, inner).sample(image, CUBIC), whole[inner, inner], atol=1e-4)


def test_images_wider_than_opencv_can_sample() -> None:
    image = np.random.default_rng(5).random((30, 40_000), np.float32)
    d = deformation((15, 39_990), 30, std=5)
    expected = reference_sample(image, *reference_coordinates(d, 40), CUBIC)
    np.testing.assert_allclose(coordinate_map(d, 40).sample(image, CUBIC), expected, atol=5e-4)


@pytest.mark.parametrize("side", [33, 40])
def test_maps_that_spread_over_more_than_opencv_can_sample(monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    image = np.random.default_rng(6).random((300, 200), np.float32)
    d = deformation((100, 100), 30, std=120)
    monkeypatch.setattr(unet.tiles.deform, "_OPENCV_LIMIT_PX", 50)
    expected = reference_sample(image, *reference_coordinates(d, side), LINEAR)
    np.testing.assert_allclose(coordinate_map(d, side).sample(image, LINEAR), expected, atol=1e-3)


def test_sampling_does_not_depend_on_opencv_s_threads() -> None:
    image = np.random.default_rng(7).random((400, 400), np.float32)
    coordinates = coordinate_map(deformation((150, 180), 50, std=10), 300)
    before = cv2.getNumThreads()
    results = []
    for threads in (1, 4):
        cv2.setNumThreads(threads)
        results.append(coordinates.sample(image, CUBIC))
    cv2.setNumThreads(before)
    np.testing.assert_array_equal(*results)
