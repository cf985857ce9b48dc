"""`unet reproduce`: the command that makes a run again; with --go run it and compare the results bit for bit."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from unet.commands.parse import parse
from unet.errors import RunError
from unet.runs.folder import ENVIRONMENT, unused
from unet.terminal import Terminal


@dataclass(frozen=True)
class Arguments:
    """Flags of `unet reproduce`."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder, or a run of experiments/results or experiments/archive, packed or not."""
    data_folder: Annotated[str, tyro.conf.arg(name="data.folder")] = ""
    """Where the images of the run lie by now, if they have moved; the run remembers it."""
    go: bool = False
    """Run the command and compare scores, curves and weights with the run's."""
    out: str = ""
    """Folder of the new run; default: RUN-again (in runs/ for a run of experiments/results), numbered when taken."""
    resume: bool = False
    """With --go: go on with the new run from its checkpoint (in RUN-again, where --out names no other)."""
    quiet: bool = False
    """Print results only."""


def main(argv: list[str]) -> int:
    """Returns 0 when the results are the same (or nothing was run), 1 when they differ; else as `unet train`."""
    description = "Print the command that makes a run again, and what differs here; --go runs it and compares."
    arguments = parse(Arguments, argv, "unet reproduce", description)
    from unet.runs.reproduce import Original, command

    terminal = Terminal(arguments.quiet)
    folder = _folder(Path(arguments.run), terminal)
    if arguments.data_folder:
        from unet.training.continuing import data_moved

        data_moved(folder, arguments.data_folder, terminal)
    original = Original.read(folder)
    target = _target(original.path, arguments, original.evidence)
    words = original.flags(target)
    for line in original.notes(_now(original)):
        terminal.result(f"# {line}".replace("\n", " "))
    commit = str(original.environment.get("commit") or "").removesuffix("+changes")
    if commit:
        terminal.result(f"# that very code: git checkout {shlex.quote(commit)}")
    terminal.result(command(words))
    return _go(original, target, words, terminal, arguments) if arguments.go else 0


def _folder(path: Path, terminal: Terminal) -> Path:
    """The folder of a run; that of a packed one is made, for its configuration must lie in a file."""
    from unet.study import store

    if not store.holds(path):
        return path
    target = Path("runs") / "stored" / path.parent.parent.name / path.parent.name / path.name
    terminal.say(f"{path}: its record is put into {target}")
    return store.unpack(path, target)


def _target(path: Path, arguments: Arguments, evidence: bool) -> Path:
    if arguments.out:
        return Path(arguments.out)
    name = f"{path.resolve().name}-again"
    target = Path("runs") / name if evidence else path.with_name(name) if path.name else Path(name)
    return target if arguments.resume else unused(target)


def _now(original: Any) -> dict[str, Any]:
    """What a run would be made with here, as far as it is known before it is begun."""
    import torch

    from unet.device import choose
    from unet.runs.environment import describe

    hardware = choose(original.config)
    then = original.environment
    threads = then["threads"] if isinstance(then.get("threads"), int) else torch.get_num_threads()
    return describe(hardware.device) | {"loss": then.get("loss"), "threads": threads}


def _go(original: Any, target: Path, words: list[str], terminal: Terminal, arguments: Arguments) -> int:
    from unet.commands import evaluate, train
    from unet.runs.folder import RunFolder
    from unet.runs.reproduce import compare, one_sided

    if target.exists() and not arguments.resume:
        raise RunError(f"{target} exists already; go on with it with --resume, or name another folder with --out")
    silence = ["--quiet"] if arguments.quiet else []
    if code := train.main([*words[1:], *silence, *(["--resume"] if arguments.resume else [])]):
        return code
    if original.tested is not None and (code := evaluate.main([str(target), "--test", *silence])):
        return code
    then, now = original.environment, RunFolder(target).read_json(ENVIRONMENT)
    if then.get("data_sha256") and then["data_sha256"] != now["data_sha256"]:
        terminal.result("data: other images or labels than the run was made with")
    found, same = compare(original, target), "the same" if original.evidence else "the same bits"
    for what, difference in found:
        terminal.result(f"{what + ':':<21}{difference or same}")
    for line in one_sided(original, target):
        terminal.result(f"# {line}")
    return 1 if any(difference for _, difference in found) else 0
