"""Gray-value variation: the albumentations transforms of a configuration, seeded tile by tile.

albumentations means gray values 0..1 and clips what lies outside. Images may well reach beyond (percentile
normalisation, floating-point images): each channel of a frame has a gray range, [0, 1] or what 99.8 % of its values
need; the range is scaled to 0..1 for the transforms, and what exceeds it is cut off before and put back after them.

Axes: C channels, H rows, W columns.
"""

from __future__ import annotations

import ast
import os
import random
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.data.stack import FloatImage
from unet.errors import ConfigError, nearest, one_line

_PERCENTILES = (0.1, 99.9)
_TOLERANCE = 1e-3  # by which values may leave 0..1 and still count as inside
_TRIAL_PX = 64
_LARGEST = 1000  # of all numbers in a transform: a blur over more pixels takes minutes a tile

PRESETS: dict[str, tuple[str, ...]] = {
    "strong": (
        "RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.3, p=0.5)",
        "RandomGamma(gamma_limit=(70, 140), p=0.5)",
    )
}
"""Names that stand for transforms: `strong` for microscopes and specimens that the training images do not show."""


class GrayTransforms:
    """An albumentations `Compose` of pixel-level transforms, e.g. "GaussNoise(std_range=(0.01, 0.05), p=0.3)" or the
    name of one of the PRESETS.

    Raises ConfigError for text that is no call with literal keyword arguments, an unknown name or argument, a transform
    that moves pixels, and one that cannot take images of `channels` channels.
    """

    def __init__(self, calls: Sequence[str], channels: int) -> None:
        self._calls = tuple(call for named in calls for call in PRESETS.get(named.strip(), (named,)))
        self._channels = channels
        self._compose = _compose(self._calls, channels)

    def __getstate__(self) -> tuple[tuple[str, ...], int]:
        return self._calls, self._channels

    def __setstate__(self, state: tuple[tuple[str, ...], int]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def __call__(self, image_CHW: FloatImage, range_C2: NDArray[np.float32] | None, key: int) -> FloatImage:
        """The transformed image; the same for the same key (0..2^64-1). range_C2: from `gray_range`."""
        if self._compose is None:
            return image_CHW
        generator = np.random.Generator(np.random.Philox(key=np.array([key, 1], np.uint64)))
        # One pair of generators for all transforms: seeded one by one they would all draw the same numbers.
        self._compose.set_random_state(generator, random.Random(key))
        if range_C2 is not None:
            low, span = range_C2[:, :1, None], (range_C2[:, 1:] - range_C2[:, :1])[..., None]
            image_CHW = (image_CHW - low) / span
        inside = image_CHW
        if image_CHW.min() < 0 or image_CHW.max() > 1:
            inside = np.clip(image_CHW, 0, 1)
        before = np.ascontiguousarray(inside.transpose(1, 2, 0))
        after = self._compose(image=before)["image"]
        if after is not before:
            changed = np.asarray(after, np.float32).reshape(before.shape).transpose(2, 0, 1)
            image_CHW = np.ascontiguousarray(changed if inside is image_CHW else changed + (image_CHW - inside))
        return image_CHW if range_C2 is None else np.asarray(image_CHW * span + low, np.float32)


def gray_range(image_CHW: FloatImage) -> NDArray[np.float32] | None:
    """Lowest and highest gray value of each channel, C x 2, that the transforms see as 0 and 1.

    None where that is 0 and 1 itself: at least 99.8 % of each channel's values lie in 0..1.
    """
    if image_CHW.min() >= 0 and image_CHW.max() <= 1:
        return None
    low, high = np.percentile(image_CHW.reshape(len(image_CHW), -1), _PERCENTILES, axis=1)
    if low.min() >= -_TOLERANCE and high.max() <= 1 + _TOLERANCE:
        return None
    return np.stack([np.minimum(low, 0), np.maximum(high, 1)], axis=1).astype(np.float32)


def _compose(calls: Sequence[str], channels: int) -> Any:
    """The Compose, tried on a small image; None when there are no transforms (albumentations is not imported then)."""
    if not calls:
        return None
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for a newer version
    import albumentations

    known = {
        name: kind
        for name, kind in vars(albumentations).items()
        if isinstance(kind, type)
        and issubclass(kind, albumentations.ImageOnlyTransform)
        and kind is not albumentations.ImageOnlyTransform
    }
    transforms = []
    for text in calls:
        name, arguments = _parse(text)
        if name not in known:
            what = "moves pixels or is no transform" if hasattr(albumentations, name) else "is unknown"
            raise ConfigError(
                f"augment.gray: {name} {what}; use a pixel-level transform of albumentations{nearest(name, known)}"
            )
        transforms.append(_make(known[name], text, arguments))
        _try(_make(known[name], text, arguments | {"p": 1.0}), text, channels)
    return albumentations.Compose(transforms)


def _parse(text: str) -> tuple[str, dict[str, Any]]:
    """Name and keyword arguments of a call; nothing is evaluated but literals."""
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args:
            named = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
            if None not in named:  # **mapping
                _check_numbers(text, list(named.values()))
                return call.func.id, {str(name): value for name, value in named.items()}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        pass
    raise ConfigError(
        f"augment.gray: {text!r} is no call with literal keyword arguments; "
        "write for example GaussNoise(std_range=(0.01, 0.05), p=0.3)"
    )


def _check_numbers(text: str, value: Any) -> None:
    """ConfigError for a number, however deep in `value`, that no transform of gray values has a use for."""
    if isinstance(value, (list, tuple, set)):
        for item in value:
            _check_numbers(text, item)
    elif isinstance(value, (int, float)) and not abs(value) <= _LARGEST:
        raise ConfigError(f"augment.gray: {text[:80]}: a number lies beyond {_LARGEST}; use smaller ones")


def _make(kind: type, text: str, arguments: dict[str, Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # unknown arguments are only warned of
            return kind(**arguments)
    except Exception as error:
        raise ConfigError(f"augment.gray: {text}: {one_line(error)}") from None


def _try(transform: Any, text: str, channels: int) -> None:
    """Refuse a transform that cannot take or does not return a float32 image of this many channels."""
    image = np.random.default_rng(0).random((_TRIAL_PX, _TRIAL_PX, channels), np.float32)
    try:
        result = np.asarray(transform(image=image.copy())["image"])
        problem = "" if result.size == image.size and result.dtype == np.float32 else f"returns {result.shape}"
    except Exception as error:
        problem = one_line(error)
    if problem:
        raise ConfigError(f"augment.gray: {text}: not for float32 images of {channels} channel(s) ({problem})")
