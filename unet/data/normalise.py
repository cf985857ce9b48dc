"""Which normalisation a configuration means for images of a pixel type."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from unet.config import DataConfig
from unet.data.stack import Normalisation


def normalisation(config: DataConfig, dtypes: Iterable[np.dtype]) -> Normalisation:
    """The normalisation that `config` means for images of these types, the same for all of them.

    auto: gray value / 255 if all are 8-bit (0..1 if all are logical), else the percentiles of each image and channel.
    fixed: divided by the largest value of the type (255, 65535, ...), floating-point images stay as they are; where the
    types differ, their largest. minmax, percentile: from each image and channel.
    """
    kinds = set(dtypes)
    if config.normalise == "minmax":
        return Normalisation("minmax")
    small = all(d.kind == "b" or (d.kind == "u" and d.itemsize == 1) for d in kinds)
    if config.normalise == "fixed" or (config.normalise == "auto" and small):
        return Normalisation("fixed", 0.0, max(map(_largest, kinds)))
    low, high = config.percentiles
    return Normalisation("percentile", low=low, high=high)


def _largest(dtype: np.dtype) -> float:
    return float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0
