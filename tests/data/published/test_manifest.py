from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unet.data import isbi
from unet.data.images.tiff import read_gray
from unet.data.published.manifest import NAME, find_manifest, make_manifest, read_manifest, verify
from unet.datasets import DATA_SETS
from unet.errors import DataError

REPOSITORY = Path(__file__).resolve().parents[3]


def test_sha256sum_accepts_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.bin").write_bytes(b"content")
    (tmp_path / "b.bin").write_bytes(b"")
    (tmp_path / NAME).write_text(make_manifest(tmp_path, [Path("sub/a.bin"), Path("b.bin")]))
    found = read_manifest(tmp_path / NAME)
    assert found.sizes == {"sub/a.bin": 7, "b.bin": 0}
    assert found.files["b.bin"] == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    if shutil.which("sha256sum"):
        check = ["sha256sum", "--check", "--strict", NAME]
        assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 0
        (tmp_path / "b.bin").write_bytes(b"x")
        assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 1


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("# fine\n\nabc  file.tif\n")
    with pytest.raises(DataError, match="line 3"):
        read_manifest(tmp_path / NAME)


@pytest.mark.parametrize("name", ["em", "phc", "hela"])
def test_every_published_set_has_a_manifest_and_a_readme(name: str) -> None:
    data_set = DATA_SETS[name]
    folder = REPOSITORY / "data" / data_set.folder
    manifest = read_manifest(folder / NAME)
    assert find_manifest(data_set, Path("nowhere")) == folder / NAME
    assert set(manifest.files) == set(manifest.sizes)
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for source in data_set.sources:
        assert re.sub(r"/[^/]*$", "", source.urls[0][0]).split("//")[1].split("/")[0] in readme, source.name
        assert not source.sha256 or source.sha256 in readme
    for doi in re.findall(r"10\.\d{4,}/\S+", data_set.citation):
        assert doi.rstrip(";,") in readme


def test_without_a_manifest_nothing_is_called_well(tmp_path: Path) -> None:
    data_set = DATA_SETS["phc"]
    other = dataclasses.replace(data_set, name="x", folder="NOT-THERE", sources=())
    (tmp_path / "01").mkdir()
    assert "manifest.sha256: missing" in verify(other, tmp_path)[0]
    assert "missing" in verify(other, tmp_path / "nowhere")[0]
    assert len(verify(data_set, tmp_path)) == 724


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["em", "phc", "hela"])
def test_the_real_files_are_the_published_ones(data_root: Path, name: str) -> None:
    data_set = DATA_SETS[name]
    assert verify(data_set, data_root / data_set.folder) == []


@pytest.mark.real_data
def test_png_copies_of_the_real_stack_are_known_by_their_pixels(data_root: Path, tmp_path: Path) -> None:
    source = data_root / "ISBI-2012-EM"
    for stem, part in (("train-volume", "train/image"), ("train-labels", "train/label"), ("test-volume", "test")):
        (tmp_path / part).mkdir(parents=True)
        for i, image in enumerate(read_gray(source / f"{stem}.tif")):
            Image.fromarray(image).save(tmp_path / part / f"{i}.png", compress_level=1)
    em = DATA_SETS["em"]
    assert verify(em, tmp_path) == []
    unlisted = dataclasses.replace(em, folder="NOT-THERE", sources=())
    assert verify(unlisted, tmp_path) == [], "without a manifest the digest of the whole stack decides"
    changed = np.array(Image.open(tmp_path / "train/label/12.png"))
    changed[7, 7] ^= 255
    Image.fromarray(changed).save(tmp_path / "train/label/12.png")
    (tmp_path / "train/image/3.png").unlink()
    (tmp_path / "test/0.png").write_bytes((tmp_path / "test/0.png").read_bytes()[:900])
    wrong = verify(em, tmp_path)
    assert [w.split(" (")[0] for w in wrong] == [
        "train/image/3.png: missing",
        "train/label/12.png: changed",
        "test/0.png: truncated or damaged",
    ]
    assert "train/label: changed" in verify(unlisted, tmp_path)[1]
    assert isbi.find_layout(tmp_path) is not None
