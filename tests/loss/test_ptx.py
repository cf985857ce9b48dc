"""What the compiler makes of the loss for a GPU (PTX), run on the CPU under the demands on the kernels."""

import ctypes
import itertools

import numpy as np
import pytest
import torch

from tests.loss.mutants import Mutant
from tests.loss.shim import checks, memory, ptx
from tests.loss.shim.cases import assert_agrees, expected, run
from tests.loss.shim.host import Program, compiler
from tests.loss.shim.launcher import ShimLauncher
from tests.loss.shim.ptx import PtxKernels, TranslationError, translated
from tests.loss.trial import planted
from unet.loss.compile import missing

pytestmark = [
    pytest.mark.skipif(compiler() is None, reason="no C++ compiler"),
    pytest.mark.skipif(missing() != "", reason=missing()),
]

HEAD = ".visible .entry one(\n.param .align 8 .b8 one_param_0[16]\n)\n{\n"
REGISTERS = """
.reg .pred %p<9>; .reg .b16 %rs<9>; .reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .f32 %f<9>; .reg .f64 %fd<9>;
""".replace("; ", ";\n")


class Place(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("unused", ctypes.c_int64))


def results_of(lines, count, dtype=np.uint32):
    """What instructions leave in memory whose address is in %rd0."""
    text = f"{HEAD}{REGISTERS}ld.param.u64 %rd0, [one_param_0];\n" + "\n".join(lines) + "\nret;\n}\n"
    data = np.zeros(count, dtype)
    Program.of_text(translated(text), {"one": "one"}).run("one", Place(data.ctypes.data, 0), 1, threads=1)
    return data


def bits(value):
    return int(np.float32(value).view(np.uint32))


FLOATS = (
    # by hand: instruction, operands, wanted
    ("add.rn.f32", (1.0, 2.0**-24), 1.0),  # a tie to even
    ("add.rz.f32", (1.0, -(2.0**-30)), 1 - 2.0**-24),
    ("fma.rm.f32", (1.0, 1.0, -(2.0**-30)), 1 - 2.0**-24),
    ("fma.rn.f32", (1 + 2.0**-12, 1 + 2.0**-12, -1.0), 2.0**-11 + 2.0**-24),
    ("mul.rn.f32", (3.0, -0.5), -1.5),
    ("sub.rn.f32", (1.0, 0.25), 0.75),
    ("max.f32", (np.nan, -2.0), -2.0),
    ("abs.f32", (-2.5,), 2.5),
    ("neg.f32", (0.5,), -0.5),
    ("cvt.sat.f32.f32", (1.5,), 1.0),
    ("cvt.sat.f32.f32", (np.nan,), 0.0),
    ("ex2.approx.ftz.f32", (-127.5,), 0.0),  # below the smallest normal number
    ("ex2.approx.ftz.f32", (3.0,), 8.0),
    ("rcp.approx.ftz.f32", (4.0,), 0.25),
    ("div.rn.f32", (1.0, 3.0), np.float32(1) / np.float32(3)),
)
INTEGERS = (
    ("add.s32", ("-1", "2"), 1),
    ("sub.s32", ("1", "2"), 2**32 - 1),
    ("mul.lo.s32", ("65537", "65537"), 131073),
    ("mad.lo.s32", ("3", "-4", "5"), 2**32 - 7),
    ("shl.b32", ("3", "31"), 2**31),
    ("shl.b32", ("3", "32"), 0),
    ("shr.u32", ("-1", "28"), 15),
    ("shr.s32", ("-16", "2"), 2**32 - 4),
    ("max.s32", ("-1", "1"), 1),
    ("div.u32", ("-2", "2"), 2**31 - 1),
    ("not.b32", ("5",), 2**32 - 6),
    ("and.b32", ("12", "10"), 8),
)


def test_instructions_on_numbers():
    lines = []
    for n, (name, operands, _) in enumerate(FLOATS):
        values = ", ".join(f"0f{bits(v):08X}" for v in operands)
        lines += [f"{name} %f1, {values};", f"st.global.f32 [%rd0+{4 * n}], %f1;"]
    for n, (name, operands, _) in enumerate(INTEGERS, start=len(FLOATS)):
        loaded = [f"mov.u32 %r{k + 2}, {v};" for k, v in enumerate(operands)]
        registers = ", ".join(f"%r{k + 2}" for k in range(len(operands)))
        lines += [*loaded, f"{name} %r1, {registers};", f"st.global.u32 [%rd0+{4 * n}], %r1;"]
    found = results_of(lines, len(FLOATS) + len(INTEGERS))
    for value, (name, operands, wanted) in zip(found, FLOATS, strict=False):
        assert value == bits(wanted), (name, operands)
    for value, (name, operands, wanted) in zip(found[len(FLOATS) :], INTEGERS, strict=True):
        assert value == wanted, (name, operands)


def test_conversions_halves_comparisons_and_branches():
    nan, one = f"0f{bits(np.nan):08X}", f"0f{bits(1):08X}"
    lines = [
        "cvt.s64.s32 %rd1, -3;", "st.global.u64 [%rd0], %rd1;",
        "cvt.u64.u32 %rd1, -3;", "st.global.u64 [%rd0+8], %rd1;",
        "mov.b64 %rd1, {5, 7};", "mov.b64 {%r1, %r2}, %rd1;", "sub.s32 %r3, %r2, %r1;",
        "st.global.v2.u32 [%rd0+16], {%r2, %r3};",
        f"cvt.rn.bf16x2.f32 %r1, {one}, {one};", "st.global.u32 [%rd0+24], %r1;",
        f"cvt.rn.f16.f32 %rs1, {one};", "cvt.u32.u16 %r1, %rs1;", "st.global.u32 [%rd0+28], %r1;",
        f"setp.gtu.f32 %p1, {nan}, {one};", f"setp.gt.f32 %p2, {nan}, {one};", f"setp.num.f32 %p3, {nan}, {one};",
        "selp.u32 %r1, 1, 0, %p1;", "selp.u32 %r2, 2, 0, %p2;", "selp.u32 %r3, 4, 0, %p3;", "add.s32 %r1, %r1, %r2;",
        "add.s32 %r1, %r1, %r3;", "st.global.u32 [%rd0+32], %r1;",
        "mov.u32 %r1, 9;", "@!%p2 bra $L__1;", "mov.u32 %r1, 8;", "$L__1:", "st.global.u32 [%rd0+36], %r1;",
        "ld.global.v2.u32 {%r1, %r2}, [%rd0+16];", "atom.global.add.u32 %r3, [%rd0+36], %r1;",
        "mul.wide.s32 %rd1, -2, 3;", "st.global.u64 [%rd0+40], %rd1;",
        "cvt.rn.f32.s32 %f1, -7;", "cvt.f64.f32 %fd1, %f1;", "cvt.rn.f32.f64 %f2, %fd1;",
        "st.global.f32 [%rd0+48], %f2;",
    ]  # fmt: skip
    found = results_of(lines, 13)
    assert found[:2].view(np.int64)[0] == -3
    assert found[2:4].view(np.uint64)[0] == 2**32 - 3
    assert found[4:10].tolist() == [7, 2, 0x3F803F80, 0x3C00, 1, 9 + 7]
    assert found[10:12].view(np.int64)[0] == -6
    assert found[12] == bits(-7)


@pytest.mark.parametrize("line", ["tex.2d.v4.f32 %f1, %f2;", "setp.hi.u32 %p1, %r1, %r2;", "mov.u32 %r1, other;", "?"])
def test_what_is_not_known_is_refused(line):
    with pytest.raises(TranslationError):
        translated(f"{HEAD}{REGISTERS}{line}\n}}\n")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNET_KERNEL_CACHE", str(tmp_path_factory.mktemp("kernels")))
        yield PtxKernels()


DEMANDS = (
    checks.digits_of_confident_pixels,
    checks.weights_may_be_negative,
    checks.ways_give_the_same_bits,
    checks.masked_pixels_may_hold_anything,
    checks.nothing_valid_is_zero,
    checks.targets_outside_the_classes_are_seen,
    checks.special_values_propagate_as_in_torch,
)


@pytest.mark.parametrize("demand", DEMANDS, ids=lambda d: d.__name__)
def test_demand(demand, kernels):
    demand(kernels)


def agree(kernels, indices):
    for index, mode in itertools.product(indices, checks.MODES):
        case = checks.varied(index, weights=True, mask=True, reduction="weighted_mean", upstream=0.5)
        assert_agrees(run(case, ShimLauncher(kernels, 2), mode), expected(case))


HALVES = [n for n, (*_, dtype, _, _) in enumerate(checks.VARIED) if dtype is torch.float16]


def test_half_precision(kernels):
    agree(kernels, HALVES)


@pytest.mark.parametrize("index", [0, 1, 5])
def test_accesses(index, kernels):
    """Within their arrays, aligned, and with barriers between."""
    seen = memory.watched(kernels)
    for mode in checks.MODES:
        memory._touches(seen, checks.varied(index, weights=True, mask=True, reduction="weighted_mean"), mode)


FAULTS = (
    Mutant("float16 read as bfloat16", "numbers.cuh", "cvt.f32.f16", "cvt.f32.bf16"),
    Mutant("float16 written as bfloat16", "numbers.cuh", "cvt.rn.f16x2.f32", "cvt.rn.bf16x2.f32"),
    Mutant("values of a word change places", "numbers.cuh", '"f"(second), "f"(first)', '"f"(first), "f"(second)', 1),
    Mutant("words of an access swapped", "numbers.cuh", '"r"(words[0]), "r"(words[1])', '"r"(words[1]), "r"(*words)'),
    Mutant("reciprocal of the square", "pixel.cuh", '"f"(x)', '"f"(x * x)'),
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=[f.name.replace(" ", "-") for f in FAULTS])
def test_faults_that_only_a_device_has(fault, tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_KERNEL_CACHE", str(tmp_path / "kernels"))
    csrc = planted(fault, tmp_path)
    with pytest.raises(AssertionError):
        agree(PtxKernels(csrc), HALVES[-1:])
    agree(ptx.Kernels(csrc), HALVES[-1:])  # the plain sources do not show it
