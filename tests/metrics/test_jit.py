"""Compiled functions work where the compiler's results cannot be kept on disk."""

import numba

from unet.metrics._jit import jit
from unet.metrics._regions import components


def test_without_a_folder_to_keep_results_in(monkeypatch):
    compiler, asked = numba.njit, []

    def njit(function=None, *, cache=False):
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compiler(function)

    with monkeypatch.context() as patch:
        patch.setattr(numba, "njit", njit)
        compiled = jit(lambda x: x + 1)
    assert asked == [True, False]
    assert compiled(2) == 3


def test_results_are_kept():
    assert components.stats.cache_path
