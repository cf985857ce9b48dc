"""Compiled loops over regions: components, border thinning, overlaps. Imported only when a score is computed.

Axes: H rows, W columns. Flat indices into an H x W image are row * W + column. All components are 4-connected.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unet.metrics._jit import jit

Ids = NDArray[np.int32]

# States of a pixel while regions grow; a label is positive.
_LINE, _MASK, _INQUEUE, _OUTSIDE = 0, -1, -2, -3


@jit
def components(mask: NDArray[np.bool_]) -> tuple[Ids, int]:
    """4-connected components of the mask: ids H x W (1.. in order of their first pixel, else 0) and their number."""
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


@jit
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


@jit
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


@jit
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
