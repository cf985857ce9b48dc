"""From a configuration to a `Stack`: the published data where it is found, else the built-in stack of the same kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from unet.config import DataConfig
from unet.data import isbi, synthetic
from unet.data.catalogue import DataSet, data_sets
from unet.data.stack import Stack
from unet.errors import DataError

DEFAULT_ROOT = "data"
"""Where downloads land and where data is looked for after $UNET_DATA, relative to the working directory."""


def load(config: DataConfig, say: Callable[[str], None]) -> Stack:
    """The stack that a configuration names, and one line through `say` about where it was taken from.

    A published data set is looked for in `config.root` (and then nowhere else), else in $UNET_DATA, in data/, on the
    network; offline, the built-in synthetic stack of the same kind stands in.

    Raises DataError when a folder named by the user lacks the data, or when files are damaged.
    """
    if config.name.startswith("synthetic-"):
        return _synthetic(config.name, config.seed, say, "asked for")
    data_set = data_sets()[config.name]
    root = find_root(data_set, config.root)
    if root is None:
        return _synthetic(f"synthetic-{config.name}", config.seed, say, f"{data_set.folder} not found")
    stack = _read(data_set, root / data_set.folder, config)
    say(f"data: {stack.source}")
    return stack


def find_root(data_set: DataSet, root: str = "") -> Path | None:
    """The folder that holds the data set's folder: `root` if given, else $UNET_DATA, else data/; None: not on disk.

    Raises DataError when `root` lacks the data set, or when $UNET_DATA does not exist.
    """
    if root:
        if not is_present(data_set, Path(root) / data_set.folder):
            raise DataError(
                f"{root}: holds no {data_set.folder} ({data_set.title}); correct data.root, or leave it empty and run "
                f"`unet data fetch {data_set.name}`"
            )
        return Path(root)
    named = os.environ.get("UNET_DATA", "")
    if named and not Path(named).is_dir():
        raise DataError(f"UNET_DATA={named}: no such folder; correct or unset the variable")
    candidates = [Path(p) for p in (named, DEFAULT_ROOT) if p]
    return next((p for p in candidates if is_present(data_set, p / data_set.folder)), None)


def is_present(data_set: DataSet, folder: Path) -> bool:
    """Whether the folder holds images of the data set (not only its README)."""
    if data_set.name == "em":
        return isbi.find_layout(folder) is not None
    return any((folder / sequence).is_dir() for sequence in ("01", "02"))


def _read(data_set: DataSet, folder: Path, config: DataConfig) -> Stack:  # noqa: ARG001
    return isbi.read(folder)


def _synthetic(name: str, seed: int, say: Callable[[str], None], why: str) -> Stack:
    stack = synthetic.em_like(seed=seed)
    say(f"data: built-in synthetic stack {name} ({len(stack)} images, seed {seed}): {why}")
    return stack
