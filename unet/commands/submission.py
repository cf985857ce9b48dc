"""`unet predict --ctc`: instances of every frame in the form that the Cell Tracking Challenge takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from unet.commands.networks import instance_settings, load
from unet.commands.words import Words, places
from unet.errors import ConfigError, DataError, RunError
from unet.terminal import Terminal

if TYPE_CHECKING:
    from unet.commands.predict_flags import Arguments

_FRAME = re.compile(r"t([0-9]+)")  # names of the Cell Tracking Challenge's frames


def write(arguments: Arguments, words: Words, terminal: Terminal) -> list[Path]:
    """Instances of every frame into the challenge's folder; the frames are small and predicted in memory."""
    from unet.data.images.tiff import read_images
    from unet.data.rescale import rescaling
    from unet.prediction.instances import to_instances
    from unet.prediction.instances.released import SETTINGS, release_instances
    from unet.prediction.job import make_task
    from unet.prediction.overlap import predict_image
    from unet.prediction.submission import TRACKS, write_ctc
    from unet.signals import Stopper

    folder, sources = Path(arguments.ctc), places(words.images, "").sources
    present = sorted(folder.glob("mask*.tif")) + sorted(folder.glob(TRACKS))
    if present and not arguments.overwrite:
        raise RunError(f"{present[0]} exists already; name another folder with --ctc, or add --overwrite")
    digits = _frame_digits(sources)
    loaded = load(arguments, words.networks)
    network, settings = loaded.network, loaded.settings
    if arguments.preset:
        if settings.classes != 2:
            raise ConfigError(
                f"--preset release needs a network of two classes; {words.networks[0]} has {settings.classes}"
            )
        chosen = SETTINGS
        terminal.say(f"instances: {chosen.to_dict()} (the release's)")
    else:
        chosen = instance_settings(arguments, words, loaded, terminal)
    tasks = [make_task(network, source, folder / source.name, settings) for source in sources]
    stack = next((task.source for task in tasks if task.shape_NCHW[0] > 1 and _FRAME.fullmatch(task.source.stem)), None)
    if stack is not None and len(tasks) > 1:
        raise DataError(f"{stack}: holds several images and would shift the frames after it; save one image per file")
    frames = []
    with Stopper() as stopper, terminal.bar("frames", sum(task.shape_NCHW[0] for task in tasks)) as bar:
        for task in tasks:
            for raw_CHW in read_images(task.source, mmap=True, palette_rgb=settings.channels > 1):
                image = rescaling(settings.normalisation, raw_CHW, task.source.name)(raw_CHW)
                probabilities = predict_image(
                    network, image, settings.classes, settings.how, on_tile=lambda *_: stopper.check()
                )
                found = release_instances(probabilities) if arguments.preset else to_instances(probabilities, chosen)
                frames.append(found)
                bar.update(len(frames), task.source.name)
    write_ctc(folder, frames, digits)
    return [folder]


def _frame_digits(sources: list[Path]) -> int:
    """The digits that frame numbers take in the masks: those of the challenge's frames t000, t001, ..., else 3.

    Such frames keep their numbers: DataError when one is missing, or when another image lies among them.
    """
    named = [match for p in sources if (match := _FRAME.fullmatch(p.stem))]
    if not named:
        return 3
    if len(named) < len(sources):
        other = next(p for p in sources if not _FRAME.fullmatch(p.stem))
        raise DataError(f"{other}: is no frame like {named[0][0]}, and would shift their numbers; move it elsewhere")
    missing = next((i for i, match in enumerate(named) if int(match[1]) != i), None)
    if len(sources) > 1 and missing is not None:
        raise DataError(f"{sources[0].parent}: frame t{missing:03d} is missing; the challenge counts frames from t000")
    return max(3, *(len(match[1]) for match in named))
