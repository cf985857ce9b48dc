"""Stored evidence as W&B runs: a dashboard is filled from the repository, nothing is trained again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from unet.errors import RunError
from unet.files import write_json
from unet.runs.dashboard import Dashboard
from unet.runs.final import send_results
from unet.runs.folder import IDENTITY
from unet.runs.mirrored import mirrored_row
from unet.runs.wandb_client import Mode, resolve_mode
from unet.study.evidence import Evidence

SENT = "sent.json"
"""In the folder of a run that was sent: SHA-256 of the evidence that arrived, and whether online."""


def send(study: str, profile: str, runs: Sequence[Evidence], folder: Path, say: Callable[[str], None]) -> int:
    """Send the evidence of a study's runs that has not been sent yet; returns how many were.

    Each becomes a W&B run as its training would have been mirrored (same name, group, job type, rows, summary), with an
    id that follows from study, profile and configuration, so that none appears twice. folder: where it is noted what
    was sent, and where W&B's own files go. RunError when W&B is switched off or a run did not arrive whole.
    """
    mode = resolve_mode("auto")
    if mode == "disabled":
        raise RunError("W&B is switched off (WANDB_MODE=disabled); unset it to send the evidence")
    sent = 0
    for run in runs:
        place = folder / study / profile / run.path.name
        noted = {"evidence": _digest(run), "online": mode == "online"}
        if _read(place / SENT) in (noted, noted | {"online": True}):
            continue
        _send_one(study, profile, run, place, mode)
        write_json(place / SENT, noted)
        sent += 1
        say(f"{run.path.name}: sent ({mode})")
    return sent


def run_id(study: str, profile: str, run: Evidence) -> str:
    """The name that W&B knows a sent run by."""
    key = f"{study}/{profile}/{run.path.name}/{run.config_hash}"
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _send_one(study: str, profile: str, run: Evidence, place: Path, mode: Mode) -> None:
    again = (place / SENT).is_file()  # its rows are there; only the scores can have changed
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / IDENTITY, {"id": run_id(study, profile, run)})
    config = replace(run.config, wandb=replace(run.config.wandb, group=f"{study}/{run.arm}", mode=mode))
    troubles: list[str] = []
    with Dashboard(troubles.append, "study") as dashboard:
        dashboard.open(config, place, run.environment)
        for row in () if again else run.rows:
            dashboard.log(mirrored_row(row, config))
        if run.diverged:
            dashboard.summary({"diverged": str(run.failure.get("diverged", ""))})
            dashboard.finish(exit_code=1)
        else:
            send_results(dashboard, run.stored, run.rows)
    if troubles:
        raise RunError(f"{run.path.name}: not sent whole ({troubles[0]}); the same command goes on with it")


def _digest(run: Evidence) -> str:
    told: dict[str, Any] = {"rows": run.rows, "record": run.record}
    told["end"] = run.failure if run.diverged else run.stored
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> Any:
    with suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return None
