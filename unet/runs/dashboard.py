"""The mirror of a run on W&B: the only place that imports wandb. Training never waits for it and never fails by it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from unet.config import Config, to_dict
from unet.errors import one_line


class Dashboard:
    """Sends rows to W&B when there is one, and nothing otherwise. After the first error it falls silent."""

    def __init__(self, run: Any, say: Callable[[str], None]) -> None:
        self._run = run
        self._say = say

    @classmethod
    def start(cls, config: Config, folder: Path, extra: dict[str, Any], say: Callable[[str], None]) -> Dashboard:
        """Open the mirror in the mode of `config.wandb`; never prompts, never raises, waits `timeout_s` at most.

        mode "auto" is online with a key ($WANDB_API_KEY or a netrc entry) and offline without; $WANDB_MODE goes first.
        When the server cannot be reached in time the run goes on offline, and one line says so.
        """
        mode = resolve_mode(config.wandb.mode)
        if mode == "disabled":
            return cls(None, say)
        try:
            return cls(_init(config, folder, extra, mode), say)
        except Exception as error:
            if mode != "online":
                say(f"W&B: off for this run ({one_line(error)})")
                return cls(None, say)
            say(f"W&B: not reachable ({one_line(error)[:120]}); offline, send later with `wandb sync`")
        try:
            return cls(_init(config, folder, extra, "offline"), say)
        except Exception as error:
            say(f"W&B: off for this run ({one_line(error)})")
            return cls(None, say)

    @property
    def mode(self) -> str:
        """online, offline or disabled."""
        if self._run is None:
            return "disabled"
        return "offline" if self._run.settings.mode == "offline" else "online"

    def log(self, row: dict[str, Any]) -> None:
        """Send one row; its axis is `updates`."""
        if self._run is not None:
            self._guarded(lambda: self._run.log(row))

    def summary(self, values: dict[str, Any]) -> None:
        """Set final values of the run."""
        if self._run is not None:
            self._guarded(lambda: self._run.summary.update(values))

    def image(self, key: str, path: Path) -> None:
        """Send a picture file."""
        if self._run is not None:
            import wandb

            self._guarded(lambda: self._run.log({key: wandb.Image(str(path))}))

    def finish(self, exit_code: int = 0) -> None:
        """Close the mirror."""
        if self._run is not None:
            self._guarded(lambda: self._run.finish(exit_code=exit_code))
            self._run = None

    def _guarded(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:
            self._say(f"W&B: stopped ({one_line(error)[:120]}); the run goes on, its folder is complete")
            self._run = None


Mode = Literal["online", "offline", "disabled"]


def resolve_mode(mode: str) -> Mode:
    """online, offline or disabled for the configured mode, the environment and the presence of a key."""
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE", "auto")
    if mode == "auto":
        mode = "online" if _has_key() else "offline"
    known: dict[str, Mode] = {"online": "online", "disabled": "disabled"}
    return known.get(mode, "offline")


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    import netrc

    with suppress(OSError, netrc.NetrcParseError):
        hosts = netrc.netrc().hosts
        if hosts:
            import wandb

            return bool({"api.wandb.ai", urlsplit(wandb.Settings().base_url).hostname} & set(hosts))
    return False


def _init(config: Config, folder: Path, extra: dict[str, Any], mode: Mode) -> Any:
    os.environ.setdefault("WANDB_SILENT", "true")  # its own lines would stand between ours
    import wandb

    settings = wandb.Settings(init_timeout=config.wandb.timeout_s, login_timeout=config.wandb.timeout_s, silent=True)
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT") or config.wandb.project,
        entity=os.environ.get("WANDB_ENTITY") or config.wandb.entity or None,
        group=config.wandb.group or None,
        tags=[config.data.name, *config.wandb.tags],
        job_type="train",
        name=folder.name,
        dir=str(folder),
        mode=mode,
        config={**to_dict(config), "environment": extra},
        settings=settings,
    )
    run.define_metric("updates")
    run.define_metric("*", step_metric="updates")
    return run
