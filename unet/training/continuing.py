"""What may have changed about a run when it goes on, and what must not: its settings, its images, where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from unet.config import Config, differences, from_dict, to_dict
from unet.data.load import load
from unet.data.stack import Stack
from unet.errors import RunError, one_line
from unet.evaluation.held_out import is_same_data
from unet.runs.folder import RunFolder
from unet.runs.lock import reentrant_run_lock
from unet.terminal import Terminal
from unet.training.log import State

FREE_KEYS = ("train.device", "train.workers", "train.threads", "train.cuda_graphs", "data.folder", "data.root")
"""What may differ when a run goes on: where it runs, and where its data lies."""


def edited(then: Config, now: Config) -> dict[str, tuple[Any, Any]]:
    """The settings that must not differ when a run goes on, and do: their values before and now."""
    return {
        key: values
        for key, values in differences(then, now).items()
        if key not in FREE_KEYS and not key.startswith("wandb.")
    }


def refuse_edits(place: Path, saved: Mapping[str, Any], config: Config, split: Mapping[str, list[str]]) -> None:
    """RunError, naming the keys, when a checkpoint was made with another configuration or division of the frames.

    Checkpoints of before these were kept in them pass.
    """
    then = from_dict(saved["config"]) if "config" in saved else config
    if changes := edited(then, config):
        told = ", ".join(f"{key} was {before!r} and is {now!r}" for key, (before, now) in changes.items())
        raise RunError(
            f"{place}: its configuration was edited ({told}); put it back, or start a new run from this one's "
            f"weights with --from {place}"
        )
    for part, names in saved.get("split", split).items():
        if names != split[part]:
            moved = sorted(set(names) ^ set(split[part])) or names
            raise RunError(
                f"{place}: the {part.replace('_', '-')} frames are others than before ({', '.join(moved[:3])}); "
                "restore the data, for what was held out must not be trained on"
            )


@dataclass
class Learning:
    """What updates change in a run: the network, its optimizer, and the average of its weights where there is one."""

    model: nn.Module
    optimizer: Optimizer
    average: AveragedModel | None


def checkpoint_of(learning: Learning, state: State, config: Config, split: Mapping[str, list[str]]) -> dict[str, Any]:
    """All that a run needs to go on from here to the same bits. split: the names of the frames by part."""
    return {
        "format": 1,
        "model_config": to_dict(config.model),
        "config": to_dict(config),
        "split": split,
        "state": dict(vars(state)),
        "model": learning.model.state_dict(),
        "average": None if learning.average is None else learning.average.state_dict(),
        "optimizer": learning.optimizer.state_dict(),
    }


def restore(
    learning: Learning, saved: dict[str, Any], place: Path, config: Config, split: Mapping[str, list[str]]
) -> State:
    """Put a run back to where it was when `checkpoint_of` was made; RunError when that is of another run.

    place: of the run, for errors. Returns its state.
    """
    try:
        refuse_edits(place, saved, config, split)
        if saved["model_config"] != to_dict(config.model):
            raise RunError(f"{place}: its checkpoint holds another network than its config.yaml describes")
        state = State(**saved["state"])
        learning.model.load_state_dict(saved["model"])
        learning.optimizer.load_state_dict(saved["optimizer"])
        if learning.average is not None:
            learning.average.load_state_dict(saved["average"])
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise RunError(
            f"{place}: its checkpoint is of another version ({one_line(error)[:160]}); resume with that version"
        ) from None
    return state


def check_same_data(folder: RunFolder, stack: Stack) -> None:
    """RunError when a run's record names other images or labels than those of the stack."""
    if not is_same_data(folder, stack):
        raise RunError(
            f"{folder.path}: the images or labels are not those it was begun with ({stack.source}); restore them, or "
            "go on all the same with --changed-data"
        )


def data_moved(run: Path, data_folder: str, terminal: Terminal) -> None:
    """Let a run of images of one's own know that they lie in `data_folder` now; config.yaml names it from then on.

    RunError when the run is of a published set, or the folder holds other images or labels.
    """
    folder = RunFolder.open_existing(run)
    config = folder.config.data
    if config.name != "folder":
        raise RunError(f"{run}: was trained on {config.name}, not on a folder of one's own; leave out --data.folder")
    place = str(Path(data_folder).resolve())
    stack = load(replace(config, folder=place), lambda _: None, terminal)
    if not is_same_data(folder, stack):
        raise RunError(f"{data_folder}: holds other images or labels than {run} was trained on; name the same data")
    with reentrant_run_lock(run):
        folder.data_moved(place)
