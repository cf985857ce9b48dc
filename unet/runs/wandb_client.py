"""What is asked of W&B: a run for a folder, pictures, tables, files. The only place that imports wandb."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from unet.config import Config, to_dict
from unet.files import write_json
from unet.runs.folder import IDENTITY

AXES = ("updates", "pixels_seen")

JobType = Literal["train", "study", "evaluate"]
Mode = Literal["online", "offline", "disabled"]


@dataclass(frozen=True, eq=False)
class Picture:
    """An image with overlays. pixels: H x W or H x W x 3, uint8. overlays: H x W uint8 values and what they mean."""

    pixels: NDArray[np.uint8]
    caption: str
    overlays: Mapping[str, tuple[NDArray[np.uint8], Mapping[int, str]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Start:
    """What a mirrored run is begun with."""

    config: Config
    folder: Path
    environment: Mapping[str, Any]
    job_type: JobType
    mode: Mode


def resolve_mode(mode: str) -> Mode:
    """online, offline or disabled for the configured mode, the environment and the presence of a key."""
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE", "auto")
    if mode == "auto":
        mode = "online" if has_key() else "offline"
    known: dict[str, Mode] = {"online": "online", "disabled": "disabled"}
    return known.get(mode, "offline")


def has_key() -> bool:
    """Whether there is a W&B key: $WANDB_API_KEY, or a netrc entry of the server."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    import netrc

    with suppress(OSError, netrc.NetrcParseError):
        hosts = netrc.netrc().hosts
        if hosts:
            import wandb

            return bool({"api.wandb.ai", urlsplit(wandb.Settings().base_url).hostname} & set(hosts))
    return False


def description(start: Start) -> dict[str, Any]:
    """What a run is listed by: name, group (without the seed), tags, configuration."""
    config, name = start.config, start.folder.name
    group = config.wandb.group or name.removesuffix(f"-seed{config.train.seed}")
    study, _, arm = config.wandb.group.partition("/")
    tags = [config.data.name, config.model.variant, config.optim.name, *config.wandb.tags]
    commit = start.environment.get("commit")
    if commit:
        tags.append(f"commit {commit[:8]}" + ("+changes" if "+" in commit else ""))
    return {
        "name": name,
        "group": group,
        "job_type": start.job_type,
        "tags": list(dict.fromkeys(tags)),
        "config": {**to_dict(config), "study": study, "arm": arm, "environment": dict(start.environment)},
    }


def connect(start: Start) -> Any:
    """The W&B run that mirrors a folder: the one that did before, or a new one."""
    # Its own lines would stand between ours: those of the client, of its process, and of its telemetry.
    os.environ.setdefault("WANDB_SILENT", "true")
    logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
    import wandb

    _keep_inside(start.folder)
    wanted = start.config.wandb
    settings = wandb.Settings(
        init_timeout=wanted.timeout_s,
        login_timeout=wanted.timeout_s,
        finish_timeout=wanted.timeout_s,
        finish_timeout_raises=True,
        silent=True,
        console="off",  # progress bars are no log
        disable_git=True,  # the commit is in the configuration; patches of a checkout are nobody's business
        disable_job_creation=True,
    )
    known = _known_identity(start)
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT") or wanted.project,
        entity=os.environ.get("WANDB_ENTITY") or wanted.entity or None,
        dir=str(start.folder),
        mode=start.mode,
        id=known,
        resume="allow" if known else None,
        reinit="create_new",
        settings=settings,
        **description(start),
    )
    for axis in AXES:
        run.define_metric(axis)
    run.define_metric("*", step_metric="updates")
    if start.job_type != "evaluate":
        write_json(start.folder / IDENTITY, {"id": run.id, "project": run.project, "mode": start.mode})
    return run


_ours: dict[str, str] = {}  # places that this process has set, by the variable


def _keep_inside(folder: Path) -> None:
    """Let W&B put what it stages and its own log into the run folder, not below the user's home.

    Places that the user has set stay.
    """
    for variable, name in (("WANDB_DATA_DIR", "data"), ("WANDB_CACHE_DIR", "cache")):
        if os.environ.get(variable) == _ours.get(variable):
            _ours[variable] = os.environ[variable] = str(folder.resolve() / "wandb" / name)


def _known_identity(start: Start) -> str | None:
    """The W&B run that has mirrored this folder before; an evaluation is always a run of its own."""
    if start.job_type == "evaluate":
        return None
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((start.folder / IDENTITY).read_text(encoding="utf-8"))["id"])
    return None


def image(picture: Picture) -> Any:
    """A picture with its overlays as masks."""
    import wandb

    masks = {
        name: {"mask_data": values, "class_labels": {int(number): label for number, label in labels.items()}}
        for name, (values, labels) in picture.overlays.items()
    }
    return wandb.Image(picture.pixels, caption=picture.caption, masks=masks or None, file_type="jpg")


def image_file(path: Path) -> Any:
    """A picture file."""
    import wandb

    return wandb.Image(str(path))


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    """A table that names no path of this machine."""
    import wandb

    table = wandb.Table(columns=list(columns), data=[list(row) for row in rows], allow_mixed_types=True)
    table._log_type = "table-file"  # a file of the run alone: the artifact beside it would name absolute paths
    return table


def send_artifact(run: Any, path: Path, kind: str, metadata: dict[str, Any]) -> None:
    """Online as an artifact, which is not copied; offline, where one would name an absolute path, as a run's file."""
    if run.settings.mode == "offline":
        place = Path(run.dir) / path.name
        place.unlink(missing_ok=True)
        try:
            os.link(path, place)
        except OSError:  # a file system without links
            shutil.copyfile(path, place)
        run.save(str(place), base_path=run.dir, policy="end")
        return
    import wandb

    artifact = wandb.Artifact(f"{kind}-{run.id}", type=kind, metadata=metadata)
    artifact.add_file(str(path), policy="immutable", skip_cache=True)
    run.log_artifact(artifact, aliases=["final"])
