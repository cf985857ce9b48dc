"""`unet predict RUN IMAGES`: segment images of any size with a trained network."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from unet.commands.parse import parse
from unet.errors import ConfigError, DataError, RunError
from unet.progress import Bar, Terminal

if TYPE_CHECKING:
    from unet.instances import InstanceSettings
    from unet.predict import Network
    from unet.task import Settings, Task

_FRAME = re.compile(r"t([0-9]+)")  # names of the Cell Tracking Challenge's frames


@dataclass(frozen=True)
class Arguments:
    """Flags of `unet predict`."""

    run: Annotated[str, tyro.conf.Positional]
    """Run folder, or a weights file."""
    images: Annotated[str, tyro.conf.Positional]
    """Image file (TIFF, a stack too, PNG or JPEG), or a folder of them."""
    out: str = ""
    """Float32 TIFF to write, or a folder for a folder of images; default: IMAGES-probabilities here."""
    classes: bool = False
    """Also write the most probable class of every pixel, as NAME-classes.tif (8-bit)."""
    ctc: str = ""
    """Write instances instead, as the Cell Tracking Challenge takes them, into this folder (e.g. OUT/01_RES)."""
    preset: Literal["", "release"] = ""
    """release: as the code released with the paper made objects of PhC-U373 (flips, logits, from 500 px, no border)."""
    symmetries: Literal[1, 4, 8] = 1
    """4: average over the flips, 8: over the symmetries of the square."""
    average: Literal["probabilities", "logits"] = "probabilities"
    """What is averaged over symmetries and networks."""
    tile_px: int = 0
    """Input side of the tiles; 0 chooses one that fits the images."""
    batch: int = 1
    """Tiles that go through the network at once."""
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    resume: bool = False
    """Go on with a prediction that was stopped; of a folder, do what is missing."""
    overwrite: bool = False
    """Replace outputs that exist."""
    quiet: bool = False
    """Print nothing but the path of the output."""


def main(argv: list[str]) -> int:
    """Write class probabilities as float32 TIFF; returns the exit code (130 after Ctrl-C, 143 after SIGTERM)."""
    arguments = parse(Arguments, argv, "unet predict", "Segment images of any size with a trained network.")
    if arguments.batch < 1:
        raise ConfigError(f"--batch {arguments.batch} is not allowed; use 1 or more")
    if arguments.ctc and (arguments.out or arguments.classes or arguments.resume):
        raise ConfigError("--ctc writes instances only; leave out --out, --classes and --resume")
    arguments = _with_preset(arguments)
    sources = image_files(Path(arguments.images))
    from unet.signals import Interrupted

    terminal = Terminal(arguments.quiet)
    try:
        done = _write_ctc(arguments, sources, terminal) if arguments.ctc else _write_maps(arguments, sources, terminal)
    except Interrupted as interruption:
        again = argv if arguments.ctc or arguments.resume else [*argv, "--resume"]
        how = "nothing was written; start again" if arguments.ctc else "go on"
        print(f"unet: {interruption}; {how} with: unet predict {shlex.join(again)}", file=sys.stderr, flush=True)
        return interruption.exit_code
    terminal.result(str(done))
    return 0


def _with_preset(arguments: Arguments) -> Arguments:
    """The arguments with what the preset sets; ConfigError where it does not apply."""
    if not arguments.preset:
        return arguments
    if not arguments.ctc:
        raise ConfigError("--preset release makes objects; name a folder for them with --ctc")
    if (arguments.symmetries, arguments.average) != (1, "probabilities"):
        raise ConfigError("--preset release averages logits over the flips; leave out --symmetries and --average")
    from unet.release import AVERAGE, SYMMETRIES

    return replace(arguments, symmetries=SYMMETRIES, average=AVERAGE)


def image_files(source: Path) -> list[Path]:
    """The file itself, or all images of a folder in natural order (t2 before t10).

    Raises DataError when there are none or the folder may not be read.
    """
    from unet.data.tiff import SUFFIXES
    from unet.files import natural_key, reading

    with reading(source):
        if not source.is_dir():
            return [source]
        found = [p for p in source.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES and p.name[0] != "."]
    if not found:
        raise DataError(f"{source}: holds no image ({', '.join(SUFFIXES)}); name a file or a folder of images")
    return sorted(found, key=lambda path: natural_key(path.name))


def output_files(images: Path, sources: list[Path], out: str) -> tuple[Path, list[Path]]:
    """What is announced at the end (file or folder) and the output file of each source; RunError where names clash."""
    if not images.is_dir() and not Path(out or "none").is_dir():
        path = Path(out) if out else Path(f"{images.stem}-probabilities.tif")
        if path.suffix.lower() not in (".tif", ".tiff"):
            raise ConfigError(f"--out {out}: probabilities are written as TIFF; name a file that ends in .tif")
        return path, [path]
    folder = Path(out) if out else Path(f"{images.resolve().name}-probabilities")
    if folder.suffix.lower() in (".tif", ".tiff") or folder.is_file():
        raise ConfigError(f"--out {out}: {images} is a folder of images; name a folder for the results")
    if folder.exists() and images.is_dir() and folder.samefile(images):
        raise RunError(f"{folder}: holds the images; name another folder with --out")
    outputs = [folder / f"{source.stem}.tif" for source in sources]
    return (folder if images.is_dir() else outputs[0]), outputs


def refuse_clashes(tasks: list[Task]) -> None:
    """DataError when two files of a folder would be written to one place."""
    seen: dict[Path, Path] = {}
    for task in tasks:
        for output in task.outputs:
            if output.path in seen:
                first, second = seen[output.path].name, task.source.name
                raise DataError(f"{first} and {second} would both become {output.path.name}; rename one of them")
            seen[output.path] = task.source


def _load(arguments: Arguments) -> tuple[Network, Settings, tuple[str, ...]]:
    """The network, what is asked of it, and the names of its classes."""
    from unet.config import from_dict
    from unet.data.stack import Normalisation
    from unet.device import prepare
    from unet.files import sha256
    from unet.task import Settings
    from unet.trained import load_network, weights_file

    run = Path(arguments.run)
    hardware = prepare(from_dict({"train": {"device": arguments.device, "precision": arguments.precision}}))
    network, metadata = load_network(run, hardware)
    settings = Settings(
        normalisation=Normalisation(**metadata["normalisation"]),
        channels=metadata["channels"],
        classes=len(metadata["class_names"]),
        weights=(sha256(weights_file(run)),),
        tile_px=arguments.tile_px or metadata["tile_px"],
        batch=arguments.batch,
        symmetries=arguments.symmetries,
        average=arguments.average,
        label_map=arguments.classes,
    )
    return network, settings, tuple(metadata["class_names"])


def _write_maps(arguments: Arguments, sources: list[Path], terminal: Terminal) -> Path:
    from unet.signals import Stopper
    from unet.stream import Watch, check_disk, predict_file
    from unet.task import make_task

    target, outputs = output_files(Path(arguments.images), sources, arguments.out)
    network, settings, _ = _load(arguments)
    tasks = [make_task(network, s, o, settings) for s, o in zip(sources, outputs, strict=True)]
    refuse_clashes(tasks)
    if not arguments.resume and not arguments.overwrite:
        taken = next((o.path for task in tasks for o in task.outputs if o.path.exists()), None)
        if taken is not None:
            raise RunError(f"{taken} exists already; name another one with --out, or add --overwrite")
    check_disk(tasks, arguments.resume)
    terminal.say(_what(tasks, network, settings))
    before = 0
    with Stopper() as stopper, terminal.bar("rows of tiles", sum(task.rows for task in tasks)) as bar:
        for task in tasks:
            watch = Watch(_shown(bar, before, task.source.name), stopper.check, terminal.say)
            predict_file(network, task, settings, resume=arguments.resume, overwrite=arguments.overwrite, watch=watch)
            before += task.rows
    return target


def _what(tasks: list[Task], network: Network, settings: Settings) -> str:
    """One line about what is going to be done."""
    images = sum(task.shape_NCHW[0] for task in tasks)
    sizes = sorted({task.shape_NCHW[2:] for task in tasks})
    size = f"{sizes[0][0]} x {sizes[0][1]} px" + (f" to {sizes[-1][0]} x {sizes[-1][1]} px" if len(sizes) > 1 else "")
    tiles = " and ".join(sorted({str(task.tiles) for task in tasks}, key=lambda t: (len(t), t))[:2])
    turned = f", average of {settings.average} over {settings.symmetries} symmetries" if settings.symmetries > 1 else ""
    count = f"{images} image{'s' * (images > 1)}"
    return f"{count} of {size}; tiles of {tiles}, {network.precision} on {network.device}{turned}"


def _shown(bar: Bar, before: int, name: str) -> Any:
    """What moves the bar when a file's rows are done."""
    return lambda rows: bar.update(before + rows, name)


def _write_ctc(arguments: Arguments, sources: list[Path], terminal: Terminal) -> Path:
    """Instances of every frame into the challenge's folder; the frames are small and predicted in memory."""
    from unet.challenge import TRACKS, write_ctc
    from unet.data.masks import Target
    from unet.data.rescale import rescaling
    from unet.data.tiff import read_images
    from unet.instances import to_instances
    from unet.predict import predict_image
    from unet.release import SETTINGS, release_instances
    from unet.signals import Stopper
    from unet.task import make_task

    folder = Path(arguments.ctc)
    present = sorted(folder.glob("mask*.tif")) + sorted(folder.glob(TRACKS))
    if present and not arguments.overwrite:
        raise RunError(f"{present[0]} exists already; name another folder with --ctc, or add --overwrite")
    digits = _frame_digits(sources)
    network, settings, class_names = _load(arguments)
    if len(class_names) != 2 and class_names != Target("cell-border").class_names:
        raise ConfigError(
            f"--ctc needs a network of two classes or of background, cell and border; {arguments.run} has "
            f"{', '.join(class_names)}"
        )
    if arguments.preset and len(class_names) != 2:
        raise ConfigError(f"--preset release needs a network of two classes; {arguments.run} has {len(class_names)}")
    chosen, where = (SETTINGS, "the release's") if arguments.preset else _instance_settings(Path(arguments.run))
    terminal.say(f"instances: {chosen.to_dict()} ({where})")
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
                    network,
                    image,
                    settings.classes,
                    tile_px=settings.tile_px,
                    batch=settings.batch,
                    symmetries=settings.symmetries,
                    average=settings.average,
                    on_tile=lambda *_: stopper.check(),
                )
                found = release_instances(probabilities) if arguments.preset else to_instances(probabilities, chosen)
                frames.append(found)
                bar.update(len(frames), task.source.name)
    write_ctc(folder, frames, digits)
    return folder


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


def _instance_settings(run: Path) -> tuple[InstanceSettings, str]:
    """What the run chose on its training frames, else the defaults; and where they come from."""
    from unet.instances import InstanceSettings
    from unet.results import SCORES
    from unet.runs.folder import RunFolder

    if (run / SCORES).is_file():
        chosen = RunFolder(run).read_json(SCORES).get("instances")
        if chosen is not None:
            return InstanceSettings.from_dict(chosen), f"from {run / SCORES}"
    return InstanceSettings(), "defaults; the run has chosen none"
