"""Choice of device, precision and compilation for the machine at hand, and how large a tile its memory takes."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unet.config import Config, ModelConfig
from unet.cores import usable
from unet.errors import ConfigError, TrainingError
from unet.geometry import layer_sizes, valid_sizes
from unet.networks import variant as variant_of
from unet.runs.environment import as_begun, cpu_features


@dataclass(frozen=True)
class Hardware:
    """How a run computes."""

    device: torch.device
    precision: str
    compile: bool
    channels_last: bool
    workers: int
    threads: int = 0  # of the CPU arithmetic, 0: as torch chooses
    cuda_graphs: bool = False  # the training step as one CUDA graph


def prepare(config: Config, begun: Any = None) -> Hardware:
    """`choose`, the number of threads set accordingly, and freed memory kept for what follows."""
    keep_freed_memory()
    hardware = choose(config, begun)
    if hardware.threads:
        torch.set_num_threads(hardware.threads)
    return hardware


def choose(config: Config, begun: Any = None) -> Hardware:
    """Resolve the `auto` settings: bf16 where the device computes in it; compilation and workers beside a GPU.

    begun: environment.json of a run that is gone on with or scored; what was automatic is what it became there, since
    other threads or another precision would give other bits. Without effect on another kind of device.
    """
    settings = config.train
    device = _device(settings.device)
    if isinstance(begun, dict) and (begun.get("cuda") is not None) == (device.type == "cuda"):
        settings = as_begun(settings, begun)
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if _computes_in_bf16(device) else "fp32"
    compiled = settings.compile == "on" or (settings.compile == "auto" and device.type == "cuda")
    workers = settings.workers
    if workers < 0:
        workers = min(4, len(usable()) - 1) if device.type == "cuda" else 0
    graphs = settings.cuda_graphs != "off" and _has_graphs(device)
    if settings.cuda_graphs == "on" and not graphs:
        raise ConfigError(f"train.cuda_graphs: on needs an NVIDIA GPU, and the device is {device.type}; use auto")
    return Hardware(device, precision, compiled, settings.channels_last, workers, settings.threads, graphs)


def _has_graphs(device: torch.device) -> bool:
    return device.type == "cuda" and torch.version.hip is None


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let this process reuse the memory it frees; without effect where the C library is not glibc.

    glibc maps every large block anew and gives it back when it is freed, as torch frees all feature maps of a step: the
    kernel then clears 100,000 pages per step. The values computed are the same; the process keeps its peak of memory.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library; none that can be asked
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)  # -1: no limit


def allow_tf32(allowed: bool) -> None:
    """Whether GPUs may round the factors of fp32 convolutions and matrix products to the 10 bits of TF32.

    They may for convolutions unless torch is told; what is recorded as fp32 would then be something else. For the whole
    process. Of torch's two interfaces this is the older: once the newer one (fp32_precision) has forbidden it, torch
    raises where anything asks the older.
    """
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def _computes_in_bf16(device: torch.device) -> bool:
    """GPUs before Ampere do not: they emulate it, and are faster in fp32."""
    if device.type != "cuda":
        return bool(cpu_features())
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):
        raise ConfigError(f"train.device: {name!r} is not usable on this machine; use auto, cpu or cuda") from None
    return device


def training_bytes(model: ModelConfig, tile_px: int, batch: int, channels: int, precision: str) -> int:
    """Estimate of the memory one training step takes, in bytes: saved activations, their gradients, weights, optimizer.

    Counts every feature map that backpropagation keeps (convolution outputs, pooled and concatenated maps) and, on top,
    the gradients alive at once, taken as the two largest maps.
    """
    variant = variant_of(model)
    wide = [model.base_channels * 2**level for level in range(model.depth)]
    maps = [channels * tile_px * tile_px]
    for layer in layer_sizes(tile_px, model.depth, model.allow_odd_pooling)[1:-1]:
        width = wide[layer.level]
        if layer.name.startswith("pool"):
            width = wide[layer.level - 1]
        elif layer.name.endswith("upconv"):
            last = layer.level == 0 and not variant.last_upconv_halves
            upsampled = wide[1] if last else width
            width = 2 * upsampled + wide[layer.level]  # the up-sampled map, and the concatenation with the skip
        maps.append(width * layer.size**2)
    element = 2 if precision == "bf16" else 4
    saved = sum(maps) + 2 * max(maps)
    weights = 31_030_658 * (model.base_channels / 64) ** 2 * 4 ** (model.depth - 5)
    return int(saved * batch * element + weights * 4 * 4)


def check_memory(config: Config, hardware: Hardware, channels: int) -> None:
    """TrainingError naming a tile size that fits, when a step of this configuration cannot fit into memory."""
    available = available_bytes(hardware.device)
    if available is None:
        return

    def needed(px: int) -> int:
        return training_bytes(config.model, px, config.train.batch, channels, hardware.precision)

    asked = config.tile.input_px
    if needed(asked) <= available:
        return
    fitting = [px for px in valid_sizes(1, asked, config.model.depth) if needed(px) <= available]
    advice = f"a tile of {fitting[-1]} px would fit" if fitting else "lower model.base-channels"
    batch = f", or train.batch 1 with train.accumulate {config.train.batch}" if config.train.batch > 1 else ""
    raise TrainingError(
        f"tile.input_px {asked} with batch {config.train.batch} needs about {needed(asked) / 2**30:.1f} GiB and "
        f"{available / 2**30:.1f} GiB are free on {hardware.device}: {advice}{batch}"
    )


def available_bytes(device: torch.device) -> int | None:
    """Memory that is free on the device, in bytes; None when the machine does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limits = [_meminfo(), _cgroup()]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def _meminfo() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


_CGROUPS = Path("/sys/fs/cgroup")


def _cgroup() -> int | None:
    """What a container's memory limit leaves (control groups, version 2 or 1); None where none is told.

    The cache of files counts as used there, though the kernel gives it up before it refuses memory.
    """
    for folder, names, prefix in (
        (_CGROUPS, ("memory.max", "memory.current"), ""),
        (_CGROUPS / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_"),  # with all groups below
    ):
        limit, used = (_count(folder / name) for name in names)
        if limit is not None and used is not None:
            cache = _file_cache(folder / "memory.stat", prefix)
            return max(0, limit - max(0, used - cache))
    return None


def _count(path: Path) -> int | None:
    """The count in a file of the kernel; None when it holds none ("max") or cannot be read."""
    try:
        count = int(path.read_text())
    except (OSError, ValueError):
        return None
    return count if count >= 0 else None


def _file_cache(stat: Path, prefix: str) -> int:
    """Bytes of file cache that can be given up: without what lies in memory only (tmpfs); 0 when they are not told."""
    try:
        rows = [line.split() for line in stat.read_text().splitlines()]
        told = {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdecimal()}
    except (OSError, ValueError):
        return 0
    return sum(told.get(f"{prefix}{kind}_file", 0) for kind in ("inactive", "active"))
