"""Compiled functions work where the compiler's results cannot be kept on disk."""

import os
import subprocess
import sys
from pathlib import Path

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


LABELS = """
import numpy as np
from unet.metrics._regions import by_label, components, thin
ids, count = components(np.array([[True, False, True], [True, False, True]]))
print(count, *by_label(ids, count)[1], *np.unique(thin(ids)))
"""
FOUND = "2 0 2 4 0 1 2\n"  # two labels, their pixels from 0 and 2 on, 4 in all; a line of zeros between them


def labelled(cache: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    return subprocess.run(
        [sys.executable, "-c", LABELS], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def scrambled(file: Path) -> None:
    file.write_bytes(bytes(range(255, 0, -1)) * 20)


def test_a_damaged_cache_is_passed_over_with_one_line_and_heals(tmp_path):
    """Every function's files in another way, so that each way is met in one run."""
    assert labelled(tmp_path).stdout == FOUND
    for function, damage, kinds in (
        ("components", emptied, ("*.nbi", "*.nbc")), ("by_label", cut, ("*.nbc",)), ("thin", scrambled, ("*.nbi",)),
    ):  # fmt: skip
        for kind in kinds:
            files = list(tmp_path.rglob(f"_regions.{function}{kind}"))
            assert files
            for file in files:
                damage(file)
    done = labelled(tmp_path)
    assert (done.returncode, done.stdout) == (0, FOUND), done.stderr[-500:]
    assert done.stderr.count("numba's cache") == 1
    assert len(done.stderr.splitlines()) == 1
    again = labelled(tmp_path)
    assert (again.stdout, again.stderr) == (FOUND, "")
