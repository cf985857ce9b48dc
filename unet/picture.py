"""The picture of an evaluation: image, probability, label and errors side by side."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from unet.data.stack import IGNORE
from unet.evaluate import FramePrediction
from unet.files import atomic_write
from unet.metrics.pixel import mean_iou

PANEL_INCHES = 3.2


def draw_predictions(path: Path, predictions: list[FramePrediction], title: str, rows: int = 3) -> None:
    """PNG with a row per frame, worst frames first: image, probability, label, errors.

    The probability shown is that of all classes but class 0. Errors: red where foreground was predicted on background,
    blue where foreground was missed, orange where one foreground class was taken for another, gray where nothing is
    known.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    worst = sorted(predictions, key=lambda p: mean_iou(p.confusion))[:rows]
    figure = Figure(figsize=(4 * PANEL_INCHES, len(worst) * PANEL_INCHES + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(len(worst), 4, squeeze=False)
    for row, prediction in zip(axes, worst, strict=True):
        frame = prediction.frame
        assert frame.label is not None
        classes = prediction.probabilities.shape[0]
        label = np.ma.masked_equal(frame.label, IGNORE)
        row[0].imshow(frame.image.mean(axis=0), cmap="gray")
        row[1].imshow(1 - prediction.probabilities[0], cmap="gray", vmin=0, vmax=1)
        row[2].imshow(label, cmap="gray" if classes == 2 else "viridis", vmin=0, vmax=classes - 1)
        row[3].imshow(error_image(prediction))
        caption = f"errors (mean IoU {mean_iou(prediction.confusion):.3f})"
        for axis, name in zip(row, (frame.name, "probability of foreground", "label", caption), strict=True):
            axis.set_title(name, fontsize=8)
            axis.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


def error_image(prediction: FramePrediction) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """H x W x 3 colours of the errors over a pale copy of the label."""
    label = prediction.frame.label
    assert label is not None
    predicted = prediction.probabilities.argmax(axis=0)
    colours = np.full((*label.shape, 3), 255, dtype=np.uint8)
    colours[label == 0] = (222, 222, 222)
    known = label != IGNORE
    colours[known & (label == 0) & (predicted > 0)] = (214, 39, 40)
    colours[known & (label > 0) & (predicted == 0)] = (31, 119, 180)
    colours[known & (label > 0) & (predicted > 0) & (label != predicted)] = (255, 127, 14)
    colours[~known] = (160, 160, 160)
    return colours
