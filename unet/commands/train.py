"""`unet train`: train a network, score it on the held-out frames, say where everything is."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import sys
import time
import typing
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from unet.commands.parse import known_flags, parse, refuse_unknown_flags
from unet.config import PROFILES, Config, DataConfig, differences, load_yaml, profile, to_yaml
from unet.errors import ConfigError, RunError, UserError, is_unicode, nearest
from unet.runs.folder import CONFIG, PICTURE, PROBABILITIES, SCORES, WEIGHTS, claimed, unused
from unet.terminal import Terminal, format_seconds

if TYPE_CHECKING:
    from unet.training.processes import Processes


@dataclass(frozen=True)
class Arguments:
    """Flags of `unet train`; every key of the configuration is one more."""

    profile: str = "full"
    """Starting point: full (the paper's network, the blog's length and batch), paper (batch of one tile), quick
    (minutes on a CPU), auto (full on CUDA, else quick)."""
    config_file: str = ""
    """YAML file with configuration keys, applied over the profile."""
    run: str = ""
    """Run folder; default: runs/DATA-PROFILE-seedN, numbered when taken."""
    resume: bool = False
    """Go on with the run in --run; with a profile or settings beside it, begin where there is none yet."""
    changed_data: bool = False
    """With --resume: go on although images or labels are not those the run was begun with."""
    lost_metrics: bool = False
    """With --resume: go on although metrics.jsonl is gone or was edited; its rows begin anew."""
    overwrite: bool = False
    """Delete the run in --run and start anew."""
    dry_run: bool = False
    """Print the resolved configuration and the run folder; train nothing."""
    quiet: bool = False
    """Print the scores only."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)


def main(argv: list[str]) -> int:
    """Train and score; returns the exit code (130 after Ctrl-C, 143 SIGTERM, 129 SIGHUP, with a checkpoint).

    Where torchrun has started several processes, each of them comes here; the first one scores and prints.
    """
    if "WORLD_SIZE" not in os.environ:
        return _train(argv, None)
    from unet.training.processes import ProcessLost, joined

    with joined() as processes:
        try:
            return _train(processes.of_first(_after_a_restart(argv)), processes)
        except ProcessLost as error:
            if processes.speaks():
                raise
            return error.exit_code
        except UserError as error:
            if processes.first:
                raise
            return error.exit_code


def _train(argv: list[str], processes: Processes | None) -> int:
    arguments, path = resolve(argv)
    first = processes is None or processes.first
    if processes is not None and not first:
        unmirrored = replace(arguments.config.wandb, mode="disabled")
        arguments = replace(arguments, quiet=True, config=replace(arguments.config, wandb=unmirrored))
    config = arguments.config
    if arguments.dry_run:
        print(f"# run folder: {path}\n{to_yaml(config)}", end="")
        return 0
    from unet.evaluation.held_out import nothing_held_out
    from unet.evaluation.run import evaluate_run, table
    from unet.runs.dashboard import Dashboard
    from unet.runs.final import send_scores
    from unet.runs.lock import keep_run_locks
    from unet.signals import Interrupted
    from unet.training.loop import train

    terminal = Terminal(arguments.quiet)
    if not arguments.resume and not any(_value(argv, flag) for flag in ("--profile", "--config-file")):
        _tell_size(arguments, terminal)
    started = time.monotonic()
    named = arguments.run or not first
    own = nullcontext(path) if named else claimed(Path("runs") / _default_name(arguments))
    try:
        # one lock from the first update to the scores
        with own as path, keep_run_locks(), Dashboard(terminal.say, "train") as board:
            folder = train(
                config,
                path,
                resume=arguments.resume,
                overwrite=arguments.overwrite,
                terminal=terminal,
                dashboard=board,
                changed_data=arguments.changed_data,
                lost_metrics=arguments.lost_metrics,
                processes=processes,
            )
            if not first:
                return 0
            if folder.held_nothing_out:
                told = nothing_held_out(path, config)
            else:
                scores = evaluate_run(path, terminal, announce=False)
                send_scores(board, folder, scores)
                told = table(scores)
    except Interrupted as interruption:
        if first:
            terminal.say(f"unet: {interruption}; go on with: unet train --resume --run {shlex.quote(str(path))}")
        return interruption.exit_code
    terminal.result(told)
    terminal.result("\n".join(_where(path)))
    terminal.say(f"took {format_seconds(time.monotonic() - started)}")
    if arguments.profile == "quick":
        terminal.say(f"the full-size run: {full_size_command(config)}")
    return 0


def full_size_command(config: Config) -> str:
    """The command, as it can be pasted, that trains the paper's size on the same data."""
    flags = ["--data.name", config.data.name] if config.data.name != "folder" else []
    for key, (_, value) in differences(Config(), config).items():
        if key.startswith("data.") and key != "data.name":
            values = value if isinstance(value, list) else [value]
            flags += [f"--{key.replace('_', '-')}", *map(str, values)]
    return f"{program()} train {shlex.join([*flags, '--profile', 'full'])}"


def program() -> str:
    """How this very program is called again: `unet` where the shell finds it under that name."""
    own = Path(sys.argv[0])
    if own.name != "unet":
        return f"{shlex.quote(sys.executable)} -m unet"
    found = shutil.which("unet")
    return "unet" if found and Path(found).resolve() == own.resolve() else shlex.quote(str(own))


CPU_SECONDS_PER_TILE = 2.4
"""Of the paper's network and a tile of 508 px, forth and back, on two cores with bf16 (AMD EPYC, measured)."""


def _tell_size(arguments: Arguments, terminal: Terminal) -> None:
    """Before hours are spent: that no profile was named, and how long the paper's size takes without a GPU."""
    import torch

    config = arguments.config
    if config.train.device not in ("auto", "cpu") or (config.train.device == "auto" and torch.cuda.is_available()):
        return
    if config.model.base_channels < 64 or config.tile.input_px < 500:
        return
    hours = config.train.updates * config.train.batch * config.train.accumulate * CPU_SECONDS_PER_TILE / 3600
    terminal.say(
        f"no --profile was named, so this is the paper's size: about {hours:,.0f} hours on two cores with bf16, three "
        "times that without; --profile auto takes the size that suits this machine"
    )


def resolve(argv: list[str]) -> tuple[Arguments, Path]:
    """Arguments and run folder: flags over YAML file over profile; on --resume over the run's own configuration."""
    argv = _with_aliases(argv)
    argv = _with_data_flag(argv)
    refuse_unknown_flags(argv, known_flags(Arguments), "unet train")
    name = _value(argv, "--profile") or "full"
    if name == "auto":
        name = _profile_for_this_machine()
        argv = [*argv, f"--profile={name}"]  # of several the last one counts
    base = profile(name)
    if file := _value(argv, "--config-file"):
        base = load_yaml(Path(file), base)
    run = _value(argv, "--run")
    if not is_unicode(run):
        raise ConfigError(f"--run: {run!r} is not UTF-8; choose another name")
    if "--resume" in argv and _begins(argv, run):
        argv = [word for word in argv if word != "--resume"]
    resume = "--resume" in argv
    stored = base
    if resume:
        if not run or not (Path(run) / CONFIG).is_file():
            raise RunError(f"--resume needs --run with the folder of a run ({run or 'none was named'})")
        stored = load_yaml(Path(run) / CONFIG)
        base = load_yaml(Path(file), stored) if file else stored
    default = Arguments(config=base)
    description = f"Train a network and score it on held-out images. Profiles: {', '.join(PROFILES)}."
    arguments = parse(Arguments, argv, "unet train", description, default)
    if resume:
        if arguments.overwrite:
            raise ConfigError("--resume and --overwrite exclude each other; choose one")
        _refuse_changes(stored, arguments.config)
    elif arguments.changed_data or arguments.lost_metrics:
        raise ConfigError(f"--{'changed-data' if arguments.changed_data else 'lost-metrics'} goes with --resume")
    arguments = replace(arguments, config=_with_whole_paths(arguments.config, stored if resume else Config()))
    return arguments, Path(run) if run else unused(Path("runs") / _default_name(arguments))


def _after_a_restart(argv: list[str]) -> list[str]:
    """The words for all processes: torchrun starts them again with the same ones, and the run goes on where there is
    one by then. Decided once, since the first process makes the folder that the others would look for."""
    words, run = [word for word in argv if word != "--resume"], _value(argv, "--run")
    again = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0 and (Path(run or ".") / CONFIG).is_file()
    goes_on = again or ("--resume" in argv and not _begins(argv, run))
    return [*words, "--resume"] if goes_on else words


def _begins(argv: list[str], run: str) -> bool:
    """Whether `--resume` finds no run yet and the words say what to train, as where a cluster queues a job again and
    again: the run begins then. Without such words the folder's name is more likely a wrong one."""
    told = [
        word for word in argv if word.startswith("--") and word.split("=")[0] not in ("--run", "--resume", "--quiet")
    ]
    return bool(run and told) and not Path(run).exists()


def _with_whole_paths(config: Config, stored: Config) -> Config:
    """Paths that are new against `stored` as absolute ones, so that the run is whole wherever it is gone on with."""
    from unet.prediction.shipped import find_network

    data, settings = config.data, config.train
    if data.folder and data.folder != stored.data.folder:
        data = replace(data, folder=str(Path(data.folder).resolve()))
    if settings.parent and settings.parent != stored.train.parent:
        settings = replace(settings, parent=str((find_network(settings.parent) or Path(settings.parent)).resolve()))
    return replace(config, data=data, train=settings)


def _profile_for_this_machine() -> str:
    import torch

    return "full" if torch.cuda.is_available() else "quick"


def _default_name(arguments: Arguments) -> str:
    config = arguments.config
    data = Path(config.data.folder).name if config.data.name == "folder" else config.data.name
    return f"{data}-{arguments.profile}-seed{config.train.seed}"


def _with_aliases(argv: list[str]) -> list[str]:
    """`--wandb offline` for `--wandb.mode offline`, `--from RUN` for `--train.parent RUN`."""
    for short, whole in (("--wandb", "--wandb.mode"), ("--from", "--train.parent")):
        argv = [whole + w[len(short) :] if w == short or w.startswith(f"{short}=") else w for w in argv]
    return argv


def _with_data_flag(argv: list[str]) -> list[str]:
    """`unet train DIR ...` for --data.folder DIR, `unet train em ...` for --data.name em; else ConfigError for a word
    in front."""
    if not argv or argv[0].startswith("-"):
        return argv
    names = typing.get_args(typing.get_type_hints(DataConfig)["name"])
    if Path(argv[0]).is_dir():
        return ["--data.folder", *argv]
    if argv[0] in names and argv[0] != "folder":
        return ["--data.name", *argv]
    raise ConfigError(
        f"{argv[0]!r} is no folder and no data set{nearest(argv[0], names)}; name your images with --data.folder DIR, "
        "a run to go on with by --resume --run RUN"
    )


def _value(argv: list[str], flag: str) -> str:
    """Value of a flag given as `--flag value` or `--flag=value`; the last one counts; empty when it is absent."""
    found = ""
    for word, following in itertools.pairwise([*argv, ""]):
        head, equals, value = word.partition("=")
        if head.replace("_", "-") == flag:
            found = value if equals else following
    return found


def _refuse_changes(stored: Config, asked: Config) -> None:
    """RunError naming the first key in which a resumed run would differ from what it was started with."""
    from unet.training.continuing import edited

    for key, (value, now) in edited(stored, asked).items():
        raise RunError(f"--resume: {key} was {value!r} and cannot become {now!r}; start a new run")


def _where(path: Path) -> list[str]:
    if not (path / SCORES).is_file():  # nothing was held out
        return [f"{'checkpoint:':<15}{path / WEIGHTS}", f"{'record:':<15}{path / CONFIG}"]
    written = PROBABILITIES if (path / PROBABILITIES).exists() else Path(PROBABILITIES).stem  # unequal sizes: a folder
    named = {"picture": PICTURE, "probabilities": written, "checkpoint": WEIGHTS, "record": CONFIG}
    return [f"{what + ':':<15}{path / name}" for what, name in named.items()]
