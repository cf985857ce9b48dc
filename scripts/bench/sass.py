"""Reads NVIDIA's machine code (SASS): instructions, basic blocks, and the cheapest way through a loop.

Disassembled by nvdisasm, which comes from PyPI (nvidia-cuda-nvdisasm) or with the CUDA toolkit; no GPU is needed.
"""

from __future__ import annotations

import heapq
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

LINE = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@(?P<guard>!?U?P\w+) )?\s*(?P<name>[A-Z][\w.]*)\s*(?P<operands>.*?) ?;")
LABEL = re.compile(r"^(\.L_x_\d+|\$\S+):")
ENDS = ("BRA", "EXIT", "RET", "CALL", "BRX", "JMP")
"""Instructions behind which another block begins."""


@dataclass(frozen=True)
class Instruction:
    """`name` with its modifiers, as FFMA.SAT; `guard`: the predicate under which it runs, or empty."""

    name: str
    operands: str
    guard: str = ""

    @property
    def opcode(self) -> str:
        """Without modifiers."""
        return self.name.split(".")[0]

    @property
    def goes_on(self) -> bool:
        """Whether the next instruction may follow."""
        if self.opcode == "BRA":
            return bool(self.guard) or ".DIV" in self.name or re.match(r"!?U?P\d", self.operands) is not None
        return self.opcode not in ENDS or bool(self.guard)

    @property
    def target(self) -> str:
        """The label a branch leads to, or empty. BRA.DIV is taken where a warp has diverged, which it has not. A call
        of a place within the function, not of another, is a branch that leads far."""
        found = re.search(r"`\((\.L_x_\d+)\)", self.operands)
        return found[1] if found and self.opcode in ("BRA", "CALL") and ".DIV" not in self.name else ""


@dataclass
class Block:
    """Instructions that run one after the other, and the numbers of the blocks that may follow."""

    instructions: list[Instruction] = field(default_factory=list)
    next: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Way:
    """Instructions of one turn of a loop."""

    instructions: tuple[Instruction, ...]

    def __len__(self) -> int:
        return len(self.instructions)


@cache
def disassembler() -> str | None:
    """The path of nvdisasm, or None."""
    spec = find_spec("nvidia")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("*/bin/nvdisasm")):
            return str(path)
    return shutil.which("nvdisasm")


def disassemble(image: bytes) -> str:
    """The text of machine code."""
    program = disassembler()
    if program is None:
        raise FileNotFoundError("nvdisasm is missing: pip install nvidia-cuda-nvdisasm")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.cubin"
        path.write_bytes(image)
        done = subprocess.run([program, "-c", str(path)], capture_output=True, text=True, check=True)
    return done.stdout


def functions(text: str) -> dict[str, list[Block]]:
    """The blocks of every function, by its symbol."""
    parts = re.split(r"^\.text\.(\S+):$", text, flags=re.MULTILINE)
    return {symbol: blocks(body.splitlines()) for symbol, body in zip(parts[1::2], parts[2::2], strict=True)}


def blocks(lines: Iterable[str]) -> list[Block]:
    """Cut a function where a branch leads away or to."""
    found, labels, fresh = [Block()], {}, False
    for line in lines:
        label, match = LABEL.match(line), LINE.match(line)
        if label:
            fresh = True
            labels[label[1]] = len(found) - (not found[-1].instructions)
        elif match:
            if fresh and found[-1].instructions:
                found.append(Block())
            instruction = Instruction(match["name"], match["operands"], match["guard"] or "")
            found[-1].instructions.append(instruction)
            fresh = instruction.opcode in ENDS
    for number, block in enumerate(found):
        last = block.instructions[-1] if block.instructions else Instruction("NOP", "")
        block.next = [labels[last.target]] if last.target else []
        if last.goes_on and number + 1 < len(found):
            block.next.append(number + 1)
    return found


def cheapest_turn(function: Sequence[Block], least: Mapping[str, int], without: str = "$") -> Way | None:
    """The turn of a loop with the fewest instructions among those that hold at least so many of each kind and none of
    another; inner loops are run through once. `least` and `without`: patterns of instructions' names. None where no
    loop does.

    Blocks lie in the order of their addresses; only the branch to the loop's head leads back.
    """
    patterns = [re.compile(pattern) for pattern in least]
    shut = {n for n, block in enumerate(function) if any(re.match(without, i.name) for i in block.instructions)}
    counts = [tuple(sum(p.match(i.name) is not None for i in b.instructions) for p in patterns) for b in function]
    heads = sorted({head for number, block in enumerate(function) for head in block.next if head <= number} - shut)
    ways = [way for head in heads if (way := _turn(function, counts, tuple(least.values()), head, shut))]
    return min(ways, key=len) if ways else None


def _turn(
    function: Sequence[Block], counts: Sequence[tuple[int, ...]], least: tuple[int, ...], head: int, shut: set[int]
) -> Way | None:
    """Dijkstra's algorithm over (block, how many of each kind so far)."""

    def seen(before: tuple[int, ...], block: int) -> tuple[int, ...]:
        return tuple(min(most, a + b) for most, a, b in zip(least, before, counts[block], strict=True))

    start = seen((0,) * len(least), head)
    waiting: list[tuple[int, int, tuple[int, ...], tuple[int, ...]]] = []
    heapq.heappush(waiting, (len(function[head].instructions), head, start, (head,)))
    done = set()
    while waiting:
        cost, block, so_far, path = heapq.heappop(waiting)
        if (block, so_far) in done:
            continue
        done.add((block, so_far))
        for following in function[block].next:
            if following == head and so_far == least:
                return Way(tuple(i for b in path for i in function[b].instructions))
            if following > block and following not in shut:
                state = seen(so_far, following)
                more = len(function[following].instructions)
                heapq.heappush(waiting, (cost + more, following, state, (*path, following)))
    return None
