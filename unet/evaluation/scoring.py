"""Which scores a data set gets, and the record of them.

Every stack gets the pixel scores of its classes. Membranes (two classes, no instances: EM) get the scores of the EM
challenge, pooled over frames of one size. Objects (instances: the Cell Tracking Challenge) get SEG and its companions.

Axes: N frames, K classes, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.data.masks import unannotated
from unet.data.stack import IGNORE, InstanceImage, Kind, Stack
from unet.evaluation.constant import baseline, challenge_baseline, warnings_of
from unet.evaluation.frames import FramePrediction, pixel_scores
from unet.metrics.calibration import reliability
from unet.metrics.ctc import ctc_scores
from unet.metrics.em import em_sweeps
from unet.metrics.instance import seg
from unet.metrics.outcomes import outcomes
from unet.metrics.pixel import mean_iou
from unet.metrics.table import higher_is_better, on_page
from unet.prediction.instances import DEFAULTS, Choice, InstanceSettings, to_instances
from unet.views.mistakes import OBJECTS_LEGEND, membrane_mistakes, object_mistakes, pixel_mistakes
from unet.views.worst_frames import Row

OnStep = Callable[[int, int], None]
ChoiceOf = Mapping[str, Choice]  # by frame name


@dataclass
class Scores:
    """values: score by name. thresholds: at which probability a swept score is best. notes: what to know about them.

    constant: what the best constant prediction (one class everywhere) reaches in the scores that tell most.
    reliability: by bin of confidence its mean, the share of the pixels that is right, and their number.
    """

    values: dict[str, float | None]
    by_frame: dict[str, dict[str, float | None]]
    thresholds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    constant: dict[str, float] = field(default_factory=dict)
    reliability: list[tuple[float, float, int]] = field(default_factory=list)


def kind_of(stack: Stack) -> Kind:
    """What the classes of a stack stand for: as was said of it; else as its labels say.

    The scores of the EM challenge are for membranes, known by the name of class 0: of other masks they mean nothing.
    """
    if stack.kind is not None:
        return stack.kind
    if stack.classes == 2 and stack.class_names[0] == "membrane":
        return "membranes"
    if any(frame.instances is not None for frame in stack.frames):
        return "objects"
    return "classes"


def score(
    predictions: list[FramePrediction],
    stack: Stack,
    gold: Mapping[str, InstanceImage],
    settings: ChoiceOf | None = None,
    markers: Mapping[str, InstanceImage] | None = None,
    on_step: OnStep = lambda _done, _total: None,
) -> Scores:
    """All scores of a set of predictions; on_step is told how many steps of how many are done.

    gold: reference instances by frame name, where they are known; settings: how probabilities become instances, by
    frame name, for each run chooses its own; markers: tracking markers, for DET.

    Objects are those of the best settings, of whatever rule; `seg_components` is SEG of plain connected components with
    the best settings for these, for how the paper made objects is not described. objects_found, objects_missed, ...
    count what became of the reference objects (see `outcomes`).
    """
    scores = Scores(
        pixel_scores(predictions, stack.class_names, stack.own),
        {p.frame.name: pixel_scores([p], stack.class_names, stack.own) for p in predictions},
        constant=baseline(predictions),
    )
    if scores.values["pixel_accuracy"] is not None:  # there is something to tell apart
        trusted = reliability((_label(p), p.probabilities) for p in predictions)
        scores.values["expected_calibration_error"], scores.reliability = or_none(trusted.error), trusted.points()
    if kind_of(stack) == "membranes":
        _add_membrane_scores(scores, predictions, on_step)
    elif kind_of(stack) == "objects":
        _add_object_scores(scores, predictions, gold, settings or {}, markers or {}, on_step)
    scores.notes += warnings_of(scores.values, scores.constant)
    return scores


def _add_membrane_scores(scores: Scores, predictions: list[FramePrediction], on_step: OnStep) -> None:
    labels = [_label(p) for p in predictions]
    if len({label.shape for label in labels}) != 1 or any((label == IGNORE).any() for label in labels):
        scores.notes.append(
            "Rand, warping and the other scores of the EM challenge need frames of one size, all labelled"
        )
        return
    cells = np.stack([p.probabilities[1] for p in predictions])
    scores.constant |= challenge_baseline(np.stack(labels) > 0)
    for name, sweep in em_sweeps(np.stack(labels) > 0, cells).items():
        scores.values[name] = sweep.value
        scores.thresholds[name] = sweep.threshold
        if sweep.at_edge:
            scores.notes.append(
                f"{name}: best at threshold {sweep.threshold:.1f}, the end of the sweep: the probabilities do not "
                "part the classes, or data.foreground is the wrong way round"
            )
        if sweep.empty:
            scores.notes.append(
                f"{name}: {sweep.empty_slices} slices have no cell at its best threshold; do not trust it"
            )
    for i, (prediction, label) in enumerate(zip(predictions, labels, strict=True)):
        on_step(len(labels) + i, 2 * len(labels))  # all together took as long as one by one
        single = em_sweeps(label[None] > 0, prediction.probabilities[None, 1])
        scores.by_frame[prediction.frame.name] |= {name: sweep.value for name, sweep in single.items()}


def _add_object_scores(
    scores: Scores,
    predictions: list[FramePrediction],
    gold: Mapping[str, InstanceImage],
    settings: ChoiceOf,
    markers: Mapping[str, InstanceImage],
    on_step: OnStep,
) -> None:
    known = [p for p in predictions if p.frame.name in gold]
    if not known:
        scores.notes.append("no held-out frame has reference instances, so there is no SEG")
        return
    references = {p.frame.name: gold[p.frame.name] for p in known}
    chosen = {p.frame.name: settings.get(p.frame.name, DEFAULTS) for p in known}
    results = {p.frame.name: to_instances(p.probabilities, chosen[p.frame.name].best) for p in known}
    ignored = {p.frame.name: _unknown(p, gold[p.frame.name]) for p in known}
    marked = {name: markers[name] for name in references if name in markers}
    values = ctc_scores(references, results, markers=marked or None, ignore=ignored)
    values = {"seg": values["seg"], "seg_components": _seg_of_components(known, references, results, chosen), **values}
    counts = outcomes(list(references.values()), list(results.values()), list(ignored.values()))
    values |= {f"objects_{name}": float(count) for name, count in counts._asdict().items()}
    scores.values |= {name: or_none(value) for name, value in values.items()}
    whole = seg(list(references.values()), [np.ones_like(reference) for reference in references.values()])
    if not math.isnan(whole):
        scores.constant["seg"] = whole
    if marked:
        scores.notes.append(
            f"det: over the {len(marked)} of {len(markers)} frames with tracking markers that are held out and have "
            "reference masks; the challenge scores every frame of a sequence"
        )
    for i, name in enumerate(references):
        on_step(len(references) + i, 2 * len(references))
        scores.by_frame[name]["seg"] = or_none(seg([references[name]], [results[name]]))
    for what, used in (
        ("instances", dict.fromkeys(choice.best for choice in chosen.values())),
        ("seg_components", dict.fromkeys(c.components for c in chosen.values() if c.components != c.best)),
    ):
        for one in used:
            values_of = ", ".join(f"{key} {value}" for key, value in one.to_dict().items())
            scores.notes.append(f"{what} (chosen on the training part): {values_of}")


def _seg_of_components(
    predictions: list[FramePrediction],
    references: Mapping[str, InstanceImage],
    results: Mapping[str, InstanceImage],
    chosen: ChoiceOf,
) -> float:
    """SEG of plain components; `results` are those of the best settings, which may be the same."""
    plain = []
    for p in predictions:
        best, components = chosen[p.frame.name]
        plain.append(results[p.frame.name] if best == components else to_instances(p.probabilities, components))
    return seg(list(references.values()), plain)


def quality(values: Mapping[str, float | None]) -> float:
    """What frames are ordered by, worst first: SEG where there is one, else V_rand or mean IoU; without any: last."""
    found = (values[name] for name in on_page(values) if higher_is_better(name))
    return next((value for value in found if value is not None), math.inf)


def picture_rows(
    predictions: list[FramePrediction],
    stack: Stack,
    gold: Mapping[str, InstanceImage],
    scores: Scores,
    settings: Mapping[str, InstanceSettings] | None = None,
    most: int = 3,
) -> list[Row]:
    """Rows of the picture, worst frames first (see `quality`); settings: of instances, by frame name."""
    rows = []
    for prediction in sorted(predictions, key=lambda p: quality(scores.by_frame[p.frame.name]))[:most]:
        name = prediction.frame.name
        kind, label = kind_of(stack), _label(prediction)
        unknown = label == IGNORE
        iou = f"mean IoU {mean_iou(prediction.confusion):.3f}"
        if kind == "membranes" and "warping_error" in scores.thresholds:
            colours = membrane_mistakes(label, prediction.probabilities[1], scores.thresholds["warping_error"])
            rand = scores.by_frame[name].get("v_rand") or 0.0
            legend, caption = "splits red, merges blue", f"{iou}, V_rand {rand:.3f}"
        elif kind == "objects" and name in gold:
            result = to_instances(prediction.probabilities, (settings or {}).get(name, InstanceSettings()))
            unknown = _unknown(prediction, gold[name])
            colours = object_mistakes(gold[name], result, unknown)
            legend, caption = OBJECTS_LEGEND, f"SEG {scores.by_frame[name].get('seg') or 0.0:.3f}"
        else:
            colours = pixel_mistakes(label, prediction.probabilities.argmax(axis=0))
            legend, caption = "missed red, extra blue", iou
        if unknown.any():
            legend += "; gray: not annotated"
        rows.append(Row(prediction.frame, prediction.probabilities, colours, legend, caption))
    return rows


def _unknown(prediction: FramePrediction, gold_HW: InstanceImage) -> NDArray[np.bool_]:
    """Pixels that the reference objects say nothing about.

    Beside those without a label, the cells of a label of other origin (silver) that the gold truth leaves out.
    """
    unknown, objects = _label(prediction) == IGNORE, prediction.frame.instances
    if objects is not None and ((objects != 0) & (gold_HW == 0)).any():
        unknown |= unannotated(gold_HW, objects)
    return np.asarray(unknown)


def _label(prediction: FramePrediction) -> NDArray[np.uint8]:
    label = prediction.frame.label
    assert label is not None  # predict_frames refuses frames without one
    return label


def or_none(value: float) -> float | None:
    """The score, None instead of NaN, which JSON does not have."""
    return None if math.isnan(value) else value


def record(scores: Scores) -> dict[str, Any]:
    """Plain values for scores.json."""
    return {
        "scores": scores.values,
        "thresholds": scores.thresholds,
        "notes": scores.notes,
        "constant": scores.constant,
        "reliability": [list(point) for point in scores.reliability],
        "by_frame": scores.by_frame,
    }
