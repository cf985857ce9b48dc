"""What a call of the fused loss costs the processor, with the stand-in for NVIDIA's driver (shim/driver.cpp), which
starts nothing: from the operator to the driver's doorstep, forward and backward. Needs no GPU.

    python -m tests.loss.launch_cost            prints microseconds of processor time, the least of several rounds
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from tests.loss.driver_trial import GPU, HOOK, SECOND, Cuda
from tests.loss.shim.host import FLAGS, HERE, made
from unet.loss import driver
from unet.loss.fused import weighted_cross_entropy

ROOT = Path(__file__).parents[2]
ROUNDS, CALLS = 15, 200


def least_us(mode: str, dtype: torch.dtype, size: int = 8) -> float:
    """Microseconds of one forward and backward computation of a network's output."""
    logits = torch.randn(4, 2, size, size).to(dtype).to(memory_format=torch.channels_last).requires_grad_()
    target, weight = torch.zeros(4, size, size, dtype=torch.uint8), torch.ones(4, size, size)

    def step() -> None:
        loss = weighted_cross_entropy(logits, target, weight, mode=mode).loss  # type: ignore[arg-type]
        torch.autograd.grad(loss, logits)

    found = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(CALLS):
            step()
        found.append((time.process_time() - start) / CALLS)
    return min(found) * 1e6


def measure(path: str) -> None:
    """Run in a process whose libcuda.so.1 is the stand-in."""
    torch.set_num_threads(1)
    library = ctypes.CDLL(path)
    library.stream_of.restype = ctypes.c_ulonglong
    hook = HOOK(lambda *_: 0)
    library.set_hook(hook)
    with pytest.MonkeyPatch.context() as patch:
        Cuda(library).pretend(patch)
        library.use_context_of(SECOND, True)
        assert driver.unusable(GPU) == ""
        for mode in ("recompute", "one_pass"):
            print(f"{mode}: {least_us(mode, torch.bfloat16):.1f} us forward and backward", flush=True)


def main() -> None:
    """Make the stand-in and start the process that measures."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "libcuda.so.1"
        library.symlink_to(made(".so", [*FLAGS, "-shared"], [HERE / "driver.cpp"], []))
        environment = os.environ | {"LD_LIBRARY_PATH": folder}
        command = [sys.executable, "-m", "tests.loss.launch_cost", str(library)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    measure(sys.argv[1]) if len(sys.argv) > 1 else main()
