"""Which normalisation a configuration means for images of a pixel type."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from unet.config import DataConfig
from unet.data.stack import Normalisation


def normalisation(config: DataConfig, dtypes: Iterable[np.dtype], *, auto: str = "percentile") -> Normalisation:
    """The normalisation that `config` means for images of these types, the same for all of them.

    fixed: divided by the largest value of the type (255, 65535, ...), floating-point images stay as they are; where the
    types differ, their largest. minmax, percentile, zscore: from each image and channel. auto: what the caller says.
    The EM stack, whose gray values fill the range of their type, keeps the released gray value / 255. Light microscopy
    does not: its standard deviation is 0.03 to 0.04 of the range, and from such an input a network without normalising
    layers hardly learns (DIC-C2DH-HeLa, small network, Adam 1e-3: nothing in 900 updates), so percentiles are taken.
    zscore may do better still, since He's initialisation supposes inputs of mean 0 (experiments/recipe.md).
    """
    kinds = set(dtypes)
    how = auto if config.normalise == "auto" else config.normalise
    if how in ("minmax", "zscore"):
        return Normalisation(how)
    if how == "fixed":
        return Normalisation("fixed", 0.0, max(map(_largest, kinds)))
    low, high = config.percentiles
    return Normalisation("percentile", low=low, high=high)


def mixed(normalise: Normalisation, dtypes: Iterable[np.dtype]) -> str:
    """What is said where one divisor serves pixel types of different ranges, so that some images come out dark."""
    kinds = sorted({dtype.name for dtype in dtypes})
    if normalise.kind != "fixed" or len({_largest(np.dtype(kind)) for kind in kinds}) < 2:
        return ""
    return (
        f"warning: images of the types {' and '.join(kinds)} are all divided by {normalise.scale:g}; save them in one "
        "type, or use --data.normalise percentile"
    )


def _largest(dtype: np.dtype) -> float:
    return float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0
