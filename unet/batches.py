"""Batches of tiles for the training loop: tile i of a run is the same whatever the number of workers or restarts.

Axes: N tiles of a batch, C channels, H rows, W columns.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from typing import NamedTuple, cast

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unet.tiles import Tile, TileSource


class Batch(NamedTuple):
    """image N x C x n x n float32, target N x m x m uint8 (255 = no loss), weight N x m x m float32."""

    image: Tensor
    target: Tensor
    weight: Tensor


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
    """Batches of the tiles first, first + 1, ..., stop - 1, in this order."""
    if workers:
        # Before the fork: a forked process cannot stop the threads that OpenCV runs in its parent, and hangs if it tries.
        cv2.setNumThreads(1)
    context = multiprocessing.get_context("fork") if workers and "fork" in _start_methods() else None
    loader = DataLoader(
        TileDataset(source),
        batch_size=batch,
        sampler=cast("list[int]", range(first, stop)),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        worker_init_fn=_prepare,
        multiprocessing_context=context,
        prefetch_factor=4 if workers else None,
    )
    return iter(loader)


def _prepare(_: int) -> None:
    """Ctrl-C is the parent's to handle, and SIGTERM ends a worker; one thread each, for workers are many."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _start_methods() -> list[str]:
    return multiprocessing.get_all_start_methods()
