"""A run that has just begun."""

from __future__ import annotations

from pathlib import Path

from unet.config import Config
from unet.runs.folder import RunFolder, taken


def new_run(path: Path, config: Config, *, overwrite: bool = False) -> RunFolder:
    with taken(path, config, resume=False, overwrite=overwrite) as folder:
        return folder
