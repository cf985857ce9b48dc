from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from filelock import FileLock
from PIL import Image

from tests.data.server import Site, serve
from unet.data import ctc, isbi, isbi_labels
from unet.data.published import fetch as fetch_module
from unet.data.published.download import Limits, Unavailable
from unet.data.published.fetch import fetch, is_present
from unet.data.published.manifest import NAME, make_manifest, verify
from unet.datasets import DATA_SETS, DataSet, Source
from unet.errors import DataError, RunError

QUICK = Limits(answer_s=1.0, stall_s=0.3, retries=1, pause_s=0.01)


def png(pixels: np.ndarray, kind: str = "png") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def tif(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, pixels)
    return out.getvalue()


@pytest.fixture(scope="module")
def cells() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 50), np.uint8)
    mask = np.zeros((40, 50), np.uint16)
    mask[5:20, 5:20] = 1
    files = {}
    for s in ("01", "02"):
        files |= {f"{s}/t00{i}.tif": tif(image + np.uint8(i)) for i in range(3)}
        files[f"{s}_GT/SEG/man_seg001.tif"] = tif(mask)
        files[f"{s}_ST/SEG/man_seg001.tif"] = tif(mask)
    return files


def archive(files: dict[str, bytes], top: str = "SET/") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, content in files.items():
            file.writestr(top + name, content)
    return out.getvalue()


def cell_set(site: Site, *paths: str, content: bytes = b"") -> DataSet:
    digest = hashlib.sha256(content).hexdigest() if content else ""
    sources = tuple(Source(f"mirror {i}", ((site.url(p), ""),), digest) for i, p in enumerate(paths))
    return dataclasses.replace(DATA_SETS["phc"], name="cells", folder="TEST-CELLS", sources=sources)


@pytest.fixture
def site(cells: dict[str, bytes]) -> Iterator[Site]:
    content = archive(cells)  # once: an archive holds the time at which it was made
    with serve(Site(files={"/set.zip": content, "/other.zip": content})) as running:
        yield running


def test_an_archive_is_fetched_checked_and_read(site: Site, tmp_path: Path) -> None:
    lines: list[str] = []
    data_set = cell_set(site, "/set.zip", content=site.files["/set.zip"])
    folder = fetch(data_set, tmp_path, say=lines.append, limits=QUICK)
    assert folder == tmp_path / "TEST-CELLS"
    assert len(ctc.read(folder)) == 6
    assert is_present(data_set, folder)
    assert verify(data_set, folder) == []
    assert lines[-1] == f"{folder}: complete (original files from mirror 0)"
    assert {p.name for p in folder.iterdir()} == {"01", "02", "01_GT", "02_GT", "01_ST", "02_ST", NAME, ".lock"}
    fetch(data_set, tmp_path, say=lines.append, limits=QUICK)
    assert lines[-1].endswith("already complete")
    assert site.requests["/set.zip"] == 1


@pytest.mark.parametrize("fault", ["404", "wrong", "shorter"])
def test_mirrors_are_tried_in_order(site: Site, tmp_path: Path, fault: str) -> None:
    data_set = cell_set(site, "/set.zip", "/other.zip", content=site.files["/set.zip"])
    site.faults["/set.zip"] = [fault]
    lines: list[str] = []
    fetch(data_set, tmp_path, say=lines.append, limits=QUICK)
    assert list(site.requests) == ["/set.zip", "/other.zip"]
    assert lines[-1].endswith("from mirror 1)")


def test_an_archive_of_other_files_is_refused(site: Site, tmp_path: Path, cells: dict[str, bytes]) -> None:
    """The manifest in the folder is the measure, where no digest of the archive is known."""
    folder = tmp_path / "TEST-CELLS"
    for name, content in cells.items():
        (tmp_path / "good" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "good" / name).write_bytes(content)
    folder.mkdir()
    (folder / NAME).write_text(make_manifest(tmp_path / "good", [Path(n) for n in cells]))
    changed = {**cells, "01/t001.tif": cells["01/t002.tif"]}
    lacking = {k: v for k, v in cells.items() if k != "02/t000.tif"}
    for files, what in ((changed, r"01/t001\.tif: changed"), (lacking, r"02/t000\.tif: missing")):
        site.files["/set.zip"] = archive(files)
        with pytest.raises(Unavailable, match="wrong content"):
            fetch(cell_set(site, "/set.zip"), tmp_path, say=str, limits=QUICK)
        (tmp_path / "bad.zip").write_bytes(archive(files))
        with pytest.raises(DataError, match=what):
            fetch(cell_set(site, "/set.zip"), tmp_path, from_file=tmp_path / "bad.zip", say=str)
        assert not is_present(cell_set(site, "/set.zip"), folder)
        assert not (folder / "01").exists()


def test_an_archive_that_reaches_outside_is_refused(site: Site, tmp_path: Path, cells: dict[str, bytes]) -> None:
    site.files["/set.zip"] = archive({**cells, "../../../evil.tif": b"evil"})
    with pytest.raises(Unavailable, match="damaged archive"):
        fetch(cell_set(site, "/set.zip"), tmp_path / "data", say=str, limits=QUICK)
    assert not list(tmp_path.rglob("evil.tif"))
    assert not list(tmp_path.rglob("t000.tif"))


def test_when_nothing_works_the_message_says_what_to_do(site: Site, tmp_path: Path) -> None:
    data_set = cell_set(site, "/none.zip")
    with pytest.raises(Unavailable) as caught:
        fetch(data_set, tmp_path, say=str, limits=QUICK)
    message = str(caught.value)
    assert "404" in message
    assert "--from-file" in message
    assert site.url("/none.zip") in message
    assert "\n" not in message


def test_a_move_that_was_interrupted_is_ended_without_the_network(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_set = cell_set(site, "/set.zip", content=site.files["/set.zip"])
    folder = tmp_path / "TEST-CELLS"
    moved: list[str] = []
    replace = Path.replace

    def stop_at_the_third(self: Path, target: Path) -> Path:
        if self.parent.name == ".ready":
            moved.append(self.name)
            if len(moved) == 3:
                raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        fetch(data_set, tmp_path, say=str, limits=QUICK)
    assert (folder / "01").is_dir()
    assert not is_present(data_set, folder), "half of the files are there: not to be read"
    monkeypatch.undo()
    site.files.clear()
    fetch(data_set, tmp_path, say=str, limits=QUICK)
    assert is_present(data_set, folder)
    assert verify(data_set, folder) == []


def test_damage_is_named_and_mended(site: Site, tmp_path: Path) -> None:
    data_set = cell_set(site, "/set.zip", content=site.files["/set.zip"])
    folder = fetch(data_set, tmp_path, say=str, limits=QUICK)
    (folder / "01/t000.tif").unlink()
    (folder / "01/t001.tif").write_bytes((folder / "01/t001.tif").read_bytes()[:100])
    changed = bytearray((folder / "02/t002.tif").read_bytes())
    changed[-1] ^= 1
    (folder / "02/t002.tif").write_bytes(changed)
    (folder / "notes.txt").write_text("mine")
    wrong = verify(data_set, folder)
    assert [w.split(" (")[0] for w in wrong] == [
        "01/t000.tif: missing",
        "01/t001.tif: truncated",
        "02/t002.tif: changed",
    ]
    lines: list[str] = []
    fetch(data_set, tmp_path, say=lines.append, limits=QUICK)
    assert "3 files missing or damaged" in lines[0]
    assert verify(data_set, folder) == []
    assert (folder / "notes.txt").read_text() == "mine"


def test_from_a_file_or_folder_at_hand(site: Site, tmp_path: Path, cells: dict[str, bytes]) -> None:
    data_set = cell_set(site, "/none.zip")
    (tmp_path / "mine.zip").write_bytes(archive(cells, "downloads/TEST-CELLS/"))
    folder = fetch(data_set, tmp_path / "a", from_file=tmp_path / "mine.zip", say=str)
    assert len(ctc.read(folder)) == 6
    second = fetch(data_set, tmp_path / "b", from_file=tmp_path / "a", say=str)
    assert verify(data_set, second) == []
    assert len(ctc.read(folder)) == 6, "the folder it was copied from stays"
    for given, message in (("nowhere", "no such file"), ("b", "holds no TEST-CELLS"), ("mine.zip", "")):
        if given == "b":
            shutil.rmtree(tmp_path / "b" / "TEST-CELLS")
        if message:
            with pytest.raises(DataError, match=message):
                fetch(data_set, tmp_path / "c", from_file=tmp_path / given, say=str)
    (folder / "01/t000.tif").unlink()
    with pytest.raises(DataError, match="folder it would be copied to"):
        fetch(data_set, tmp_path / "a", from_file=folder, say=str)
    assert not site.requests


def test_a_full_disk_is_one_line(
    site: Site, tmp_path: Path, cells: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.zip").write_bytes(archive(cells))

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch_module.shutil, "copyfile", full)
    with pytest.raises(RunError, match="no space left"):
        fetch(cell_set(site, "/none.zip"), tmp_path / "data", from_file=tmp_path / "mine.zip", say=str)
    assert not is_present(cell_set(site, "/none.zip"), tmp_path / "data" / "TEST-CELLS")


def test_two_fetches_do_not_write_at_once(site: Site, tmp_path: Path) -> None:
    data_set = cell_set(site, "/set.zip", content=site.files["/set.zip"])
    (tmp_path / "TEST-CELLS").mkdir()
    with FileLock(tmp_path / "TEST-CELLS" / ".lock"), pytest.raises(DataError, match="another fetch"):
        fetch(data_set, tmp_path, say=str, limits=QUICK)
    fetch(data_set, tmp_path, say=str, limits=QUICK)


@pytest.fixture
def slices() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    volume = rng.integers(0, 256, (30, 12, 14), np.uint8)
    return {
        "train/image": volume,
        "train/label": np.where(rng.random(volume.shape) < 0.8, 255, 0).astype(np.uint8),
        "test": volume[::-1].copy(),
    }


def em_set(site: Site, slices: dict[str, np.ndarray], folder: Path) -> DataSet:
    """An EM-like data set of PNG slices with a JPEG mirror, and its manifest in `folder`."""
    lossless, lossy, lines = [], [], []
    for part, pixels in slices.items():
        for i, image in enumerate(pixels):
            site.files[f"/png/{part}/{i}.png"] = png(image)
            lossless.append((site.url(f"/png/{part}/{i}.png"), f"{part}/{i}.png"))
            lines.append(f"#pixels {hashlib.sha256(image.tobytes()).hexdigest()} {part}/{i}.png")
            if part != "test":
                name = f"{'images/train-volume' if part == 'train/image' else 'labels/train-labels'}{i:02}.jpg"
                site.files[f"/jpeg/{name}"] = png(image, "jpeg")
                lossy.append((site.url(f"/jpeg/{name}"), f"jpeg/{name}"))
    folder.mkdir(parents=True)
    (folder / NAME).write_text("\n".join(lines) + "\n")
    sources = (Source("slices", tuple(lossless), note="lossless PNG slices"),
               Source("copies", tuple(lossy), note="lossy JPEG copies", lossy=True))  # fmt: skip
    return dataclasses.replace(DATA_SETS["em"], name="slices", folder=folder.name, sources=sources)


def test_slices_are_fetched_lossless_and_checked_by_their_pixels(
    site: Site, slices: dict[str, np.ndarray], tmp_path: Path
) -> None:
    folder = tmp_path / "TEST-EM"
    data_set = em_set(site, slices, folder)
    site.faults["/png/train/image/7.png"] = ["cut"]
    fetch(data_set, tmp_path, say=str, limits=QUICK)
    stack = isbi.read(folder)
    np.testing.assert_array_equal(np.stack([f.image[0] * 255 for f in stack.frames]).round(), slices["train/image"])
    assert verify(data_set, folder) == []
    assert not any("jpeg" in path for path in site.requests)
    assert "JPEG" not in stack.source


def test_changed_slices_are_refused_but_a_wrong_test_volume_is_left_out(
    site: Site, slices: dict[str, np.ndarray], tmp_path: Path
) -> None:
    folder = tmp_path / "TEST-EM"
    data_set = em_set(site, slices, folder)
    whole = dict(site.files)
    site.files["/png/train/label/3.png"] = whole["/png/train/label/4.png"]
    with pytest.raises(Unavailable, match="wrong content"):
        fetch(data_set, tmp_path, say=str, limits=QUICK)
    assert not is_present(data_set, folder)
    site.files = {**whole, "/png/test/3.png": whole["/png/test/4.png"]}
    lines: list[str] = []
    fetch(data_set, tmp_path, say=lines.append, limits=QUICK)
    assert any("no usable test volume (test/3.png: changed" in line for line in lines)
    assert len(isbi.read(folder)) == 30
    assert not (folder / "test").exists()


def test_jpeg_copies_only_when_asked_for(site: Site, slices: dict[str, np.ndarray], tmp_path: Path) -> None:
    folder = tmp_path / "TEST-EM"
    data_set = em_set(site, slices, folder)
    for path in [p for p in site.files if p.startswith("/png")]:
        del site.files[path]
    with pytest.raises(Unavailable, match="404"):
        fetch(data_set, tmp_path, say=str, limits=QUICK)
    assert not any("jpeg" in path for path in site.requests)
    lines: list[str] = []
    fetch(data_set, tmp_path, jpeg=True, say=lines.append, limits=QUICK)
    assert "lossy JPEG copies" in lines[-1]
    assert isbi.find_layout(folder) is None, "never taken for the original"
    assert "lossy JPEG" in isbi.read(folder, jpeg=True).source


def test_damaged_tiffs_make_room_for_the_slices(site: Site, slices: dict[str, np.ndarray], tmp_path: Path) -> None:
    folder = tmp_path / "TEST-EM"
    data_set = em_set(site, slices, folder)
    (folder / "train-volume.tif").write_bytes(b"II*\0damaged")
    text = (folder / NAME).read_text()
    (folder / NAME).write_text(f"{'0' * 64}  train-volume.tif\n{text}")
    fetch(data_set, tmp_path, say=str, limits=QUICK)
    assert len(isbi.read(folder)) == 30
    assert (folder / "train-volume.tif.damaged").exists()


def challenge_archive(slices: dict[str, np.ndarray], labels: np.ndarray, **changed: bytes) -> bytes:
    """The layout of ISBI-2012-challenge.zip."""
    files = {
        "train-volume.tif": tif(slices["train/image"]),
        "train-labels.tif": tif(slices["train/label"]),
        "test-volume.tif": tif(slices["test"]),
        "test-labels.tif": tif(labels),
        "challenge-error-metrics.bsh": b"script",
    }
    return archive(files | changed, "ISBI-2012-challenge/")


@pytest.fixture
def challenge(
    site: Site, slices: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[DataSet, np.ndarray]:
    """An EM-like set whose first source is the challenge's archive, and the labels of its test slices."""
    labels = np.where(slices["test"] > 99, 255, 0).astype(np.uint8)
    mirrors = em_set(site, slices, tmp_path / "TEST-EM")
    stacks = {"train-volume": "train/image", "train-labels": "train/label", "test-volume": "test"}
    known = {stem: hashlib.sha256(slices[part].tobytes()).hexdigest() for stem, part in stacks.items()}
    monkeypatch.setattr(isbi, "PIXELS_SHA256", known)
    content = tif(labels)
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    monkeypatch.setattr(isbi_labels, "BLOB", blob)
    manifest = tmp_path / "TEST-EM" / NAME
    manifest.write_text("".join(f"{'0' * 64}  {stem}.tif\n" for stem in stacks) + manifest.read_text())
    site.files["/challenge.zip"] = challenge_archive(slices, labels)
    first = Source("the challenge", ((site.url("/challenge.zip"), ""),), note="the archive")
    return dataclasses.replace(mirrors, sources=(first, *mirrors.sources)), labels


def test_the_challenges_archive_comes_first_and_brings_the_test_labels(
    site: Site, slices: dict[str, np.ndarray], tmp_path: Path, challenge: tuple[DataSet, np.ndarray]
) -> None:
    """TIFFs that are packed otherwise than the manifest's are right by their pixels."""
    data_set, labels = challenge
    lines: list[str] = []
    folder = fetch(data_set, tmp_path, say=lines.append, limits=QUICK)
    assert lines[-1] == f"{folder}: complete (the archive from the challenge)"
    assert list(site.requests) == ["/challenge.zip"]
    stems = ("train-volume", "train-labels", "test-volume", "test-labels")
    assert {p.name for p in folder.iterdir()} == {NAME, ".lock", *(f"{stem}.tif" for stem in stems)}
    np.testing.assert_array_equal(tifffile.imread(folder / "test-labels.tif"), labels)
    assert (len(isbi.read(folder)), len(isbi.read_test(folder))) == (30, 30)
    assert verify(data_set, folder) == []
    fetch(data_set, tmp_path, say=lines.append, limits=QUICK)
    assert lines[-1].endswith("already complete")
    tifffile.imwrite(folder / "train-volume.tif", slices["train/image"][::-1])
    assert verify(data_set, folder)[0].startswith("train-volume.tif: changed")


@pytest.mark.parametrize("fault", ["404", "shorter"])
def test_without_the_archive_the_mirrors_serve_and_the_labels_come_later(
    site: Site, tmp_path: Path, challenge: tuple[DataSet, np.ndarray], fault: str
) -> None:
    data_set, labels = challenge
    site.faults["/challenge.zip"] = [fault, "404"]
    lines: list[str] = []
    folder = fetch(data_set, tmp_path, say=lines.append, limits=QUICK)
    assert lines[-1].endswith("complete (lossless PNG slices from slices)")
    assert not (folder / "test-labels.tif").exists()
    asked = site.requests["/png/test/0.png"]
    fetch(data_set, tmp_path, say=lines.append, limits=QUICK)
    assert "already complete, but for the labels of the test slices (" in lines[-1]
    assert len(isbi.read(folder)) == 30
    fetch(data_set, tmp_path, say=lines.append, limits=QUICK)
    assert lines[-1].endswith("complete (the archive from the challenge)")
    assert site.requests["/png/test/0.png"] == asked, "what is there is not fetched again"
    np.testing.assert_array_equal(tifffile.imread(folder / "test-labels.tif"), labels)


def test_wrong_test_labels_are_left_out_and_replaced(
    site: Site, slices: dict[str, np.ndarray], tmp_path: Path, challenge: tuple[DataSet, np.ndarray]
) -> None:
    data_set, labels = challenge
    whole = site.files["/challenge.zip"]
    site.files["/challenge.zip"] = challenge_archive(slices, labels[::-1])
    lines: list[str] = []
    folder = fetch(data_set, tmp_path, say=lines.append, limits=QUICK)
    assert any("no usable labels of the test slices (test-labels.tif: changed" in line for line in lines)
    assert not (folder / "test-labels.tif").exists()
    assert len(isbi.read_test(folder)) == 30
    (folder / "test-labels.tif").write_bytes(b"II*\0damaged")
    assert verify(data_set, folder)[0].startswith("test-labels.tif: truncated or damaged")
    site.files["/challenge.zip"] = whole
    site.faults["/challenge.zip"] = ["404"]
    fetch(data_set, tmp_path, say=lines.append, limits=QUICK)
    assert "but for the labels" in lines[-1]
    assert not list(folder.glob("*.damaged")), "the images are right and stay"
    fetch(data_set, tmp_path, say=lines.append, limits=QUICK)
    assert verify(data_set, folder) == []


def test_the_archive_at_hand_adds_the_labels(site: Site, tmp_path: Path, challenge: tuple[DataSet, np.ndarray]) -> None:
    data_set, labels = challenge
    (tmp_path / "mine.zip").write_bytes(site.files.pop("/challenge.zip"))
    folder = fetch(data_set, tmp_path, say=str, limits=QUICK)
    fetch(data_set, tmp_path, from_file=tmp_path / "mine.zip", say=str, limits=QUICK)
    np.testing.assert_array_equal(tifffile.imread(folder / "test-labels.tif"), labels)
    assert "TIFF" in isbi.read(folder).source
