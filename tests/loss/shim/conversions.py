"""What is demanded of the conversions between float32 and the 16-bit types. Functions as in checks.py."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from tests.loss.shim.host import HERE, Program
from tests.loss.shim.launcher import Kernels

FIELDS = ("source", "halves", "bfloats", "from_halves", "from_bfloats")


class Conversion(ctypes.Structure):
    """struct Conversion of conversions.cu."""

    _fields_ = (*((name, ctypes.c_void_p) for name in FIELDS), ("count", ctypes.c_int64))


@cache
def _program(csrc: Path, flags: tuple[str, ...]) -> Program:
    return Program(HERE / "conversions.cu", ["convert", "logarithm"], csrc, flags)


def convert(kernels: Kernels, values: Tensor) -> dict[str, Tensor]:
    """Each float32 value in both 16-bit types, and the number of each pattern 0, 1, ... of them in float32."""
    results = {
        "halves": torch.empty_like(values, dtype=torch.float16),
        "bfloats": torch.empty_like(values, dtype=torch.bfloat16),
        "from_halves": torch.empty_like(values),
        "from_bfloats": torch.empty_like(values),
    }
    params = Conversion(values.data_ptr(), *(t.data_ptr() for t in results.values()), len(values))
    _program(kernels.csrc, kernels.flags).run("convert", params, 1, threads=64)
    return results


class Logarithm(ctypes.Structure):
    """struct Logarithm of conversions.cu."""

    _fields_ = (("source", ctypes.c_void_p), ("to", ctypes.c_void_p), ("count", ctypes.c_int64))


def logarithms_are_accurate(kernels: Kernels) -> None:
    """log(1 + x) for x from 0 to 1, the smallest too, within 1.5 units of the last place; NaN stays NaN."""
    values = torch.cat([torch.linspace(0, 1, 200_001), torch.logspace(-44, 0, 50_000), torch.tensor([torch.nan])])
    result = torch.empty_like(values)
    params = Logarithm(values.data_ptr(), result.data_ptr(), len(values))
    _program(kernels.csrc, kernels.flags).run("logarithm", params, 1, threads=64)
    exact = values.double().log1p()
    unit = torch.nextafter(exact.float(), torch.tensor(torch.inf)).double() - exact.float().double()
    assert ((result.double() - exact).abs() <= 1.5 * unit)[:-1].all()
    assert result[-1].isnan()


def all_patterns() -> Tensor:
    """The 65,536 patterns of 16 bits."""
    return torch.arange(65536, dtype=torch.int32).to(torch.uint16)


def hard_values() -> Tensor:
    """Float32 numbers at and around every 16-bit number and the midpoints between them, NaN and infinities included."""
    upper = torch.arange(65536, dtype=torch.int64) << 16
    lower = torch.tensor([0, 1, 0x0FFF, 0x1000, 0x1001, 0x2000, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
    bits = (upper[:, None] + lower[None, :]).flatten()
    return bits.to(torch.uint32).view(torch.float32)


def assert_same_numbers(actual: Tensor, wanted: Tensor) -> None:
    """Equal, signs of zeros too; a NaN is a NaN."""
    nan = wanted.isnan()
    assert torch.equal(actual.isnan(), nan)
    assert torch.equal(actual[~nan].view(torch.int16), wanted[~nan].view(torch.int16))


def to_bfloat16_rounds_as_torch(kernels: Kernels) -> None:
    """Nearest, ties to even; NaN stays NaN."""
    values = hard_values()
    assert_same_numbers(convert(kernels, values)["bfloats"], values.to(torch.bfloat16))


def to_float16_rounds_as_torch(kernels: Kernels) -> None:
    """The shim's own conversion (a GPU has an instruction)."""
    values = hard_values()
    assert_same_numbers(convert(kernels, values)["halves"], values.to(torch.float16))


def from_16_bits_is_exact(kernels: Kernels) -> None:
    """Every pattern of both types."""
    results = convert(kernels, torch.zeros(65536))
    torch.testing.assert_close(
        results["from_halves"], all_patterns().view(torch.float16).float(), rtol=0, atol=0, equal_nan=True
    )
    torch.testing.assert_close(
        results["from_bfloats"], all_patterns().view(torch.bfloat16).float(), rtol=0, atol=0, equal_nan=True
    )
