"""Scores of a prediction somebody else made: two image files, no run.

Axes: N frames, H rows, W columns.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.data.images.tiff import read_gray
from unet.data.stack import Frame, Normalisation, Stack
from unet.errors import DataError, RunError
from unet.evaluation.frames import FramePrediction, cross_entropy
from unet.evaluation.scoring import Scores, or_none, picture_rows, record, score
from unet.files import write_json
from unet.metrics.ctc import ctc_scores
from unet.metrics.instance import match_objects, seg
from unet.metrics.outcomes import outcomes
from unet.metrics.pixel import confusion
from unet.terminal import Bar, Terminal
from unet.views.mistakes import OBJECTS_LEGEND, object_mistakes
from unet.views.worst_frames import Row, draw_rows

SCORES, PICTURE = "scores.json", "prediction.png"
MOST_ROWS = 3
QUIET = Terminal(quiet=True)


def compare(
    prediction: Path, labels: Path, out: Path, overwrite: bool = False, terminal: Terminal = QUIET
) -> dict[str, Any]:
    """Score a prediction file against a label file; writes scores.json and prediction.png into the folder `out`.

    Labels with values 0 and one other are membranes and cells: the prediction is a probability of cell (float in 0..1,
    or 8-bit). Labels with more values are instances: the prediction holds instances too (integers).

    DataError for unreadable files, other shapes or unfit values; RunError when `out` holds results already.
    """
    if (out / SCORES).exists() and not overwrite:
        raise RunError(f"{out} holds scores already; name another folder with --out, or add --overwrite")
    predicted, reference = read_gray(prediction), read_gray(labels)
    if predicted.shape != reference.shape:
        raise DataError(
            f"{prediction} is {predicted.shape} but {labels} is {reference.shape}; both must be N x H x W alike"
        )
    if reference.dtype == np.bool_:
        reference = reference.astype(np.uint8)
    if not np.issubdtype(reference.dtype, np.integer):
        raise DataError(f"{labels}: labels are {reference.dtype}; use integers")
    values = np.unique(reference)
    objects = len(values) > 2 or (values.size == 2 and values[0] != 0)
    with terminal.bar("scoring") as bar:
        if objects:
            return _objects(prediction, _numbered(prediction, predicted), _numbered(labels, reference), out, bar)
        return _membranes(prediction, predicted, reference, out, bar)


def _membranes(
    prediction: Path, predicted: NDArray[Any], reference: NDArray[Any], out: Path, bar: Bar
) -> dict[str, Any]:
    cells = _probabilities(prediction, predicted)
    frames = []
    for number, (cell, label) in enumerate(zip(cells, reference, strict=True)):
        known = (label > 0).astype(np.uint8)
        frame = Frame(f"{prediction.name}[{number:02d}]", prediction.name, cell[None], known)
        both = np.stack([1 - cell, cell])
        counts = confusion(known, (cell > 0.5).astype(np.uint8), 2)
        frames.append(FramePrediction(frame, both, cross_entropy(both, known), counts))
    names = ("membrane", "cell")
    stack = Stack(prediction.name, tuple(p.frame for p in frames), names, Normalisation(scale=1.0), str(prediction))
    scores = score(frames, stack, {}, on_step=bar.steps)
    draw_rows(out / PICTURE, picture_rows(frames, stack, {}, scores), f"{prediction.name}, worst first")
    return _saved(prediction, [p.frame.name for p in frames], scores, out)


def _numbered(path: Path, masks_NHW: NDArray[Any]) -> NDArray[np.int32]:
    """Instances as int32; numbers too large for that become smaller ones, since only which pixels share one counts."""
    if not np.issubdtype(masks_NHW.dtype, np.integer):
        raise DataError(f"{path}: the labels are instances, so the prediction must hold instances (integers)")
    if masks_NHW.min() < 0:
        raise DataError(f"{path}: holds the label {masks_NHW.min()}; number the objects from 1, the background is 0")
    if masks_NHW.max() > np.iinfo(np.int32).max:
        numbers, ranks = np.unique(masks_NHW, return_inverse=True)
        masks_NHW = ranks.reshape(masks_NHW.shape) + (numbers[0] != 0)
    return masks_NHW.astype(np.int32)


def _objects(
    prediction: Path, predicted: NDArray[np.int32], reference: NDArray[np.int32], out: Path, bar: Bar
) -> dict[str, Any]:
    references, results = list(reference), list(predicted)
    names = [f"{prediction.name}[{number:02d}]" for number in range(len(references))]
    found = ctc_scores(dict(zip(names, references, strict=True)), dict(zip(names, results, strict=True)))
    found |= {f"objects_{name}": float(count) for name, count in outcomes(references, results)._asdict().items()}
    scores = Scores({name: or_none(value) for name, value in found.items()}, {})
    for i, (name, reference, result) in enumerate(zip(names, references, results, strict=True)):
        bar.steps(len(names) + i, 2 * len(names))
        scores.by_frame[name] = {"seg": or_none(seg([reference], [result]))}
    worst = sorted(range(len(names)), key=lambda i: _or_inf(scores.by_frame[names[i]]["seg"]))[:MOST_ROWS]
    rows = [_object_row(names[i], references[i], results[i]) for i in worst]
    draw_rows(out / PICTURE, rows, f"{prediction.name}, worst first")
    return _saved(prediction, names, scores, out)


def _object_row(name: str, reference: NDArray[np.int32], result: NDArray[np.int32]) -> Row:
    label = (reference > 0).astype(np.uint8)
    found = (result > 0).astype(np.float32)
    frame = Frame(name, name, found[None], label)
    missed = sum(not match.result for match in match_objects(reference, result))
    caption = f"{OBJECTS_LEGEND}; {missed} missed"
    return Row(frame, np.stack([1 - found, found]), object_mistakes(reference, result), caption)


def _probabilities(path: Path, predicted: NDArray[Any]) -> NDArray[np.float32]:
    if predicted.dtype == np.uint8 and predicted.max() > 1:  # 0 and 1 alone are a mask
        return predicted.astype(np.float32) / np.float32(255)
    values = predicted.astype(np.float32)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise DataError(f"{path}: probabilities must lie in 0..1 (or be 8-bit); rescale them")
    return values


def _saved(prediction: Path, names: list[str], scores: Scores, out: Path) -> dict[str, Any]:
    saved = {"data": str(prediction), "frames": names, **record(scores)}
    write_json(out / SCORES, saved)
    return saved


def _or_inf(value: float | None) -> float:
    return math.inf if value is None else value
