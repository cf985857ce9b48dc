"""Compiles the CUDA sources with a C++ compiler for the CPU and runs their kernels there, under any schedule."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from unet.loss.compile import CSRC
from unet.loss.plan import BLOCK

HERE = Path(__file__).parent
FORWARD, BACKWARD, RANDOM = range(3)
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", "-w")


def compiler() -> str | None:
    """The C++ compiler of this machine, if it has one."""
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")


class Launch(ctypes.Structure):
    """struct Launch of shim.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("grid", "first", "last")),
        *((name, ctypes.c_int) for name in ("threads", "schedule")),
        ("seed", ctypes.c_uint64),
    )


class Fault(Exception):
    """A kernel that cannot run to its end: threads wait for one another."""


class Program:
    """CUDA sources as a shared library. `kernels` are C++ expressions of type void (const STRUCT&)."""

    def __init__(
        self, source: Path, kernels: Iterable[str], struct: str, csrc: Path = CSRC, extra: tuple[str, ...] = ()
    ):
        self.kernels = tuple(kernels)
        cases = "\n".join(
            f"        case {i}: return shim::run(*launch, [](void* p) {{ {kernel}(*static_cast<{struct}*>(p)); }}, p);"
            for i, kernel in enumerate(self.kernels)
        )
        text = (
            f'#include "shim.h"\n#include "{source.name}"\n'
            f'extern "C" const char* run_kernel(int kernel, void* p, const shim::Launch* launch) {{\n'
            f'    switch (kernel) {{\n{cases}\n    }}\n    return "there is no such kernel";\n}}\n'
            f'extern "C" long long params_bytes() {{ return sizeof({struct}); }}\n'
        )
        library = build(text, (HERE, source.parent, csrc), extra)
        self.library = ctypes.CDLL(str(library))
        self.library.run_kernel.restype = ctypes.c_char_p
        self.library.params_bytes.restype = ctypes.c_int64

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
        launch = Launch(grid, first, last, threads, schedule, seed)
        fault = self.library.run_kernel(self.kernels.index(kernel), ctypes.byref(params), ctypes.byref(launch))
        if fault is not None:
            raise Fault(f"{kernel}: {fault.decode()}")


@cache
def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"unet-kernels-on-cpu-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def build(text: str, include: tuple[Path, ...], extra: tuple[str, ...] = ()) -> Path:
    """A shared library of this text and the shim; kept under the hash of everything that goes into it."""
    command = [str(compiler()), *FLAGS, *extra]
    digest = hashlib.sha256("\0".join([*command, text]).encode())
    for folder in include:
        for path in sorted([*folder.glob("*.cu*"), *folder.glob("shim.*")]):
            digest.update(path.read_bytes() + b"\0")
    library = _folder() / f"{digest.hexdigest()[:32]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=_folder()) as scratch:
            source, result = Path(scratch, "kernels.cpp"), Path(scratch, "kernels.so")
            source.write_text(text)
            paths = [f"-I{folder}" for folder in include]
            done = subprocess.run(
                [*command, *paths, "-shared", str(source), str(HERE / "shim.cpp"), "-o", str(result)],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(f"the kernels do not compile for the CPU:\n{done.stderr[:3000]}")
            result.rename(library)
    return library
