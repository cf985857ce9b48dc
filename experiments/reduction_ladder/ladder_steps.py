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
PER_PAIR = "one per 512 elements"
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
class Figures:
    """What a thread does with a vector of 2,048 values, or with its share of an addition, and what it takes; known
    without a GPU.

    `loads`: under way before the first is waited for, `bytes_of_load` each; `barriers`; `shuffles`; `registers` on
    compute capability 9.0.
    """

    loads: int
    bytes_of_load: int
    barriers: int
    shuffles: int
    registers: int


@dataclass(frozen=True)
class Step:
    """One kernel. `expected_us`: time expected beforehand; `why`: the reasoning behind it; `removes`: the one thing
    that stood in the way of the step before."""

    kernel: str
    title: str
    threads: int
    grid: str
    expected_us: float
    why: str
    removes: str
    figures: Figures

    def blocks(self, count: int, resident: int) -> int:
        """Blocks of the grid for so many vectors, or elements to be added."""
        if self.grid == RESIDENT:
            return resident
        per_block = {PER_VECTOR: 1, PER_ELEMENT: 256, PER_PAIR: 512, PER_PACK: 2048}[self.grid]
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
        "",
        Figures(1, 4, 0, 0, 14),
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
        "atomic additions to one address",
        Figures(2, 4, 12, 0, 13),
    ),
    Step(
        "strided_in_shared_memory",
        "3. a share per thread, in shared memory",
        256,
        PER_VECTOR,
        215,
        "A quarter of the threads and three levels less; eight blocks per multiprocessor hide one another's levels. "
        "But every thread waits for each of its eight loads before the next: 8 KB under way per multiprocessor and 700 "
        "cycles make 2.7 TB/s, 200 us. 1.2 times faster.",
        "three levels of the tree, with most of its threads",
        Figures(1, 4, 9, 0, 14),
    ),
    Step(
        "first_pass_in_registers",
        "4. the share in a register, eight loads under way",
        256,
        PER_VECTOR,
        140,
        "The same tree; the eight loads no longer wait for one another. 64 KB under way per multiprocessor are more "
        "than the memory can use. 1.5 times faster.",
        "loads that wait for the one before",
        Figures(8, 4, 9, 0, 25),
    ),
    Step(
        "warp_shuffles",
        "5. warp shuffles for the last 32",
        256,
        PER_VECTOR,
        135,
        "Five of the nine barriers go. What they cost was mostly hidden: 4 % faster.",
        "five of nine barriers",
        Figures(8, 4, 4, 5, 24),
    ),
    Step(
        "shuffles_alone",
        "6. shuffles in every warp",
        256,
        PER_VECTOR,
        133,
        "Two barriers are left, and shared memory holds eight values: 1 % faster.",
        "two of four barriers",
        Figures(8, 4, 2, 8, 24),
    ),
    Step(
        "loads_of_128_bits",
        "7. loads of 128 bits",
        256,
        PER_VECTOR,
        132,
        "A quarter of the load instructions; the bytes, and those under way, are the same: 1 % faster.",
        "three of four load instructions",
        Figures(2, 16, 2, 8, 16),
    ),
    Step(
        "warp_per_vector",
        "8. a warp per vector, warps that stay",
        256,
        RESIDENT,
        129,
        "What is still missing is the start and the end of 65,536 short blocks. Warps that stay and go from vector to "
        "vector need neither barriers nor shared memory: 2 % faster.",
        "all barriers, the starts and ends of 65,536 blocks",
        Figures(2, 16, 0, 5, 24),
    ),
    Step(
        "many_loads_under_way",
        "9. eight loads of 128 bits under way",
        256,
        RESIDENT,
        126,
        "128 bytes per lane under way, so that no warp waits for its vector twice: 2 % faster, 99 % of the floor.",
        "waits between the loads of a vector",
        Figures(8, 16, 0, 5, 30),
    ),
)

READ = Step(
    "read_everything",
    "read only",
    256,
    RESIDENT,
    125,
    "The ceiling: the same bytes, hardly any arithmetic.",
    "",
    Figures(8, 16, 0, 0, 32),
)

ADDITIONS = (
    Step(
        "add_scalar",
        "a + b, scalar",
        256,
        PER_ELEMENT,
        250,
        "805 MB, a floor of 187 us; a warp's access moves 64 bytes, so that twice the usual number of accesses is "
        "under way for the same bytes and the load units, not the memory, set the pace: 75 % of the bandwidth.",
        "",
        Figures(2, 2, 0, 0, 11),
    ),
    Step(
        "add_pairs",
        "a + b, pairs",
        256,
        PER_PAIR,
        205,
        "A warp's access moves 128 bytes, a whole line: 91 % of the bandwidth, 1.2 times faster. (The blog's "
        "__nv_bfloat162.)",
        "every second load and store instruction",
        Figures(2, 4, 0, 0, 14),
    ),
    Step(
        "add_packed",
        "a + b, packs of 128 bits",
        256,
        PER_PACK,
        190,
        "Eight elements per access: bound by memory, 98 % of the bandwidth; 1.1 times faster.",
        "three of four load and store instructions",
        Figures(2, 16, 0, 0, 25),
    ),
)
KERNELS = tuple(step.kernel for step in (*STEPS, READ, *ADDITIONS))
