from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from unet.data.published.archive import unpack
from unet.errors import DataError

FILES = {"set/01/t000.tif": b"image" * 1000, "set/01_GT/SEG/man_seg000.tif": b"mask", "set/notes.txt": b""}


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("set/", b"")
        for name, content in files.items():
            info = zipfile.ZipInfo("placeholder")
            info.filename = info.orig_filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, content)
    return path


def test_everything_is_unpacked(tmp_path: Path) -> None:
    unpack(make_zip(tmp_path / "a.zip", FILES), tmp_path / "out")
    found = {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in (tmp_path / "out").rglob("*.*")}
    assert found == FILES


@pytest.mark.parametrize(
    "name",
    ["../evil.tif", "set/../../evil.tif", "/tmp/evil.tif", "set\\..\\..\\evil.tif", "C:evil.tif", "set/a\nb.tif", ".."],
)
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    inner = tmp_path / "deep" / "out"
    with pytest.raises(DataError, match="outside") as caught:
        unpack(make_zip(tmp_path / "a.archive", {"set/good.tif": b"x", name: b"evil"}), inner)
    assert "\n" not in str(caught.value)
    outside = {p for p in tmp_path.rglob("*") if p.is_file()} - {tmp_path / "a.archive", inner / "set/good.tif"}
    assert not outside


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        info = zipfile.ZipInfo("set/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="link or device"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_size_and_number_are_bounded(tmp_path: Path) -> None:
    bomb = make_zip(tmp_path / "bomb.zip", {"zeros": bytes(5_000_000)})
    assert bomb.stat().st_size < 10_000
    with pytest.raises(DataError, match="more than 1,000,000 bytes"):
        unpack(bomb, tmp_path / "out", max_bytes=1_000_000)
    assert sum(p.stat().st_size for p in (tmp_path / "out").iterdir()) <= 1_000_000
    many = make_zip(tmp_path / "many.zip", {f"{i}": b"" for i in range(30)})
    with pytest.raises(DataError, match="more than 20 entries"):
        unpack(many, tmp_path / "out2", max_entries=20)


def test_names_that_meet_on_another_system_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="twice"):
        unpack(make_zip(tmp_path / "a.zip", {"A.tif": b"1", "a.tif": b"2"}), tmp_path / "out")


def test_damaged_and_foreign_archives(tmp_path: Path) -> None:
    whole = make_zip(tmp_path / "a.zip", {"a.bin": bytes(range(256)) * 400}).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(whole)
    flipped[200] ^= 0xFF
    (tmp_path / "flipped.zip").write_bytes(flipped)
    (tmp_path / "text.zip").write_text("this is no archive")
    for name in ("cut.zip", "flipped.zip", "text.zip"):
        with pytest.raises(DataError, match=name) as caught:
            unpack(tmp_path / name, tmp_path / f"out-{name}")
        assert "\n" not in str(caught.value)


def test_only_an_empty_folder_is_unpacked_into(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", FILES)
    with pytest.raises(DataError, match="not empty"):
        unpack(archive, tmp_path)


def test_a_zip_entry_without_a_name_is_refused(tmp_path: Path) -> None:
    """A name that begins with NUL is none to ZipFile."""
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a", b"content")
    raw = bytearray(archive.read_bytes())
    for mark, header in ((b"PK\x03\x04", 30), (b"PK\x01\x02", 46)):
        raw[raw.index(mark) + header] = 0
    archive.write_bytes(bytes(raw))
    with pytest.raises(DataError):
        unpack(archive, tmp_path / "out", max_bytes=1000)
