"""The steps of the ladder: how each is launched, and what it was expected to take before anything was measured.

Expectations are for an NVIDIA H200 (132 multiprocessors, 4.3 TB/s measured by a copy on such a card) and 65,536 vectors
of 2,048 float32 values: 537 MB, which cannot be read in less than 125 us.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("ladder.cu")
VECTORS, LENGTH = 65_536, 2_048
ADDED = 1 << 27  # elements of the element-wise sum: 134 M

RESIDENT = "resident"  # as many blocks as the device holds at a time
PER_VECTOR = "one per vector"
PER_ELEMENT = "one per 256 elements"
PER_PACK = "one per 2,048 elements"


class Vectors(ctypes.Structure):
    """struct Vectors of ladder.cu."""

    _fields_ = (
        ("values", ctypes.c_void_p),
        ("sums", ctypes.c_void_p),
        ("vectors", ctypes.c_int64),
        ("length", ctypes.c_int),
        ("unused", ctypes.c_int),
    )


class Arrays(ctypes.Structure):
    """struct Arrays of ladder.cu."""

    _fields_ = (("a", ctypes.c_void_p), ("b", ctypes.c_void_p), ("sum", ctypes.c_void_p), ("count", ctypes.c_int64))


@dataclass(frozen=True)
class Step:
    """One kernel. `expected_us`: time expected beforehand; `why`: the reasoning behind it."""

    kernel: str
    title: str
    threads: int
    grid: str
    expected_us: float
    why: str

    def blocks(self, count: int, resident: int) -> int:
        """Blocks of the grid for so many vectors, or elements to be added."""
        if self.grid == RESIDENT:
            return resident
        per_block = {PER_VECTOR: 1, PER_ELEMENT: 256, PER_PACK: 2048}[self.grid]
        return -(-count // per_block)


STEPS = (
    Step(
        "atomic_per_element",
        "1. one atomic addition per element",
        256,
        PER_VECTOR,
        1600,
        "134 M atomic additions, the 32 of a warp to one address: the cache adds them one after the other. At about "
        "80 per clock over all its slices (1.05 GHz of effective atomics) that is 1.6 ms, 13 times the floor.",
    ),
    Step(
        "tree_in_shared_memory",
        "2. tree in shared memory",
        1024,
        PER_VECTOR,
        260,
        "No atomics, but eleven levels with a barrier of 1,024 threads each (about 45 cycles) on top of one exposed "
        "load (800 cycles); only two blocks fit on a multiprocessor: 65,536 / 264 rounds of 1,300 cycles are 180 us, "
        "and little is loaded meanwhile. 6 times faster than step 1.",
    ),
    Step(
        "first_pass_in_registers",
        "3. first pass in registers",
        256,
        PER_VECTOR,
        140,
        "Eight loads per thread, independent of each other, before the first barrier; eight blocks per multiprocessor "
        "hide each other's eight levels. Nearly bound by memory: 1.9 times faster.",
    ),
    Step(
        "warp_shuffles",
        "4. warp shuffles",
        256,
        PER_VECTOR,
        135,
        "Five of the eight barriers go. What they cost was mostly hidden: 4 % faster.",
    ),
    Step(
        "loads_of_128_bits",
        "5. loads of 128 bits",
        256,
        PER_VECTOR,
        132,
        "A quarter of the load instructions and two barriers in all; the bytes are the same: 2 % faster.",
    ),
    Step(
        "warp_per_vector",
        "6. a warp per vector, eight loads under way",
        256,
        RESIDENT,
        126,
        "What is still missing is the start and the end of 65,536 short blocks. Warps that stay, go from vector to "
        "vector and keep 128 bytes per lane under way need neither barriers nor shared memory: 5 % faster, 99 % of the "
        "floor.",
    ),
)

READ = Step("read_everything", "read only", 256, RESIDENT, 125, "The ceiling: the same bytes, hardly any arithmetic.")

ADDITIONS = (
    Step(
        "add_scalar",
        "a + b, scalar",
        256,
        PER_ELEMENT,
        250,
        "805 MB, a floor of 187 us; a warp's access moves 64 bytes, so that twice the usual number of accesses is "
        "under way for the same bytes and the load units, not the memory, set the pace: 75 % of the bandwidth.",
    ),
    Step(
        "add_packed",
        "a + b, packs of 128 bits",
        256,
        PER_PACK,
        190,
        "Eight elements per access: bound by memory, 98 % of the bandwidth; 1.3 times faster.",
    ),
)
KERNELS = tuple(step.kernel for step in (*STEPS, READ, *ADDITIONS))
