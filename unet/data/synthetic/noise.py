"""Smooth random fields for the synthetic stacks. Axes: H rows, W columns."""

from __future__ import annotations

import cv2
import numpy as np

from unet.data.stack import FloatImage


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> FloatImage:
    """Gaussian random field H x W with correlation length `sigma` px, mean 0 and standard deviation 1."""
    step = max(1, int(sigma / 3))  # a smooth field needs few samples
    coarse = rng.standard_normal([-(-n // step) + 8 for n in shape]).astype(np.float32)
    blurred = cv2.GaussianBlur(coarse, (0, 0), sigma / step)
    full = cv2.resize(blurred, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
    field = full[2 * step :, 2 * step :][: shape[0], : shape[1]]
    return np.asarray((field - field.mean()) / field.std(), np.float32)


class Drift:
    """Smooth random fields that change slowly from frame to frame: a rotating mixture of two."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
        self._rng, self._shape = rng, shape
        self._fields: dict[str, tuple[FloatImage, FloatImage]] = {}

    def __call__(self, key: str, sigma: float, frame: int, turn: float) -> FloatImage:
        """Field `key`, H x W, at this frame; `turn`: radians per frame, a half turn inverts it."""
        if key not in self._fields:
            self._fields[key] = (
                smooth_noise(self._rng, self._shape, sigma),
                smooth_noise(self._rng, self._shape, sigma),
            )
        first, second = self._fields[key]
        return np.asarray(np.cos(turn * frame) * first + np.sin(turn * frame) * second, np.float32)
