"""From a trained run folder to its scores: predict the held-out frames, score them, draw the worst of them."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unet.config import Config, ModelConfig, from_dict, to_dict
from unet.data.load import load, markers, truth
from unet.data.stack import InstanceImage, Normalisation, Stack
from unet.device import Hardware, allow_tf32, prepare
from unet.errors import RunError, UserError, one_line
from unet.evaluate import FramePrediction, predict_frames
from unet.files import write_json
from unet.instances import DEFAULTS, Choice, choose_settings, searched_frames
from unet.output import foreground, write_probabilities
from unet.picture import draw_rows
from unet.predict import Network
from unet.progress import Terminal
from unet.runs.checkpoint import load_weights
from unet.runs.folder import SPLIT, RunFolder
from unet.runs.lock import held
from unet.scoring import kind_of, picture_rows, record, score

WEIGHTS, SCORES, PROBABILITIES, PICTURE = "weights.safetensors", "scores.json", "probabilities.tif", "prediction.png"


def load_network(path: Path, hardware: Hardware) -> tuple[Network, dict[str, Any]]:
    """The network of a run folder (or of a weights file) in eval mode, and what its weights say about themselves.

    RunError when there are no weights or when they belong to another architecture.
    """
    from unet.model import UNet

    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise RunError(f"{path}: holds no {WEIGHTS}; finish its training with `unet train --resume --run {path}`")
    state, metadata = load_weights(file)
    _check_metadata(file, metadata)
    try:
        described: ModelConfig = from_dict({"model": metadata["model"]}).model
        with torch.device("meta"):  # takes no memory, whatever the file declares
            UNet(described, metadata["channels"], len(metadata["class_names"])).load_state_dict(state, assign=True)
        model = UNet(described, metadata["channels"], len(metadata["class_names"]))
        model.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError) as error:
        reason = one_line(error)[:160]
        raise RunError(f"{file}: holds another architecture than it names ({reason}); use the original file") from None
    if path.is_dir() and (path / "config.yaml").is_file():
        asked = RunFolder(path).config.model
        if to_dict(asked) != to_dict(described):
            raise RunError(f"{file}: holds another architecture than config.yaml describes; restore one of them")
    allow_tf32(False)  # what is scored as fp32 is fp32
    network = Network(
        model.to(hardware.device).eval(),
        hardware.device,
        hardware.precision,
        hardware.channels_last,
        described.depth,
        described.allow_odd_pooling,
    )
    return network, metadata


def _check_metadata(file: Path, metadata: dict[str, Any]) -> None:
    """RunError when a weights file does not say, in the right types, what prediction must know."""
    expected = {"model": dict, "channels": int, "class_names": list, "normalisation": dict, "tile_px": int}
    wrong = [key for key, kind in expected.items() if type(metadata.get(key)) is not kind]
    try:
        if not wrong:
            Normalisation(**metadata["normalisation"])
            if not (1 <= metadata["channels"] <= 4096 and 0 <= metadata["tile_px"] <= 16384):
                wrong = ["channels or tile_px"]
            elif not (
                2 <= len(metadata["class_names"]) <= 255 and all(isinstance(n, str) for n in metadata["class_names"])
            ):
                wrong = ["class_names"]
    except (TypeError, UserError):
        wrong = ["normalisation"]
    if wrong:
        raise RunError(
            f"{file}: does not say what it holds ({', '.join(wrong)}); use weights that unet train has written"
        )


def split_names(folder: RunFolder, part: str) -> list[str]:
    """Names of the run's "train" or "held_out" frames; RunError when its record does not hold them."""
    parts = folder.read_json(SPLIT)
    names = parts.get(part) if isinstance(parts, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RunError(f"{folder.path / SPLIT}: does not name the {part} frames; restore it")
    return names


def nothing_held_out(path: Path, config: Config) -> str:
    """Why a run that was trained on all frames has no scores, and what can be done, in one line."""
    why = f"{path}: all labelled frames were trained on, so there are no held-out scores"
    test = f"; score the challenge's 30 test slices with: unet evaluate {shlex.quote(str(path))} --test"
    return why + (test if config.data.name == "em" else "")


def named_frames(folder: RunFolder, stack: Stack, part: str) -> list[int]:
    """Indices of the frames the run has named "train" or "held_out"; RunError when the data no longer has one."""
    names = split_names(folder, part)
    index = {frame.name: i for i, frame in enumerate(stack.frames)}
    missing = [name for name in names if name not in index]
    if missing:
        raise RunError(f"{folder.path}: its frame {missing[0]!r} is not in {stack.source}; use the same data")
    return [index[name] for name in names]


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a run says about the frames it held out, and the data it was asked about."""

    path: Path
    config: Config
    stack: Stack
    gold: Mapping[str, InstanceImage]
    frames: list[FramePrediction]
    symmetries: int
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
    path: Path, terminal: Terminal, symmetries: int | None = None, *, announce: bool = True
) -> Predicted:
    """Predict the held-out frames of a finished run.

    The settings that make instances of probabilities are searched on training frames. RunError for a run that is not
    finished, held nothing out, or whose data is no longer what it was.
    """
    folder = RunFolder.open_existing(path)
    config = folder.config
    if not split_names(folder, "held_out"):
        raise RunError(nothing_held_out(path, config))
    stack = load(config.data, terminal.say if announce else lambda _: None, terminal)
    network, metadata = load_network(path, prepare(config, folder.environment))
    if Normalisation(**metadata["normalisation"]) != stack.normalisation:
        raise RunError(f"{path}: was trained with another normalisation of the gray values; use the same data settings")
    predictor = Predictor(
        network, stack, config, metadata["tile_px"], symmetries or config.predict.symmetries, terminal
    )
    gold = truth(config.data, stack)
    settings = None
    if kind_of(stack) == "objects":
        known = [i for i in named_frames(folder, stack, "train") if stack.frames[i].name in gold]
        known = [known[i] for i in searched_frames([math.prod(stack.frames[i].size) for i in known])]
        predicted = predictor.predict(known, "training frames")
        with terminal.task("searching the settings of instances"):
            settings = search_settings(predicted, gold)
    predictions = predictor.predict(named_frames(folder, stack, "held_out"), "held-out frames")
    return Predicted(path, config, stack, gold, predictions, predictor.symmetries, settings)


def evaluate_run(
    path: Path, terminal: Terminal, symmetries: int | None = None, *, announce: bool = True
) -> dict[str, Any]:
    """Score a finished run on its held-out frames; writes scores.json, probabilities.tif and prediction.png.

    Returns what scores.json holds; `announce` says where the data comes from. The folder is held from the reading of
    its weights to the last file, so that the scores are of the run they stand in. RunError as from `predict_held_out`,
    and when another process has the folder.
    """
    folder = RunFolder.open_existing(path)
    with held(path):
        run = predict_held_out(path, terminal, symmetries, announce=announce)
        return _scored([run], folder.path, run.said, terminal)


def evaluate_folds(
    paths: Sequence[Path], out: Path, terminal: Terminal, symmetries: int | None = None
) -> dict[str, Any]:
    """Score all frames that several runs held out, each predicted by the run that was not trained on it, as one set.

    Writes scores.json, probabilities.tif and prediction.png into the folder `out` and returns what scores.json holds.
    RunError when the runs are of different data, when two of them held the same frame out, or when `out` has scores.
    """
    if (out / SCORES).exists():
        raise RunError(f"{out} holds scores already; name another folder with --out")
    held_by: dict[str, Path] = {}
    for path in paths:
        folder = RunFolder.open_existing(path)
        if not (names := split_names(folder, "held_out")):
            raise RunError(nothing_held_out(path, folder.config))
        for name in names:
            if name in held_by:
                raise RunError(f"{held_by[name]} and {path} both held {name} out; name runs of different folds")
            held_by[name] = path
    runs = [predict_held_out(path, terminal, symmetries, announce=path == paths[0]) for path in paths]
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
    saved = {
        "data": stack.source,
        "frames": [p.frame.name for p in predictions],
        "symmetries": runs[0].symmetries,
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


@dataclass(frozen=True)
class Predictor:
    """Predicts frames of one stack with one network, showing progress."""

    network: Network
    stack: Stack
    config: Config
    tile_px: int
    symmetries: int
    terminal: Terminal

    def predict(self, frames: list[int], what: str) -> list[FramePrediction]:
        """Stitched probabilities of these frames."""
        with self.terminal.bar(f"predicting {what}", len(frames)) as bar:
            return predict_frames(
                self.network,
                self.stack,
                frames,
                tile_px=self.tile_px,
                batch=self.config.predict.batch,
                symmetries=self.symmetries,
                on_frame=lambda done: bar.update(done),
            )


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
    lines = [head]
    for name, shown, value in rows:
        threshold = scores["thresholds"].get(name)
        at = "" if threshold is None else f"  (threshold {threshold:.1f})"
        lines.append(f"  {shown:<{width}}  {'-' if value is None else f'{value:.6f}'}{at}")
    return "\n".join([*lines, *(f"  note: {note}" for note in scores["notes"])])
