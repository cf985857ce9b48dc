"""What a call of the fused loss costs the processor, with the stand-in for NVIDIA's driver (shim/driver.cpp), which
starts nothing: from the operator to the driver's doorstep, forward and backward. Needs no GPU.

    python -m tests.loss.launch_cost            prints microseconds of processor time, the least of several rounds

Beside it, in turns, stands a function of autograd that does nothing: what torch takes of it.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.loss.driver_trial import GPU, SECOND, Cuda
from tests.loss.shim.host import FLAGS, HERE, made
from unet.loss import driver
from unet.loss.fused import Mode, differentiated, weighted_cross_entropy

ROOT = Path(__file__).parents[2]
ROUNDS, CALLS = 40, 150


class Nothing(torch.autograd.Function):
    """A scalar from logits, and a gradient: memory that nobody fills."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        ctx.save_for_backward(logits)
        return torch.empty(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> Tensor:
        return torch.empty_like(ctx.saved_tensors[0])


def least_us(dtype: torch.dtype, size: int = 8) -> dict[str, float]:
    """Microseconds of one forward and backward computation of a network's output, by what is computed."""
    logits = torch.randn(4, 2, size, size).to(dtype).to(memory_format=torch.channels_last).requires_grad_()
    target, weight = torch.zeros(4, size, size, dtype=torch.uint8), torch.ones(4, size, size)

    def by_autograd(mode: Mode) -> None:
        torch.autograd.grad(weighted_cross_entropy(logits, target, weight, mode=mode).loss, logits)

    losses: dict[str, Callable[[], object]] = {
        "a function of autograd that does nothing": lambda: torch.autograd.grad(Nothing.apply(logits), logits),  # type: ignore[no-untyped-call]
        "recompute, by autograd": partial(by_autograd, "recompute"),
        "one_pass, by autograd": partial(by_autograd, "one_pass"),
        "recompute, as the training step does": partial(differentiated, logits, target, weight, mode="recompute"),
        "one_pass, as the training step does": partial(differentiated, logits, target, weight, mode="one_pass"),
    }
    least = dict.fromkeys(losses, float("inf"))
    for _ in range(ROUNDS):
        for name, loss in losses.items():
            start = time.process_time()
            for _ in range(CALLS):
                loss()
            least[name] = min(least[name], (time.process_time() - start) / CALLS * 1e6)
    return least


def measure(path: str) -> None:
    """Run in a process whose libcuda.so.1 is the stand-in."""
    torch.set_num_threads(1)
    library = ctypes.CDLL(path)
    library.stream_of.restype = ctypes.c_ulonglong
    with pytest.MonkeyPatch.context() as patch:
        cuda = Cuda(library)
        cuda.current = SECOND
        cuda.pretend(patch)
        stream = SimpleNamespace(cuda_stream=library.stream_of(SECOND))
        patch.setattr(torch.cuda, "current_stream", lambda _: stream)
        library.use_context_of(SECOND, True)
        assert driver.unusable(GPU) == ""
        for name, us in least_us(torch.bfloat16).items():
            print(f"{name}: {us:.1f} us forward and backward", flush=True)


def main() -> None:
    """Make the stand-in and start the process that measures."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "libcuda.so.1"
        library.symlink_to(made(".so", [*FLAGS, "-shared"], [HERE / "driver.cpp"]))
        environment = os.environ | {"LD_LIBRARY_PATH": folder}
        command = [sys.executable, "-m", "tests.loss.launch_cost", str(library)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    measure(sys.argv[1]) if len(sys.argv) > 1 else main()
