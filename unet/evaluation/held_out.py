"""Which frames a run trained on and held out, and whether they, and its data, still are what they were."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet.config import Config
from unet.data.split import split
from unet.data.stack import Normalisation, Stack
from unet.datasets import DATA_SETS
from unet.errors import RunError
from unet.runs.folder import SPLIT, RunFolder


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
    return why + (test if config.data.name in DATA_SETS and DATA_SETS[config.data.name].test_labels else "")


def named_frames(folder: RunFolder, stack: Stack, part: str) -> list[int]:
    """Indices of the frames the run has named "train" or "held_out"; RunError when the data no longer has one."""
    names = split_names(folder, part)
    index = {frame.name: i for i, frame in enumerate(stack.frames)}
    missing = [name for name in names if name not in index]
    if missing:
        raise RunError(f"{folder.path}: its frame {missing[0]!r} is not in {stack.source}; use the same data")
    return [index[name] for name in names]


def is_same_data(folder: RunFolder, stack: Stack) -> bool:
    """Whether the images and labels are those the run was trained on, as far as its record tells."""
    before: str | None = folder.environment.get("data_sha256")
    return before is None or before == stack.sha256()


def refuse_edited_split(folder: RunFolder, stack: Stack) -> None:
    """RunError when split.json does not name the frames that the configuration, of unchanged data, holds out."""
    if folder.environment.get("data_sha256") != stack.sha256():
        return
    for part, names in split(stack, folder.config.data).names(stack).items():
        moved = sorted(set(names) ^ set(split_names(folder, part)))
        if moved:
            raise RunError(
                f"{folder.path}: {SPLIT} and config.yaml disagree on the {part.replace('_', '-')} frames "
                f"({', '.join(moved[:3])}): one of them was edited; restore it, for what was trained on is not scored"
            )


def refuse_unfit(path: Path, metadata: Mapping[str, Any], stack: Stack) -> None:
    """RunError when a run's data, read as its config.yaml says now, is not what its weights say they are for."""
    then = Normalisation(**metadata["normalisation"]), metadata["channels"], tuple(metadata["class_names"])
    if then[0] != stack.normalisation:
        raise RunError(f"{path}: was trained with another normalisation of the gray values; use the same data settings")
    if then[1:] != (stack.channels, stack.class_names):
        raise RunError(
            f"{path}: was trained on {then[1]} channel{'s' * (then[1] > 1)} and the classes {', '.join(then[2])}; its "
            f"data has {stack.channels} and {', '.join(stack.class_names)}: restore its config.yaml, or the data"
        )


def refuse_other_splits(folders: Sequence[RunFolder]) -> None:
    """RunError unless all runs held the same frames of the same data out."""
    first = folders[0]
    names, data = split_names(first, "held_out"), first.environment.get("data_sha256")
    for folder in folders[1:]:
        own = split_names(folder, "held_out")
        if set(own) != set(names):
            other = next(iter(sorted(set(own) ^ set(names))))
            raise RunError(
                f"{folder.path} and {first.path} did not hold the same frames out ({other}); an ensemble is scored on "
                "frames that none of its networks was trained on"
            )
        if folder.environment.get("data_sha256") != data:
            raise RunError(
                f"{folder.path} and {first.path} were trained on different data or labels; an ensemble is scored "
                "against one reference"
            )
