"""Gray-value transforms: what is accepted, and what they may do to an image."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from unet.errors import ConfigError
from unet.tiles.gray import PRESETS, GrayTransforms, gray_range

BRIGHTER = "RandomBrightnessContrast(brightness_limit=(0.1, 0.1), contrast_limit=(0.0, 0.0), p=1.0)"


def image(channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((channels, 40, 50), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("RandomBrightnesContrast(p=0.5)", "did you mean 'RandomBrightnessContrast'"),
        ("HorizontalFlip(p=0.5)", "moves pixels"),
        ("ElasticTransform()", "moves pixels"),
        ("Compose()", "moves pixels or is no transform"),
        ("GaussNoise(0.5)", "is no call with literal keyword arguments"),
        ("GaussNoise", "is no call with literal keyword arguments"),
        ("GaussNoise(p=__import__('os').getpid())", "is no call with literal keyword arguments"),
        ("GaussNoise(**{'p': 1.0})", "is no call with literal keyword arguments"),
        ("albumentations.GaussNoise(p=1.0)", "is no call with literal keyword arguments"),
        ("GaussNoise(p=0.5", "is no call with literal keyword arguments"),
        ("GaussNoise(p=0.5); print(1)", "is no call with literal keyword arguments"),
        ("", "is no call with literal keyword arguments"),
        ("(" * 5000, "is no call with literal keyword arguments"),
        ("GaussNoise(strength=0.5)", "strength"),
        ("GaussNoise(p=1.5)", "p"),
        ("GaussianBlur(blur_limit=100001)", "a number lies beyond 1000"),
        ("Blur(blur_limit=(3, 1000000001))", "a number lies beyond 1000"),
        ("RandomGamma(gamma_limit=(80, 1e400))", "a number lies beyond 1000"),
        ("GaussNoise(p='often')", "p"),
        ("HueSaturationValue(p=0.5)", "not for float32 images of 1 channel"),
    ],
)
def test_what_is_refused(call: str, message: str) -> None:
    with pytest.raises(ConfigError, match="augment.gray") as error:
        GrayTransforms((call,), 1)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_same_key_gives_the_same_image_in_any_order() -> None:
    transforms = GrayTransforms(("RandomBrightnessContrast(p=0.5)", "GaussNoise(p=0.5)"), 1)
    first = [transforms(image(), None, key) for key in range(12)]
    for key in reversed(range(12)):
        np.testing.assert_array_equal(transforms(image(), None, key), first[key])
    copy = pickle.loads(pickle.dumps(transforms))
    np.testing.assert_array_equal(copy(image(), None, 5), first[5])
    assert len({x.tobytes() for x in first}) > 6


def test_transforms_are_drawn_independently_of_each_other() -> None:
    """Two transforms of p = 0.5: all four combinations occur, about equally often."""
    up = "RandomBrightnessContrast(brightness_limit=(0.1, 0.1), contrast_limit=(0.0, 0.0), p=0.5)"
    more = "RandomBrightnessContrast(brightness_limit=(0.2, 0.2), contrast_limit=(0.0, 0.0), p=0.5)"
    transforms = GrayTransforms((up, more), 1)
    flat = np.full((1, 8, 8), 0.25, np.float32)
    steps = [round(float(transforms(flat, None, key).mean()) - 0.25, 2) for key in range(400)]
    for step in (0.0, 0.1, 0.2, 0.3):
        assert 60 < sum(abs(s - step) < 0.01 for s in steps) < 140


def test_no_transforms_and_transforms_that_do_not_fire_change_nothing() -> None:
    x = image() * 3 - 1
    assert GrayTransforms((), 1)(x, None, 0) is x
    np.testing.assert_array_equal(GrayTransforms(("GaussNoise(p=0.0)",), 1)(x, None, 0), x)


def test_values_outside_the_range_are_carried_over() -> None:
    x = np.array([[[-0.5, 0.0, 0.3, 0.95, 1.0, 1.5]]], np.float32)
    found = GrayTransforms((BRIGHTER,), 1)(x, None, 0)
    np.testing.assert_allclose(found, [[[-0.4, 0.1, 0.4, 1.0, 1.0, 1.5]]], atol=1e-6)


def test_the_range_of_a_channel_is_scaled_to_zero_to_one() -> None:
    x = np.stack([image()[0] * 1000 - 200, image(seed=1)[0]])
    found = GrayTransforms((BRIGHTER,), 2)(x, gray_range(x), 0)
    middle = np.abs(image() - 0.5)[0] < 0.3
    np.testing.assert_allclose((found - x)[0][middle], 100, rtol=0.01)
    np.testing.assert_allclose((found - x)[1][np.abs(x[1] - 0.5) < 0.3], 0.1, rtol=0.01)


def test_a_preset_is_the_transforms_it_stands_for() -> None:
    image = np.random.default_rng(0).random((1, 40, 40), np.float32)
    named, written = GrayTransforms(["strong"], 1), GrayTransforms(PRESETS["strong"], 1)
    changed = [named(image, None, key) for key in range(20)]
    for key, found in enumerate(changed):
        np.testing.assert_array_equal(found, written(image, None, key))
    assert sum(bool((found != image).any()) for found in changed) > 10  # three of four, of two that come half the time


def test_gray_range() -> None:
    assert gray_range(image()) is None
    outlier = image().copy()
    outlier[0, 0, 0] = 50  # one hot pixel must not stretch the range
    assert gray_range(outlier) is None
    stretched = gray_range(np.concatenate([image() * 10, image() - 3]))
    assert stretched is not None
    np.testing.assert_allclose(stretched, [[0, 10], [-3, 1]], atol=0.05)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_any_number_of_channels(channels: int) -> None:
    x = image(channels)
    found = GrayTransforms((BRIGHTER,), channels)(x, None, 3)
    assert found.shape == x.shape
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, np.minimum(x + np.float32(0.1), 1), atol=1e-6)


def test_the_input_is_not_changed() -> None:
    x = image()
    before = x.copy()
    for call in (BRIGHTER, "GaussNoise(p=1.0)", "RandomGamma(p=1.0)", "GaussianBlur(p=1.0)"):
        GrayTransforms((call,), 1)(x, None, 0)
        np.testing.assert_array_equal(x, before)
