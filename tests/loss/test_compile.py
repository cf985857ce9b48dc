"""The run-time compiler: every kernel for every architecture, what it makes of them, and the cache on disk."""

import os
import re

import pytest
import torch

from tests.loss.mutants import BEYOND_THE_CPU
from tests.loss.trial import planted
from unet.loss import compile as module
from unet.loss.compile import CSRC, SOURCE, Binary, KernelError, compile_source, missing, resources, target_of
from unet.loss.launch import FINISH, PASSES
from unet.loss.plan import CHANNELS_LAST, PLANAR, STRIDED, kind_name

pytestmark = pytest.mark.skipif(missing() != "", reason=missing())

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
FLOAT, HALF, BFLOAT, BYTE, LONG = torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.int64
MANY = 0  # classes: a number known at run time only

# Each kernel, layout and type: all for the architecture of the H100 and H200, in turn for the others
# (scripts/gpu/gpu_check.py compiles every kernel there is for the GPU it runs on).
EVERY_TYPE = ((FLOAT, BYTE, 2, PLANAR), (HALF, LONG, 2, CHANNELS_LAST), (BFLOAT, BYTE, MANY, STRIDED))
TYPES_FOR = {a: EVERY_TYPE if a == 90 else (EVERY_TYPE[n % 3],) for n, a in enumerate(ARCHITECTURES)}
# All numbers of classes, with architectures, types and layouts in turn; 16 where the compiler is shortest of registers.
IN_TURN = tuple(
    (
        (90, 80, 100, 75)[c % 4] if c < 16 else 120,
        ((FLOAT, HALF, BFLOAT)[c % 3], (BYTE, LONG)[c // 3 % 2], c, (CHANNELS_LAST, STRIDED, PLANAR, PLANAR)[c % 4]),
    )
    for c in range(3, 17)
)


@pytest.fixture(autouse=True)
def folder(tmp_path_factory, monkeypatch):
    """A cache of the test's own."""
    path = tmp_path_factory.mktemp("kernels")
    monkeypatch.setenv("UNET_KERNEL_CACHE", str(path))
    return path


def kernels(*kind):
    name = kind_name(*kind)
    return (*(f"{p}<{name}>" for p in PASSES), FINISH)


def assert_fits(binary, most_registers):
    """Machine code for all kernels; no register array ended up in slow memory."""
    assert binary.image.startswith(b"\x7fELF")
    found = resources(binary)
    assert {r.symbol for r in found} == set(binary.symbols.values())
    assert all(r.spilled_bytes == r.stack_bytes == 0 for r in found)
    assert 0 < max(r.registers for r in found) <= most_registers


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_compiles_for_every_architecture(architecture):
    for kind in TYPES_FOR[architecture]:
        assert_fits(compile_source(SOURCE, kernels(*kind), architecture), 96 if kind[2] == 2 else 255)


@pytest.mark.parametrize(
    ("architecture", "kind"), IN_TURN, ids=[f"{kind[2]}-sm_{architecture}" for architecture, kind in IN_TURN]
)
def test_every_number_of_classes_compiles(architecture, kind):
    largest = kernels(*kind)[PASSES.index("one_pass")]  # does all that the others do
    assert_fits(compile_source(SOURCE, (largest, FINISH), architecture), 255)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        # logits of two classes and a weight for four pixels; two gradients
        ((FLOAT, BYTE, 2, PLANAR), {"ld.global.v4": 3, "st.global.v4": 2}),
        # eight pixels: two accesses of the logits, two of the weights; targets and a mask of eight bytes
        ((BFLOAT, BYTE, 2, PLANAR), {"ld.global.v4": 4, "ld.global.v2": 2, "st.global.v4": 2}),
        # two pixels: two weights
        ((FLOAT, BYTE, 2, CHANNELS_LAST), {"ld.global.v4": 1, "ld.global.v2": 1, "st.global.v4": 1}),
        ((BFLOAT, BYTE, 8, CHANNELS_LAST), {"ld.global.v4": 1, "st.global.v4": 1}),
        # four pixels: two accesses of two wide targets each
        ((BFLOAT, LONG, 2, CHANNELS_LAST), {"ld.global.v4": 2, "ld.global.v2": 2, "st.global.v4": 1}),
    ],
)
def test_accesses_are_128_bits_wide(kind, wanted, monkeypatch):
    monkeypatch.setattr(module, "target_of", lambda capability: f"compute_{capability}")
    text = compile_source(SOURCE, (kernels(*kind)[2],), 90).image.decode()
    found = re.findall(r"(?:ld|st)\.global\.v[24]", text)
    assert {name: found.count(name) for name in wanted} == wanted


def instructions(kind, csrc=CSRC):
    """Instructions of all kernels of a kind, before the assembler."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "target_of", lambda capability: f"compute_{capability}")
        text = compile_source(csrc / SOURCE.name, kernels(*kind), 90, csrc).image.decode()
    return set(re.findall(r"^\s*(?:@!?%p\d+ )?([a-z]\w*(?:\.\w+)*)[ ;]", text, re.MULTILINE))


def assert_exact(kind, csrc=CSRC):
    """Nothing is flushed to zero, cut off or estimated but what csrc/pixel.cuh estimates: the tests on the CPU, which
    see none of it, speak for a GPU."""
    found = instructions(kind, csrc)
    # expf's last step, whose argument is brought near 0 before, and csrc/pixel.cuh's reciprocal
    assert {i for i in found if re.search("approx|ftz|full", i)} == {"ex2.approx.ftz.f32", "rcp.approx.ftz.f32"}
    # Products and sums that say how they are rounded: these the assembler joins for no device.
    sums = {i for i in found if re.match(r"(add|sub|mul|mad|fma)\.", i) and i.endswith(("f32", "f64"))}
    assert {i for i in sums if not re.match(r"\w+\.r[nzmp]\.", i)} == set()
    assert {"add.rn.f32", "mul.rn.f32", "fma.rn.f32", "add.rn.f64"} <= sums
    assert {"div.rn.f32", "div.rn.f64", "rcp.rn.f32"} <= found
    name = {FLOAT: None, HALF: "f16", BFLOAT: "bf16"}[kind[0]]
    rounding = {f"cvt.rn.{name}.f32", *((f"cvt.rn.{name}x2.f32",) if kind[3] != STRIDED else ())} if name else set()
    assert {i for i in found if re.fullmatch(r"cvt\..*b?f16(x2)?\.f\d+", i)} == rounding


def test_nothing_floating_is_added_atomically_and_nothing_rounded_carelessly():
    for kind in EVERY_TYPE:
        atomics = {i for i in instructions(kind) if i.startswith(("atom", "red"))}
        assert atomics
        assert all(a.endswith(("add.u32", "add.u64")) for a in atomics), atomics
        assert_exact(kind)


@pytest.mark.parametrize("option", ["--use_fast_math", "--ftz=true", "--prec-div=false", "--fmad=true"])
def test_careless_options_are_found(option, monkeypatch):
    """They compile, and no test on the CPU sees them."""
    assert module.OPTIONS == ("-std=c++17", "--fmad=false", "--ptxas-options=-v")
    monkeypatch.setattr(module, "OPTIONS", (*module.OPTIONS, option))
    with pytest.raises(AssertionError):
        assert_exact(EVERY_TYPE[0])


@pytest.mark.parametrize("fault", BEYOND_THE_CPU, ids=[m.name.replace(" ", "-") for m in BEYOND_THE_CPU])
def test_careless_rounding_is_found(fault, tmp_path):
    kind = (HALF, LONG, 2, CHANNELS_LAST) if "bfloat" not in fault.name else (BFLOAT, BYTE, 2, PLANAR)
    csrc = planted(fault, tmp_path)
    with pytest.raises(AssertionError):
        assert_exact(kind, csrc)


def test_a_newer_device_gets_portable_code(monkeypatch):
    monkeypatch.setattr(module, "architectures", lambda: (75, 90))
    assert target_of(90) == "sm_90"
    assert target_of(103) == "compute_90"
    with pytest.raises(KernelError, match=r"6\.1 is too old"):
        target_of(61)
    assert b".target sm_90" in compile_source(SOURCE, (FINISH,), 103).image


def test_a_complaint_of_the_compiler_is_one_line(tmp_path):
    source = tmp_path / "broken.cu"
    source.write_text("__global__ void broken() { undefined(); }")
    with pytest.raises(KernelError, match=r'broken\.cu does not compile for sm_90.*"undefined" is undefined') as error:
        compile_source(source, ("broken",), 90)
    assert "\n" not in str(error.value)


# -- the cache -------------------------------------------------------------------------------------------------------


@pytest.fixture
def compilations(monkeypatch):
    """Counts what is really compiled, and spares the time."""
    calls = []

    def pretend(*arguments):
        calls.append(arguments)
        return Binary(b"image %d" % len(calls), {"kernel": "symbol"}, "log")

    monkeypatch.setattr(module, "_compile", pretend)
    return calls


def test_the_second_time_nothing_is_compiled(compilations, folder):
    first = compile_source(SOURCE, ("a",), 90)
    assert compile_source(SOURCE, ("a",), 90) == first
    assert len(compilations) == 1
    assert [p.name for p in folder.iterdir() if p.name.endswith(".part")] == []


def test_whatever_matters_makes_another_entry(compilations, monkeypatch, tmp_path):
    compile_source(SOURCE, ("a",), 90)
    compile_source(SOURCE, ("b",), 90)
    compile_source(SOURCE, ("a",), 80)
    other = tmp_path / SOURCE.name
    other.write_bytes(SOURCE.read_bytes() + b" ")
    compile_source(other, ("a",), 90)
    (tmp_path / "extra.cuh").write_text("//")
    compile_source(SOURCE, ("a",), 90, tmp_path)
    for text in ("///", "// "):  # under the same name, and of the same length
        (tmp_path / "extra.cuh").write_text(text)
        compile_source(SOURCE, ("a",), 90, tmp_path)
    monkeypatch.setattr(module, "version", lambda: (13, 9))
    compile_source(SOURCE, ("a",), 90)
    monkeypatch.setattr(module, "OPTIONS", module.OPTIONS[1:])
    compile_source(SOURCE, ("a",), 90)
    assert len(compilations) == 9


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:0], lambda b: b[:-1] + b"x", lambda b: b"{}\n" + b])
def test_a_damaged_entry_is_made_anew(compilations, folder, damage):
    compile_source(SOURCE, ("a",), 90)
    (entry,) = folder.iterdir()
    entry.write_bytes(damage(entry.read_bytes()))
    assert compile_source(SOURCE, ("a",), 90).image == b"image 2"
    assert compile_source(SOURCE, ("a",), 90).image == b"image 2"


@pytest.mark.parametrize("place", ["/proc/none", "a file"])
def test_a_folder_that_cannot_be_written_only_costs_time(compilations, monkeypatch, tmp_path, place):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("UNET_KERNEL_CACHE", str(tmp_path / place))
    for n in (1, 2):
        assert compile_source(SOURCE, ("a",), 90).image == b"image %d" % n


def test_the_cache_lies_where_the_user_wants_it(monkeypatch, tmp_path):
    assert str(module.cache_folder()) == os.environ["UNET_KERNEL_CACHE"]
    monkeypatch.delenv("UNET_KERNEL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert module.cache_folder() == tmp_path / "unet" / "kernels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert module.cache_folder().parts[-3:] == (".cache", "unet", "kernels")
