"""Scores of a prediction somebody else made: files or folders of images, no run.

Axes: N frames, K classes, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.config import DataConfig
from unet.data.doubts import misplaced
from unet.data.own import classes_file, label_table, read_labels, unfit_scores
from unet.data.pairs import Found
from unet.data.stack import IGNORE, Frame, Normalisation, Stack
from unet.errors import Problems, RunError
from unet.evaluation.constant import missing_classes, warnings_of
from unet.evaluation.frames import FramePrediction
from unet.evaluation.pairing import add_predictions, pair_files
from unet.evaluation.pairing import read_labels as read_label_files
from unet.evaluation.scoring import Scores, or_none, picture_rows, record, score
from unet.evaluation.strangers import Reading, as_objects, as_probabilities, numbered
from unet.files import write_json
from unet.metrics.ctc import ctc_scores
from unet.metrics.instance import match_objects, seg
from unet.metrics.outcomes import Outcomes, outcomes
from unet.metrics.pixel import mean_iou
from unet.runs.folder import PICTURE, SCORES
from unet.terminal import Terminal
from unet.views.mistakes import OBJECTS_LEGEND, object_mistakes
from unet.views.worst_frames import Row, draw_rows

MOST_ROWS = 3
QUIET = Terminal(quiet=True)

_NEED_ALL = (
    "foreground_iou", "foreground_dice", "ap", "ap_50", "ap_75", "pq", "pq_segmentation", "pq_recognition",
    "objects_spurious",
)  # fmt: skip
"""Scores of objects that count what the labels do not hold as wrong."""


def compare(
    prediction: Path,
    labels: Path,
    out: Path,
    config: DataConfig | None = None,
    *,
    partial: bool = False,
    overwrite: bool = False,
    terminal: Terminal = QUIET,
) -> dict[str, Any]:
    """Score predictions against labels, files or folders; writes scores.json and prediction.png into the folder `out`.

    What the labels are is recognised as it is for training, said, and overruled by `config` (label_kind, label_map,
    foreground, scores). Two or more classes: the prediction is probabilities, masks or class numbers, and gets the
    scores of pixels; those of the EM challenge where `config.scores` says membranes. Instances: the prediction holds
    numbered objects. partial: the labels hold some of the objects only; scores that need all of them are left out.

    DataError for unreadable files, other shapes or unfit values; RunError when `out` holds results already.
    """
    if (out / SCORES).exists() and not overwrite:
        raise RunError(f"{out} holds scores already; name another folder with --out, or add --overwrite")
    config = config or DataConfig(folder=str(labels))
    files, notes = pair_files(prediction, labels)
    folder = labels if labels.is_dir() and classes_file(labels) else labels.parent
    table = label_table(folder, config)
    found = read_label_files(files, table is not None and table.colours)
    kind, why, truth, class_names = read_labels(folder, config, found, table)
    if wrong := unfit_scores(config, kind, class_names):
        found.wrong.append(wrong)
    if found.wrong:
        raise Problems(labels, found.wrong)
    terminal.say(f"labels: {labels}: {len(found.pairs)} images, read as {kind} ({why})")
    paths = add_predictions(found, files, kind)
    maps = [pair.image for pair in found.pairs]
    place = paths[0] if len(paths) == 1 else prediction
    if kind == "instances":
        results = as_objects(place, maps)
        taken_for = "numbered objects"
        scores, rows = _objects(found, results, partial, terminal)
    else:
        reading = as_probabilities(place, maps, len(class_names))
        taken_for = reading.taken_for
        scores, rows = _pixels(prediction, found, truth or [], class_names, reading, config, terminal)
    terminal.say(f"prediction: {prediction}: read as {taken_for}")
    scores.notes[:0] = notes
    out.mkdir(parents=True, exist_ok=True)
    draw_rows(out / PICTURE, rows, f"{prediction.name}, worst first")
    saved = {
        "prediction": str(prediction), "prediction_read_as": taken_for, "labels": str(labels), "labels_read_as": kind,
        "frames": [pair.name for pair in found.pairs], **record(scores),
    }  # fmt: skip
    write_json(out / SCORES, saved)
    return saved


# -- classes -----------------------------------------------------------------------------------------------------------


def _pixels(
    prediction: Path,
    found: Found,
    truth: Sequence[NDArray[np.uint8]],
    class_names: tuple[str, ...],
    reading: Reading,
    config: DataConfig,
    terminal: Terminal,
) -> tuple[Scores, list[Row]]:
    membranes = config.scores == "membranes"
    if membranes and class_names == ("background", "foreground"):
        class_names = ("membrane", "cell")
    frames = [
        FramePrediction.of(Frame(pair.name, pair.sequence, 1 - both[:1], label), both)
        for pair, label, both in zip(found.pairs, truth, reading.maps, strict=True)
    ]
    stack = Stack(
        prediction.name, tuple(p.frame for p in frames), class_names, Normalisation(scale=1.0), str(prediction),
        "membranes" if membranes else "classes", own=True,
    )  # fmt: skip
    with terminal.bar("scoring") as bar:
        scores = score(frames, stack, {}, on_step=bar.steps)
    if reading.hard:  # it names classes, without a probability
        scores.reliability = []
        for values in (scores.values, *scores.by_frame.values()):
            values.pop("loss")
            values.pop("expected_calibration_error", None)
    scores.notes += missing_classes([p.frame for p in frames], class_names, "given")
    scores.notes += (
        [reading.note] * bool(reading.note)
        + _unknown(truth)
        + _reversed(frames)
        + misplaced([p.frame for p in frames], "predictions")
    )
    return scores, picture_rows(frames, stack, {}, scores, most=MOST_ROWS)


def _unknown(truth: Sequence[NDArray[np.uint8]]) -> list[str]:
    share = sum(int((label == IGNORE).sum()) for label in truth) / sum(label.size for label in truth)
    return [f"partial truth: {share:.1%} of the pixels have no label and are not scored"] if share else []


def _reversed(frames: Sequence[FramePrediction]) -> list[str]:
    """A line where the prediction, its two classes exchanged, agrees better with the labels."""
    counts = np.sum([p.confusion for p in frames], axis=0)
    if len(counts) != 2:
        return []
    as_it_is, turned = mean_iou(counts), mean_iou(counts[:, ::-1])
    if math.isnan(turned) or turned <= as_it_is:
        return []
    return [
        f"warning: with its classes exchanged the prediction agrees better (mean IoU {turned:.3f} against "
        f"{as_it_is:.3f}): is the foreground of the labels their low value (--data.foreground low), or the prediction "
        "inverted?"
    ]


# -- objects -----------------------------------------------------------------------------------------------------------


def _objects(
    found: Found, results: Sequence[NDArray[np.int32]], partial: bool, terminal: Terminal
) -> tuple[Scores, list[Row]]:
    names = [pair.name for pair in found.pairs]
    references = [numbered(pair.label) for pair in found.pairs]
    values, fates = object_values(names, references, results)
    if partial:
        values = {name: value for name, value in values.items() if name not in _NEED_ALL}
    scores = Scores({name: or_none(value) for name, value in values.items()}, {})
    whole = seg(references, [np.ones_like(reference) for reference in references])
    scores.constant = {} if math.isnan(whole) else {"seg": whole}
    with terminal.bar("scoring") as bar:
        for i, (name, reference, result) in enumerate(zip(names, references, results, strict=True)):
            bar.steps(i, len(names))
            scores.by_frame[name] = {"seg": or_none(seg([reference], [result]))}
    if partial:
        scores.notes.append("partial truth: scores that count objects without a label as wrong are left out")
    elif 2 * fates.spurious > sum(fates[:-1]):
        scores.notes.append(
            f"{fates.spurious} predicted objects have no counterpart among {sum(fates[:-1])} labelled ones: if the "
            "labels hold some of the objects only, say --partial"
        )
    scores.notes += warnings_of(scores.values, scores.constant)
    frames = [
        Frame(pair.name, pair.sequence, (result > 0)[None].astype(np.float32), (reference > 0).astype(np.uint8))
        for pair, reference, result in zip(found.pairs, references, results, strict=True)
    ]
    scores.notes += misplaced(frames, "predictions")
    worst = sorted(range(len(names)), key=lambda i: _or_inf(scores.by_frame[names[i]]["seg"]))[:MOST_ROWS]
    return scores, [_object_row(frames[i], references[i], results[i]) for i in worst]


def object_values(
    names: Sequence[str], references: Sequence[NDArray[np.int32]], results: Sequence[NDArray[np.int32]]
) -> tuple[dict[str, float], Outcomes]:
    """Scores of numbered objects by name, and what became of each kind; names: of the frames."""
    values = ctc_scores(dict(zip(names, references, strict=True)), dict(zip(names, results, strict=True)))
    fates = outcomes(references, results)
    return values | {f"objects_{name}": float(count) for name, count in fates._asdict().items()}, fates


def _object_row(frame: Frame, reference: NDArray[np.int32], result: NDArray[np.int32]) -> Row:
    missed = sum(not match.result for match in match_objects(reference, result))
    both = np.concatenate([1 - frame.image, frame.image])
    return Row(frame, both, object_mistakes(reference, result), OBJECTS_LEGEND, f"{missed} missed")


def _or_inf(value: float | None) -> float:
    return math.inf if value is None else value
