"""PTX, what the compiler makes of the CUDA sources for a GPU, run on the CPU: translated into C++ for the shim.

It sees what the plain C++ of the sources cannot show: code that only a device compiles, inline PTX, the compiler's own
expf, log1pf and divisions, the instructions that round. It does not see what the assembler (ptxas) makes of it, nor the
last bits of the approximations (ex2, rcp), nor memory that one warp sees later than another. Instructions that the
kernels have no use for are refused by name.
"""

from __future__ import annotations

import re
from pathlib import Path
from unittest import mock

from tests.loss.shim.host import Program
from tests.loss.shim.launcher import Kernels
from unet.loss import compile as compiler
from unet.loss.compile import CSRC, compile_source
from unet.loss.launch import FINISH, PASSES

ENTRY = re.compile(
    r"\.(?:visible|weak) \.entry (\w+)\(\s*\.param \.align 8 \.b8 \w+\[(\d+)\]\s*\)[^{]*\{(.*?)\n\}", re.DOTALL
)
REGISTERS = re.compile(r"\.reg \.(\w+)\s+%(\w+)<(\d+)>;")
SHARED = re.compile(r"\.shared \.align \d+ \.b8 (\w+)\[(\d+)\];")
INSTRUCTION = re.compile(r"(?:@(!?)%(\w+)\s+)?([a-z][\w.:]*)\s*(.*?);")
TYPES = {"pred": "bool", "f32": "float", "f64": "double", "b16": "ptx::u16", "b32": "ptx::u32", "b64": "ptx::u64"}
SPECIAL = {"%tid.x": "threadIdx.x", "%ctaid.x": "blockIdx.x", "%nctaid.x": "gridDim.x", "%ntid.x": "blockDim.x"}
COMPARED = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
LOGIC = {"and": "&", "or": "|", "xor": "^"}
FUNCTIONS = {  # instruction without its type: function of ptx.h
    **{name: name for name in ("add", "sub", "neg", "div", "rem", "max", "min", "shl", "shr")},
    "add.rn": "add",
    "sub.rn": "sub",
    "div.rn": "div",
    "mul.lo": "mul_lo",
    "mad.lo": "mad_lo",
    "mul.wide": "mul_wide",
}
EXPRESSIONS = {  # whole instruction: C++ of its operands, read as its type
    "add.rz.f32": "ptx::add_rz({0}, {1})",
    "mul.rn.f32": "{0} * {1}",
    "mul.rn.f64": "{0} * {1}",
    "fma.rn.f32": "fmaf({0}, {1}, {2})",
    "fma.rn.f64": "fma({0}, {1}, {2})",
    "fma.rm.f32": "ptx::fma_rm({0}, {1}, {2})",
    "abs.f32": "fabsf({0})",
    "rcp.rn.f32": "1.0f / {0}",
    "rcp.approx.ftz.f32": "ptx::rcp({0})",
    "ex2.approx.ftz.f32": "ptx::ex2({0})",
    "cvt.sat.f32.f32": "ptx::saturated({0})",
    "cvt.f32.f16": "half_to_float({0})",
    "cvt.f32.bf16": "ptx::from_bfloat({0})",
    "cvt.rn.f16.f32": "float_to_half({0})",
    "cvt.rn.bf16.f32": "ptx::bfloat({0})",
    "cvt.rn.f16x2.f32": "ptx::u32(float_to_half({0})) << 16 | float_to_half({1})",
    "cvt.rn.bf16x2.f32": "ptx::u32(ptx::bfloat({0})) << 16 | ptx::bfloat({1})",
}


class TranslationError(Exception):
    """PTX that is not understood."""


def split(operands: str) -> list[str]:
    """At the commas outside braces and brackets."""
    return [part.strip() for part in re.split(r",(?![^{\[]*[}\]])", operands)] if operands else []


class Entry:
    """One kernel in C++."""

    def __init__(self, symbol: str, size: str, body: str) -> None:
        self.symbol, self.parameter = symbol, f"{symbol}_param_0"
        self.shared: dict[str, int] = {}
        end = 0
        for name, count in SHARED.findall(body):
            end = -(-end // 16) * 16
            self.shared[name], end = end, end + int(count)
        registers = [f"    {TYPES[kind]} {name}[{count}];" for kind, name, count in REGISTERS.findall(body)]
        shared = [f"    __shared__ unsigned char shared[{end}] __attribute__((aligned(16)));"] if end else []
        body = re.sub(r"//.*|\.reg .*;|\.shared .*;|\.pragma .*;", "", body)
        lines = [self.line(line.strip()) for line in body.splitlines() if line.strip()]
        kernel = [f"struct {symbol}_P {{ alignas(8) unsigned char bytes[{size}]; }};"]
        kernel += [f"static void {symbol}(const {symbol}_P parameter) {{", *registers, *shared, *lines, "}"]
        self.text = "\n".join(kernel)

    def line(self, line: str) -> str:
        """A label or an instruction."""
        label = re.fullmatch(r"\$(\w+):", line)
        if label:
            return f"{label[1]}:;"
        if line in ("{", "}"):
            return line
        match = INSTRUCTION.fullmatch(line)
        if match is None:
            raise TranslationError(line)
        inverted, predicate, name, operands = match.groups()
        condition = f"if ({inverted}{self.register(predicate)}) " if predicate else ""
        return f"    {condition}{{ {self.instruction(name, split(operands))} }}"

    @staticmethod
    def register(name: str) -> str:
        kind, number = re.fullmatch(r"([a-z]+)(\d+)", name).groups()  # type: ignore[union-attr]
        return f"{kind}[{number}]"

    def value(self, operand: str) -> str:
        """A register, a number, the place of the parameters or of shared memory."""
        if operand in SPECIAL:
            return SPECIAL[operand]
        if operand.startswith("%"):
            return self.register(operand[1:])
        if operand.startswith("0f"):
            return f"ptx::as<float>(ptx::u32(0x{operand[2:]}u))"
        if operand.startswith("0d"):
            return f"ptx::as<double>(ptx::u64(0x{operand[2:]}ull))"
        if operand in self.shared:
            return f"ptx::u64({self.shared[operand]})"
        if operand == self.parameter:
            return "reinterpret_cast<ptx::u64>(&parameter)"
        if re.fullmatch(r"-?\d+", operand):
            return f"{operand}ll"
        raise TranslationError(operand)

    def read(self, kind: str, operand: str) -> str:
        return f"ptx::as<ptx::{kind}>({self.value(operand)})" if kind != "pred" else self.value(operand)

    def address(self, space: str, operand: str) -> str:
        """Of [register+offset]; shared memory counts from its own start."""
        base, offset = re.fullmatch(r"\[([%\w.]+)(?:\+(-?\d+))?\]", operand).groups()  # type: ignore[union-attr]
        place = f"ptx::u64({self.value(base)})" + (f" + ptx::u64({offset}ll)" if offset else "")
        return f"reinterpret_cast<ptx::u64>(shared) + {place}" if space == "shared" else place

    def write(self, operand: str, value: str) -> str:
        return f"ptx::set({self.register(operand[1:])}, {value});"

    def instruction(self, name: str, operands: list[str]) -> str:
        """C++ of an instruction; TranslationError names one that is not known."""
        stem, _, kind = name.rpartition(".")
        if name in ("ret", "bar.sync"):
            return "return;" if name == "ret" else "__syncthreads();"
        if name in ("bra", "bra.uni"):
            return f"goto {operands[0].lstrip('$')};"
        if name.startswith(("ld.", "st.", "atom.")):
            return self.memory(name, operands)
        if name == "shfl.sync.bfly.b32":
            to, value, lanes, _, mask = operands
            shuffled = (
                f"__shfl_xor_sync({self.read('u32', mask)}, {self.read('u32', value)}, {self.read('s32', lanes)})"
            )
            return self.write(to.split("|")[0], shuffled)
        if stem == "mov" and "{" in "".join(operands):
            return self.parts(kind, operands)
        if stem.startswith("setp."):
            return f"{self.value(operands[0])} = {self.compared(stem[5:], kind, operands[1:])};"
        to, *rest = operands
        if name in EXPRESSIONS:
            source = name.rsplit(".", 1)[1]
            if name.startswith(("cvt.f32.f16", "cvt.f32.bf16")):
                source = "u16"
            return self.write(to, EXPRESSIONS[name].format(*(self.read(source, operand) for operand in rest)))
        if stem in ("mov", "cvta.to.global"):
            return self.write(to, self.read(kind, rest[0]))
        if stem == "selp":
            return self.write(to, f"{self.value(rest[2])} ? {self.read(kind, rest[0])} : {self.read(kind, rest[1])}")
        if stem == "not":
            return self.write(to, f"!{self.value(rest[0])}" if kind == "pred" else f"~{self.read(kind, rest[0])}")
        if stem in LOGIC:
            return self.write(to, f"{self.read(kind, rest[0])} {LOGIC[stem]} {self.read(kind, rest[1])}")
        if re.fullmatch(r"cvt(\.rn)?\.[usf]\d+", stem):
            return self.write(to, f"static_cast<ptx::{stem.rsplit('.', 1)[1]}>({self.read(kind, rest[0])})")
        if stem in FUNCTIONS:
            kinds = ["u32" if n == 1 and stem in ("shl", "shr") else kind for n in range(len(rest))]
            values = ", ".join(self.read(k, operand) for k, operand in zip(kinds, rest, strict=True))
            return self.write(to, f"ptx::{FUNCTIONS[stem]}<ptx::{kind}>({values})")
        raise TranslationError(f"{name} {', '.join(operands)}")

    def memory(self, name: str, operands: list[str]) -> str:
        """Loads, stores and atomic additions, of vectors too."""
        action, space, *more, kind = name.split(".")
        if action == "atom":
            if more != ["add"]:
                raise TranslationError(name)
            at = self.address(space, operands[1])
            return self.write(operands[0], f"ptx::atomic_add<ptx::{kind}>({at}, {self.read(kind, operands[2])})")
        registers, place = operands if action == "ld" else reversed(operands)
        names, at = [r.strip() for r in registers.strip("{}").split(",")], self.address(space, place)
        vector = f"ptx::{kind}, {len(names)}"
        if action == "st":
            return f"ptx::store<{vector}>({at}, {{{', '.join(self.read(kind, r) for r in names)}}});"
        writes = " ".join(self.write(r, f"loaded.value[{n}]") for n, r in enumerate(names))
        return f"const auto loaded = ptx::load<{vector}>({at}); {writes}"

    def parts(self, kind: str, operands: list[str]) -> str:
        """A register in two halves, or of two."""
        to, source = operands
        half = int(kind[1:]) // 2
        if to.startswith("{"):
            low, high = (r.strip() for r in to.strip("{}").split(","))
            whole = f"const auto whole = {self.read(f'u{kind[1:]}', source)};"
            writes = self.write(low, f"ptx::u{half}(whole)"), self.write(high, f"ptx::u{half}(whole >> {half})")
            return " ".join((whole, *writes))
        low, high = (self.read(f"u{half}", r.strip()) for r in source.strip("{}").split(","))
        return self.write(to, f"ptx::u{kind[1:]}(ptx::u{kind[1:]}({high}) << {half} | {low})")

    def compared(self, how: str, kind: str, operands: list[str]) -> str:
        a, b = (self.read(kind, operand) for operand in operands)
        if how == "num":
            return f"{a} == {a} && {b} == {b}"
        if how == "nan":
            return f"!({a} == {a} && {b} == {b})"
        if how[:2] in COMPARED and how[2:] == "u":  # true where one is NaN too
            return f"{a} {COMPARED[how[:2]]} {b} || !({a} == {a} && {b} == {b})"
        if how in COMPARED:
            return f"{a} {COMPARED[how]} {b}"
        raise TranslationError(f"setp.{how}.{kind}")


def translated(text: str) -> str:
    """C++ of all kernels of a PTX text, functions of a structure under their symbols."""
    return "\n".join(['#include "ptx.h"', *(Entry(*entry).text for entry in ENTRY.findall(text))])


def ptx_of(source: Path, kernels: tuple[str, ...], csrc: Path, capability: int = 90) -> tuple[str, dict[str, str]]:
    """What the compiler makes of the kernels for a device, and their symbols."""
    with mock.patch.object(compiler, "target_of", lambda at: f"compute_{at}"):
        binary = compile_source(source, kernels, capability, csrc)
    return binary.image.decode().rstrip("\0"), binary.symbols


class PtxKernels(Kernels):
    """The kernels as PTX."""

    def __init__(self, csrc: Path = CSRC, flags: tuple[str, ...] = ()) -> None:
        super().__init__(csrc, (), flags)

    def with_flags(self, flags: tuple[str, ...]) -> Kernels:
        return PtxKernels(self.csrc, (*self.flags, *flags))

    def build(self, portion: tuple[str, ...]) -> Program:
        expressions = (*(f"{name}<{kind}>" for kind in portion for name in PASSES), FINISH)
        text, symbols = ptx_of(self.csrc / "cross_entropy.cu", expressions, self.csrc)
        return Program.of_text(translated(text), {e: symbols[e] for e in expressions}, self.flags)
