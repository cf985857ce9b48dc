"""Batches in memory that forked workers share with the trainer: written once, read in place, used again.

A DataLoader's own way is a new shared file for every tensor, whose pages cost more time than cutting the tiles; it also
needs /dev/shm, which containers keep small. Here a worker goes round slots of its own and takes one that nobody reads;
a slot is free again when the last tensor on it is gone.
"""

from __future__ import annotations

import itertools
import math
import mmap
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from unet.tiles.source import Tile, TileSource


class Batch(NamedTuple):
    """image N x C x n x n float32, target N x m x m uint8 (255 = no loss), weight N x m x m float32."""

    image: Tensor
    target: Tensor
    weight: Tensor


PREFETCH = 4  # batches that each worker prepares ahead
IN_USE = 3  # batches per worker that a trainer may hold without making its workers fall back to slower ways
ALIGNMENT = 64  # bytes, of every array: a cache line


class SharedSlots(Dataset["Slot | Copied"]):
    """A TileSource whose batches are written straight into shared memory, if there is a free slot."""

    def __init__(self, source: TileSource, batch: int, workers: int) -> None:
        self.source = source
        self.per_worker = PREFETCH + IN_USE
        n, m = source.input_px, source.output_px
        self._layout = _Layout.of(((batch, source.channels, n, n), np.float32), ((batch, m, m), np.uint8),
                                  ((batch, m, m), np.float32))  # fmt: skip
        slots = workers * self.per_worker
        self._memory = mmap.mmap(-1, slots * self._layout.size)
        self._lent = np.frombuffer(mmap.mmap(-1, slots), np.uint8)  # 1 from being written to being forgotten
        self._turn = 0  # of this worker's slots
        self._key = next(_keys)
        _open[self._key] = self

    def __getitems__(self, indices: Sequence[int]) -> Slot | Copied:
        """Write the tiles of a batch into a free slot of this worker; they travel by value where there is none."""
        slot = self._free()
        if slot is None:
            return Copied.of([self.source[index] for index in indices])
        arrays = self._layout.arrays(self._bytes(slot))
        for place, index in enumerate(indices):
            for array, part in zip(arrays, _parts(self.source[index]), strict=True):
                array[place] = part
        self._lent[slot] = 1
        return Slot(self._key, slot, len(indices))

    def lend(self, slot: int, tiles: int) -> Batch:
        """The batch in a slot, in place; the slot is written again when all three tensors are gone."""
        whole = self._bytes(slot)
        weakref.finalize(whole, self._lent.__setitem__, slot, 0).atexit = False
        return Batch(*(torch.from_numpy(array[:tiles]) for array in self._layout.arrays(whole)))

    def _free(self) -> int | None:
        worker = get_worker_info()
        assert worker is not None
        for ahead in range(self.per_worker):
            slot = worker.id * self.per_worker + (self._turn + ahead) % self.per_worker
            if not self._lent[slot]:
                self._turn += ahead + 1
                return int(slot)
        return None

    def _bytes(self, slot: int) -> NDArray[np.uint8]:
        return np.frombuffer(self._memory, np.uint8, self._layout.size, slot * self._layout.size)


@dataclass(frozen=True)
class _Layout:
    """Where the arrays of a batch lie within their slot."""

    shapes: tuple[tuple[int, ...], ...]
    types: tuple[np.dtype[Any], ...]
    starts: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, *arrays: tuple[tuple[int, ...], type[np.generic]]) -> _Layout:
        types = tuple(np.dtype(kind) for _, kind in arrays)
        sizes = [
            -(-math.prod(shape) * kind.itemsize // ALIGNMENT) * ALIGNMENT
            for (shape, _), kind in zip(arrays, types, strict=True)
        ]
        starts = tuple(itertools.accumulate([0, *sizes]))
        return cls(tuple(shape for shape, _ in arrays), types, starts[:-1], starts[-1])

    def arrays(self, whole: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """Views of a slot's bytes; all of them keep `whole` alive."""
        return [
            whole[start : start + math.prod(shape) * kind.itemsize].view(kind).reshape(shape)
            for shape, kind, start in zip(self.shapes, self.types, self.starts, strict=True)
        ]


@dataclass(frozen=True)
class Slot:
    """Where a batch lies in the memory of the SharedSlots `owner`; all that travels between processes."""

    owner: int
    slot: int
    tiles: int

    def batch(self) -> Batch:
        """The batch, in place."""
        return _open[self.owner].lend(self.slot, self.tiles)

    def pin_memory(self) -> Batch:
        """A copy in page-locked memory; a DataLoader calls this in its own thread."""
        return Batch(*(part.pin_memory() for part in self.batch()))


@dataclass(frozen=True)
class Copied:
    """A batch that travels by value, for a trainer that keeps so many that all slots are taken."""

    arrays: tuple[NDArray[Any], ...]

    @classmethod
    def of(cls, tiles: Sequence[Tile]) -> Copied:
        """Stack the tiles along a new first axis."""
        return cls(tuple(np.stack(parts) for parts in zip(*map(_parts, tiles), strict=True)))

    def batch(self) -> Batch:
        """The batch."""
        return Batch(*(torch.from_numpy(array) for array in self.arrays))

    def pin_memory(self) -> Batch:
        """A copy in page-locked memory."""
        return Batch(*(part.pin_memory() for part in self.batch()))


def _parts(tile: Tile) -> tuple[NDArray[Any], ...]:
    """In the order of a Batch."""
    return tile.image, tile.target, tile.weight


_keys = itertools.count()
_open: weakref.WeakValueDictionary[int, SharedSlots] = weakref.WeakValueDictionary()
