"""The way of a loss from torch's operator through the run-time compiler and NVIDIA's bindings to a started kernel, with
a driver that runs kernels on the CPU, on the second of two devices; then the same with each fault of mutants.py. Run by
test_driver.py in a process whose libcuda.so.1 is that driver:

    python -m tests.loss.driver_trial PATH_OF_THE_DRIVER        prints what was started and what found each fault
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from tests.loss.mutants import WITH_A_DRIVER, Mutant, execute
from tests.loss.shim.cases import Result as Outcome
from tests.loss.shim.cases import assert_agrees, expected, make_case
from tests.loss.shim.launcher import product
from unet.loss import driver, fused, launch
from unet.loss.compile import SOURCE, compile_source
from unet.loss.launch import FINISH, PASSES, Params
from unet.loss.plan import BLOCK

FIRST, SECOND = 0, 1
GPU = torch.device("cuda", SECOND)
CAPABILITIES, MULTIPROCESSORS = ((8, 0), (8, 9)), (99, 2)
INVALID_VALUE, OUT_OF_MEMORY, FAILED = 1, 2, 719
HOOK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p)


class Device:
    """What the driver was asked to start."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.kind = ""
        self.full = False
        self.hook = HOOK(self.start)

    def start(self, symbol: bytes, device: int, blocks: int, threads: int, params: int) -> int:
        """The driver's answer; an exception would be lost on its way through the driver."""
        if self.full:
            return OUT_OF_MEMORY
        if (device, threads) != (SECOND, BLOCK) or not 1 <= blocks <= 2 * MULTIPROCESSORS[SECOND]:
            return INVALID_VALUE
        try:
            self.started.append(self.run(symbol.decode(), blocks, Params.from_address(params)))
        except Exception:
            return FAILED
        return 0

    def run(self, symbol: str, blocks: int, params: Params) -> str:
        """Run the kernel of this symbol on the CPU and give its name."""
        expressions = (*(f"{name}<{self.kind}>" for name in PASSES), FINISH)
        symbols = compile_source(SOURCE, expressions, 90).symbols
        expression = {s: e for e, s in symbols.items()}[symbol]
        product().program(self.kind).run(expression, params, blocks)
        return expression.split("<")[0]


class Cuda:
    """What torch.cuda says where there are two GPUs and the first is the current one."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.current = FIRST
        self.streams_of: list[int | None] = []  # the devices that were named

    @contextmanager
    def device(self, index: int) -> Iterator[None]:
        before = self.current
        self._make_current(index)
        try:
            yield
        finally:
            self._make_current(before)

    def _make_current(self, index: int) -> None:
        self.current = index
        self.library.use_context_of(index, False)

    def current_stream(self, index: int | None = None) -> SimpleNamespace:
        self.streams_of.append(index)
        return SimpleNamespace(cuda_stream=self.library.stream_of(self.current if index is None else index))

    def get_device_properties(self, index: int) -> SimpleNamespace:
        major, minor = CAPABILITIES[index]
        return SimpleNamespace(major=major, minor=minor, multi_processor_count=MULTIPROCESSORS[index])

    def current_device(self) -> int:
        return self.current

    def is_available(self) -> bool:
        return True

    def init(self) -> None:
        """Nothing needs to be done."""

    def pretend(self, patch: pytest.MonkeyPatch) -> None:
        """Torch sees these GPUs, and tensors on the CPU are on the second."""
        for name in ("device", "current_stream", "get_device_properties", "current_device", "is_available", "init"):
            patch.setattr(torch.cuda, name, getattr(self, name))
        patch.setattr(fused, "_has_kernels", launch.supported)
        patch.setattr(fused, "_launcher", lambda _: driver.launcher(GPU))


def attempt(library: ctypes.CDLL) -> list[str]:
    """Forward and backward in both modes, in a thread that works on the first device and in one without a context; an
    error of the driver. The kernels that were started."""
    device, cuda = Device(), Cuda(library)
    library.set_hook(device.hook)
    with pytest.MonkeyPatch.context() as patch:
        cuda.pretend(patch)
        for mode in ("recompute", "one_pass"):
            driver._launcher.cache_clear()  # load anew
            library.forget_context()
            if mode == "recompute":
                library.use_context_of(FIRST, True)
            assert driver.unusable(GPU) == ""
            assert driver.launcher(GPU).capability == 89
            case = make_case(1, (2, 2, 40, 56), reduction="weighted_mean", upstream=0.5)
            inputs = case.inputs()
            device.kind = launch.make_plan(inputs.logits, inputs.target, inputs.weight, inputs.valid, None).kind
            logits = case.logits.detach().clone().requires_grad_()
            result = fused.weighted_cross_entropy(
                logits, case.target, case.weight, case.valid, reduction="weighted_mean", mode=mode
            )
            library.forget_context()
            (result.loss * case.upstream).backward()
            wanted = expected(case)
            assert logits.grad is not None
            outcome = Outcome(result.loss.detach(), result.confusion, wanted.denominator.float(), logits.grad)
            assert_agrees(outcome, wanted)
        # By name: the current device is right only as long as nothing has changed it.
        assert set(cuda.streams_of) == {SECOND}
        device.full = True
        with pytest.raises(driver.KernelError, match="CUDA_ERROR_OUT_OF_MEMORY"):
            fused.weighted_cross_entropy(case.logits, case.target)
    return device.started


def complaint(library: ctypes.CDLL, fault: Mutant) -> str:
    """How the fault shows; "" when it does not."""
    execute(driver, fault)
    try:
        attempt(library)
    except (AssertionError, driver.KernelError) as error:
        return repr(error)
    finally:
        execute(driver)
    return ""


def main(path: str) -> None:
    """The trial, then with the faults."""
    library = ctypes.CDLL(path)
    library.stream_of.restype = ctypes.c_ulonglong
    started = attempt(library)
    print(json.dumps({"started": started, "found": {m.name: complaint(library, m) for m in WITH_A_DRIVER}}))


if __name__ == "__main__":
    main(sys.argv[1])
