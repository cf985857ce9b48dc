"""`unet predict RUN IMAGES`: segment images of any size with a trained network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from unet.commands.parse import parse
from unet.errors import ConfigError, DataError, RunError
from unet.progress import Terminal


@dataclass(frozen=True)
class Arguments:
    """Flags of `unet predict`."""

    run: Annotated[str, tyro.conf.Positional]
    """Run folder, or a weights file."""
    images: Annotated[str, tyro.conf.Positional]
    """Image file: TIFF (a stack too), PNG or JPEG."""
    out: str = ""
    """Float32 TIFF to write; default: IMAGES-probabilities.tif in the current folder."""
    rotations: int = 1
    """1, or 8 to average over the symmetries of the square."""
    tile_px: int = 0
    """Input side of the tiles; 0 chooses one that fits the images."""
    device: str = "auto"
    precision: str = "auto"
    """fp32, bf16 or auto."""
    overwrite: bool = False
    """Replace the output file if there is one."""
    quiet: bool = False
    """Print nothing but the path of the output."""


def main(argv: list[str]) -> int:
    """Write class probabilities of every image as a float32 TIFF stack."""
    arguments = parse(Arguments, argv, "unet predict", "Segment images of any size with a trained network.")
    source = Path(arguments.images)
    out = Path(arguments.out) if arguments.out else Path(f"{source.stem}-probabilities.tif")
    if out.exists() and not arguments.overwrite:
        raise RunError(f"{out} exists already; name another file with --out, or add --overwrite")
    if arguments.rotations not in (1, 8):
        raise ConfigError(f"--rotations {arguments.rotations}: use 1 or 8")
    terminal = Terminal(arguments.quiet)
    terminal.result(str(_predict(arguments, source, out, terminal)))
    return 0


def _predict(arguments: Arguments, source: Path, out: Path, terminal: Terminal) -> Path:
    import numpy as np

    from unet.config import from_dict
    from unet.data.stack import Normalisation
    from unet.data.tiff import read_images
    from unet.device import choose
    from unet.output import foreground, write_probabilities
    from unet.predict import predict_image
    from unet.results import load_network

    raw_NCHW = read_images(source)
    settings = {"device": arguments.device, "precision": arguments.precision}
    network, metadata = load_network(Path(arguments.run), choose(from_dict({"train": settings})))
    if raw_NCHW.shape[1] != metadata["channels"]:
        raise DataError(f"{source}: has {raw_NCHW.shape[1]} channels but the network takes {metadata['channels']}")
    normalise = Normalisation(**metadata["normalisation"])
    classes = len(metadata["class_names"])
    maps = []
    with terminal.bar(f"predicting {source.name}", len(raw_NCHW)) as bar:
        for done, raw_CHW in enumerate(raw_NCHW, start=1):
            image = normalise(raw_CHW)
            if not np.isfinite(image).all():
                raise DataError(f"{source}: image {done} holds NaN or infinite values; repair it")
            tile = arguments.tile_px or metadata["tile_px"]
            maps.append(foreground(predict_image(network, image, classes, tile_px=tile, rotations=arguments.rotations)))
            bar.update(done)
    return write_probabilities(out, maps)
