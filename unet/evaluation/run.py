"""From a trained run folder to its scores: predict the held-out frames, score them, draw the worst of them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unet.config import Config, PredictConfig
from unet.data.doubts import doubts
from unet.data.load import load, markers, references
from unet.data.stack import InstanceImage, Stack
from unet.device import Hardware, prepare
from unet.errors import RunError
from unet.evaluation.constant import missing_classes
from unet.evaluation.frames import FramePrediction, collapsed, predict_frames
from unet.evaluation.held_out import (
    is_same_data,
    named_frames,
    nothing_held_out,
    refuse_edited_split,
    refuse_other_splits,
    refuse_unfit,
    split_names,
)
from unet.evaluation.scoring import kind_of, picture_rows, record, score
from unet.files import sha256, write_json
from unet.prediction.ensemble import Average
from unet.prediction.instances import DEFAULTS, Choice, choose_settings, searched_frames
from unet.prediction.output import foreground, write_probabilities
from unet.prediction.trained import load_ensemble, weights_file
from unet.runs.folder import MEMBERS, PICTURE, PROBABILITIES, SCORES, RunFolder
from unet.runs.lock import reentrant_run_lock
from unet.terminal import Terminal
from unet.views.worst_frames import draw_rows


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a run (or several as one) says about the frames it held out, and the data it was asked about."""

    path: Path
    config: Config
    stack: Stack
    gold: Mapping[str, InstanceImage]
    frames: list[FramePrediction]
    how: PredictConfig
    settings: Choice | None  # of instances, searched on the frames the run was trained on

    @property
    def settings_of(self) -> dict[str, Choice]:
        """By frame name."""
        return {} if self.settings is None else {p.frame.name: self.settings for p in self.frames}

    @property
    def said(self) -> dict[str, dict[str, Any] | None]:
        """The settings as scores.json holds them."""
        best, components = (None, None) if self.settings is None else self.settings
        return {
            "instances": None if best is None else best.to_dict(),
            "instances_components": None if components is None else components.to_dict(),
        }


def predict_held_out(
    paths: Path | Sequence[Path],
    terminal: Terminal,
    symmetries: int | None = None,
    average: Average | None = None,
    *,
    announce: bool = True,
) -> Predicted:
    """Predict the held-out frames of a finished run, or, as an ensemble, of several that held out the same frames.

    The settings that make instances of probabilities are searched on frames that every run was trained on. symmetries,
    average: as the (first) run was configured unless they are given. RunError for a run that is not finished, held
    nothing out, or whose data is no longer what it was, and for runs that do not fit together.
    """
    folders = [RunFolder.open_existing(path) for path in ([paths] if isinstance(paths, Path) else paths)]
    first, config = folders[0], folders[0].config
    refuse_other_splits(folders)
    if not split_names(first, "held_out"):
        raise RunError(nothing_held_out(first.path, config))
    stack = load(config.data, terminal.say if announce else lambda _: None, terminal)
    refuse_edited_split(first, stack)
    network, metadata = load_ensemble([folder.path for folder in folders], hardware_of)
    refuse_unfit(first.path, metadata, stack)
    how = configured_or(config, symmetries, average)

    def predicted(frames: list[int], what: str) -> list[FramePrediction]:
        with terminal.bar(f"predicting {what}", len(frames)) as bar:
            return predict_frames(
                network, stack, frames, replace(how, tile_px=metadata["tile_px"]), on_frame=bar.update
            )

    gold = references(config.data, stack)
    settings = None
    if kind_of(stack) == "objects":
        shared = set.intersection(*(set(split_names(folder, "train")) for folder in folders)) & set(gold)
        known = [i for i in named_frames(first, stack, "train") if stack.frames[i].name in shared]
        known = [known[i] for i in searched_frames([math.prod(stack.frames[i].size) for i in known])]
        searched = predicted(known, "training frames")
        with terminal.task("searching the settings of instances"):
            settings = search_settings(searched, gold)
    predictions = predicted(named_frames(first, stack, "held_out"), "held-out frames")
    return Predicted(first.path, config, stack, gold, predictions, how, settings)


def configured_or(config: Config, symmetries: int | None, average: Average | None) -> PredictConfig:
    """How a run is predicted: as it was configured, but for what is given."""
    asked: dict[str, Any] = {"symmetries": symmetries, "average": average}
    return replace(config.predict, **{key: value for key, value in asked.items() if value is not None})


def hardware_of(run: Path) -> Hardware:
    """How the network of a run computes: as the run was configured, with what it left open as it was made."""
    folder = RunFolder(run)
    return prepare(folder.config, folder.environment)


def evaluate_run(
    path: Path,
    terminal: Terminal,
    symmetries: int | None = None,
    average: Average | None = None,
    *,
    announce: bool = True,
) -> dict[str, Any]:
    """Score a finished run on its held-out frames; writes scores.json, probabilities.tif and prediction.png.

    Returns what scores.json holds; `announce` says where the data comes from. The folder is held from the reading of
    its weights to the last file, so that the scores are of the run they stand in. RunError as from `predict_held_out`,
    and when another process has the folder.
    """
    folder = RunFolder.open_existing(path)
    with reentrant_run_lock(path):
        run = predict_held_out(path, terminal, symmetries, average, announce=announce)
        return _scored([run], folder.path, run.said, terminal)


def evaluate_ensemble(
    paths: Sequence[Path],
    out: Path,
    terminal: Terminal,
    symmetries: int | None = None,
    average: Average | None = None,
) -> dict[str, Any]:
    """Score the mean prediction of several runs on the frames that all of them held out.

    Writes scores.json, probabilities.tif and prediction.png into the folder `out` and returns what scores.json holds:
    also the runs (relative to `out`) and the SHA-256 of their weights, so that `out` stands for the ensemble elsewhere.
    RunError as from `predict_held_out`, and when `out` has scores.
    """
    _refuse_scores(out)
    run = predict_held_out(paths, terminal, symmetries, average)
    members = [{"run": os.path.relpath(path, out), "weights": sha256(weights_file(path))} for path in paths]
    out.mkdir(parents=True, exist_ok=True)
    return _scored([run], out, {MEMBERS: members, **run.said}, terminal)


def _refuse_scores(out: Path) -> None:
    if (out / SCORES).exists():
        raise RunError(f"{out} holds scores already; name another folder with --out")


def evaluate_folds(
    paths: Sequence[Path],
    out: Path,
    terminal: Terminal,
    symmetries: int | None = None,
    average: Average | None = None,
) -> dict[str, Any]:
    """Score all frames that several runs held out, each predicted by the run that was not trained on it, as one set.

    Writes scores.json, probabilities.tif and prediction.png into the folder `out` and returns what scores.json holds.
    RunError when the runs are of different data, when two of them held the same frame out, or when `out` has scores.
    """
    _refuse_scores(out)
    held_by: dict[str, Path] = {}
    for path in paths:
        folder = RunFolder.open_existing(path)
        if not (names := split_names(folder, "held_out")):
            raise RunError(nothing_held_out(path, folder.config))
        for name in names:
            if name in held_by:
                raise RunError(f"{held_by[name]} and {path} both held {name} out; name runs of different folds")
            held_by[name] = path
    runs = [predict_held_out(path, terminal, symmetries, average, announce=path == paths[0]) for path in paths]
    for run in runs[1:]:
        for what in ("source", "class_names", "normalisation"):
            if getattr(run.stack, what) != getattr(runs[0].stack, what):
                raise RunError(f"{run.path}: its {what} is not that of {runs[0].path}; pool runs of the same data only")
    out.mkdir(parents=True, exist_ok=True)
    said = {key: {str(run.path): run.said[key] for run in runs} for key in runs[0].said}
    return _scored(runs, out, {"runs": [str(run.path) for run in runs], **said}, terminal)


def _scored(runs: list[Predicted], out: Path, said: dict[str, Any], terminal: Terminal) -> dict[str, Any]:
    stack, gold = runs[0].stack, runs[0].gold
    predictions = [prediction for run in runs for prediction in run.frames]
    settings = {name: chosen for run in runs for name, chosen in run.settings_of.items()}
    with terminal.bar("scoring") as bar:
        scores = score(predictions, stack, gold, settings, markers(runs[0].config.data, stack), bar.steps)
    scores.notes += missing_classes([p.frame for p in predictions], stack.class_names, "held-out")
    for run in runs:
        train, held_out = (named_frames(RunFolder(run.path), stack, part) for part in ("train", "held_out"))
        notes = missing_classes([stack.frames[i] for i in train], stack.class_names, "training")
        if not is_same_data(RunFolder(run.path), stack):
            notes.append("warning: the images or labels are not those that the network was trained on")
        scores.notes += [note for note in (*notes, *doubts(stack, train, held_out)) if note not in scores.notes]
    saved = {
        "data": stack.source,
        "frames": [p.frame.name for p in predictions],
        "symmetries": runs[0].how.symmetries,
        "average": runs[0].how.average,
        "collapsed": collapsed(predictions),
        **said,
        **record(scores),
    }
    write_json(out / SCORES, saved)
    write_probabilities(out / PROBABILITIES, [foreground(p.probabilities) for p in predictions])
    with terminal.task("drawing the worst frames"):
        best = {name: chosen.best for name, chosen in settings.items()}
        rows = picture_rows(predictions, stack, gold, scores, best)
        draw_rows(out / PICTURE, rows, f"{stack.name}: held-out frames, worst first")
    return saved


def search_settings(predictions: list[FramePrediction], gold: Mapping[str, InstanceImage]) -> Choice:
    """The instance settings with the best SEG on these (training) predictions; the defaults without any object."""
    known = [p for p in predictions if p.frame.name in gold]
    if not any(gold[p.frame.name].any() for p in known):
        return DEFAULTS
    return choose_settings([p.probabilities for p in known], [gold[p.frame.name] for p in known])


def table(scores: dict[str, Any]) -> str:
    """Scores as an aligned text table, with the threshold of those that were swept."""
    rows = [(name, name.replace("_", " "), value) for name, value in scores["scores"].items()]
    width = max(len(shown) for _, shown, _ in rows)
    head = f"held-out scores, {len(scores['frames'])} frames, stitched full-size images, eval mode"
    if "prediction" in scores:
        head = f"scores of {scores['prediction']} against {scores['labels']}, {len(scores['frames'])} frames"
    if MEMBERS in scores:
        head += f", mean of {len(scores[MEMBERS])} networks"
    lines = [head]
    constant = scores.get("constant", {})
    for name, shown, value in rows:
        beside = [] if (t := scores["thresholds"].get(name)) is None else [f"threshold {t:.1f}"]
        beside += [f"constant prediction {constant[name]:.6f}"] if name in constant else []
        at = f"  ({', '.join(beside)})" if beside else ""
        lines.append(f"  {shown:<{width}}  {'-' if value is None else f'{value:.6f}'}{at}")
    return "\n".join([*lines, *(f"  note: {note}" for note in scores["notes"])])
