"""Writing probability maps: float32 TIFF stacks that ImageJ opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.files import atomic_write


def foreground(probabilities_KHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is handed on as "the" probability: of the one foreground class, or, with several, all classes K x H x W."""
    return probabilities_KHW[1] if probabilities_KHW.shape[0] == 2 else probabilities_KHW


def write_probabilities(path: Path, maps: list[NDArray[np.float32]]) -> Path:
    """Write maps (each H x W, or K x H x W) as one float32 TIFF stack; maps of unequal size as one file each.

    Axes as ImageJ names them: ZYX, or ZCYX with several classes. Returns the file, or the folder of the files.
    """
    if len({m.shape for m in maps}) == 1:
        _write(path, np.stack(maps))
        return path
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for number, single in enumerate(maps):
        _write(folder / f"{number:04d}.tif", single[None])
    return folder


def _write(path: Path, stack: NDArray[np.float32]) -> None:
    import tifffile

    metadata: dict[str, Any] = {"axes": "ZYX" if stack.ndim == 3 else "ZCYX", "unit": "pixel"}
    with atomic_write(path) as file:
        pixels = stack.astype(np.float32, copy=False)
        tifffile.imwrite(file, pixels, imagej=True, photometric="minisblack", metadata=metadata)
