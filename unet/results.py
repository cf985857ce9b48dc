"""From a trained run folder to its scores: predict the held-out frames, score them, draw the worst of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unet.config import Config, ModelConfig, from_dict, to_dict
from unet.data.load import load
from unet.data.stack import Normalisation, Stack
from unet.device import Hardware, choose
from unet.errors import RunError, one_line
from unet.evaluate import FramePrediction, pixel_scores, predict_frames
from unet.output import foreground, write_probabilities
from unet.picture import draw_predictions
from unet.predict import Network
from unet.progress import Terminal
from unet.runs.checkpoint import load_weights
from unet.runs.folder import RunFolder

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
    try:
        described: ModelConfig = from_dict({"model": metadata["model"]}).model
        model = UNet(described, metadata["channels"], len(metadata["class_names"]))
        model.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError) as error:
        reason = one_line(error)[:160]
        raise RunError(f"{file}: holds another architecture than it names ({reason}); use the original file") from None
    if path.is_dir() and (path / "config.yaml").is_file():
        asked = RunFolder(path).config.model
        if to_dict(asked) != to_dict(described):
            raise RunError(f"{file}: holds another architecture than config.yaml describes; restore one of them")
    network = Network(
        model.to(hardware.device).eval(),
        hardware.device,
        hardware.precision,
        hardware.channels_last,
        described.depth,
        described.allow_odd_pooling,
    )
    return network, metadata


def held_out_frames(folder: RunFolder, stack: Stack) -> list[int]:
    """Indices of the frames the run has named as held out; RunError when the data no longer has one of them."""
    names = folder.read_json("split.json")["held_out"]
    index = {frame.name: i for i, frame in enumerate(stack.frames)}
    missing = [name for name in names if name not in index]
    if missing:
        raise RunError(f"{folder.path}: its held-out frame {missing[0]!r} is not in {stack.source}; use the same data")
    if not names:
        raise RunError(f"{folder.path}: the run held no frames out, so there is nothing to score")
    return [index[name] for name in names]


def evaluate_run(path: Path, terminal: Terminal, rotations: int | None = None) -> dict[str, Any]:
    """Score a finished run on its held-out frames; writes scores.json, probabilities.tif and prediction.png."""
    folder = RunFolder.open_existing(path)
    config = folder.config
    stack = load(config.data, terminal.say)
    network, metadata = load_network(path, choose(config))
    if Normalisation(**metadata["normalisation"]) != stack.normalisation:
        raise RunError(f"{path}: was trained with another normalisation of the gray values; use the same data settings")
    frames = held_out_frames(folder, stack)
    predictions = _predict(network, stack, frames, config, metadata["tile_px"], rotations, terminal)
    scores = score(predictions, stack, config) | {"rotations": rotations or config.predict.rotations}
    folder.write_json(SCORES, scores)
    write_probabilities(folder.file(PROBABILITIES), [foreground(p.probabilities) for p in predictions])
    draw_predictions(folder.file(PICTURE), predictions, f"{stack.name}: held-out frames, worst first")
    return scores


def _predict(
    network: Network,
    stack: Stack,
    frames: list[int],
    config: Config,
    tile_px: int,
    rotations: int | None,
    terminal: Terminal,
) -> list[FramePrediction]:
    with terminal.bar("predicting held-out frames", len(frames)) as bar:
        return predict_frames(
            network,
            stack,
            frames,
            tile_px=tile_px,
            batch=config.predict.batch,
            rotations=rotations or config.predict.rotations,
            on_frame=lambda done: bar.update(done),
        )


def score(predictions: list[FramePrediction], stack: Stack, config: Config) -> dict[str, Any]:
    """All scores of a set of predictions, pooled and by frame, as plain values for scores.json."""
    del config
    return {
        "data": stack.source,
        "frames": [p.frame.name for p in predictions],
        "scores": pixel_scores(predictions, stack.class_names),
        "by_frame": {p.frame.name: pixel_scores([p], stack.class_names) for p in predictions},
    }


def table(scores: dict[str, Any]) -> str:
    """Scores as an aligned text table."""
    rows = [(key.replace("_", " "), value) for key, value in scores["scores"].items()]
    width = max(len(key) for key, _ in rows)
    head = f"held-out scores, {len(scores['frames'])} frames, stitched full-size images, eval mode"
    lines = [f"  {key:<{width}}  {'-' if value is None else f'{value:.6f}'}" for key, value in rows]
    return "\n".join([head, *lines])
