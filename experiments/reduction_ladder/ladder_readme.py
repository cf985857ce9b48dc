"""Writes the ladder's README.md from its steps: `python experiments/reduction_ladder/ladder_readme.py`."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from ladder_steps import ADDITIONS, STEPS, Step

README = Path(__file__).with_name("README.md")
HEAD = """# The reduction ladder

How fast can a GPU add up 65,536 vectors of 2,048 float32 values (537 MB)? Adding is free, reading is not: the memory's
bandwidth is the goal, and every step removes one thing that stands in its way. The winner's building blocks
(`warp_sum`, `block_sum`, accesses of 128 bits: [`unet/loss/csrc`](../../unet/loss/csrc)) are those of the loss.

```sh
python experiments/reduction_ladder/ladder.py          # on a machine with an NVIDIA GPU; a few seconds
```

compiles the steps ([`ladder.cu`](ladder.cu)) with NVIDIA's run-time compiler, compares each with float64 sums, and only
then times it, beside `torch.sum`, a copy, and a kernel that reads and does nothing else. The table, the plot and the
CSV rows go to [`../results/benchmarks`](../results/benchmarks) (`reduction_ladder.md`, `.svg`, `.csv`).

The same source runs on the CPU in the tests, under several schedules, with every access to memory watched.

## Expected, before anything was measured

For an NVIDIA H200: 132 multiprocessors, 4.3 TB/s in a copy, so not less than 125 µs. The reasoning behind each number
stands in [`ladder_steps.py`](ladder_steps.py). Beside it what is known without a GPU: the loads that a thread has under
way before it waits for the first (read off the machine code for compute capability 8.0, 9.0 and 12.0), the barriers and
shuffles it meets with one vector (counted in the tests), the registers it takes (on 9.0). No loop is unrolled further
than the source says, so that nothing changes from step to step but what the step is named for.

"""
MIDDLE = """
Goal: the last step reaches 95 % of the bandwidth of reading alone and is not slower than `torch.sum`.

Element-wise sum of 134 M bfloat16 (805 MB, not less than 187 µs):

"""
TAIL = """
The first step's sums differ from run to run: float32 addition is not associative, and atomic additions come in any
order. All others fix the order, as the loss does.

The blog post "Reproducing U-Net", on an RTX 5090, found gains of 10 % and of 1 µs among its steps (tree, strided
accumulation in shared memory, warp shuffles) and a packed addition (`__nv_bfloat162`) 10 µs faster than the scalar
one; this is second hand, and which of its steps gained which is not recorded here. Its card reads 1.8 TB/s by its data
sheet, so its floors are 300 µs for the sums and 450 µs for the addition.

## Measured

Nothing yet: no GPU has run it.
"""


def table(steps: Sequence[Step]) -> str:
    """Markdown."""
    lines = [
        "| step | expected µs | loads under way | barriers | shuffles | registers | what it removes | gain |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    gains = ["", *(f"{a.expected_us / b.expected_us:.2f}" for a, b in itertools.pairwise(steps))]
    for step, gain in zip(steps, gains, strict=True):
        f = step.figures
        figures = f"{f.loads} x {f.bytes_of_load} B | {f.barriers} | {f.shuffles} | {f.registers}"
        lines.append(f"| {step.title} | {step.expected_us:.0f} | {figures} | {step.removes} | {gain} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The whole file."""
    return HEAD + table(STEPS) + MIDDLE + table(ADDITIONS) + TAIL


if __name__ == "__main__":
    README.write_text(page(), encoding="utf-8")
    sys.exit(0)
