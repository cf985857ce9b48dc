"""Compiled inner loops of the scores. Imported only when one is computed: loading the compiler takes a while.

Axes: H rows, W columns. Flat indices into an H x W image are row * W + column. All components are 4-connected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
Function = TypeVar("Function", bound=Callable[..., Any])

# States of a pixel while regions grow; a label is positive.
_LINE, _MASK, _INQUEUE, _OUTSIDE = 0, -1, -2, -3

# What a mismatch that no flip could remove is (the values of `unet.metrics.warping.Mistake`).
_OBJECT_DELETION, _OBJECT_ADDITION, _HOLE_ADDITION, _HOLE_DELETION, _MERGE, _SPLIT = 1, 2, 3, 4, 5, 6


def _jit(function: Function) -> Function:
    """Compile and keep the result on disk, where there is a folder to keep it in."""
    try:
        return numba.njit(cache=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # neither the package's folder nor the user's cache can be written to
        return numba.njit(function)  # type: ignore[no-any-return]


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


@_jit
def components(mask: NDArray[np.bool_]) -> tuple[Ids, int]:
    """Ids H x W of the 4-connected components of the mask (1.. in order of their first pixel, else 0), and their number."""
    height, width = mask.shape
    ids = np.zeros((height, width), np.int32)
    parent = np.zeros(height * width // 2 + 2, np.int32)
    used = 0
    for y in range(height):
        for x in range(width):
            if not mask[y, x]:
                continue
            left = ids[y, x - 1] if x > 0 else 0
            up = ids[y - 1, x] if y > 0 else 0
            if left == 0 and up == 0:
                used += 1
                parent[used] = used
                ids[y, x] = used
            elif up == 0 or left == up:
                ids[y, x] = left
            elif left == 0:
                ids[y, x] = up
            else:
                while parent[left] != left:
                    parent[left] = parent[parent[left]]
                    left = parent[left]
                while parent[up] != up:
                    parent[up] = parent[parent[up]]
                    up = parent[up]
                root = min(left, up)
                parent[left] = root
                parent[up] = root
                ids[y, x] = root
    final = np.zeros(used + 1, np.int32)
    count = 0
    for k in range(1, used + 1):  # a parent never stands after its child
        if parent[k] == k:
            count += 1
            final[k] = count
        else:
            final[k] = final[parent[k]]
    for y in range(height):
        for x in range(width):
            ids[y, x] = final[ids[y, x]]
    return ids, count


@_jit
def thin(basins: Ids) -> Ids:
    """Regions H x W grown from the basins over the rest until lines of one pixel (0) are left between them.

    Queue watershed: pixels are settled in the order in which they enter a FIFO, which the scan column by column starts.
    """
    height, width = basins.shape
    stride = width + 2
    state = np.full((height + 2) * stride, _OUTSIDE, np.int32)
    total = 0
    for y in range(height):
        for x in range(width):
            label = basins[y, x]
            state[(y + 1) * stride + x + 1] = label if label > 0 else _MASK
            total += label <= 0
    queue = np.empty(total, np.int64)
    steps = (-1, -stride, 1, stride)  # left, up, right, down
    end = 0
    for x in range(width):
        for y in range(height):
            p = (y + 1) * stride + x + 1
            if state[p] != _MASK:
                continue
            for step in steps:
                if state[p + step] > 0:
                    state[p] = _INQUEUE
                    queue[end] = p
                    end += 1
                    break
    flag = False  # one for the whole image, on purpose
    begin = 0
    while begin < end:
        p = queue[begin]
        begin += 1
        for step in steps:
            q = p + step
            other, own = state[q], state[p]
            if other > 0:
                if own == _INQUEUE or (own == _LINE and flag):
                    state[p] = other
                elif own > 0 and own != other:
                    state[p] = _LINE
                    flag = False
            elif other == _LINE:
                if own == _INQUEUE:
                    state[p] = _LINE
                    flag = True
            elif other == _MASK:
                state[q] = _INQUEUE
                queue[end] = q
                end += 1
    regions = np.zeros((height, width), np.int32)
    for y in range(height):
        for x in range(width):
            regions[y, x] = max(state[(y + 1) * stride + x + 1], 0)
    return regions


@_jit
def by_label(ids: Ids, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Flat indices of the pixels of label 1, 2, .. `count`, one after the other, and the `count` + 1 starts."""
    flat = ids.ravel()
    starts = np.zeros(count + 2, np.int64)
    for p in range(flat.size):
        starts[flat[p] + 1] += flat[p] > 0
    for k in range(1, count + 2):
        starts[k] += starts[k - 1]
    order = np.empty(starts[count + 1], np.int64)
    place = starts.copy()
    for p in range(flat.size):
        label = flat[p]
        if label > 0:
            order[place[label]] = p
            place[label] += 1
    return order, starts[1:]


@_jit
def overlap_sums(
    order: NDArray[np.int64], starts: NDArray[np.int64], regions: Ids, region_count: int
) -> tuple[int, int, int, int, int, float, float, float]:
    """Sums over the overlaps of labels with regions, over the pixels of `by_label`.

    Returns sum n_ij^2, sum b_j^2, sum a_i^2 (a_i label, b_j region, region 0 left out of the first two), the number z
    of pixels in region 0, the number of regions met, and sum n_ij ln n_ij, sum b_j ln b_j, sum a_i ln a_i.
    """
    flat = regions.ravel()
    joint = np.zeros(region_count + 1, np.int64)
    sizes = np.zeros(region_count + 1, np.int64)
    met = np.empty(region_count + 1, np.int64)
    joint_2, label_2, region_2 = 0, 0, 0
    joint_log, label_log, region_log = 0.0, 0.0, 0.0
    for k in range(starts.size - 1):
        found = 0
        for i in range(starts[k], starts[k + 1]):
            j = flat[order[i]]
            if joint[j] == 0:
                met[found] = j
                found += 1
            joint[j] += 1
        for i in range(found):
            j = met[i]
            n = joint[j]
            joint[j] = 0
            sizes[j] += n
            if j > 0:
                joint_2 += n * n
                joint_log += n * np.log(n)
        n = starts[k + 1] - starts[k]
        label_2 += n * n
        label_log += n * np.log(n)
    regions_met = 0
    for j in range(1, region_count + 1):
        n = sizes[j]
        if n > 0:
            regions_met += 1
            region_2 += n * n
            region_log += n * np.log(n)
    return joint_2, region_2, label_2, sizes[0], regions_met, joint_log, region_log, label_log


@_jit
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


@_jit
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


@_jit
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
