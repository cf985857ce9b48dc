"""Compiles the CUDA sources with a C++ compiler for the CPU and runs their kernels there, under any schedule."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from unet.loss.compile import CSRC
from unet.loss.plan import BLOCK

HERE = Path(__file__).parent
FORWARD, BACKWARD, RANDOM = range(3)
FLAGS = ("-std=c++17", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", "-w")
KERNELS_FLAGS, SHIM_FLAGS = ("-O0",), ("-O2",)
"""Compiling many kernels takes longer than running them on small inputs."""
WATCHED = ("-fsanitize=thread",)
"""Flags of kernels whose every access to memory is watched (watch.cpp); slower."""


def compiler() -> str | None:
    """The C++ compiler of this machine, if it has one."""
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")


class Launch(ctypes.Structure):
    """struct Launch of shim.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("grid", "first", "last")),
        *((name, ctypes.c_int) for name in ("threads", "schedule")),
        ("seed", ctypes.c_uint64),
        ("params_bytes", ctypes.c_int64),
    )


class Fault(Exception):
    """A kernel that cannot run to its end, or touches what it must not."""


class BuildError(Exception):
    """Sources that do not compile for the CPU."""


class Program:
    """CUDA sources as a shared library. `kernels` are C++ expressions: functions of one structure."""

    def __init__(
        self,
        source: Path,
        kernels: Iterable[str],
        csrc: Path = CSRC,
        flags: tuple[str, ...] = (),
        shim_flags: tuple[str, ...] = (),
    ) -> None:
        self._compile(
            f'#include "{source.name}"\n', {k: k for k in kernels}, (HERE, source.parent, csrc), flags, shim_flags
        )

    @classmethod
    def of_text(cls, text: str, kernels: dict[str, str], flags: tuple[str, ...] = ()) -> Program:
        """C++ with functions of a structure; `kernels`: their names, by those they are run under."""
        program = cls.__new__(cls)
        program._compile(text + "\n", kernels, (HERE,), flags, ())
        return program

    def _compile(
        self,
        text: str,
        kernels: dict[str, str],
        include: tuple[Path, ...],
        flags: tuple[str, ...],
        shim_flags: tuple[str, ...],
    ) -> None:
        self.kernels = tuple(kernels)
        self.watched = WATCHED[0] in flags
        calls = enumerate(kernels.values())
        cases = "\n".join(f"        case {i}: return shim::call({k}, p, launch);" for i, k in calls)
        text = (
            f'#include "shim.h"\n{text}'
            f'extern "C" const char* run_kernel(int kernel, void* p, const shim::Launch* launch) {{\n'
            f'    switch (kernel) {{\n{cases}\n    }}\n    return "there is no such kernel";\n}}\n'
        )
        self.library = ctypes.CDLL(str(build(text, include, flags, shim_flags)))
        self.library.run_kernel.restype = ctypes.c_char_p
        self.library.watch_array.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)

    def run(
        self,
        kernel: str,
        params: ctypes.Structure,
        grid: int,
        *,
        threads: int = BLOCK,
        schedule: int = FORWARD,
        seed: int = 0,
        blocks: tuple[int, int] | None = None,
    ) -> None:
        """Run blocks first..last-1 (all unless told) of a grid."""
        first, last = blocks or (0, grid)
        launch = Launch(grid, first, last, threads, schedule, seed, ctypes.sizeof(params))
        fault = self.library.run_kernel(self.kernels.index(kernel), ctypes.byref(params), ctypes.byref(launch))
        if fault is not None:
            raise Fault(f"{kernel}: {fault.decode()}")

    def barriers_and_shuffles(self) -> tuple[int, int]:
        """How many the first thread of every block has met so far."""
        met = (ctypes.c_longlong * 2)()
        self.library.barriers_and_shuffles(met)
        return met[0], met[1]


DAYS_KEPT = 3


@cache
def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"unet-kernels-on-cpu-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for path in folder.iterdir():
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > DAYS_KEPT * 86400:
                path.unlink()
    return folder


def build(text: str, include: tuple[Path, ...], flags: tuple[str, ...], shim_flags: tuple[str, ...]) -> Path:
    """A shared library of this text and the shim; kept under the hash of everything that goes into it."""
    sources = [path for folder in include for path in sorted((*folder.glob("*.cu*"), *folder.glob("*.h")))]
    options = [*FLAGS, *KERNELS_FLAGS, *flags]
    header = made(".h.gch", [*options, "-x", "c++-header"], [HERE / "shim.h"])  # half of the time of small kernels
    options += ["-include", str(header.with_suffix("")), "-c"]
    kernels = made(".o", options, [_text_file(text)], sources, include)
    # The watched kernels call a sanitizer's functions, which the shim has: the sanitizer itself must not be linked.
    own = (HERE / "shim.cpp", HERE / "watch.cpp")
    shim = [made(".o", [*FLAGS, *SHIM_FLAGS, *shim_flags, "-c"], [path], [HERE / "shim.h"], (HERE,)) for path in own]
    return made(".so", ["-shared"], [kernels, *shim])


def _text_file(text: str) -> Path:
    path = _folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.cpp"
    if not path.exists():
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_text(text)
        scratch.rename(path)
    return path


def made(
    suffix: str, options: list[str], inputs: list[Path], depends: Iterable[Path] = (), include: Iterable[Path] = ()
) -> Path:
    """What the compiler makes of the inputs, from the cache when they and what they depend on are the same files; where
    these lie does not count, so that a planted fault is compiled once."""
    command = [str(compiler()), *options]
    digest = hashlib.sha256("\0".join(command).encode())
    for path in (*inputs, *depends):
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    command += [*(f"-I{folder}" for folder in include), *map(str, inputs)]
    result = _folder() / f"{digest.hexdigest()[:32]}{suffix}"
    if not result.exists():
        scratch = result.with_suffix(f".{os.getpid()}.{id(inputs)}")
        done = subprocess.run([*command, "-o", str(scratch)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"{' '.join(command)}\n{done.stderr[:3000]}")
        scratch.rename(result)
    return result
