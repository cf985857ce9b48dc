"""Counts the machine instructions that the loss needs per pixel, for every GPU the compiler knows; needs no GPU.

    python scripts/bench/loss_instructions.py [--targets 90 100 ...] [--csv FILE]

Compiles the kernels for two classes with targets of one byte, disassembles them (nvdisasm, from PyPI) and looks for the
cheapest turn of the loop over packs that computes every pixel's exponential: the turn of a whole pack with weights.
Appends one row per target to experiments/results/benchmarks/loss-instructions.csv.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from measure import RESULTS
from sass import Block, Way, cheapest_turn, disassemble, disassembler, functions

from unet.files import append_csv
from unet.loss import plan
from unet.loss.compile import SOURCE, architectures, compile_source, missing, resources, version
from unet.loss.launch import PASSES
from unet.loss.plan import CHANNELS_LAST, PLANAR, access_bytes, kind_name, pixels_per_pack
from unet.runs.environment import describe

KINDS = {
    "bfloat16, channels_last": (torch.bfloat16, CHANNELS_LAST),
    "bfloat16, contiguous": (torch.bfloat16, PLANAR),
    "float32, channels_last": (torch.float32, CHANNELS_LAST),
    "float32, contiguous": (torch.float32, PLANAR),
}
CLASSES = 2
LARGE = (64, 388)
"""Images and their side for which the whole is added up."""
COLUMNS = ("date", "case", "target", *PASSES, "large_one_pass", "registers", "versions", "commit")
ROUNDINGS = ("FFMA", "FMUL", "FADD")


def pixels_of(dtype: torch.dtype, layout: int) -> int:
    """Pixels of a pack."""
    return pixels_per_pack(layout, CLASSES, dtype.itemsize, access_bytes(layout, CLASSES, dtype.itemsize))


def turns(kernel: str, function: list[Block], pixels: int) -> tuple[Way, Way]:
    """One turn of the loop over packs, and one of the loop over chunks with a single pack in it."""
    # A pixel by itself, or a mask, is read byte by byte; a pack of targets is not.
    targets = {2: r"LDG\.E\.U16", 4: r"LDG\.E(\.SYS|\.CONSTANT)*$", 8: r"LDG\.E\.64"}[pixels]
    least = {targets: 1} if kernel == "share_pass" else {targets: 1, r"MUFU\.EX2": pixels}
    pack = cheapest_turn(function, least, r"LDG\.E\.U8")
    barriers = 0 if kernel == "backward_pass" else 2
    chunk = cheapest_turn(function, least | {"BAR": barriers, "ISETP": 1}, r"LDG\.E\.U8") if barriers else pack
    if pack is None or chunk is None:
        raise SystemExit(f"{kernel}: the loop over packs was not found")
    return pack, chunk


def counted(dtype: torch.dtype, layout: int, target: int) -> tuple[dict[str, tuple[Way, Way]], int]:
    """The turns of every pass for compute capability `target`, and the registers of one_pass."""
    kind = kind_name(dtype, torch.uint8, CLASSES, layout)
    expressions = {name: f"{name}<{kind}>" for name in PASSES}
    binary = compile_source(SOURCE, tuple(expressions.values()), target)
    found = functions(disassemble(binary.image))
    symbols = {name: binary.symbols[expression] for name, expression in expressions.items()}
    registers = {r.symbol: r.registers for r in resources(binary)}
    pixels = pixels_of(dtype, layout)
    return {n: turns(n, found[s], pixels) for n, s in symbols.items()}, registers[symbols["one_pass"]]


def large_one_pass(found: dict[str, tuple[Way, Way]], pixels: int) -> float:
    """Instructions per pixel of share_pass and one_pass over a large batch, with what each chunk costs besides."""
    images, side = LARGE
    per_thread, _ = plan._chunks(images * side**2 // pixels)
    total = 0.0
    for name in ("share_pass", "one_pass"):
        pack, chunk = found[name]
        total += len(pack) + (len(chunk) - len(pack)) / per_thread
    return total / pixels


def row(name: str, target: int, date: str = "") -> dict[str, Any]:
    """A row of the table."""
    dtype, layout = KINDS[name]
    pixels = pixels_of(dtype, layout)
    found, registers = counted(dtype, layout, target)
    per_pixel = {kernel: f"{len(pack) / pixels:.1f}" for kernel, (pack, _) in found.items()}
    return {
        "date": date,
        "case": f"{CLASSES} classes, {name}",
        "target": f"sm_{target}",
        **per_pixel,
        "large_one_pass": f"{large_one_pass(found, pixels):.1f}",
        "registers": registers,
        "versions": f"NVRTC {version()[0]}.{version()[1]}",
        "commit": describe(torch.device("cpu"))["commit"] or "",
    }


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, nargs="+", default=None, metavar="CAPABILITY", help="90 for 9.0")
    parser.add_argument("--csv", type=Path, default=RESULTS / "loss-instructions.csv")
    options = parser.parse_args(arguments)
    reason = missing() or ("" if disassembler() else "nvdisasm is missing (pip install nvidia-cuda-nvdisasm)")
    if reason:
        print(f"nothing can be counted here: {reason}", file=sys.stderr)
        return 2
    date, rows = datetime.now(UTC).strftime("%Y-%m-%d %H:%M"), []
    for name in KINDS:
        for target in options.targets or architectures():
            rows.append(row(name, target, date))
            print("  ".join(f"{rows[-1][column]}" for column in COLUMNS[1:-2]), flush=True)
    append_csv(options.csv, COLUMNS, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
