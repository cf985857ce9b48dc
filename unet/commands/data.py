"""`unet data`: fetch, verify, show and preview the data sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from unet.commands.parse import parse
from unet.config import Config
from unet.datasets import DATA_SETS, STAND_INS
from unet.errors import ConfigError, DataError, nearest
from unet.terminal import Terminal

USAGE = f"""unet data: fetch, verify, show and preview the data sets

usage: unet data fetch {"|".join(DATA_SETS)}|all [--root data] [--from-file ARCHIVE_OR_FOLDER] [--jpeg]
       unet data verify [{"|".join(DATA_SETS)}|all] [--root data]
       unet data show                      where each set is, its sources and terms
       unet data show NAME [OPTIONS]       images, labels and split that a configuration means
       unet data preview NAME [OPTIONS]    contact sheet (PNG) of images, labels, weights, tiles

NAME is {", ".join((*DATA_SETS, *STAND_INS))}, or a folder of your own with images/ and labels/;
OPTIONS are those of `unet train` (such as --data.labels silver), for preview also --out FILE.
unet data ACTION --help lists them."""


@dataclass(frozen=True)
class FetchArguments:
    """Where a data set comes from and where it goes."""

    root: str = "data"
    """Folder below which the data sets lie."""
    from_file: str = ""
    """Archive (zip) or folder to take it from instead of the network."""
    jpeg: bool = False
    """The lossy JPEG copies of the EM stack, kept beside the lossless files and never taken unasked."""
    quiet: bool = False
    """Print nothing but the folders."""


@dataclass(frozen=True)
class VerifyArguments:
    """Which files are checked."""

    root: str = ""
    """Folder below which the data sets lie; default: $UNET_DATA, else data/."""
    quiet: bool = False
    """Print what is wrong only."""


@dataclass(frozen=True)
class LookArguments:
    """What is shown; every key of the configuration is one more flag."""

    out: str = ""
    """File of the contact sheet; default: NAME-preview.png."""
    quiet: bool = False
    """Print results only."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)


def main(argv: list[str]) -> int:
    """Run `unet data ACTION ...`; returns 0, or 1 when `verify` finds something wrong."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    if argv[0] not in _ACTIONS:
        raise ConfigError(f"unknown action {argv[0]!r}{nearest(argv[0], _ACTIONS)}; use unet data {'|'.join(_ACTIONS)}")
    names, flags = _names(argv[1:])
    return _ACTIONS[argv[0]](names, flags)


def _names(words: list[str]) -> tuple[list[str], list[str]]:
    """Names before the first flag, and the rest."""
    first = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    return words[:first], words[first:]


def _chosen(names: list[str], none: list[str]) -> list[str]:
    """Published data sets by name; `all` stands for every one, no name for `none`."""

    known = [*DATA_SETS, "all"]
    for name in names:
        if name not in known:
            raise ConfigError(f"unknown data set {name!r}{nearest(name, known)}; use {', '.join(known)}")
    return list(DATA_SETS) if "all" in names else list(dict.fromkeys(names)) or none


def _fetch(names: list[str], flags: list[str]) -> int:
    arguments = parse(FetchArguments, flags, "unet data fetch", "Download the published data sets and check them.")
    from unet.data.published.fetch import fetch

    chosen = _chosen(names, [])
    if not chosen:
        raise ConfigError(f"name what to fetch: unet data fetch {'|'.join(DATA_SETS)}|all")
    if arguments.jpeg and chosen != ["em"]:
        raise ConfigError("--jpeg: only the EM stack has JPEG copies; use unet data fetch em --jpeg")
    given = Path(arguments.from_file) if arguments.from_file else None
    terminal = Terminal(arguments.quiet)
    for name in chosen:
        folder = fetch(
            DATA_SETS[name],
            Path(arguments.root),
            from_file=given,
            jpeg=arguments.jpeg,
            say=(lambda _: None) if arguments.quiet else print,
            terminal=terminal,
        )
        if arguments.quiet:
            terminal.result(str(folder))
    return 0


def _verify(names: list[str], flags: list[str]) -> int:
    arguments = parse(VerifyArguments, flags, "unet data verify", "Check the data sets against their manifests.")
    from unet.data import isbi
    from unet.data.load import DEFAULT_ROOT, find_root
    from unet.data.published.manifest import verify

    chosen = _chosen(names, list(DATA_SETS))
    terminal = Terminal(arguments.quiet)
    wrong = found = 0
    for name in chosen:
        data_set = DATA_SETS[name]
        root = Path(arguments.root) if arguments.root else find_root(data_set)
        if root is None:
            print(f"{data_set.folder}: not there; run `unet data fetch {name}`")
            wrong += bool(names)
            continue
        found += 1
        folder = root / data_set.folder
        only_jpeg = data_set.reader == "isbi" and not isbi.find_layout(folder) and isbi.find_layout(folder, jpeg=True)
        with terminal.task(f"checking {folder}"):
            problems = verify(data_set, folder, jpeg=bool(only_jpeg))
        wrong += len(problems)
        for problem in problems:
            print(f"{data_set.folder}/{problem}")
        if not problems and not arguments.quiet:
            print(f"{folder}: every file is there and unchanged{' (JPEG: readable)' if only_jpeg else ''}")
    if not found:
        raise DataError(f"none of the data sets is in {arguments.root or DEFAULT_ROOT}; run `unet data fetch all`")
    return 1 if wrong else 0


def _show(names: list[str], flags: list[str]) -> int:
    if not names and set(flags) <= {"--quiet"}:
        return _show_catalogue()
    arguments = _look(names, flags, "unet data show", "What a configuration means for a data set.")
    from unet.data.doubts import doubts
    from unet.data.load import load
    from unet.data.split import split
    from unet.data.stack import IGNORE, labelled

    config = arguments.config.data
    terminal = Terminal(arguments.quiet)
    stack = load(config, print, terminal)
    known = labelled(stack.frames)
    sizes = sorted({frame.size for frame in stack.frames})
    partial = [f.name for f in (stack.frames[i] for i in known) if f.label is not None and IGNORE in f.label]
    print(
        f"images:        {len(stack)} of {', '.join(f'{h} x {w}' for h, w in sizes[:3])}, {stack.channels} channel(s)"
    )
    print(f"classes:       {', '.join(stack.class_names)}")
    print(f"labelled:      {len(known)}{', with ignored pixels: ' * bool(partial)}{', '.join(partial)}")
    print(f"normalisation: {stack.normalisation}")
    if known:
        parts = split(stack, config)
        for side, frames in parts.names(stack).items():
            print(f"{side + ':':<14} " + (f"{len(frames)}: {', '.join(frames)}" if frames else "none"))
        for line in doubts(stack, parts.train, parts.held_out):
            print(line)
    return 0


def _show_catalogue() -> int:
    from unet.data.load import find_root

    for name, data_set in DATA_SETS.items():
        root = find_root(data_set)
        where = f"in {root / data_set.folder}" if root else f"not here (unet data fetch {name})"
        print(f"{name:<5} {data_set.title}\n      {where}")
        for source in data_set.sources:
            url = source.urls[0][0] if len(source.urls) == 1 else f"{source.urls[0][0]} and {len(source.urls) - 1} more"
            print(f"      {'only with --jpeg: ' if source.lossy else 'source: '}{url} ({source.note})")
        print(f"      terms: {data_set.terms}\n      cite: {data_set.citation}")
    return 0


def _preview(names: list[str], flags: list[str]) -> int:
    arguments = _look(names, flags, "unet data preview", "Contact sheet of images, labels, weight maps and tiles.")
    from unet.data.doubts import doubts
    from unet.data.load import load
    from unet.data.stack import labelled
    from unet.views.preview import contact_sheet

    terminal = Terminal(arguments.quiet)
    say = (lambda _: None) if arguments.quiet else print
    stack = load(arguments.config.data, say, terminal)
    for line in doubts(stack, labelled(stack.frames), ()):
        say(line)
    path = Path(arguments.out or f"{stack.name}-preview.png")
    with terminal.task("drawing the contact sheet"):
        contact_sheet(stack, arguments.config, path)
    print(f"contact sheet: {path}")
    return 0


def _look(names: list[str], flags: list[str], program: str, description: str) -> LookArguments:
    if len(names) > 1:
        raise ConfigError(f"one data set at a time, not {' and '.join(names)}; see {program} --help")
    for name in names:
        is_folder = "/" in name or Path(name).is_dir()
        flags = ["--data.folder" if is_folder else "--data.name", name, *flags]
    return parse(LookArguments, flags, program, description)


_ACTIONS: dict[str, Callable[[list[str], list[str]], int]] = {
    "fetch": _fetch,
    "verify": _verify,
    "show": _show,
    "preview": _preview,
}
