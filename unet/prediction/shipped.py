"""The networks that come with the package: `unet predict em|phc|hela IMAGES` without training."""

from __future__ import annotations

from pathlib import Path

from unet.errors import RunError
from unet.prediction.trained import is_network

FOLDER = Path(__file__).with_name("weights")


def shipped() -> dict[str, Path]:
    """The weights files of the package by name, such as "em"."""
    return {file.stem: file for file in sorted(FOLDER.glob("*.safetensors"))}


def named_network(word: str) -> Path:
    """`find_network`; RunError when the word names none."""
    path = find_network(word)
    if path is None:
        raise RunError(f"{word}: no run folder, weights file or network that comes along; check the name")
    return path


def find_network(word: str) -> Path | None:
    """What a word of the command line names: a network on disk, else one of the package; None when it is neither."""
    path = Path(word)
    return path if is_network(path) else shipped().get(word)
