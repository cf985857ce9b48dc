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


SCORE = """
import numpy as np
from unet.metrics.rand import v_rand
cells = np.zeros((1, 8, 9), np.uint8)
cells[0, :, :4] = cells[0, :, 5:] = 1
print(v_rand(cells, cells.astype(np.float32)).value)
"""


def scored(cache: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    return subprocess.run(
        [sys.executable, "-c", SCORE], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def scrambled(file: Path) -> None:
    file.write_bytes(bytes(range(255, 0, -1)) * 20)


def test_a_damaged_cache_is_passed_over_with_one_line_and_heals(tmp_path):
    assert scored(tmp_path).stdout == "1.0\n"
    for damage, kinds in ((emptied, ("*.nbi", "*.nbc")), (cut, ("*.nbc",)), (scrambled, ("*.nbi",))):
        for kind in kinds:
            files = list(tmp_path.rglob(kind))
            assert files
            for file in files:
                damage(file)
        done = scored(tmp_path)
        assert (done.returncode, done.stdout) == (0, "1.0\n"), done.stderr[-500:]
        assert done.stderr.count("numba's cache") == 1
        assert len(done.stderr.splitlines()) == 1
    again = scored(tmp_path)
    assert (again.stdout, again.stderr) == ("1.0\n", "")
