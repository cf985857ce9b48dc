"""`unet app [RUN|em|phc|hela]`: drop an image on a page of the browser and see what a network makes of it."""

from __future__ import annotations

import contextlib
import signal
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from unet.commands.parse import parse
from unet.errors import ConfigError, RunError
from unet.terminal import Terminal


@dataclass(frozen=True)
class Arguments:
    """Flags of `unet app`."""

    network: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|em|phc|hela")] = ""
    """The network to begin with; those that come along can be chosen on the page, too."""
    port: int = 0
    """Port of 127.0.0.1 (0: a free one)."""
    browser: bool = True
    """Open the page in the browser."""
    largest_mb: int = 4096
    """Largest file that is taken, in megabytes."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ..."""
    precision: str = "auto"
    """fp32 or bf16."""
    quiet: bool = False
    """Print nothing but the address."""


def main(argv: list[str]) -> int:
    """Serve the page until Ctrl-C; returns the exit code."""
    arguments = parse(Arguments, argv, "unet app", "A page that takes images and shows what a network makes of them.")
    if arguments.largest_mb < 1:
        raise ConfigError(f"--largest-mb {arguments.largest_mb} is not allowed; use 1 or more")
    try:
        from unet.app.server import Server
    except ImportError as error:
        missing = f"the app needs packages that are not there ({error.name})"
        raise RunError(f"{missing}; pip install 'unet-2015[app]'") from None
    from unet.app.store import Networks, Store

    terminal = Terminal(arguments.quiet)
    networks = Networks(_offered(arguments.network), arguments.device, arguments.precision)
    if arguments.network:
        networks.load(networks.names[0])  # what is wrong with it is said here, not on the page
    with Store(networks) as store:
        server = Server(store, arguments.port, arguments.largest_mb)
        if hasattr(signal, "SIGHUP"):  # the terminal has gone
            signal.signal(signal.SIGHUP, lambda *_: server.stop())
        terminal.result(server.url)
        terminal.say("it ends with Ctrl-C, and what was dropped on it is deleted then")
        if arguments.browser:
            webbrowser.open(server.url)
        with contextlib.suppress(KeyboardInterrupt):
            server.run()
    return 0


def _offered(word: str) -> dict[str, Path]:
    """The networks of the page by name, the one that was asked for first."""
    from unet.prediction.shipped import named_network, shipped

    offered = shipped()
    if not word:
        if not offered:
            raise ConfigError("unet app RUN needs a trained network: name a run folder, such as runs/NAME")
        return offered
    path = named_network(word)
    name = word if offered.get(word) == path else path.absolute().stem if path.is_file() else path.absolute().name
    return {name: path} | {other: file for other, file in offered.items() if other != name}
