"""The definitions of the EM scores once more, pixel by pixel in plain Python: slow, sharing nothing with the product.

Keyword arguments switch single rules to something plausible but wrong; the tests use them to show that a comparison
with these definitions notices such a mistake.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

Pixel = tuple[int, int]  # row, column
Regions = dict[Pixel, int]

LEFT, UP, RIGHT, DOWN = (0, -1), (-1, 0), (0, 1), (1, 0)
EDGES = (LEFT, UP, RIGHT, DOWN)
RING = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def columns_first(height: int, width: int) -> Iterator[Pixel]:
    for x in range(width):
        for y in range(height):
            yield y, x


def rows_first(height: int, width: int) -> Iterator[Pixel]:
    for y in range(height):
        for x in range(width):
            yield y, x


def pieces(pixels: Iterable[Pixel], steps: Iterable[Pixel] = EDGES) -> Regions:
    """Component number 1.. of every pixel."""
    pixels, steps = set(pixels), list(steps)
    ids: Regions = {}
    number = 0
    for start in sorted(pixels):
        if start in ids:
            continue
        number += 1
        todo = [start]
        while todo:
            y, x = todo.pop()
            if (y, x) in pixels and (y, x) not in ids:
                ids[y, x] = number
                todo += [(y + dy, x + dx) for dy, dx in steps]
    return ids


def pixels_of(mask: NDArray[np.bool_]) -> set[Pixel]:
    return {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}


def thinned(
    mask: NDArray[np.bool_],
    *,
    scan: Callable[[int, int], Iterator[Pixel]] = columns_first,
    last_first: bool = False,
    lines_are_settled: bool = False,
) -> Regions:
    """Region of every pixel after the queue watershed, 0 on the lines."""
    height, width = mask.shape
    state: dict[Pixel, int | str] = dict(pieces(pixels_of(mask)))
    if not state:
        return dict.fromkeys(columns_first(height, width), 1)
    membrane = [p for p in scan(height, width) if p not in state]
    basin = set(state)
    fifo: deque[Pixel] = deque()
    for y, x in membrane:
        if any((y + dy, x + dx) in basin for dy, dx in EDGES):
            state[y, x] = "queued"
            fifo.append((y, x))
        else:
            state[y, x] = "mask"
    flag = False
    while fifo:
        p = fifo.pop() if last_first else fifo.popleft()
        for dy, dx in EDGES:
            q = p[0] + dy, p[1] + dx
            if q not in state:
                continue
            if isinstance(state[q], int) and state[q] != 0:
                if state[p] == "queued" or (state[p] == 0 and flag and not lines_are_settled):
                    state[p] = state[q]
                elif isinstance(state[p], int) and state[p] != 0 and state[p] != state[q]:
                    state[p] = 0
                    flag = False
            elif state[q] == 0:
                if state[p] == "queued":
                    state[p] = 0
                    flag = True
            elif state[q] == "mask":
                state[q] = "queued"
                fifo.append(q)
    return {p: int(value) for p, value in state.items()}


def clusters(cells: Regions, regions: Regions, *, background_is_one: bool = False) -> list[tuple[int, object]]:
    """(label component, proposal region) of every cell pixel; each pixel of background is a region of its own."""
    return [(a, regions.get(p, 0) or (0 if background_is_one else p)) for p, a in cells.items()]


def squares(pairs: list[tuple[int, object]]) -> tuple[int, int, int]:
    """(tp, tp + fp, tp + fn): ordered pairs of pixels together in both, in the proposal, in the label."""
    return (
        sum(n * n for n in Counter(pairs).values()),
        sum(n * n for n in Counter(b for _, b in pairs).values()),
        sum(n * n for n in Counter(a for a, _ in pairs).values()),
    )


def unordered(pairs: list[tuple[int, object]]) -> tuple[int, int, int]:
    """The same with unordered pairs of different pixels, counted one by one."""
    both = proposal = label = 0
    for i, (a, b) in enumerate(pairs):
        for c, d in pairs[:i]:
            both += a == c and b == d
            proposal += b == d
            label += a == c
    return both, proposal, label


def f_of(tp: int, tp_fp: int, tp_fn: int) -> float:
    precision = 1.0 if tp_fp - tp == 0 else tp / tp_fp
    recall = 1.0 if tp_fn - tp == 0 else tp / tp_fn
    return 0.0 if precision == recall == 0 else 2 * precision * recall / (precision + recall)


def information(pairs: list[tuple[int, object]]) -> float:
    """2 I / (H_label + H_proposal), I as the sum over joint clusters of p log(p / (p_i p_j))."""
    n = len(pairs)
    label, proposal = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    if len(label) < 2 or len(proposal) < 2:
        return 0.0
    h_label, h_proposal = (-sum(c / n * math.log(c / n) for c in k.values()) for k in (label, proposal))
    shared = sum(c / n * math.log(c * n / (label[a] * proposal[b])) for (a, b), c in Counter(pairs).items())
    return 2 * shared / (h_label + h_proposal)


def is_simple(mask: NDArray[np.bool_], y: int, x: int) -> bool:
    """Whether flipping a pixel of a padded mask keeps the topology of foreground (4) and background (8)."""
    ring = [(y + dy, x + dx) for dy, dx in RING]
    foreground = pieces((p for p in ring if mask[p]), EDGES)
    background = pieces((p for p in ring if not mask[p]), RING)
    touching = {foreground[y + dy, x + dx] for dy, dx in EDGES if mask[y + dy, x + dx]}
    return len(touching) == 1 and len(set(background.values())) == 1


def warped(
    cells: NDArray[np.bool_],
    proposal: NDArray[np.float32],
    t: float,
    *,
    scan: Callable[[int, int], Iterator[Pixel]] = columns_first,
    near_first: bool = False,
    one_pass: bool = False,
) -> tuple[NDArray[np.bool_], list[Pixel]]:
    """The warped label, not padded, and the mismatches that are left."""
    height, width = cells.shape
    source, distance = np.pad(cells, 1), np.pad(proposal, 1)
    target = np.array([[float(v) > t for v in row] for row in distance])
    flipped = True
    while flipped:
        flipped = False
        todo = [p for p in scan(height + 2, width + 2) if source[p] != target[p]]
        sign = 1 if near_first else -1
        todo.sort(key=lambda p: sign * float(np.float32(abs(float(distance[p]) - t))))
        for y, x in todo:
            if is_simple(source, y, x):
                source[y, x] = not source[y, x]
                flipped = not one_pass
    left = [(y - 1, x - 1) for y, x in columns_first(height + 2, width + 2) if source[y, x] != target[y, x]]
    return source[1:-1, 1:-1], left


def kinds(mask: NDArray[np.bool_], left: list[Pixel], radius: int = 20) -> dict[Pixel, str]:
    """What each remaining mismatch is."""
    height, width = mask.shape

    def round_ids(ids: Regions, y: int, x: int) -> set[int]:
        inside = [(y + dy, x + dx) for dy, dx in RING if 0 <= y + dy < height and 0 <= x + dx < width]
        return {ids.get(p, 0) for p in inside} or {0}

    everywhere = pixels_of(mask)
    components = pieces(everywhere)
    found = {}
    for y, x in left:
        white = bool(mask[y, x])
        ids = round_ids(components, y, x)
        if len(ids) == 1 and ids == {0}:
            found[y, x] = "object deletion" if white else "object addition"
        elif len(ids) == 1:
            found[y, x] = "hole addition" if white else "hole deletion"
        elif len(ids) == 2 and not white:
            found[y, x] = "hole addition"
        elif len(ids) == 2:
            whole = radius > height or radius > width
            window = {p for p in everywhere if whole or max(abs(p[0] - y), abs(p[1] - x)) <= radius} - {(y, x)}
            parted = len(round_ids(pieces(window), y, x) | {0}) > 2
            found[y, x] = "split" if parted else "hole deletion"
        else:
            found[y, x] = "split" if white else "merge"
    return found
