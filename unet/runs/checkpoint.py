"""Checkpoints: atomic, with a checksum, the previous one kept until the next is proven readable.

A checkpoint is two files, `update-000400.json` (its size and SHA-256, written first) and `update-000400.pt` (read with
weights_only=True: no code is ever loaded). The second one takes its name in one step, and then the checkpoint is there;
one without a record that fits does not count. Where one of the same update is replaced (a resumed run saves again), the
record fits the old one as well, if that was whole; one that was damaged goes first, or it would count from then on.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from unet.errors import RunError, one_line
from unet.files import atomic_write, sha256, write_error, write_json

KEPT = 2
_NAME = re.compile(r"update-[0-9]+\.pt")
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


def save_checkpoint(folder: Path, update: int, state: dict[str, Any]) -> Path:
    """Write the state after `update` updates; returns the file's path. Older ones beyond the last two are removed."""
    path = folder / f"update-{update:06d}.pt"
    memory = io.BytesIO()  # torch.save hides a full disk behind an error of its own
    torch.save(state, memory)
    content = memory.getbuffer()
    digest = hashlib.sha256(content).hexdigest()  # of what is meant to be written
    record = {"update": update, "bytes": len(content), "sha256": digest}
    write_json(path.with_suffix(".json"), record | _before(path))
    try:
        with atomic_write(path) as file:
            file.write(content)
    finally:
        for alone in folder.glob("update-*.json"):
            if not alone.with_suffix(".pt").exists():
                alone.unlink(missing_ok=True)
    _read(path)  # proven readable before an older one goes
    found = newest_first(folder)
    later = [other for other in found if _update(other) > update]  # were damaged, or the run would not be here
    for old in later + [other for other in found if other not in later][KEPT:]:
        old.with_suffix(".json").unlink(missing_ok=True)
        old.unlink(missing_ok=True)
    return path


def load_latest(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest undamaged checkpoint of a run (None: there is none) and a line for each damaged one passed over."""
    complaints: list[str] = []
    for path in newest_first(folder):
        try:
            return _read(path), complaints
        except RunError as error:
            complaints.append(str(error))
    return None, complaints


def newest_first(folder: Path) -> list[Path]:
    """Checkpoints by their names; a file that a user has put beside them under another name is none."""
    return sorted((p for p in folder.glob("update-*.pt") if _NAME.fullmatch(p.name)), key=_update, reverse=True)


def save_weights(path: Path, state_dict: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write weights as safetensors (atomic); `metadata` says what network they belong to."""
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
    with atomic_write(path) as file:
        file.write(save(content, {"unet": json.dumps(metadata)}))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and metadata of a safetensors file; RunError when it is missing or damaged."""
    try:
        return load_file(path), read_metadata(path)
    except (OSError, SafetensorError) as error:
        raise _no_weights(path, error) from None


def read_metadata(path: Path) -> dict[str, Any]:
    """What a weights file says about itself; RunError when it is missing or damaged."""
    try:
        with safe_open(path, "pt") as file:
            metadata = json.loads((file.metadata() or {}).get("unet", "{}"))
        if not isinstance(metadata, dict):
            raise ValueError("its metadata is no JSON object")
        return metadata
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise _no_weights(path, error) from None


def _no_weights(path: Path, error: Exception) -> RunError:
    return RunError(f"{path}: no readable weights ({one_line(error)}); name a run folder or its weights")


def _update(path: Path) -> int:
    return int(path.stem.removeprefix("update-"))


def _before(path: Path) -> dict[str, Any]:
    """What the record of a new checkpoint says of the one that it replaces: nothing if there is none or it is damaged.

    A damaged one is removed, so that nothing is left of it, whatever happens before the new one has its name.
    """
    try:
        found = (path.stat().st_size, sha256(path))
        if found in _versions(path):
            return {"before": {"bytes": found[0], "sha256": found[1]}}
    except _UNREADABLE:
        pass
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
    return {}


def _versions(path: Path) -> list[tuple[Any, Any]]:
    """Size and SHA-256 of the contents that the checkpoint's record fits: its own and that of the one it replaced.

    Raises one of _UNREADABLE when there is no record or it does not say.
    """
    record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return [(version["bytes"], version["sha256"]) for version in (record, record.get("before", record))]


def _read(path: Path) -> dict[str, Any]:
    """State of one checkpoint, after its size and checksum were found right."""
    try:
        versions = _versions(path)
        content = path.read_bytes() if path.stat().st_size in [size for size, _ in versions] else b""
    except _UNREADABLE as error:
        raise RunError(f"{path}: incomplete checkpoint ({one_line(error)})") from None
    if (len(content), hashlib.sha256(content).hexdigest()) not in versions:
        raise RunError(f"{path}: damaged checkpoint (its content does not fit its checksum)")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise RunError(f"{path}: unreadable checkpoint ({one_line(error)})") from None
    if not isinstance(state, dict):
        raise RunError(f"{path}: unreadable checkpoint (it holds no state of a run)")
    return state
