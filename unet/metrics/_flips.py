"""Compiled loops of the warping error: flips that keep the topology, and what is left. Imported only when computed.

Axes: H rows, W columns. Flat indices into an H x W image are row * W + column.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unet.metrics._jit import jit

Ids = NDArray[np.int32]

# What a mismatch that no flip could remove is (the values of `unet.metrics.warping.Mistake`).
_OBJECT_DELETION, _OBJECT_ADDITION, _HOLE_ADDITION, _HOLE_DELETION, _MERGE, _SPLIT = 1, 2, 3, 4, 5, 6


def _simple_rings() -> NDArray[np.bool_]:
    """For each pattern of the 8 pixels round a pixel, whether flipping that pixel keeps the topology.

    Bit k is ring position k, clockwise from the left upper corner: even k are corners, odd k touch the pixel by an
    edge. Simple: exactly one 4-component of the ring's foreground touches by an edge, and its background is one
    8-component.
    """
    simple = np.zeros(256, np.bool_)
    for pattern in range(256):
        ring = [bool(pattern >> k & 1) for k in range(8)]
        touching = {_ring_root(ring, k, True) for k in range(8) if ring[k] and k % 2}
        background = {_ring_root(ring, k, False) for k in range(8) if not ring[k]}
        simple[pattern] = len(touching) == 1 and len(background) == 1
    return simple


def _ring_root(ring: list[bool], start: int, value: bool) -> int:
    """The smallest position of the component (4-connected foreground or 8-connected background) that `start` is in."""
    reached, todo = {start}, [start]
    while todo:
        k = todo.pop()
        steps = [-1, 1] if value or k % 2 == 0 else [-2, -1, 1, 2]  # two edge positions meet across a corner
        for other in ((k + step) % 8 for step in steps):
            if ring[other] == value and other not in reached:
                reached.add(other)
                todo.append(other)
    return min(reached)


_SIMPLE = _simple_rings()


@jit
def flip_simple(source: NDArray[np.bool_], mismatches: NDArray[np.int64]) -> NDArray[np.int64]:
    """Flip, in `source` itself, mismatches that are simple until none is left; returns the others in their order.

    source: padded H x W with a border of False; mismatches: flat indices in the order in which they are to be tried.
    """
    flat = source.ravel()  # a view: the array is contiguous
    width = source.shape[1]
    ring = (-width - 1, -width, -width + 1, 1, width + 1, width, width - 1, -1)
    stale = np.ones(flat.size, np.bool_)  # something round the pixel has changed since it was last looked at
    left = mismatches.copy()
    count = left.size
    changed = True
    while changed:
        changed = False
        kept = 0
        for i in range(count):
            p = left[i]
            pattern = 0
            if stale[p]:
                stale[p] = False
                bit = 1
                for step in ring:
                    if flat[p + step]:
                        pattern |= bit
                    bit <<= 1
            if _SIMPLE[pattern]:  # pattern 0 is not simple
                flat[p] = not flat[p]
                changed = True
                for step in ring:
                    stale[p + step] = True
            else:
                left[kept] = p
                kept += 1
        count = kept
    return left[:count]


@jit
def classify(warped: NDArray[np.bool_], ids: Ids, rows: Ids, columns: Ids, radius: int) -> NDArray[np.uint8]:
    """What each remaining mismatch (row, column) of the warped label is, by the components round it.

    warped, ids: H x W, the warped label and its components.
    """
    height, width = warped.shape
    kinds = np.zeros(rows.size, np.uint8)
    seen = np.zeros((height, width), np.int32)
    stack = np.empty(height * width, np.int64)
    whole = radius > height or radius > width
    for i in range(rows.size):
        y, x = rows[i], columns[i]
        white = warped[y, x]
        first, second, distinct = 0, 0, 0  # a slice of one pixel has background round it
        for v in range(max(y - 1, 0), min(y + 2, height)):
            for u in range(max(x - 1, 0), min(x + 2, width)):
                if v == y and u == x:
                    continue
                value = ids[v, u]
                if distinct == 0:
                    first, distinct = value, 1
                elif distinct == 1 and value != first:
                    second, distinct = value, 2
                elif distinct == 2 and value != first and value != second:
                    distinct = 3
        if distinct == 3:
            kinds[i] = _SPLIT if white else _MERGE
        elif distinct == 2 and not white:
            kinds[i] = _HOLE_ADDITION
        elif distinct == 2:
            top, bottom = (0, height) if whole else (max(y - radius, 0), min(y + radius + 1, height))
            start, end = (0, width) if whole else (max(x - radius, 0), min(x + radius + 1, width))
            parted = _parts(warped, y, x, (top, bottom, start, end), seen, stack, i + 1)
            kinds[i] = _SPLIT if parted else _HOLE_DELETION
        elif first > 0:
            kinds[i] = _HOLE_ADDITION if white else _HOLE_DELETION
        else:
            kinds[i] = _OBJECT_DELETION if white else _OBJECT_ADDITION
    return kinds


@jit
def _parts(
    mask: NDArray[np.bool_],
    y: int,
    x: int,
    window: tuple[int, int, int, int],
    seen: Ids,
    stack: NDArray[np.int64],
    mark: int,
) -> bool:
    """Whether clearing (y, x) leaves its foreground neighbours in several components of the mask inside the window.

    seen: scratch that need not be cleared as long as `mark` is a new number each time.
    """
    top, bottom, start, end = window
    width = mask.shape[1]
    todo, depth = 0, 0  # neighbours not reached yet; filled part of the stack
    for v in range(max(y - 1, top), min(y + 2, bottom)):
        for u in range(max(x - 1, start), min(x + 2, end)):
            if mask[v, u] and not (v == y and u == x):
                todo += 1
                stack[0] = v * width + u
                depth = 1
    if depth:
        seen[stack[0] // width, stack[0] % width] = mark
        todo -= 1
    while depth > 0 and todo > 0:
        depth -= 1
        b, a = divmod(stack[depth], width)
        for k in range(4):
            d, c = b + (-1, 0, 1, 0)[k], a + (0, -1, 0, 1)[k]
            if top <= d < bottom and start <= c < end and mask[d, c] and seen[d, c] != mark and (d != y or c != x):
                seen[d, c] = mark
                stack[depth] = d * width + c
                depth += 1
                todo -= abs(d - y) <= 1 and abs(c - x) <= 1
    return todo > 0
