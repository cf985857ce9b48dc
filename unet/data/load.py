"""From a configuration to a `Stack`: the published data where it is found, else the built-in stack of the same kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from unet.config import DataConfig
from unet.data import own
from unet.data.images.foreign import advice
from unet.data.masks import Target
from unet.data.normalise import normalisation
from unet.data.published.download import Unavailable
from unet.data.published.fetch import fetch, is_present
from unet.data.readers import READERS, Masks, Reader
from unet.data.stack import Normalisation, Stack
from unet.data.synthetic import stacks
from unet.datasets import DATA_SETS, STAND_INS, SYNTHETIC, DataSet, find
from unet.errors import ConfigError, DataError
from unet.files import reading
from unet.terminal import Terminal

Say = Callable[[str], None]
QUIET = Terminal(quiet=True)

DEFAULT_ROOT = "data"
"""Where downloads land and where data is looked for after $UNET_DATA, relative to the working directory."""


def load(config: DataConfig, say: Say, terminal: Terminal = QUIET) -> Stack:
    """The stack that a configuration names, and one line through `say` about where it was taken from.

    terminal: shows how far reading and downloading are.

    A published data set is looked for in `config.root` (and then nowhere else), else in $UNET_DATA, in data/, on the
    network; offline, which shows within seconds, the built-in synthetic stack of the same kind stands in.

    Raises DataError when a folder named by the user lacks the data, or when files are damaged.
    """
    named = find(config.name)
    if config.target != "cell" and named is not None and named.scores != "objects":
        raise ConfigError(
            f"data.target: {config.target} needs a number per object, which the labels of {config.name} do not have; "
            "use cell, or name other data (data.name, data.folder)"
        )
    if config.name == "folder":
        with reading(Path(config.folder)):
            if Path(config.folder).is_file():
                how = advice(Path(config.folder)) or "name the folder that holds images/ and labels/"
                raise DataError(f"{config.folder}: a file, not a folder; {how}")
            if not Path(config.folder).is_dir():
                raise DataError(f"{config.folder}: no such folder; if it has moved, name it anew with --data.folder")
        with terminal.bar("reading images") as bar:
            return own.read(Path(config.folder), config, say, bar.steps)
    if config.name.startswith(SYNTHETIC):
        stack = _synthetic(config.name, config)
        say(f"data: {stack.source}: {len(stack)} images")
        return stack
    data_set = DATA_SETS[config.name]
    try:
        root = _root(data_set, config.root, terminal)
    except Unavailable as error:
        stand_in = f"{SYNTHETIC}{config.name}"
        if stand_in not in STAND_INS:
            raise DataError(
                f"{data_set.folder} is neither here nor can it be downloaded ({error.reason}), and no built-in stack "
                f"stands in for it (`unet data show {config.name}`)"
            ) from None
        stack = _synthetic(stand_in, config)
        say(f"data: {data_set.folder} is neither here nor can it be downloaded ({error.reason}): {stack.source}")
        return stack
    with terminal.bar("reading images") as bar:
        normalise, folder = _normalisation(config, data_set), root / data_set.folder
        stack = READERS[data_set.reader].read(folder, config, normalise, bar.steps)
    say(f"data: {stack.source}: {len(stack)} images")
    return stack


def require(name: str, terminal: Terminal = QUIET) -> None:
    """Make sure that the published data set of this name is on disk, by a download if need be; other names pass.

    For what must not go on with a stand-in. DataError when the data set cannot be had.
    """
    data_set = DATA_SETS.get(name)
    if data_set is None:
        return
    try:
        _root(data_set, "", terminal)
    except Unavailable as error:
        raise DataError(
            f"{data_set.folder} is neither here nor can it be downloaded ({error.reason}), and nothing stands in for "
            f"it in a study; put it into data/ or the folder that UNET_DATA names (`unet data show {name}`)"
        ) from None


def name_here(name: str) -> str:
    """`name` where the published data set is on disk ($UNET_DATA or data/), else its synthetic stand-in's name.

    For what must not wait for a download. DataError when $UNET_DATA does not exist.
    """
    return name if find_root(DATA_SETS[name]) is not None else f"{SYNTHETIC}{name}"


def references(config: DataConfig, stack: Stack) -> Masks:
    """The reference objects of SEG by frame name, untouched by any ridge: H x W int32; empty where there are none.

    Cell tracking sets: the gold masks, whatever labels are trained on. Own folder: instance labels. EM: none.
    `stack`: what `load` returned for `config`, so that a synthetic stand-in is scored on its own objects.

    Raises DataError when the files are missing or damaged.
    """
    if config.name == "folder":  # first: a folder may be called synthetic-something
        return own.instances(Path(config.folder), config)
    if stack.name.startswith(SYNTHETIC):
        return stacks.references(stack.name, config.seed)
    return _reader(config).references(_folder(config)) if _has_objects(config) else {}


def markers(config: DataConfig, stack: Stack) -> Masks:
    """The tracking markers of DET by frame name, H x W int32; empty but for the cell tracking sets. As `references`."""
    if stack.name.startswith(SYNTHETIC) or config.name == "folder" or not _has_objects(config):
        return {}
    return _reader(config).markers(_folder(config))


def _has_objects(config: DataConfig) -> bool:
    return DATA_SETS[config.name].scores == "objects"


def _reader(config: DataConfig) -> Reader:
    return READERS[DATA_SETS[config.name].reader]


def _folder(config: DataConfig) -> Path:
    data_set = DATA_SETS[config.name]
    root = find_root(data_set, config.root)
    if root is None:
        raise DataError(f"{data_set.folder} is no longer there; run `unet data fetch {data_set.name}`")
    return root / data_set.folder


def _root(data_set: DataSet, root: str, terminal: Terminal) -> Path:
    """`find_root`, else the folder that the data set is downloaded into; Unavailable when it cannot be."""
    found = find_root(data_set, root)
    return found or fetch(data_set, Path(DEFAULT_ROOT), say=lambda _: None, terminal=terminal).parent


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
    with reading(Path(named)):
        if named and not Path(named).is_dir():
            raise DataError(f"UNET_DATA={named}: no such folder; correct or unset the variable")
    candidates = [Path(p) for p in (named, DEFAULT_ROOT) if p]
    return next((p for p in candidates if is_present(data_set, p / data_set.folder)), None)


def _normalisation(config: DataConfig, data_set: DataSet) -> Normalisation:
    return normalisation(config, [np.dtype(np.uint8)], auto=data_set.gray)


def _synthetic(name: str, config: DataConfig) -> Stack:
    kind = DATA_SETS[name.removeprefix(SYNTHETIC)]
    return stacks.make(name, config.seed, Target.configured(config), _normalisation(config, kind))
