"""Files that are no images read here: one line that says what they are and how an image is made of them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.files import one_line_error
from unet.data.images.foreign import advice


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(file, kind)
    return file.getvalue()


def array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.eye(9))
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.tif", b"", "it is empty"),
        ("a.png", b"", "it is empty"),
        ("a.tif", encoded("PNG"), "it holds a PNG; rename it to .png"),
        ("a.TIFF", encoded("JPEG"), "it holds a JPEG; rename it to .jpg"),
        ("a.png", encoded("TIFF"), "it holds a TIFF; rename it to .tif"),
        ("a.jpg", encoded("GIF"), "it holds a GIF; convert it to TIFF or PNG"),
        ("a.png", encoded("BMP"), "it holds a BMP; convert it"),
        ("a.tif", array(), r"it holds a NumPy array; save its array by tifffile.imwrite"),
        ("a.tif", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "run git lfs pull"),
        ("a.png", b"\n<!DOCTYPE html><html>", "it holds a web page"),
        ("a.tif", b"what", "it begins with b'what'"),
        ("a.npy", array(), "save its array by tifffile.imwrite"),
        ("a_seg.npy", b"", "of Cellpose: save the masks"),
        ("a.czi", b"", "open it in Fiji"),
        ("a.ND2", b"", "open it in Fiji"),
        ("a.nii.gz", b"", "the slices of the volume"),
        ("a.zip", b"", "unpack it"),
        ("a.geojson", b"", "draw its objects as a label image"),
        ("a.xyz", b"", "use .tif"),
    ],
)
def test_what_a_file_is_instead(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert said in one_line_error(tmp_path / name)


def test_what_stands_where_a_file_is_missing(tmp_path: Path) -> None:
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "link.tif").symlink_to("gone.tif")
    assert "it is a folder" in one_line_error(tmp_path / "folder.tif")
    assert "it links to gone.tif, which is not there" in one_line_error(tmp_path / "link.tif")
    assert "check the path" in one_line_error(tmp_path / "none.tif")


def test_what_is_read_needs_no_advice() -> None:
    assert [advice(Path(name)) for name in ("a.tif", "a.TIFF", "a.png", "a.jpeg", "notes")] == [""] * 5
