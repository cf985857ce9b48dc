"""Trained networks from disk: one run folder or weights file, or several that predict as one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from unet.config import ModelConfig, PredictConfig, from_dict, to_dict
from unet.data.stack import Normalisation
from unet.device import Hardware, allow_tf32, prepare
from unet.errors import RunError, UserError, one_line
from unet.files import sha256
from unet.prediction.ensemble import Ensemble, Predicting
from unet.prediction.instances import InstanceSettings
from unet.prediction.overlap import Network
from unet.runs.checkpoint import load_weights, read_metadata
from unet.runs.folder import CONFIG, MEMBERS, SCORES, WEIGHTS, RunFolder


def load_network(path: Path, hardware: Hardware) -> tuple[Network, dict[str, Any]]:
    """The network of a run folder (or of a weights file) in eval mode, and what its weights say about themselves.

    RunError when there are no weights, when they belong to another architecture or when they are no numbers.
    """
    from unet import networks

    file = weights_file(path)
    if not file.is_file():
        raise RunError(f"{path}: holds no {WEIGHTS}; finish its training with `unet train --resume --run {path}`")
    state, metadata = load_weights(file)
    _check_metadata(file, metadata)
    if unfit := next((name for name, tensor in state.items() if not torch.isfinite(tensor).all()), None):
        raise RunError(f"{file}: {unfit} holds NaN or infinite weights; train again with a lower --optim.lr")
    try:
        described: ModelConfig = from_dict({"model": metadata["model"]}).model
        channels, classes = metadata["channels"], len(metadata["class_names"])
        with torch.device("meta"):  # takes no memory, whatever the file declares
            networks.network(described, channels, classes).load_state_dict(state, assign=True)
        model = networks.network(described, channels, classes)
        model.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError) as error:
        reason = one_line(error)[:160]
        raise RunError(f"{file}: holds another architecture than it names ({reason}); use the original file") from None
    if path.is_dir() and (path / CONFIG).is_file():
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


@dataclass(frozen=True)
class Trained:
    """Networks made ready to predict as one: what they say about themselves, how they are to predict, their paths."""

    network: Predicting
    metadata: dict[str, Any]
    how: PredictConfig
    runs: tuple[Path, ...]

    @property
    def normalisation(self) -> Normalisation:
        """Of the gray values that the network sees."""
        return Normalisation(**self.metadata["normalisation"])

    @property
    def class_names(self) -> list[str]:
        """The classes, background first."""
        return list(self.metadata["class_names"])


def load_trained(named: Sequence[Path], device: str = "auto", precision: str = "auto") -> Trained:
    """The networks of runs, weights files or scored ensembles as one, each computing in the precision it was trained in
    unless another is asked for. Errors as from `load_ensemble`.
    """

    def hardware_of(path: Path) -> Hardware:
        chosen = precision_of(path) if precision == "auto" else precision
        return prepare(from_dict({"train": {"device": device, "precision": chosen}}))

    runs = tuple(run for path in named for run in members(path))
    network, metadata = load_ensemble(runs, hardware_of)
    return Trained(network, metadata, replace(configured(runs[0]), tile_px=metadata["tile_px"]), runs)


def load_ensemble(paths: Sequence[Path], hardware_of: Callable[[Path], Hardware]) -> tuple[Predicting, dict[str, Any]]:
    """The networks of several runs (or weights files) as one, and what they say about themselves.

    One path gives that network itself. hardware_of: how the network of a path computes. What they say is what the first
    says; its tile_px is 0 (automatic) unless all name the same. RunError as from `load_network`, and when the networks
    differ in classes, channels or the normalisation of gray values.
    """
    loaded = [load_network(path, hardware_of(path)) for path in paths]
    described = dict(loaded[0][1])
    for path, (_, other) in zip(paths[1:], loaded[1:], strict=True):
        for key, what in _ALIKE.items():
            if other[key] != described[key]:
                raise RunError(
                    f"{path}: its {what} are {_shown(other[key])}, those of {paths[0]} {_shown(described[key])}; "
                    "networks that predict together need the same"
                )
    if len({other["tile_px"] for _, other in loaded}) > 1:
        described["tile_px"] = 0
    networks = tuple(network for network, _ in loaded)
    return (networks[0] if len(networks) == 1 else Ensemble(networks)), described


_ALIKE = {"class_names": "classes", "channels": "channels", "normalisation": "gray values (their normalisation)"}


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)


def is_network(path: Path) -> bool:
    """Whether a path names something that predicts: a run folder, a weights file, the folder of a scored ensemble."""
    if path.is_dir():
        return (path / CONFIG).is_file() or (path / WEIGHTS).is_file() or bool(ensemble_members(path))
    return path.is_file() and path.suffix == Path(WEIGHTS).suffix


def ensemble_members(folder: Path) -> list[Path]:
    """The runs whose ensemble `unet evaluate --ensemble` scored into a folder; none when it did not.

    RunError when a run has gone or its weights are others by now.
    """
    if not (folder / SCORES).is_file():
        return []
    scores = RunFolder(folder).read_json(SCORES)
    listed = scores.get(MEMBERS) if isinstance(scores, dict) else None
    runs = []
    for member in listed if isinstance(listed, list) else []:
        if not isinstance(member, dict) or not isinstance(member.get("run"), str):
            raise RunError(f"{folder / SCORES}: does not name its runs; evaluate them again")
        run = Path(os.path.normpath(folder / member["run"]))
        if not weights_file(run).is_file() or sha256(weights_file(run)) != member.get("weights"):
            raise RunError(f"{folder}: the weights of {run} are not those that were scored; evaluate the runs again")
        runs.append(run)
    return runs


def members(path: Path) -> list[Path]:
    """The runs that a named network stands for: those of a scored ensemble, else itself."""
    return (ensemble_members(path) if path.is_dir() else []) or [path]


def precision_of(path: Path) -> str:
    """ "fp32" where environment.json says that the run was trained in it, else "auto"."""
    folder = path if path.is_dir() else path.parent if path.name == WEIGHTS else None
    begun = RunFolder(folder).environment if folder is not None else {}
    return "fp32" if begun.get("precision") == "fp32" else "auto"


def configured(path: Path) -> PredictConfig:
    """How a run was to be predicted, its objects' settings chosen for that; the defaults where weights do not say."""
    folder = path if path.is_dir() else path.parent if path.name == WEIGHTS else None
    if folder is not None and (folder / CONFIG).is_file():
        return RunFolder(folder).config.predict
    said = read_metadata(path).get("predict", {}) if path.is_file() else {}
    return from_dict({"predict": said}).predict


def chosen_settings(path: Path) -> InstanceSettings | None:
    """What a run, or a scored ensemble, chose on its training frames; None when nothing was chosen."""
    folder = path.parent if path.name == WEIGHTS else path
    if path.is_file() and path.name != WEIGHTS:
        said: Any = read_metadata(path)
    elif (folder / SCORES).is_file():
        said = RunFolder(folder).read_json(SCORES)
    else:
        return None
    chosen = said.get("instances") if isinstance(said, dict) else None
    return None if chosen is None else InstanceSettings.from_dict(chosen)


def weights_file(path: Path) -> Path:
    """The weights of a run folder, or the weights file itself."""
    return path / WEIGHTS if path.is_dir() else path


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
