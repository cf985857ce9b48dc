"""The way of a loss from torch's operator through the run-time compiler and NVIDIA's bindings to a started kernel, with
a driver that runs kernels on the CPU. Run by test_driver.py in a process whose libcuda.so.1 is that driver:

    python -m tests.loss.driver_trial PATH_OF_THE_DRIVER
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from tests.loss.shim.cases import Result as Outcome
from tests.loss.shim.cases import assert_agrees, expected, make_case
from tests.loss.shim.launcher import product
from unet.loss import driver, fused, launch
from unet.loss.compile import SOURCE, compile_source
from unet.loss.launch import FINISH, PASSES, Params
from unet.loss.plan import BLOCK

STREAM, MULTIPROCESSORS, OUT_OF_MEMORY = 77, 2, 2
HOOK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_char_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_ulonglong, ctypes.POINTER(Params)
)


class Device:
    """What the driver was asked to start."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.fails = False
        self.hook = HOOK(self.start)

    def start(self, symbol: bytes, blocks: int, threads: int, stream: int, params: ctypes._Pointer[Params]) -> int:
        if self.fails:
            return OUT_OF_MEMORY
        assert (threads, stream) == (BLOCK, STREAM)
        assert 1 <= blocks <= 2 * MULTIPROCESSORS
        kind = self.kind
        expressions = (*(f"{name}<{kind}>" for name in PASSES), FINISH)
        symbols = compile_source(SOURCE, expressions, 90).symbols
        expression = {s: e for e, s in symbols.items()}[symbol.decode()]
        product().program(kind).run(expression, params.contents, blocks)
        self.started.append(expression.split("<")[0])
        return 0


def pretend(patch: pytest.MonkeyPatch) -> None:
    """Torch has a GPU, and tensors on the CPU are on it."""
    properties = SimpleNamespace(major=9, minor=0, multi_processor_count=MULTIPROCESSORS)
    for name, value in (
        ("device", nullcontext()),
        ("init", None),
        ("is_available", True),
        ("current_device", 0),
        ("current_stream", SimpleNamespace(cuda_stream=STREAM)),
        ("get_device_properties", properties),
    ):
        patch.setattr(torch.cuda, name, lambda *_, value=value: value)
    patch.setattr(fused, "_has_kernels", launch.supported)
    patch.setattr(fused, "_launcher", lambda _: driver.launcher(torch.device("cuda")))


def main(path: str) -> None:
    """Forward and backward in both modes; a second thread without a context; an error of the driver."""
    library = ctypes.CDLL(path)
    device = Device()
    library.set_hook(device.hook)
    with pytest.MonkeyPatch.context() as patch:
        pretend(patch)
        assert driver.unusable(torch.device("cuda")) == ""
        for mode in ("recompute", "one_pass"):
            case = make_case(1, (2, 2, 40, 56), reduction="weighted_mean", upstream=0.5)
            inputs = case.inputs()
            device.kind = launch.make_plan(inputs.logits, inputs.target, inputs.weight, inputs.valid, None).kind
            library.forget_context()
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
        device.fails = True
        with pytest.raises(driver.KernelError, match="CUDA_ERROR_OUT_OF_MEMORY"):
            fused.weighted_cross_entropy(case.logits, case.target)
    print(*device.started)


if __name__ == "__main__":
    main(sys.argv[1])
