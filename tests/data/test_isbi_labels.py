"""The labels of the EM challenge's test slices: where they are found, which copy they are, and who may read them."""

from __future__ import annotations

import ast
import hashlib
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile

from unet.data import isbi_labels
from unet.data.isbi_labels import faults, find, origin, read
from unet.errors import DataError

PACKAGE = Path(__file__).resolve().parents[2] / "unet"


@pytest.fixture
def labels() -> np.ndarray:
    return np.where(np.random.default_rng(0).random((30, 12, 14)) < 0.7, 255, 0).astype(np.uint8)


def put(root: Path, folder: str, pixels: np.ndarray) -> Path:
    path = root / folder / "test-labels.tif"
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, pixels, photometric="minisblack")
    return path


def test_the_archives_own_file_goes_before_the_recovered_copy(tmp_path: Path, labels: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"unet data fetch em --from-file ISBI-2012-challenge\.zip"):
        read(tmp_path)
    assert find(tmp_path) is None
    second = put(tmp_path, "ISBI-2012-EM-test-labels", labels)
    assert read(tmp_path).path == second
    first = put(tmp_path, "ISBI-2012-EM", labels[::-1])
    found = read(tmp_path)
    assert found.path == first
    np.testing.assert_array_equal(found.cells, labels[::-1] == 255)


def test_a_copy_is_known_by_git_id_or_by_its_pixels(
    tmp_path: Path, labels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path, "ISBI-2012-EM", labels)
    assert origin(path) == "unknown"
    assert "unknown origin" in read(tmp_path).note
    assert [w.split(" (")[0] for w in faults(path.parent)] == ["test-labels.tif: changed"]
    monkeypatch.setattr(isbi_labels, "RECOVERED_SHA256", hashlib.sha256(labels.tobytes()).hexdigest())
    assert read(tmp_path).note == "recovered copy, 2.6 % of the pixels reconstructed"
    blob = subprocess.run(["git", "hash-object", str(path)], capture_output=True, text=True, check=True).stdout.strip()
    monkeypatch.setattr(isbi_labels, "BLOB", blob)
    assert read(tmp_path).note == "the challenge's own"
    assert faults(path.parent) == []
    assert faults(tmp_path) == [], "they need not be there"


def test_what_is_wrong_is_named(tmp_path: Path, labels: np.ndarray) -> None:
    path = put(tmp_path, "ISBI-2012-EM", labels[:29])
    with pytest.raises(DataError, match="29 slices"):
        read(tmp_path)
    put(tmp_path, "ISBI-2012-EM", labels // 255)
    with pytest.raises(DataError, match=r"values \[0, 1\]"):
        read(tmp_path)
    path.write_bytes(b"II*\0damaged")
    assert faults(path.parent)[0].startswith("test-labels.tif: truncated or damaged")


def test_nothing_but_the_scoring_of_the_test_slices_reads_them() -> None:
    """By the source: only unet.evaluation.leaderboard takes `read`; what else knows the module takes digests, names."""
    readers, knowing = set(), set()
    for path in sorted(PACKAGE.rglob("*.py")):
        tree, name = ast.parse(path.read_text()), path.relative_to(PACKAGE).as_posix()
        if "test-labels" in path.read_text() and name != "data/isbi_labels.py":
            readers.add(f"{name} names the file")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "unet.data.isbi_labels":
                readers |= {name} if "read" in {alias.name for alias in node.names} else set()
            elif isinstance(node, ast.ImportFrom) and "isbi_labels" in {alias.name for alias in node.names}:
                knowing.add(name)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                readers |= {name} if (node.value.id, node.attr) == ("isbi_labels", "read") else set()
    assert readers == {"evaluation/leaderboard.py"}
    assert knowing == {
        "data/published/fetch.py",
        "data/published/manifest.py",
        "data/published/pick.py",
        "data/readers.py",
    }


@pytest.mark.real_data
def test_the_recovered_copy_is_known(data_root: Path) -> None:
    if not (data_root / "ISBI-2012-EM-test-labels" / "test-labels.tif").is_file():
        pytest.skip("the recovered labels are not here")
    found = read(data_root)
    if found.origin == "published":
        pytest.skip("the archive's own labels are here")
    assert found.origin == "recovered"
    assert found.cells.shape == (30, 512, 512)
    assert 1 - found.cells.mean() == pytest.approx(0.294, abs=0.0005)  # membranes, thicker than in training
