"""Normalisation by blocks is the normalisation of the whole image, to the last bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import unet.data.images.mapped as module
from unet.data.rescale import fill_value, order_statistics, percentiles, rescaling
from unet.data.stack import Normalisation
from unet.errors import DataError

TYPES = ["bool", "u1", "i1", "u2", "i2", ">u2", "u4", "i4", "u8", "i8", "f2", "f4", ">f4", "f8"]


def plane_of(rng: np.random.Generator, kind: str, shape: tuple[int, int]) -> np.ndarray:
    dtype = np.dtype(kind)
    if dtype.kind == "b":
        return rng.random(shape) > 0.3
    if dtype.kind == "f":
        plane = rng.normal(0, 10.0 ** rng.integers(-3, 4), shape).astype(dtype)
        plane.flat[:: rng.integers(1, 9)] = rng.choice([0.0, -0.0, 1.0])  # ties
        return plane
    info = np.iinfo(dtype)
    narrow = rng.random() < 0.5
    low, high = (max(info.min, -9), 9) if narrow else (info.min, info.max)
    return rng.integers(low, high, shape, dtype.newbyteorder("="), endpoint=True).astype(dtype)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks smaller than the test's images, in rows and in columns."""
    monkeypatch.setattr(module, "_BLOCK_PIXELS", 16)


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.tuples(st.integers(1, 40), st.integers(1, 40)), st.floats(0, 50), st.floats(50, 100))
def test_percentiles_are_numpys(kind, seed, shape, low, high):
    plane = plane_of(np.random.default_rng(seed), kind, shape)
    for q in ((low, high), (0, 100), (0.1, 99.9)):
        np.testing.assert_array_equal(percentiles(plane, q), np.percentile(plane.astype(np.float64), q))


def test_a_neighbouring_rank_would_show():
    """The test above can fail: the order statistic one place further is another number."""
    plane = np.random.default_rng(0).random((30, 30))
    expected = np.sort(plane.reshape(-1))
    ranks = [0, 17, 450, 899]
    np.testing.assert_array_equal(order_statistics(plane, ranks), expected[ranks])
    assert (order_statistics(plane, [18])[0] != expected[17]) & (order_statistics(plane, [16])[0] != expected[17])


@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "f4"])
@pytest.mark.parametrize(
    "normalisation",
    [
        Normalisation(),
        Normalisation("minmax"),
        Normalisation("percentile", low=0.1, high=99.9),
        Normalisation("zscore"),
    ],
    ids=lambda n: n.kind,
)
@pytest.mark.usefixtures("small_blocks")
def test_windows_of_a_memory_map(tmp_path, kind, normalisation):
    rng = np.random.default_rng(1)
    image = np.memmap(tmp_path / "a", kind, "w+", shape=(3, 23, 37))
    image[0], image[1] = plane_of(rng, kind, (23, 37)), 7  # a channel without contrast, too
    image[2], image[2, 4, 5] = 3, 90  # and one whose percentiles are equal: 1 of 851 pixels is bright
    expected = normalisation(np.array(image))
    prepare = rescaling(normalisation, image, "a")
    for window in (np.s_[:, :, :], np.s_[:, 3:9, 30:], np.s_[:, 22:, :1]):
        found = prepare(image[window])
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected[window])


@pytest.mark.parametrize("bright", [31_000, 4])
def test_an_image_that_is_nearly_all_background_is_stretched_by_its_extremes(bright):
    image = np.full((1, 64, 64), 3, np.uint16)
    image[0, 9, 9] = bright  # 1 of 4096 pixels: the percentile 99.9 is background
    made = Normalisation("percentile", low=0.1, high=99.9)(image)
    assert (made.min(), made.max()) == (0, 1)
    constant = Normalisation("percentile", low=0.1, high=99.9)(np.full((1, 8, 8), 3, np.uint16))
    assert not constant.any()


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.usefixtures("small_blocks")
def test_gray_values_of_mean_0_and_deviation_1(kind):
    image = np.stack([plane_of(np.random.default_rng(seed), kind, (23, 37)) for seed in (3, 4)])
    made = Normalisation("zscore")(image)
    values = image.astype(np.float64)
    deviation = values.std(axis=(1, 2), keepdims=True)
    expected = (values - values.mean(axis=(1, 2), keepdims=True)) / np.where(deviation > 0, deviation, 1)
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [0.1, -1e30, 3e-40, 0])
def test_an_image_of_one_value_becomes_0_whatever_the_rounding(value):
    for dtype in (np.float32, np.float64):
        assert not Normalisation("zscore")(np.full((1, 301, 77), value, dtype)).any()


def test_gray_values_without_a_deviation_are_refused():
    with pytest.raises(DataError, match="too large for a standard deviation; divide the images"):
        Normalisation("zscore")(np.array([[[1e300, -1e300, 3]]]))


def test_a_window_normalised_by_itself_would_show():
    image = np.arange(600, dtype=np.uint16).reshape(1, 20, 30)
    normalisation = Normalisation("minmax")
    window = np.s_[:, 5:9, :]
    assert np.abs(normalisation(image[window]) - normalisation(image)[window]).max() > 0.1


@pytest.mark.parametrize("kind", ["fixed", "minmax", "percentile", "zscore"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.usefixtures("small_blocks")
def test_what_is_not_a_number_is_refused_by_name(kind, value):
    image = np.zeros((2, 9, 9), np.float32)
    image[1, 8, 8] = image[1, 0, 3] = value
    with pytest.raises(DataError, match=r"^cells\.tif, image 3: 2 gray values are NaN or infinite"):
        rescaling(Normalisation(kind), image, "cells.tif, image 3")


@pytest.mark.usefixtures("small_blocks")
def test_a_pass_can_be_stopped():
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        percentiles(np.zeros((50, 50), np.uint8), (0, 100), check)
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("fill", "values", "dtype"),
    [(-9999, (0, 255), "f4"), (65535, (100, 4095), "u2"), (0, (1000, 1900), ">u2"), (-1, (-1, 0), "i2")],
)
@pytest.mark.usefixtures("small_blocks")
def test_a_value_of_no_data_is_said(fill, values, dtype):
    rng = np.random.default_rng(0)
    plane = rng.integers(*values, (60, 60), endpoint=True).astype(dtype)
    percentile = Normalisation("percentile", low=0.1, high=99.9)
    assert fill_value(plane[None], percentile) == ""
    plane[:6] = fill
    said = fill_value(np.stack([plane[::-1], plane]), percentile)
    if fill == -1:  # as near to the others as they are to each other
        assert said == ""
        return
    assert said.startswith(f"10.0% of the pixels are {fill}, far from all others ({plane[6:].min():g} to ")
    assert fill_value(plane[None], Normalisation()) == ""  # of fixed numbers
    plane[:6] = plane[6:12]
    plane[0, :4] = fill  # of 3600 pixels more than a thousandth, on which the percentile falls
    assert fill_value(plane[None], percentile).startswith("0.1% of the pixels")
    assert fill_value(plane[None], Normalisation("percentile", low=1, high=99)) == ""


def test_a_value_of_no_data_that_takes_the_contrast_of_a_deviation_is_said():
    """The others reach from 100 to 104; a share p at a distance d adds p (1 - p) d^2 to the variance."""
    plane = np.resize(np.array([100, 101, 103, 104], np.uint16), (40, 40))
    zscore = Normalisation("zscore")
    assert fill_value(plane[None], zscore) == ""
    for rows, far, said in ((4, 8, ""), (4, 16, "10.0% of"), (1, 16, ""), (1, 64, "2.5% of"), (20, 8, "50.0% of")):
        filled = plane.copy()
        filled[:rows] = 104 + far
        found = fill_value(filled[None], zscore)
        assert found.startswith(said), (rows, far)
        assert bool(found) == bool(said), (rows, far)
        if said:
            assert filled.std() > 2 * plane.std()


def test_the_background_of_a_sparse_image_is_no_value_of_no_data():
    sparse = np.zeros((1, 40, 40), np.uint8)
    sparse[0, 5:8, 5:8] = np.arange(150, 159).reshape(3, 3)
    assert fill_value(sparse, Normalisation("minmax")) == ""
