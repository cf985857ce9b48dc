"""Names that keys, values and flags had in configurations and commands written before; they are still read."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

KEYS = {"optim.kind": "optim.name", "data.separate_px": "data.ridge_px", "predict.rotations": "predict.symmetries"}
VALUES = {("weight.balance", "normalised"): "inverse_frequency"}


def renamed(key: str, value: Any) -> tuple[str, Any]:
    """Key and value by the names they have now; says so once where they had others."""
    now = KEYS.get(key, key)
    if now != key:
        note_renamed(key, now)
    meant = VALUES.get((now, value), value) if isinstance(value, str) else value
    if meant is not value:
        note_renamed(f"{now} {value}", f"{now} {meant}")
    return now, meant


@cache
def note_renamed(old: str, new: str) -> None:
    """One line, once in a process: what has another name now."""
    print(f"unet: {old} is now called {new}", file=sys.stderr)


def with_new_names(argv: list[str]) -> list[str]:
    """The same words, with flags and values that were renamed by their new names; says so once each."""
    flags = {_flag(old): _flag(new) for old, new in KEYS.items()} | {"--rotations": "--symmetries"}
    values = {(_flag(key), old): new for (key, old), new in VALUES.items()}
    words: list[str] = []
    before = ""
    for word in argv:
        head, equals, value = word.partition("=") if word.startswith("--") else (before, "", word)
        flag = flags.get(head.replace("_", "-"), head)
        meant = values.get((flag, value), value)
        if word.startswith("--"):
            word = f"{flag}{equals}{meant}"
            for old, new in ((head, flag), (value, meant)):
                if old != new:
                    note_renamed(old, new)
        elif meant != value:
            note_renamed(value, meant)
            word = meant
        before = flag if word.startswith("--") and not equals else ""
        words.append(word)
    return words


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")
