"""`unet export RUN --to onnx DIR`: a trained network for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from unet.commands.parse import parse
from unet.errors import ConfigError, RunError
from unet.terminal import Terminal


@dataclass(frozen=True)
class Arguments:
    """Flags of `unet export`."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|em|phc|hela")] = ""
    """A run folder, a weights file or a network that comes along."""
    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")] = ""
    """A new folder for the files."""
    to: Literal["onnx", "torchscript", "bioimageio", "web"] = "onnx"
    """onnx: model.onnx and a program that predicts with it; torchscript; bioimageio: a package of bioimage.io; web: a
    page that predicts in the browser, without a server (npm fetches its runtime)."""
    quiet: bool = False
    """Print nothing but the path of the result."""


def main(argv: list[str]) -> int:
    """Export a network; returns the exit code."""
    arguments = parse(Arguments, argv, "unet export", "Write a trained network for other programs.")
    if not arguments.run or not arguments.out:
        raise ConfigError("unet export RUN DIR needs a trained network and a folder, such as: unet export em em-onnx")
    from unet.export import bioimage, formats, network, web
    from unet.prediction.shipped import named_network

    path = named_network(arguments.run)
    folder = Path(arguments.out)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise RunError(f"{folder} exists already; name a new folder")
    exported = network.load(path)
    folder.mkdir(parents=True, exist_ok=True)
    terminal = Terminal(arguments.quiet)
    name = f"unet-2015 {Path(arguments.run).stem}"
    with terminal.task(f"exporting to {arguments.to}"):
        if arguments.to == "bioimageio":
            written = bioimage.write_package(exported, folder, name)
        elif arguments.to == "web":
            written = web.write_page(exported, folder, name)
        else:
            written = (formats.write_onnx if arguments.to == "onnx" else formats.write_torchscript)(exported, folder)
            (folder / bioimage.DOCUMENTATION).write_text(bioimage.card(exported, name))
    terminal.result(str(written))
    return 0
