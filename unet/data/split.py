"""Which frames train and which are held out: whole blocks or sequences, because neighbouring frames are near copies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unet.config import DataConfig
from unet.data.stack import Stack, labelled
from unet.errors import ConfigError, DataError, nearest


@dataclass(frozen=True)
class Split:
    """Indices into a stack's frames; only labelled frames, none of them on both sides. held_out may be empty.

    Raises DataError when nothing is left to train on or a frame is on both sides.
    """

    train: tuple[int, ...]
    held_out: tuple[int, ...]

    def __post_init__(self) -> None:
        shared = sorted(set(self.train) & set(self.held_out))
        if shared:
            raise DataError(f"frames {shared[:5]} are in training and held out at once; a split must not share frames")
        if not self.train:
            raise DataError("no labelled frame is left on the training side; choose another data.split or data.fold")
        for side, indices in (("training", self.train), ("held-out", self.held_out)):
            if len(set(indices)) != len(indices):
                raise DataError(f"a frame occurs twice on the {side} side of the split")

    def names(self, stack: Stack) -> dict[str, list[str]]:
        """Frame names of both sides, for the run folder."""
        return {
            "train": [stack.frames[i].name for i in self.train],
            "held_out": [stack.frames[i].name for i in self.held_out],
        }


def split(stack: Stack, config: DataConfig) -> Split:
    """Divide the labelled frames of a stack by `config.split`; frames without a label go to neither side.

    blocks: every sequence is cut into `folds` blocks of consecutive labelled frames, block `fold` is held out.
    sequences: sequence number `fold` (in order of appearance) is held out.
    random: a permutation seeded by `config.seed` is cut into `folds` parts (measures leakage; do not trust its scores).
    isolated, leaking: a block (a sequence where there are several) is left out and some of its frames are scored. In
    isolated nothing else of it is used; in leaking the frames beside the scored ones train in place of as many others,
    so that both score the same frames and train on as many (see `_beside`).
    list: the frames named in `config.held_out`. auto: sequences where there are several, else blocks.
    all: every labelled frame trains and none is held out, so that nothing says how good the network is.

    With `config.limit` so many of the training frames are kept, drawn by (`config.seed`, `config.fold`).

    Raises ConfigError for a fold that does not exist or an unknown frame name, DataError when none is left to train on.
    """
    parts = _parts(stack, config)
    if not config.limit or config.limit >= len(parts.train):
        return parts
    kept = np.random.default_rng((config.seed, config.fold)).permutation(len(parts.train))[: config.limit]
    return Split(tuple(parts.train[i] for i in sorted(kept.tolist())), parts.held_out)


def _parts(stack: Stack, config: DataConfig) -> Split:
    known = labelled(stack.frames)
    if not known:
        raise DataError(f"{stack.name}: no frame has a label; training needs labels")
    groups = _sequences(stack, known)
    kind = config.split if config.split != "auto" else "sequences" if len(groups) > 1 else "blocks"
    if kind == "all":
        held_out: set[int] = set()
    elif kind == "list":
        held_out = _named(stack, config.held_out)
    elif kind == "sequences":
        if len(groups) < 2:
            raise ConfigError("data.split: sequences needs at least two labelled sequences; use blocks")
        held_out = set(list(groups.values())[_fold(config.fold, len(groups), "sequences")])
    elif kind == "blocks":
        fold = _fold(config.fold, config.folds, "folds")
        _enough(min(map(len, groups.values())), config.folds)
        held_out = {i for group in groups.values() for i in _part(group, config.folds, fold)}
    elif kind in ("isolated", "leaking"):
        return _beside(list(groups.values()), config, leaking=kind == "leaking")
    else:
        fold = _fold(config.fold, config.folds, "folds")
        _enough(len(known), config.folds)
        order = np.random.default_rng(config.seed).permutation(known).tolist()
        held_out = set(_part(order, config.folds, fold))
    return Split(tuple(i for i in known if i not in held_out), tuple(sorted(held_out)))


def _beside(groups: list[list[int]], config: DataConfig, leaking: bool) -> Split:
    """Every second frame of a sequence, or of the middle of a block, is scored.

    Of a block, the two frames at either end are not scored, because others train beyond them.
    """
    if len(groups) > 1:
        part, margin = groups[_fold(config.fold, len(groups), "sequences")], 1
    else:
        _enough(len(groups[0]), config.folds)
        part, margin = _part(groups[0], config.folds, _fold(config.fold, config.folds, "folds")), 2
    places = range(margin, len(part) - margin, 2)
    if not places:
        raise ConfigError(f"data.split: {config.split} needs blocks of 5 frames or more; use fewer data.folds")
    scored = [part[i] for i in places]
    others = [i for group in groups for i in group if i not in part]
    if not leaking:
        return Split(tuple(others), tuple(scored))
    beside = sorted({part[i + step] for i in places for step in (-1, 1)})[: len(others)]
    kept = [others[i] for i in np.linspace(0, len(others) - 1, len(others) - len(beside)).round().astype(int)]
    return Split(tuple(sorted([*kept, *beside])), tuple(scored))


def _sequences(stack: Stack, known: list[int]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for i in known:
        groups.setdefault(stack.frames[i].sequence, []).append(i)
    return groups


def _part(indices: list[int], folds: int, fold: int) -> list[int]:
    return [int(i) for i in np.array_split(np.asarray(indices, dtype=np.int64), folds)[fold]]


def _fold(fold: int, count: int, what: str) -> int:
    if fold >= count:
        raise ConfigError(f"data.fold: {fold} does not exist; there are {count} {what}, counted from 0")
    return fold


def _enough(frames: int, folds: int) -> None:
    if frames < folds:
        advice = f"use at most {frames}" if frames > 1 else "label more of them"
        raise ConfigError(f"data.folds: {folds} folds cannot be cut from {frames} labelled frames; {advice}")


def _named(stack: Stack, names: tuple[str, ...]) -> set[int]:
    index = {frame.name: i for i, frame in enumerate(stack.frames)}
    chosen = set()
    for name in names:
        if name not in index:
            raise ConfigError(f"data.held_out: no frame is named {name!r}{nearest(name, index)}")
        if stack.frames[index[name]].label is None:
            raise ConfigError(f"data.held_out: frame {name!r} has no label, it cannot be scored")
        chosen.add(index[name])
    return chosen
