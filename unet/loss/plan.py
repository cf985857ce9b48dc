"""How the pixels of a loss are dealt out to a kernel: memory layout, packs, chunks. Pure arithmetic, no device.

The words are those of csrc/layout.cuh. The order of summation follows from the plan, and the plan from shapes, strides
and addresses modulo 16 alone: it is the same on every device and for every grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 256  # threads
LARGEST_UNROLLED = 16  # classes; more (or one) are handled by a kernel that loops over them
VALUES_IN_REGISTERS = 64  # of one pack; twice as many spill (seen in the compiler's report)
MOST_ITEMS_PER_THREAD = 16  # in a chunk: what a thread adds up in float32, one after the other
ROWS_PER_ITEM = 1024  # rows of BLOCK items per item a thread gets: bounds the number of chunks of middling sizes

PLANAR, CHANNELS_LAST, STRIDED = range(3)
LAYOUT_NAMES = ("PLANAR", "CHANNELS_LAST", "STRIDED")
LOGIT_NAMES = {torch.float32: "float", torch.float16: "Half", torch.bfloat16: "Bfloat"}
TARGET_NAMES = {torch.uint8: "unsigned char", torch.int64: "long long"}


@dataclass(frozen=True)
class Plan:
    """Which kernel, and the division of the pixels that it is told. Its fields but `kind`, `layout` and `pixels` are
    fields of csrc/params.cuh."""

    kind: str  # the C++ type that names the kernel's instantiation
    layout: int
    pixels: int  # in an item
    items: int
    items_per_run: int
    run_length: int
    phase: int
    items_per_thread: int
    chunks: int
    whole_begin: int  # the packs of a run that are whole and aligned in every array: from this one on,
    whole_end: int  # up to before this one


@dataclass(frozen=True)
class Runs:
    """Pixels that lie one behind the other: their number, and by how many the first pack begins before them."""

    layout: int
    length: int
    phase: int
    access: int  # bytes
    pixels: int


def kind_name(logit: torch.dtype, target: torch.dtype, classes: int, layout: int) -> str:
    """The type that instantiates the kernels; classes 0 stands for a number known at run time only."""
    access = access_bytes(layout, classes, logit.itemsize)
    return f"Kind<{LOGIT_NAMES[logit]}, {TARGET_NAMES[target]}, {classes}, {LAYOUT_NAMES[layout]}, {access}>"


def unrolled(classes: int) -> int:
    """The number of classes a kernel is compiled for: itself, or 0 where the kernel loops."""
    return classes if 2 <= classes <= LARGEST_UNROLLED else 0


def pixels_per_pack(layout: int, classes: int, element: int, access: int) -> int:
    """Pixels that a thread handles at once; `element` is the size of a logit, `access` that of an access, in bytes."""
    if layout == PLANAR:
        return access // element
    return access // math.gcd(access, classes * element) if layout == CHANNELS_LAST else 1


def make_plan(
    logits: Tensor, target: Tensor, weight: Tensor | None, valid: Tensor | None, gradient: Tensor | None
) -> Plan:
    """The plan for these tensors (N x C x H x W; N x H x W), of which only shape, strides, type and address count."""
    images, classes, rows, columns = logits.shape
    pixel_arrays = [a for a in (target, weight, valid) if a is not None]
    runs = None
    if unrolled(classes) and logits.numel() and all(_dense_image(a) for a in pixel_arrays):
        runs = _planar(logits, gradient) or _channels_last(logits, pixel_arrays, gradient)
    if runs is None:
        items = images * rows * columns
        kind = kind_name(logits.dtype, target.dtype, unrolled(classes), STRIDED)
        return Plan(kind, STRIDED, 1, items, columns, columns, 0, *_chunks(items), 0, 0)
    aligned = all(_pack_aligned(a, runs) for a in pixel_arrays) and (gradient is None or _fits(gradient, runs, classes))
    covered = runs.length + runs.phase
    per_run = -(-covered // runs.pixels)
    items = images * rows * columns // runs.length * per_run
    kind = kind_name(logits.dtype, target.dtype, classes, runs.layout)
    whole = (int(runs.phase > 0), covered // runs.pixels) if aligned else (0, 0)
    return Plan(kind, runs.layout, runs.pixels, items, per_run, runs.length, runs.phase, *_chunks(items), *whole)


def _chunks(items: int) -> tuple[int, int]:
    """(items per thread, chunks): a function of the number of items alone, so that every grid sums in one order."""
    rows = -(-items // BLOCK)
    per_thread = min(max(rows // ROWS_PER_ITEM, 1), MOST_ITEMS_PER_THREAD)
    return per_thread, -(-rows // per_thread)


def _stride(tensor: Tensor, dim: int, otherwise: int) -> int:
    """Stride along an axis; an axis of length 1 has the one that suits."""
    return tensor.stride(dim) if tensor.shape[dim] > 1 else otherwise


def _dense_image(array_NHW: Tensor) -> bool:
    """Whether the pixels of an image lie one behind the other, row by row."""
    columns = array_NHW.shape[2]
    return _stride(array_NHW, 2, 1) == 1 and _stride(array_NHW, 1, columns) == columns


def access_bytes(layout: int, classes: int, element: int) -> int:
    """The widest access whose pack still fits into the registers; single pixels are read value by value."""
    if layout == STRIDED:
        return element
    fits = pixels_per_pack(layout, classes, element, 16) * classes <= VALUES_IN_REGISTERS
    return 16 if fits else 8


def _is_planar(logits: Tensor) -> bool:
    columns = logits.shape[3]
    return _stride(logits, 3, 1) == 1 and _stride(logits, 2, columns) == columns


def _is_channels_last(logits: Tensor) -> bool:
    _, classes, _, columns = logits.shape
    across, down = _stride(logits, 3, classes), _stride(logits, 2, columns * classes)
    return logits.stride(1) == 1 and across == classes and down == columns * classes


def _planar(logits: Tensor, gradient: Tensor | None) -> Runs | None:
    """Runs of a class plane each, when the planes' packs start on the same multiples of an access's size."""
    _, classes, rows, columns = logits.shape
    element = logits.element_size()
    if not _is_planar(logits) or (gradient is not None and not _is_planar(gradient)):
        return None
    access = access_bytes(PLANAR, classes, element)
    if (logits.stride(1) * element) % access or (_stride(logits, 0, 0) * element) % access:
        return None
    phase = logits.data_ptr() % access // element
    return Runs(PLANAR, rows * columns, phase, access, access // element)


def _channels_last(logits: Tensor, pixel_arrays: list[Tensor], gradient: Tensor | None) -> Runs | None:
    """One run of all pixels where the images lie one behind the other, else a run per image."""
    images, classes, rows, columns = logits.shape
    element = logits.element_size()
    if not _is_channels_last(logits) or (gradient is not None and not _is_channels_last(gradient)):
        return None
    area = rows * columns
    merged = all(_stride(a, 0, area) == area for a in pixel_arrays)
    merged = merged and all(
        _stride(a, 0, area * classes) == area * classes for a in (logits, gradient) if a is not None
    )
    access = access_bytes(CHANNELS_LAST, classes, element)
    if not merged and (_stride(logits, 0, 0) * element) % access:
        return None
    pixels = pixels_per_pack(CHANNELS_LAST, classes, element, access)
    for phase in range(pixels):
        if (logits.data_ptr() - phase * classes * element) % access == 0:
            return Runs(CHANNELS_LAST, images * area if merged else area, phase, access, pixels)
    return None  # values straddle the boundaries of the accesses


def _fits(gradient: Tensor, runs: Runs, classes: int) -> bool:
    """Whether the packs of the logits are packs of the gradient too."""
    element, access = gradient.element_size(), runs.access
    before = runs.phase * (classes if runs.layout == CHANNELS_LAST else 1)
    starts = [gradient.data_ptr() - before * element]
    starts += [_stride(gradient, 0, 0) * element] if runs.length == gradient.shape[2] * gradient.shape[3] else []
    starts += [gradient.stride(1) * element] if runs.layout == PLANAR else []
    return all(start % access == 0 for start in starts)


def _pack_aligned(array_NHW: Tensor, runs: Runs) -> bool:
    """Whether the part of an N x H x W array that belongs to a pack can be read in its widest accesses."""
    element = array_NHW.element_size()
    width = min(runs.pixels * element, 16)
    one_run = runs.length != array_NHW.shape[1] * array_NHW.shape[2]
    between = 0 if one_run else _stride(array_NHW, 0, 0) * element
    return (array_NHW.data_ptr() - runs.phase * element) % width == 0 and between % width == 0
