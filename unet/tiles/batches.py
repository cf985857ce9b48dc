"""Batches of tiles for the training loop: tile i of a run is the same whatever the number of workers or restarts.

Axes: N tiles of a batch, C channels, H rows, W columns.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from unet.signals import SIGNALS
from unet.tiles.shared_batches import PREFETCH, Batch, Copied, SharedSlots, Slot
from unet.tiles.source import Tile, TileSource

GRACE_S = 10
"""Seconds that a worker lives on after SIGTERM: where a whole group of processes is told to stop, the trainer first
writes its checkpoint and ends its workers itself; one that lost a worker meanwhile could not."""


class TileDataset(Dataset[Tile]):
    """A TileSource as torch wants it."""

    def __init__(self, source: TileSource) -> None:
        self.source = source

    def __getitem__(self, index: int) -> Tile:
        return self.source[index]


def collate(tiles: list[Tile]) -> Batch:
    """Stack tiles along a new first axis."""
    return Copied.of(tiles).batch()


def batches(
    source: TileSource,
    first: int,
    stop: int,
    batch: int,
    workers: int,
    pin: bool,
    ours: Callable[[int], bool] = lambda _: True,
) -> Iterator[Batch]:
    """Batches of the tiles first, first + 1, ..., stop - 1, in this order; `pin` puts them into page-locked memory.

    ours: which batches are wanted, by their number from `first` on.
    """
    starts = [start for number, start in enumerate(range(first, stop, batch)) if ours(number)]
    indices = [list(range(start, min(start + batch, stop))) for start in starts]
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
    with _deaths_found_while_waiting(), warnings.catch_warnings():
        # Who sets train.workers beyond the cores has chosen so; the progress line shows what it is worth.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        if "fork" not in multiprocessing.get_all_start_methods():
            return iter(DataLoader(TileDataset(source), collate_fn=collate, **common))
        context = multiprocessing.get_context("fork")
        slots = SharedSlots(source, batch, workers)
        return map(_opened, DataLoader(slots, collate_fn=_as_it_is, multiprocessing_context=context, **common))


@contextmanager
def _deaths_found_while_waiting() -> Iterator[None]:
    """Keep a DataLoader from installing its handler of SIGCHLD.

    It raises the death of a worker wherever the trainer happens to be, in the midst of a checkpoint too. Without it the
    wait for the dead worker's next batch raises, which looks every 5 s whether all are alive.
    """
    before = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, before)


def _as_it_is(slot: Any) -> Any:
    return slot


def _opened(made: Batch | Slot | Copied) -> Batch:
    """With page-locked memory a DataLoader's own thread has made the batch already."""
    return made if isinstance(made, Batch) else made.batch()


def _prepare(_: int) -> None:
    """Signals are for the parent to act on; one thread each, for workers are many."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in SIGNALS if hasattr(signal, "SIGALRM") else ():  # Windows has no alarms
        if number != signal.SIGINT:
            signal.signal(number, lambda *_: signal.alarm(GRACE_S))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)
    torch.set_num_threads(1)
