"""CUDA source -> machine code, by NVIDIA's run-time compiler, on the user's machine and without any installed compiler.

The compiler is NVRTC, which torch's CUDA wheels bring along, called through NVIDIA's own cuda-bindings. Results are
kept on disk under the hash of everything they depend on: source, headers, kernels asked for, architecture, options and
the compiler's version.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unet.errors import UserError, one_line
from unet.files import atomic_write

CSRC = Path(__file__).parent / "csrc"
SOURCE = CSRC / "cross_entropy.cu"
OPTIONS = ("-std=c++17", "--fmad=false", "--ptxas-options=-v")
RESOURCES = re.compile(
    r"Compiling entry function '(?P<symbol>\w+)'.*?(?P<stack>\d+) bytes stack frame, "
    r"(?P<spilled>\d+) bytes spill stores.*?Used (?P<registers>\d+) registers",
    re.DOTALL,
)


class KernelError(UserError):
    """The kernels cannot be compiled, loaded or started on this machine."""


@dataclass(frozen=True)
class Binary:
    """Machine code (PTX for a device newer than the compiler), the symbol of every kernel, the compiler's report."""

    image: bytes
    symbols: dict[str, str]
    log: str


@dataclass(frozen=True)
class Resources:
    """What one thread of a kernel takes."""

    symbol: str
    registers: int
    stack_bytes: int
    spilled_bytes: int


def resources(binary: Binary) -> list[Resources]:
    """Registers, stack frame and spills of every kernel, as the compiler reports them."""
    found = (m.groupdict() for m in RESOURCES.finditer(binary.log))
    return [Resources(m["symbol"], int(m["registers"]), int(m["stack"]), int(m["spilled"])) for m in found]


def missing() -> str:
    """Why nothing can be compiled here, or "" when it can."""
    try:
        if find_spec("cuda.bindings") is None:
            return "the package cuda-bindings is not installed (pip install 'unet-2015[cuda]')"
    except ModuleNotFoundError:
        return "the package cuda-bindings is not installed (pip install 'unet-2015[cuda]')"
    try:
        version()
    except (KernelError, OSError, RuntimeError, ImportError) as error:
        return f"NVIDIA's run-time compiler cannot be loaded ({one_line(error)})"
    return ""


@cache
def version() -> tuple[int, int]:
    """Version of the compiler."""
    from cuda.bindings import nvrtc

    major, minor = _checked(nvrtc.nvrtcVersion())
    return int(major), int(minor)


@cache
def architectures() -> tuple[int, ...]:
    """Compute capabilities the compiler knows: 75, 80, 86, ..."""
    from cuda.bindings import nvrtc

    return tuple(sorted(int(a) for a in _checked(nvrtc.nvrtcGetSupportedArchs())))


def target_of(capability: int) -> str:
    """The compiler's target for a compute capability (90 for 9.0).

    Machine code, or, for a device that is newer than the compiler, portable code for the newest it knows.
    """
    known = architectures()
    if capability in known:
        return f"sm_{capability}"
    older = [a for a in known if a < capability]
    if not older:
        raise KernelError(f"compute capability {capability / 10:.1f} is too old (from {known[0] / 10:.1f} on)")
    return f"compute_{older[-1]}"


def compile_source(source: Path, kernels: tuple[str, ...], capability: int, folder: Path = CSRC) -> Binary:
    """Compile the named kernels (C++ expressions, templates with their arguments); headers come from `folder`.

    Raises KernelError with the compiler's first complaint.
    """
    target = target_of(capability)
    headers = {path.name: path.read_bytes() for path in sorted(folder.glob("*.cuh"))}
    text = source.read_bytes()
    key = _key(text, headers, kernels, target)
    kept = _read_cache(key)
    if kept is None:
        kept = _compile(source.name, text, headers, kernels, target)
        _write_cache(key, kept)
    return kept


def _key(text: bytes, headers: dict[str, bytes], kernels: tuple[str, ...], target: str) -> str:
    digest = hashlib.sha256()
    for part in (json.dumps([kernels, target, OPTIONS, version()]).encode(), text, *headers.values()):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _compile(name: str, text: bytes, headers: dict[str, bytes], kernels: tuple[str, ...], target: str) -> Binary:
    from cuda.bindings import nvrtc

    names = [header.encode() for header in headers]
    program = _checked(nvrtc.nvrtcCreateProgram(text, name.encode(), len(names), list(headers.values()), names))
    try:
        for kernel in kernels:
            _checked(nvrtc.nvrtcAddNameExpression(program, kernel.encode()))
        options = [option.encode() for option in (f"-arch={target}", *OPTIONS)]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        log = _buffer(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program).rstrip(b"\0").decode()
        if int(status):
            complaint = next((line for line in log.splitlines() if "error" in line), log)
            raise KernelError(f"{name} does not compile for {target}: {one_line(Exception(complaint))}")
        symbols = {k: _checked(nvrtc.nvrtcGetLoweredName(program, k.encode())).decode() for k in kernels}
        if target.startswith("sm_"):
            image = _buffer(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
        else:
            image = _buffer(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program)
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return Binary(image, symbols, log)


def _buffer(size: Callable[..., Any], fill: Callable[..., Any], program: Any) -> bytes:
    buffer = b"\0" * int(_checked(size(program)))  # filled in place, as these bindings do
    _checked(fill(program, buffer))
    return buffer


def _checked(answer: tuple[Any, ...]) -> Any:
    """The value of a call's (status, value...)."""
    status, *values = answer
    if int(status):
        raise KernelError(f"NVIDIA's run-time compiler: {status.name}")
    return values[0] if len(values) == 1 else tuple(values)


# -- on disk ---------------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where compiled kernels are kept: $UNET_KERNEL_CACHE, or the user's cache folder."""
    own = os.environ.get("UNET_KERNEL_CACHE")
    home = os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else (Path(home) if home else Path.home() / ".cache") / "unet" / "kernels"


def _read_cache(key: str) -> Binary | None:
    """What was kept under the key; None when nothing was, or when it is damaged."""
    try:
        head, image = (cache_folder() / key).read_bytes().split(b"\n", 1)
        kept = json.loads(head)
        if kept.pop("sha256") != hashlib.sha256(image).hexdigest():
            return None
        return Binary(image, **kept)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError):
        return None


def _write_cache(key: str, binary: Binary) -> None:
    """Keep a result; a folder that cannot be written to costs a compilation the next time, nothing else."""
    head = asdict(binary)
    del head["image"]
    head["sha256"] = hashlib.sha256(binary.image).hexdigest()
    with suppress(UserError, OSError, RuntimeError), atomic_write(cache_folder() / key) as file:
        file.write(json.dumps(head).encode() + b"\n" + binary.image)
