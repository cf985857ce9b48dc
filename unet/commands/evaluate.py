"""`unet evaluate RUN`: score a finished run on its held-out frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from unet.commands.parse import parse
from unet.progress import Terminal


@dataclass(frozen=True)
class Arguments:
    """Flags of `unet evaluate`."""

    run: Annotated[str, tyro.conf.Positional]
    """Run folder."""
    rotations: int = 0
    """1, or 8 to average over the symmetries of the square; 0: as the run was configured."""
    quiet: bool = False
    """Print the scores only."""


def main(argv: list[str]) -> int:
    """Print the table and write scores.json, probabilities.tif, prediction.png into the run folder."""
    arguments = parse(Arguments, argv, "unet evaluate", "Score a finished run on its held-out frames.")
    from unet.errors import ConfigError
    from unet.results import evaluate_run, table

    if arguments.rotations not in (0, 1, 8):
        raise ConfigError(f"--rotations {arguments.rotations}: use 1 or 8")
    terminal = Terminal(arguments.quiet)
    terminal.result(table(evaluate_run(Path(arguments.run), terminal, arguments.rotations or None)))
    return 0
