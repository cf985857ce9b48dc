"""Batches of tiles for the training loop: tile i of a run is the same whatever the number of workers or restarts.

Axes: N tiles of a batch, C channels, H rows, W columns.
"""

from __future__ import annotations

import itertools
import math
import mmap
import multiprocessing
import signal
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from unet.tiles import Tile, TileSource


class Batch(NamedTuple):
    """image N x C x n x n float32, target N x m x m uint8 (255 = no loss), weight N x m x m float32."""

    image: Tensor
    target: Tensor
    weight: Tensor


PREFETCH = 4  # batches that each worker prepares ahead


class TileDataset(Dataset[Tile]):
    """A TileSource as torch wants it."""

    def __init__(self, source: TileSource) -> None:
        self.source = source

    def __getitem__(self, index: int) -> Tile:
        return self.source[index]


def collate(tiles: list[Tile]) -> Batch:
    """Stack tiles along a new first axis."""
    return Batch(
        torch.from_numpy(np.stack([t.image for t in tiles])),
        torch.from_numpy(np.stack([t.target for t in tiles])),
        torch.from_numpy(np.stack([t.weight for t in tiles])),
    )


def batches(source: TileSource, first: int, stop: int, batch: int, workers: int, pin: bool) -> Iterator[Batch]:
    """Batches of the tiles first, first + 1, ..., stop - 1, in this order; `pin` puts them into page-locked memory."""
    indices = [list(range(start, min(start + batch, stop))) for start in range(first, stop, batch)]
    if not workers:
        made = (collate([source[i] for i in chosen]) for chosen in indices)
        return (Batch(*(part.pin_memory() for part in b)) for b in made) if pin else made
    # Before the fork: a forked process cannot stop the threads OpenCV runs in its parent, and hangs if it tries.
    cv2.setNumThreads(1)
    common: dict[str, Any] = {
        "batch_sampler": indices,
        "num_workers": workers,
        "pin_memory": pin,
        "worker_init_fn": _prepare,
        "prefetch_factor": PREFETCH,
    }
    if "fork" not in multiprocessing.get_all_start_methods():
        return iter(DataLoader(TileDataset(source), collate_fn=collate, **common))
    context = multiprocessing.get_context("fork")
    slots = SharedSlots(source, batch, workers)
    return map(_own, DataLoader(slots, collate_fn=_as_it_is, multiprocessing_context=context, **common))


class SharedSlots(Dataset["Slot"]):
    """Batches written by forked workers straight into memory that they share with the trainer, used again and again.

    A DataLoader's own way is a new shared file for every tensor, whose pages cost more time than cutting the tiles; it
    also needs /dev/shm, which containers keep small. A worker goes round its own slots. It is asked for at most
    PREFETCH batches ahead of the one that the trainer takes, so that two more slots keep every batch until it has been
    copied.
    """

    def __init__(self, source: TileSource, batch: int, workers: int) -> None:
        n, m = source.input_px, source.output_px
        self.source = source
        self.per_worker = PREFETCH + 2
        slots = workers * self.per_worker
        self.images = _shared((slots, batch, source.channels, n, n), np.float32)
        self.targets = _shared((slots, batch, m, m), np.uint8)
        self.weights = _shared((slots, batch, m, m), np.float32)
        self._made = 0  # by this worker
        self._key = next(_keys)
        _slots[self._key] = self

    def __getitems__(self, indices: Sequence[int]) -> Slot:
        """Write the tiles of a batch into this worker's next slot."""
        worker = get_worker_info()
        assert worker is not None
        slot = worker.id * self.per_worker + self._made % self.per_worker
        self._made += 1
        for place, index in enumerate(indices):
            tile = self.source[index]
            self.images[slot, place] = tile.image
            self.targets[slot, place] = tile.target
            self.weights[slot, place] = tile.weight
        return Slot(self._key, slot, len(indices))


class Slot(NamedTuple):
    """Where a batch lies in the shared memory of the SharedSlots `owner`; all that travels between processes."""

    owner: int
    slot: int
    tiles: int

    def shared(self) -> Batch:
        """The batch, to be copied before the worker comes round to its slot again."""
        slots = _slots[self.owner]
        arrays = (slots.images, slots.targets, slots.weights)
        return Batch(*(torch.from_numpy(array[self.slot, : self.tiles]) for array in arrays))

    def clone(self) -> Batch:
        """A copy of one's own."""
        return Batch(*(part.clone() for part in self.shared()))

    def pin_memory(self) -> Batch:
        """A copy in page-locked memory; a DataLoader calls this in its own thread."""
        return Batch(*(part.pin_memory() for part in self.shared()))


_keys = itertools.count()
_slots: weakref.WeakValueDictionary[int, SharedSlots] = weakref.WeakValueDictionary()


def _shared(shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """Zeros in anonymous memory that forked processes share."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, size), dtype).reshape(shape)


def _as_it_is(slot: Any) -> Any:
    return slot


def _own(made: Batch | Slot) -> Batch:
    """What a DataLoader has not copied yet (into page-locked memory) is copied before its slot is written again."""
    return made.clone() if isinstance(made, Slot) else made


def _prepare(_: int) -> None:
    """Ctrl-C is the parent's to handle, and SIGTERM ends a worker; one thread each, for workers are many."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)
    torch.set_num_threads(1)
