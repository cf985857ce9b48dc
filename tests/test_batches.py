"""Batches for the training loop: the tiles of a source, in order, from any number of processes."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.utils.data import DataLoader

from tests.test_tiles import PLAIN, config, make_stack
from unet.batches import PREFETCH, Batch, SharedSlots, batches, collate
from unet.tiles import TileSource


def source(channels: int = 2) -> TileSource:
    return TileSource(make_stack((40, 50), (45, 41), channels=channels), config(PLAIN), 3)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize(("first", "stop", "batch"), [(0, 70, 2), (5, 12, 3), (4, 4, 2), (3, 4, 5)])
def test_batches_are_the_tiles_in_order_and_stay_what_they_are(first: int, stop: int, batch: int, workers: int) -> None:
    """All batches are kept before they are looked at: none may lie in memory that a worker writes again."""
    tiles = source()
    made = list(batches(tiles, first, stop, batch, workers, pin=False))
    assert [len(b.image) for b in made] == [min(batch, stop - s) for s in range(first, stop, batch)]
    for start, found in zip(range(first, stop, batch), made, strict=True):
        expected = collate([tiles[i] for i in range(start, min(start + batch, stop))])
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_shared_memory_is_written_again_so_batches_must_be_copied() -> None:
    slots = SharedSlots(source(), batch=1, workers=1)
    order = [[i] for i in range(3 * PREFETCH)]
    loader = DataLoader(
        slots, batch_sampler=order, num_workers=1, collate_fn=lambda slot: slot, prefetch_factor=PREFETCH
    )
    stream = iter(loader)
    first = next(stream)
    alias, copy = first.shared(), first.clone()
    for _ in stream:
        pass
    assert not torch.equal(alias.image, copy.image)
    torch.testing.assert_close(copy.image, torch.from_numpy(source()[0].image)[None], rtol=0, atol=0)


def test_a_stream_can_be_left_early() -> None:
    stream = batches(source(), 0, 10_000, 2, 2, pin=False)
    taken = list(itertools.islice(stream, 3))
    assert all(isinstance(b, Batch) for b in taken)
    del stream
