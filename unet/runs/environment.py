"""What a run was made with: versions, processor, device, commit."""

from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from unet.config import TrainConfig
from unet.cores import usable

PACKAGES = ("torch", "numpy", "scipy", "opencv-python-headless", "albumentations", "scikit-image", "tifffile", "wandb")


def describe(device: torch.device) -> dict[str, Any]:
    """Versions, processor, device and commit, as plain values for environment.json."""
    import unet

    return {
        "unet": unet.__version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cpu_features": cpu_features(),
        "cores": len(usable()),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "commit": commit(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


MADE_BY = ("unet", "commit", "python", "packages", "platform", "processor", "cpu_features", "device", "cuda",
           "precision", "compiled", "threads", "processes", "loss", "data_sha256")  # fmt: skip
"""What of a run's record its bits may depend on."""


def continued(earlier: dict[str, Any], now: dict[str, Any], update: int) -> tuple[dict[str, Any], list[str]]:
    """The record of a run that is resumed at `update`: the first command, and what was different before; and its names.

    earlier: the record as the attempt before left it.
    """
    kept = {"command": earlier["command"]} if isinstance(earlier.get("command"), list) else {}
    before = {key: earlier[key] for key in MADE_BY if key in earlier and key in now and earlier[key] != now[key]}
    resumed = earlier["resumed"] if isinstance(earlier.get("resumed"), list) else []
    resumed = [*resumed, {"update": update, "before": before}] if before else resumed
    return now | kept | {"resumed": resumed}, list(before)


def as_begun(settings: TrainConfig, environment: dict[str, Any]) -> TrainConfig:
    """The settings with what was automatic replaced by what it became when the run of this record was made."""
    known: dict[str, Any] = {}
    if settings.precision == "auto" and environment.get("precision") in ("fp32", "bf16"):
        known["precision"] = environment["precision"]
    if settings.compile == "auto" and isinstance(environment.get("compiled"), bool):
        known["compile"] = "on" if environment["compiled"] else "off"
    threads = environment.get("threads")
    if settings.threads == 0 and type(threads) is int and threads > 0:
        known["threads"] = threads
    return replace(settings, **known)


def commit() -> str | None:
    """Commit of the checkout the package stands in, with "+changes" when its files differ from it; None outside one."""
    folder = Path(__file__).resolve().parents[1]

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", str(folder))
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def cpu_features() -> list[str]:
    """Which of the processor's features for bfloat16 arithmetic torch can use."""
    probes = {
        "amx": getattr(torch.cpu, "_is_amx_tile_supported", None),
        "avx512_bf16": getattr(torch.cpu, "_is_avx512_bf16_supported", None),
    }
    return [name for name, probe in probes.items() if probe is not None and probe()]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
