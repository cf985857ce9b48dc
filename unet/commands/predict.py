"""`unet predict RUN IMAGES`: segment images of any size with trained networks."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet.commands import submission
from unet.commands.networks import Loaded, instance_settings, load
from unet.commands.parse import parse
from unet.commands.predict_flags import Arguments
from unet.commands.words import Words, left_out, places, refuse_clashes, sort_words
from unet.errors import ConfigError, RunError
from unet.terminal import Bar, Terminal

if TYPE_CHECKING:
    from unet.prediction.job import Task
    from unet.prediction.objects import Objects


def main(argv: list[str]) -> int:
    """Write class probabilities as float32 TIFF; returns the exit code (130 after Ctrl-C, 143 after SIGTERM)."""
    arguments = parse(Arguments, argv, "unet predict", "Segment images of any size with trained networks.")
    if arguments.batch < 1:
        raise ConfigError(f"--batch {arguments.batch} is not allowed; use 1 or more")
    objects = arguments.instances or arguments.overlay
    if arguments.ctc and (arguments.out or arguments.classes or arguments.resume or objects):
        raise ConfigError(
            "--ctc writes instances only; leave out --out, --classes, --instances, --overlay and --resume"
        )
    if arguments.threshold is not None and not (objects or arguments.ctc):
        raise ConfigError("--threshold is of objects; add --instances")
    arguments = _with_preset(arguments)
    words = sort_words(arguments.words)
    from unet.signals import Interrupted

    terminal = Terminal(arguments.quiet)
    try:
        done = (submission.write if arguments.ctc else _write_maps)(arguments, words, terminal)
    except Interrupted as interruption:
        again = argv if arguments.ctc or arguments.resume else [*argv, "--resume"]
        how = "nothing was written; start again" if arguments.ctc else "go on"
        print(f"unet: {interruption}; {how} with: unet predict {shlex.join(again)}", file=sys.stderr, flush=True)
        return interruption.exit_code
    for path in done:
        terminal.result(str(path))
    return 0


def _with_preset(arguments: Arguments) -> Arguments:
    """The arguments with what the preset sets; ConfigError where it does not apply."""
    if not arguments.preset:
        return arguments
    if not arguments.ctc:
        raise ConfigError("--preset release makes objects; name a folder for them with --ctc")
    if (arguments.symmetries, arguments.average, arguments.threshold) != (0, "auto", None):
        raise ConfigError(
            "--preset release averages logits over the flips and takes the larger class; leave out --symmetries, "
            "--average and --threshold"
        )
    from unet.prediction.instances.released import AVERAGE, SYMMETRIES

    return replace(arguments, symmetries=SYMMETRIES, average=AVERAGE)


def _write_maps(arguments: Arguments, words: Words, terminal: Terminal) -> list[Path]:
    """Probability maps, and what is made of them; returns what is to be announced."""
    from unet.prediction.files import Watch, check_disk, predict_file
    from unet.prediction.job import make_task
    from unet.signals import Stopper

    place = places(words.images, arguments.out)
    loaded = load(arguments, words.networks)
    network, settings = loaded.network, loaded.settings
    tasks = [make_task(network, s, o, settings) for s, o in zip(place.sources, place.outputs, strict=True)]
    objects = _objects(arguments, words, loaded, tasks, terminal)
    made = [(task.source, [output.path for output in task.outputs]) for task in tasks]
    made += [(one.task.source, one.paths) for one in objects]
    refuse_clashes(made)
    if not arguments.resume and not arguments.overwrite:
        taken = next((path for _, paths in made for path in paths if path.exists()), None)
        if taken is not None:
            raise RunError(f"{taken} exists already; name another one with --out, or add --overwrite")
    check_disk(tasks, arguments.resume)
    if other := left_out(words.images):
        terminal.say(other)
    terminal.say(_what(tasks, loaded))
    before = 0
    with Stopper() as stopper, terminal.bar("rows of tiles", sum(task.rows for task in tasks)) as bar:
        for task in tasks:
            watch = Watch(_shown(bar, before, task.source.name), stopper.check, terminal.say)
            predict_file(network, task, settings, resume=arguments.resume, overwrite=arguments.overwrite, watch=watch)
            before += task.rows
    with Stopper() as stopper:
        for one in objects:
            if arguments.resume and one.finished:
                continue
            with terminal.task(f"{one.task.source.name}: finding objects"):
                count = one.write(stopper.check)
            alone = ", in each plane of the stack by itself" if one.task.shape_NCHW[0] > 1 else ""
            terminal.say(f"{one.masks}: {count:,} objects{alone}")
    return [place.target, *(path for one in objects for path in one.paths[:2] if place.target.is_file())]


def _objects(
    arguments: Arguments, words: Words, loaded: Loaded, tasks: list[Task], terminal: Terminal
) -> list[Objects]:
    """The objects that are to be made of each file, if any; RunError when others stand in their place."""
    from unet.prediction.job import describe
    from unet.prediction.objects import Objects, refuse_others

    if not (arguments.instances or arguments.overlay):
        return []
    chosen = instance_settings(arguments, words, loaded, terminal)
    objects = [
        Objects(task, describe(loaded.network, task, loaded.settings), chosen, arguments.overlay) for task in tasks
    ]
    refuse_others(objects, arguments.resume, arguments.overwrite)
    return objects


def _what(tasks: list[Task], loaded: Loaded) -> str:
    """One line about what is going to be done."""
    images, how, count = sum(task.shape_NCHW[0] for task in tasks), loaded.settings.how, len(loaded.runs)
    sizes = sorted({task.shape_NCHW[2:] for task in tasks})
    size = f"{sizes[0][0]} x {sizes[0][1]} px" + (f" to {sizes[-1][0]} x {sizes[-1][1]} px" if len(sizes) > 1 else "")
    tiles = " and ".join(sorted({str(task.tiles) for task in tasks}, key=lambda t: (len(t), t))[:2])
    over = [f"{count} networks"] * (count > 1) + [f"{how.symmetries} symmetries"] * (how.symmetries > 1)
    mean = f", mean of {how.average} over {' and '.join(over)}" if over else ""
    where = f"{loaded.network.precision} on {loaded.network.device}"
    return f"{images} image{'s' * (images > 1)} of {size}; tiles of {tiles}, {where}{mean}"


def _shown(bar: Bar, before: int, name: str) -> Any:
    """What moves the bar when a file's rows are done."""
    return lambda rows: bar.update(before + rows, name)
