"""Batches for the training loop: the tiles of a source, in order, from any number of processes."""

from __future__ import annotations

import itertools
import os
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from tests.tiles.test_source import PLAIN, config, make_stack
from unet.tiles.batches import batches, collate
from unet.tiles.shared_batches import ALIGNMENT, PREFETCH, Batch, Copied, SharedSlots, Slot
from unet.tiles.source import TileSource


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


def test_more_workers_than_cores_are_the_users_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch warns of them, which is an error in these tests."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert len(list(batches(source(), 0, 4, 2, 2, pin=False))) == 2


def in_one_process(count: int, *, keep: int) -> list[Batch]:
    """Batches of one tile from one worker, of which the trainer keeps the last few."""
    stream = batches(source(), 0, count, 1, 1, pin=False)
    kept: list[Batch] = []
    for made in stream:
        kept = [*kept, made][-keep:]
        del made
    return kept


def test_memory_is_used_again_only_when_it_is_forgotten() -> None:
    """More batches than slots go by while the first one is held."""
    stream = batches(source(), 0, 5 * PREFETCH, 1, 1, pin=False)
    first = next(stream)
    copy = Batch(*(part.clone() for part in first))
    places = [made.image.data_ptr() for made in stream]
    assert len(set(places)) < len(places)
    assert first.image.data_ptr() not in places
    for a, b in zip(first, copy, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("part", range(3))
def test_one_tensor_of_a_batch_keeps_its_memory(part: int) -> None:
    stream = batches(source(), 0, 5 * PREFETCH, 1, 1, pin=False)
    held = next(stream)[part]
    copy = held.clone()
    for _ in stream:
        pass
    torch.testing.assert_close(held, copy, rtol=0, atol=0)


def test_batches_outlive_their_stream() -> None:
    expected = collate([source()[i] for i in [19]])
    for a, b in zip(in_one_process(20, keep=1)[0], expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_of_a_slot_do_not_touch(channels: int) -> None:
    """An odd number of bytes in front of the weights must not move them off their alignment."""
    slots = SharedSlots(source(channels), batch=3, workers=1)
    arrays = slots._layout.arrays(slots._bytes(2))
    assert all(a.ctypes.data % ALIGNMENT == slots._bytes(0).ctypes.data % ALIGNMENT for a in arrays)
    for before, after in itertools.pairwise(arrays):
        assert before.ctypes.data + before.nbytes <= after.ctypes.data
    assert arrays[-1].ctypes.data + arrays[-1].nbytes <= slots._bytes(3).ctypes.data


@pytest.mark.parametrize("make", [Copied.of, None], ids=["by value", "slot"])
def test_pinning_makes_a_batch(make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A DataLoader's thread calls pin_memory of what a worker sent; there is no page-locked memory without a device."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    tiles = [source()[i] for i in range(2)]
    slots = SharedSlots(source(), batch=2, workers=1)
    if make is None:
        monkeypatch.setattr("unet.tiles.shared_batches.get_worker_info", lambda: SimpleNamespace(id=0))
        made = slots.__getitems__([0, 1])
        assert isinstance(made, Slot)
    else:
        made = make(tiles)
    for a, b in zip(pin_memory(made), collate(tiles), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_stream_can_be_left_early() -> None:
    stream = batches(source(), 0, 10_000, 2, 2, pin=False)
    taken = list(itertools.islice(stream, 3))
    assert all(isinstance(b, Batch) for b in taken)
    del stream
