"""The picture of an evaluation: image, probability, label and mistakes side by side."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet.data.stack import IGNORE, Frame
from unet.errors import printable
from unet.views.display import gray_limits, label_colours, stretched, visible
from unet.views.figure import png_figure

PANEL_INCHES = 3.2


class Row(NamedTuple):
    """One row of the picture. probabilities: K x H x W. mistakes: H x W x 3 colours, uint8, which the legend explains;
    caption: scores of the frame."""

    frame: Frame
    probabilities: NDArray[np.float32]
    mistakes: NDArray[np.uint8]
    legend: str
    caption: str

    @property
    def title(self) -> str:
        """Legend and scores, where both are there."""
        return f"{self.legend} ({self.caption})" if self.legend else self.caption


def draw_rows(path: Path, rows: list[Row], title: str) -> None:
    """PNG with a row per frame: image, probability of all classes but class 0, label, mistakes."""
    with png_figure(path, (4 * PANEL_INCHES, len(rows) * PANEL_INCHES + 0.6)) as figure:
        figure.suptitle(printable(title), fontsize=10, parse_math=False)  # a name may hold dollars
        for axes, row in zip(figure.subplots(len(rows), 4, squeeze=False), rows, strict=True):
            classes = row.probabilities.shape[0]
            axes[0].imshow(stretched(visible(row.frame.image), gray_limits(row.frame.image)))
            axes[1].imshow(1 - row.probabilities[0], cmap="gray", vmin=0, vmax=1)
            if row.frame.label is not None:
                axes[2].imshow(label_colours(row.frame.label, classes))
            axes[3].imshow(row.mistakes)
            ignored = row.frame.label is not None and bool((row.frame.label == IGNORE).any())
            label_name = "label (violet: not annotated)" if ignored else "label"
            names = (row.frame.name, "probability of the foreground", label_name, row.title)
            for axis, name in zip(axes, names, strict=True):
                axis.set_title(printable(name), fontsize=8, parse_math=False)
                axis.set_axis_off()
