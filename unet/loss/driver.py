"""Loads compiled kernels onto a GPU and starts them on torch's current stream, through NVIDIA's cuda-bindings."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch

from unet.errors import one_line
from unet.loss.compile import SOURCE, Binary, KernelError, compile_source, missing
from unet.loss.launch import FINISH, PASSES, Kernels, Params
from unet.loss.plan import BLOCK, PLANAR, kind_name

_lock = threading.Lock()


def unusable(device: torch.device) -> str:
    """Why the kernels cannot run on this device, or "" when they can: one is compiled and loaded to know."""
    if device.type != "cuda":
        return f"it needs an NVIDIA GPU and the device is {device.type}"
    if torch.version.hip is not None or not torch.cuda.is_available():
        return "torch sees no NVIDIA GPU here"
    reason = missing()
    if reason:
        return reason
    try:
        launcher(device).resident_blocks(kind_name(torch.float32, torch.uint8, 2, PLANAR), "forward_pass")
    except (KernelError, RuntimeError, ImportError, OSError) as error:
        return one_line(error)
    return ""


@cache
def _launcher(index: int) -> CudaLauncher:
    return CudaLauncher(index)


def launcher(device: torch.device) -> CudaLauncher:
    """The one launcher of a device."""
    return _launcher(torch.cuda.current_device() if device.index is None else device.index)


class CudaLauncher:
    """Runs kernels on one GPU. `most_blocks` bounds every grid, for tests of the order of summation."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.most_blocks: int | None = None
        properties = torch.cuda.get_device_properties(index)
        self.capability = properties.major * 10 + properties.minor
        self.multiprocessors = properties.multi_processor_count
        self._functions: dict[tuple[str, str], tuple[Any, int]] = {}
        self._sequences: dict[tuple[str, Kernels], list[tuple[Any, int]]] = {}  # functions and their blocks

    @property
    def holds(self) -> tuple[int, int | None]:
        """The device, and the bound of its grids."""
        return self.index, self.most_blocks

    def launch(self, kind: str, kernels: Kernels, params: Params) -> None:
        """Start kernels, each with so many blocks, on the current stream of the device."""
        functions = self._sequences.get((kind, kernels))
        if functions is None:
            functions = [(self._function(kind, kernel)[0], blocks) for kernel, blocks in kernels]
            self._sequences[kind, kernels] = functions
        start(self.index, functions, BLOCK, params)

    def resident_blocks(self, kind: str, kernel: str) -> int:
        """Blocks of the kernel that the device holds at a time, at most `most_blocks`."""
        resident = self._function(kind, kernel)[1] * self.multiprocessors
        return resident if self.most_blocks is None else min(resident, self.most_blocks)

    def _function(self, kind: str, kernel: str) -> tuple[Any, int]:
        """The loaded kernel and how many of its blocks a multiprocessor holds. All kernels of a kind come together."""
        found = self._functions.get((kind, kernel))
        if found is None:
            with _lock:
                if (kind, kernel) not in self._functions:
                    self._load(kind)
                found = self._functions[kind, kernel]
        return found

    def _load(self, kind: str) -> None:
        expressions = {name: f"{name}<{kind}>" for name in PASSES} | {FINISH: FINISH}
        binary = compile_source(SOURCE, tuple(expressions.values()), self.capability)
        loaded = load(self.index, binary, expressions)
        self._functions |= {(kind, name): function for name, function in loaded.items()}


def load(index: int, binary: Binary, expressions: dict[str, str], threads: int = BLOCK) -> dict[str, tuple[Any, int]]:
    """Load machine code onto a device: for each name its function and how many blocks a multiprocessor holds."""
    driver = _bindings()
    functions = {}
    with torch.cuda.device(index):
        torch.cuda.init()  # type: ignore[no-untyped-call]
        _bind_context(index)
        module = _check(driver.cuModuleLoadData(binary.image))
        for name, expression in expressions.items():
            function = _check(driver.cuModuleGetFunction(module, binary.symbols[expression].encode()))
            held = _check(driver.cuOccupancyMaxActiveBlocksPerMultiprocessor(function, threads, 0))
            functions[name] = (function, max(int(held), 1))
    return functions


def start(index: int, functions: Sequence[tuple[Any, int]], threads: int, params: ctypes.Structure) -> None:
    """Start loaded kernels, each with so many blocks, on torch's current stream of the device. The structure is their
    one parameter."""
    argument = ctypes.c_void_p(ctypes.addressof(params))  # copied before a call returns
    place = ctypes.addressof(argument)
    with _AS_IT_IS if torch.cuda.current_device() == index else torch.cuda.device(index):
        stream = torch.cuda.current_stream(index).cuda_stream
        cu_launch_kernel = _bindings().cuLaunchKernel
        for function, blocks in functions:
            answer = cu_launch_kernel(function, blocks, 1, 1, threads, 1, 1, 0, stream, place, 0)
            if answer[0]:
                if not _bind_context(index):
                    _check(answer)
                _check(cu_launch_kernel(function, blocks, 1, 1, threads, 1, 1, 0, stream, place, 0))


_AS_IT_IS = nullcontext()


def _bind_context(index: int) -> bool:
    """Give the calling thread the device's primary context, which is torch's, when it has none (as autograd's may);
    whether that was so. Asking before every launch would cost as much as the launch."""
    driver = _bindings()
    if int(_check(driver.cuCtxGetCurrent())):
        return False
    device = _check(driver.cuDeviceGet(index))
    _check(driver.cuCtxSetCurrent(_check(driver.cuDevicePrimaryCtxRetain(device))))
    return True


@cache
def _bindings() -> Any:
    from cuda.bindings import driver

    return driver


def _check(answer: tuple[Any, ...]) -> Any:
    """The value of a driver call's (status, value)."""
    status, *values = answer
    if int(status):
        raise KernelError(f"NVIDIA driver: {status.name}")
    return values[0] if values else None
