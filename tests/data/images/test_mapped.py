"""Arrays in files: pages are given back, space is reserved, scratch files leave nothing behind."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from unet.data.images.mapped import release, reserve, scratch_map
from unet.errors import RunError


def resident_bytes() -> int:
    """Memory of this process, touched pages of mapped files included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.parametrize("view", [lambda a: a, lambda a: a[3:].reshape(-1)[::-1], lambda a: np.asarray(a).T])
def test_released_pages_leave_memory_and_keep_their_content(tmp_path, view):
    pixels = np.memmap(tmp_path / "a", np.uint8, "w+", shape=(64, 2**20))
    before = resident_bytes()
    pixels[:] = np.arange(64, dtype=np.uint8)[:, None]
    assert resident_bytes() > before + 60 * 2**20  # else the next line shows nothing
    release(view(pixels))
    assert resident_bytes() < before + 8 * 2**20
    np.testing.assert_array_equal(pixels[:, 12345], np.arange(64))
    pixels.flush()
    np.testing.assert_array_equal(np.fromfile(tmp_path / "a", np.uint8)[:: 2**20], np.arange(64))


def test_other_arrays_are_left_alone():
    array = np.arange(10)
    release(array)
    release(array[::2])
    release(np.frombuffer(b"abc", np.uint8))
    release(None)
    np.testing.assert_array_equal(array, np.arange(10))


def test_scratch_is_zero_and_nameless(tmp_path):
    scratch = scratch_map(tmp_path / "new", (3, 5), np.float32)
    assert not scratch.any()
    assert list((tmp_path / "new").iterdir()) == []
    scratch[1] = 2.5
    release(scratch)
    np.testing.assert_array_equal(scratch, [[0] * 5, [2.5] * 5, [0] * 5])


def test_reserved_space_is_there(tmp_path):
    for fallback in (False, True):
        path = tmp_path / f"r{fallback}"
        with path.open("w+b") as file, pytest.MonkeyPatch.context() as patch:
            if fallback:
                patch.delattr(os, "posix_fallocate", raising=False)
            reserve(file.fileno(), 3_000_000)
        assert path.stat().st_size == 3_000_000
        assert path.stat().st_blocks * 512 >= 3_000_000


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunError, match="no space left") as caught:
        scratch_map(tmp_path, (10, 10), np.uint8)
    assert "\n" not in str(caught.value)
