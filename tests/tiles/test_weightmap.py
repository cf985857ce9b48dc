"""The weight map against its definition, written out in float64 without any distance transform."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from unet.config import WeightConfig
from unet.data.stack import IGNORE
from unet.errors import ConfigError, DataError
from unet.tiles.weightmap import (
    border_term,
    cached_weight_map,
    class_balance,
    components,
    two_nearest,
    weight_map,
)

TOLERANCE = 1e-5


def definition(instances: NDArray[np.int32], w0: float, sigma: float) -> NDArray[np.float64]:
    """Equation 2's second term: every pixel against every pixel of every cell."""
    height, width = instances.shape
    rows, columns = np.indices((height, width))
    distances = []
    for value in np.unique(instances[instances != 0]):
        r, c = np.nonzero(instances == value)
        squared = (rows[..., None] - r) ** 2 + (columns[..., None] - c) ** 2
        distances.append(np.sqrt(squared.min(axis=-1)))
    if len(distances) < 2:
        return np.zeros((height, width))
    d1, d2 = np.sort(np.stack(distances), axis=0)[:2]
    return np.asarray(w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2)))


def random_cells(shape: tuple[int, int], cells: int, seed: int) -> NDArray[np.int32]:
    """Irregular cells with gaps: Voronoi regions of random points, thinned by a random threshold."""
    rng = np.random.default_rng(seed)
    points = rng.random((cells, 2)) * shape
    rows, columns = np.indices(shape)
    distance = np.hypot(rows[..., None] - points[:, 0], columns[..., None] - points[:, 1])
    order = np.sort(distance, axis=-1)
    inside = (order[..., 1] - order[..., 0] > 1.5) if cells > 1 else order[..., 0] < 3
    return np.where(inside, distance.argmin(axis=-1) + 1, 0).astype(np.int32)


@pytest.mark.parametrize(
    ("shape", "cells"),
    [
        ((64, 64), 9),
        ((33, 80), 20),
        ((80, 33), 2),
        ((1, 60), 6),
        ((60, 1), 6),
        ((1, 1), 1),
        ((2, 3), 2),
        ((48, 48), 300),
    ],
)
@pytest.mark.parametrize(("w0", "sigma"), [(10.0, 5.0), (1.0, 0.7), (30.0, 40.0)])
def test_border_term_equals_the_definition(shape: tuple[int, int], cells: int, w0: float, sigma: float) -> None:
    instances = random_cells(shape, cells, seed=cells)
    np.testing.assert_allclose(
        border_term(instances, w0, sigma), definition(instances, w0, sigma), atol=TOLERANCE, rtol=0
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 14), st.integers(1, 14), st.integers(0, 2**32 - 1), st.sampled_from([0.3, 0.8, 0.97]))
def test_border_term_on_random_scattered_labels(height: int, width: int, seed: int, empty: float) -> None:
    """Labels in many pieces, with ids far apart and negative ones among them."""
    rng = np.random.default_rng(seed)
    ids = np.array([1, 2, 7, 40_000, 2**31 - 1, -3], np.int32)
    instances = np.where(rng.random((height, width)) < empty, 0, rng.choice(ids, (height, width))).astype(np.int32)
    np.testing.assert_allclose(border_term(instances, 10, 5), definition(instances, 10, 5), atol=TOLERANCE, rtol=0)


def test_the_comparison_notices_a_wrong_sigma_and_a_cell_too_few() -> None:
    instances = random_cells((48, 48), 9, seed=1)
    truth = definition(instances, 10, 5)
    assert np.abs(border_term(instances, 10, 5.001) - truth).max() > TOLERANCE
    assert np.abs(border_term(np.where(instances == 4, 0, instances), 10, 5) - truth).max() > TOLERANCE
    assert np.abs(border_term(np.where(instances == 4, 5, instances), 10, 5) - truth).max() > TOLERANCE


def test_values_computed_by_hand() -> None:
    """Two cells at columns 0 and 4 of one row: d1 + d2 = 4 between them and on them, 6 one pixel beyond."""
    instances = np.array([[1, 0, 0, 0, 2, 0]], np.int32)
    expected = 10 * np.exp(-(np.array([[4.0, 4, 4, 4, 4, 6]]) ** 2) / 50)
    np.testing.assert_allclose(border_term(instances, 10, 5), expected, rtol=1e-6)


def test_fewer_than_two_cells_have_no_border() -> None:
    one = np.zeros((20, 30), np.int32)
    assert not border_term(one, 10, 5).any()
    one[3:5, 3:9] = 7
    one[15:, 20:] = 7  # a second piece of the same cell
    assert not border_term(one, 10, 5).any()
    one[15:, 20:] = 8
    assert border_term(one, 10, 5).any()


def test_cells_that_touch_and_cells_at_the_image_border() -> None:
    instances = np.ones((12, 12), np.int32)
    instances[:, 6:] = 2
    np.testing.assert_allclose(border_term(instances, 10, 5), definition(instances, 10, 5), atol=TOLERANCE, rtol=0)


def test_thousands_of_cells() -> None:
    instances = np.zeros((400, 500), np.int32)
    instances[::5, ::5] = np.arange(80 * 100).reshape(80, 100) + 1
    term = border_term(instances, 10, 2)
    np.testing.assert_allclose(term[:60, :60], definition(instances[:90, :90], 10, 2)[:60, :60], atol=TOLERANCE, rtol=0)


def test_distances_are_exact_within_reach() -> None:
    instances = random_cells((90, 70), 12, seed=3)
    d1, d2 = two_nearest(instances, reach_px=15)
    each = np.sort([ndimage.distance_transform_edt(instances != k) for k in np.unique(instances)[1:]], axis=0)
    for found, true in ((d1, each[0]), (d2, each[1])):
        near = true <= 15
        np.testing.assert_allclose(found[near], true[near], rtol=1e-6)
        assert (found[~near] > 15).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.uint64])
def test_integer_types_of_instances(dtype: type[np.integer]) -> None:
    instances = random_cells((40, 40), 9, seed=4)
    np.testing.assert_array_equal(border_term(instances.astype(dtype), 10, 5), border_term(instances, 10, 5))  # type: ignore[arg-type]


def test_instances_must_be_integers_of_the_label_s_shape() -> None:
    with pytest.raises(DataError, match="expected integers"):
        border_term(np.zeros((4, 4), np.float32), 10, 5)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="make them equal"):
        weight_map(np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.int32), WeightConfig())


def test_normalised_balance_has_mean_one_and_equal_class_sums() -> None:
    rng = np.random.default_rng(0)
    label = rng.choice(np.array([0, 1, 3, IGNORE], np.uint8), (50, 60), p=[0.7, 0.15, 0.05, 0.1])
    balance = class_balance(label, "inverse_frequency", classes=4)
    valid = label != IGNORE
    assert balance.dtype == np.float32
    np.testing.assert_allclose(balance[valid].mean(dtype=np.float64), 1, rtol=1e-6)
    assert not balance[~valid].any()
    sums = [balance[label == c].sum(dtype=np.float64) for c in (0, 1, 3)]
    np.testing.assert_allclose(sums, valid.sum() / 3, rtol=1e-5)


def test_balance_kinds_by_hand() -> None:
    label = np.array([[0, 0, 0, 1, IGNORE]], np.uint8)
    np.testing.assert_allclose(class_balance(label, "none"), [[1, 1, 1, 1, 0]])
    np.testing.assert_allclose(class_balance(label, "inverse_frequency"), [[4 / 6, 4 / 6, 4 / 6, 2, 0]], rtol=1e-6)
    np.testing.assert_allclose(class_balance(label, "blog"), [[1 / 3, 1 / 3, 1 / 3, 1, 0]], rtol=1e-6)
    np.testing.assert_array_equal(class_balance(np.full((3, 3), 2, np.uint8), "inverse_frequency"), np.ones((3, 3)))
    assert not class_balance(np.full((2, 2), IGNORE, np.uint8), "inverse_frequency").any()


def test_balance_refuses_unknown_kind_and_class() -> None:
    label = np.array([[0, 2]], np.uint8)
    with pytest.raises(ConfigError, match="is not one of none, inverse_frequency, blog"):
        class_balance(label, "inverse_frequencies")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"label value 2 lies outside the classes 0\.\.1"):
        class_balance(label, "none", classes=2)


def test_components_are_four_connected() -> None:
    label = np.array([[1, 0, 2, 2], [0, 1, 0, 2], [IGNORE, IGNORE, IGNORE, 0], [1, 1, 0, 1]], np.uint8)
    found = components(label)
    expected, count = ndimage.label((label > 0) & (label != IGNORE))
    assert found.max() == count == 5
    np.testing.assert_array_equal(found, expected)


def test_weight_map_is_balance_plus_border_and_zero_where_ignored() -> None:
    label = (random_cells((40, 50), 12, seed=5) > 0).astype(np.uint8)
    label[:10, :10] = IGNORE
    config = WeightConfig(balance="inverse_frequency", w0=10, sigma_px=5)
    weight = weight_map(label, None, config)
    cells = components(label)
    expected = class_balance(label, "inverse_frequency") + definition(cells, 10, 5)
    assert weight.dtype == np.float32
    np.testing.assert_allclose(weight[label != IGNORE], expected[label != IGNORE], atol=TOLERANCE, rtol=1e-6)
    assert not weight[label == IGNORE].any()
    assert definition(cells, 10, 5)[label == IGNORE].any()  # or the line above would say nothing
    np.testing.assert_array_equal(weight_map(label, None, WeightConfig(balance="none", w0=0)), label != IGNORE)


def test_given_instances_take_precedence_over_components() -> None:
    label = np.ones((20, 20), np.uint8)  # one component
    instances = np.ones((20, 20), np.int32)
    instances[:, 10:] = 2
    assert weight_map(label, None, WeightConfig()).max() == 1
    assert weight_map(label, instances, WeightConfig()).max() > 10


def test_cache_returns_the_same_map_and_knows_what_it_depends_on(tmp_path: Path) -> None:
    label = (random_cells((30, 40), 9, seed=6) > 0).astype(np.uint8)
    config = WeightConfig()
    first = cached_weight_map(label, None, config, tmp_path)
    (file,) = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    np.testing.assert_array_equal(cached_weight_map(label, None, config, tmp_path), first)
    assert file.stat().st_mtime_ns == before
    for other in (WeightConfig(w0=9), WeightConfig(sigma_px=4), WeightConfig(balance="blog")):
        np.testing.assert_array_equal(cached_weight_map(label, None, other, tmp_path), weight_map(label, None, other))
    changed = label.copy()
    changed[0, 0] ^= 1
    cached_weight_map(changed, None, config, tmp_path)
    cached_weight_map(label.T, None, config, tmp_path)
    cached_weight_map(label, np.zeros(label.shape, np.int32), config, tmp_path)
    assert len(list(tmp_path.iterdir())) == 7


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other shape"])
def test_a_damaged_cache_file_is_computed_again(tmp_path: Path, damage: str) -> None:
    label = (random_cells((30, 40), 9, seed=7) > 0).astype(np.uint8)
    good = cached_weight_map(label, None, WeightConfig(), tmp_path)
    (file,) = tmp_path.iterdir()
    data = file.read_bytes()
    bad = bytearray(data)
    bad[1000] ^= 1
    file.write_bytes({"flip": bytes(bad), "cut": data[:-7], "empty": b"", "other shape": data * 2}[damage])
    np.testing.assert_array_equal(cached_weight_map(label, None, WeightConfig(), tmp_path), good)
    assert file.read_bytes() == data


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache_folder_does_no_harm(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    label = np.eye(9, dtype=np.uint8)
    np.testing.assert_array_equal(
        cached_weight_map(label, None, WeightConfig(), tmp_path), weight_map(label, None, WeightConfig())
    )


def test_a_cache_folder_that_is_a_file_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("not a folder")
    label = np.eye(9, dtype=np.uint8)
    weight = cached_weight_map(label, None, WeightConfig(), tmp_path / "occupied")
    np.testing.assert_array_equal(weight, weight_map(label, None, WeightConfig()))
    assert (tmp_path / "occupied").read_text() == "not a folder"


@pytest.mark.real_data
def test_first_em_slice_has_the_distribution_of_the_published_arm() -> None:
    """The blog's map (w_c = 1 / n_c, the term at every pixel) on slice 0, as it was measured independently."""
    folder = os.environ.get("UNET_DATA", "")
    path = Path(folder) / "ISBI-2012-EM" / "train-labels.tif"
    if not folder or not path.exists():
        pytest.skip("needs the EM stack below UNET_DATA")
    tifffile = pytest.importorskip("tifffile")
    label = (tifffile.imread(path, key=0) > 0).astype(np.uint8)
    weight = weight_map(label, None, WeightConfig(balance="blog"))
    ordered = np.sort(weight.reshape(-1).astype(np.float64))[::-1]
    assert components(label).max() == 136
    np.testing.assert_allclose(weight.min(), 4.9e-6, rtol=0.01)
    np.testing.assert_allclose((weight < 0.01).mean(), 0.24, atol=0.005)
    np.testing.assert_allclose(np.median(weight), 0.96, atol=0.005)
    np.testing.assert_allclose(ordered[: ordered.size // 4].sum() / ordered.sum(), 0.67, atol=0.005)
