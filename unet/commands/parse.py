"""Parsing of a command's flags: tyro makes the parser and the help; every mistake is one clear line."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
from typing import Any, TypeVar

from unet.commands.meant import meant
from unet.config import keys
from unet.errors import ConfigError, nearest

T = TypeVar("T")

NARROWEST = 60
"""Columns that the help takes at least; a narrower terminal breaks its lines."""


def parse(kind: type[T], argv: list[str], program: str, description: str, default: T | None = None) -> T:
    """An instance of the dataclass `kind` from the flags in `argv`.

    --help prints and exits with 0. ConfigError for an unknown flag (with the nearest right one), a value that cannot be
    read, a missing argument.
    """
    import tyro

    refuse_unknown_flags(argv, known_flags(kind), program)
    wants_help = any(word in ("-h", "--help") for word in argv)
    options: dict[str, Any] = {} if default is None else {"default": default}
    captured = io.StringIO()
    if shutil.get_terminal_size().columns < NARROWEST:  # the help of a column of letters would take minutes
        os.environ["COLUMNS"] = str(NARROWEST)
    try:
        with contextlib.ExitStack() as stack:
            if not wants_help:
                stack.enter_context(contextlib.redirect_stderr(captured))
            if not wants_help or os.environ.get("NO_COLOR"):
                stack.enter_context(contextlib.redirect_stdout(captured))
            parsed: T = tyro.cli(kind, args=argv, prog=program, description=description, **options)
        return parsed
    except SystemExit as stop:
        if wants_help and not stop.code:
            print(_without_colours(captured.getvalue()), end="")  # the parser knows nothing of NO_COLOR
            raise
        raise ConfigError(_explain(captured.getvalue(), program)) from None


def known_flags(kind: type) -> list[str]:
    """Flags of a command: its own and, where it takes the whole configuration, one per configuration key."""
    import dataclasses
    import typing

    import tyro

    hints = typing.get_type_hints(kind, include_extras=True)
    own = []
    for field in dataclasses.fields(kind):
        extras = getattr(hints[field.name], "__metadata__", ())
        if field.name != "config" and tyro.conf.Positional not in extras:
            named = next((name for extra in extras if (name := getattr(extra, "name", None))), field.name)
            own.append("--" + named.replace("_", "-"))
    return [*own, *("--" + key.replace("_", "-") for key in keys() if "config" in hints)]


def refuse_unknown_flags(argv: list[str], known: list[str], program: str) -> None:
    """ConfigError for the first flag that is not known, with the nearest that is."""
    accepted = {flag.replace("_", "-") for flag in known} | {"--help"}
    accepted |= {_negated(flag) for flag in accepted}
    for word in argv:
        flag = word.split("=", 1)[0].replace("_", "-")
        if flag.startswith("--") and len(flag) > 2 and flag not in accepted:
            raise ConfigError(
                f"unknown option {word.split('=', 1)[0]}{_similar(flag, accepted)} (see {program} --help)"
            )


def _negated(flag: str) -> str:
    head, _, last = flag[2:].rpartition(".")
    return f"--{head}.no-{last}" if head else f"--no-{last}"


def _similar(flag: str, accepted: set[str]) -> str:
    """The nearest flag; a bare key such as --lr is looked up among the last parts of the dotted ones."""
    if by_meaning := meant(flag, accepted):
        return f"; did you mean {by_meaning!r}?"
    bare = flag[2:].split(".")[-1]
    same_ending = sorted(f for f in accepted if f.split(".")[-1].lstrip("-") == bare)
    return f"; did you mean {same_ending[0]!r}?" if same_ending else nearest(flag, accepted)


def _without_colours(output: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", output)


def _explain(output: str, program: str) -> str:
    """The parser's message, which is drawn in a box over several lines, as one line."""
    text = _without_colours(output)
    text = re.sub(r"[\u2500-\u257f]|-{3,}", " ", text).split("Argument helptext")[0]
    words = " ".join(text.split())
    words = re.sub(
        r"^(Parsing error|Invalid input to tyro\.cli\(\)|Required options|Unrecognized options|Value error)\s*",
        "",
        words,
    )
    words = re.sub(r"\s*For full helptext, (run|see) .*$", "", words)
    if choice := re.search(r"nvalid choice '([^']*)' for argument '([^']*)'.*one of \((.*?)\)", words):
        value, flag, options = choice.groups()
        known = re.findall(r"'([^']*)'", options) or options.split(", ")
        words = f"{flag}: {value!r} is not one of {', '.join(known)}{nearest(value, known)}"
    return f"{words[:300] or 'the options cannot be read'} (see {program} --help)"
