"""Figures of matplotlib as PNG files."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unet.files import atomic_write


@contextmanager
def png_figure(path: Path, inches: tuple[float, float], dpi: int = 100) -> Iterator[Any]:
    """A figure to draw in, which is written whole at the end of the block; RunError when it cannot be."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, layout="constrained")
    yield figure
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of a name in a script that the font lacks
        figure.savefig(buffer, format="png", dpi=dpi)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())
