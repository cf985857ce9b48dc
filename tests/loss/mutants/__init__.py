"""Faults planted into the CUDA sources and what starts them, one at a time, under the demand that must find each."""

from __future__ import annotations

from tests.loss.mutants import cross_entropy, host, ladder, layout, pixel
from tests.loss.mutants.mutant import Mutant, execute

__all__ = ["BEYOND_THE_CPU", "FOUND_BY", "WITH_A_DRIVER", "Mutant", "execute"]

_NUMBERS, _DRIVER = "numbers.cuh", "driver.py"

FOUND_BY: dict[str, tuple[Mutant, ...]] = {}
for _part in (cross_entropy, layout, pixel, host, ladder):
    for _demand, _mutants in _part.FOUND_BY.items():
        FOUND_BY[_demand] = (*FOUND_BY.get(_demand, ()), *_mutants)

WITH_A_DRIVER = (
    Mutant("twice as many threads", _DRIVER, "threads, 1, 1, 0, stream", "threads, 2, 1, 0, stream"),
    Mutant("shared memory nobody uses", _DRIVER, "threads, 1, 1, 0, stream", "threads, 1, 1, 60000, stream"),
    Mutant("stream of the current device", _DRIVER, "current_stream(index)", "current_stream()"),
    Mutant("loaded onto the current device", _DRIVER, "with torch.cuda.device(index):", "if True:"),
    Mutant("started on the current device", _DRIVER, "if torch.cuda.current_device() == index else", "if True else"),
    Mutant("context of the first device", _DRIVER, "cuDeviceGet(index)", "cuDeviceGet(0)"),
    Mutant(
        "capability without its minor", _DRIVER, "properties.major * 10 + properties.minor", "properties.major * 10"
    ),
    Mutant("launcher of the first device", _DRIVER, "else device.index", "else 0"),
)
"""Faults that the trial of driver_trial.py must find."""

BEYOND_THE_CPU = (
    Mutant("float16 cut off", _NUMBERS, "cvt.rn.f16.f32", "cvt.rz.f16.f32"),
    Mutant("pairs of float16 cut off", _NUMBERS, "cvt.rn.f16x2", "cvt.rz.f16x2"),
    Mutant("bfloat16 cut off by the GPU", _NUMBERS, "cvt.rn.bf16.f32", "cvt.rz.bf16.f32"),
    Mutant("pairs of bfloat16 cut off", _NUMBERS, "cvt.rn.bf16x2", "cvt.rz.bf16x2"),
)
"""Faults of what only a GPU compiles; test_compile.py must find them."""
