"""Cores are counted and shared out as the system allows them."""

import os

import pytest

from unet import cores


@pytest.fixture
def allowed(monkeypatch):
    def allow(numbers):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(numbers), raising=False)

    return allow


def test_cores_that_are_not_allowed_do_not_count(allowed):
    allowed([5, 2, 3])
    assert cores.usable() == [2, 3, 5]


def test_without_affinity_all_cores_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert cores.usable() == [0, 1, 2]
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.usable() == [0]


@pytest.mark.parametrize(
    ("numbers", "count", "expected"),
    [
        ([0, 1], 2, [[0], [1]]),
        ([0, 1, 4, 5, 6], 2, [[0, 1], [4, 5, 6]]),
        ([3], 1, [[3]]),
        ([3, 4], 3, [[], [], []]),
    ],
)
def test_shares_are_disjoint_and_of_at_least_a_core(allowed, numbers, count, expected):
    allowed(numbers)
    assert cores.shares(count) == expected


def test_a_process_that_is_gone_is_not_pinned(monkeypatch):
    def gone(*_):
        raise ProcessLookupError

    monkeypatch.setattr(os, "sched_setaffinity", gone, raising=False)
    cores.pin(1, [0])


def test_no_share_pins_nothing(monkeypatch):
    monkeypatch.setattr(os, "sched_setaffinity", pytest.fail, raising=False)
    cores.pin(1, [])
