"""Generated images, folders of images and archives, whole and broken: part of fuzz.py, see fuzz_cases.py."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from hypothesis import strategies as st
from numpy.typing import NDArray

from unet.config import DataConfig
from unet.data.masks import Target

Draw = Callable[[st.SearchStrategy[Any]], Any]
Case = Callable[[Draw, Path], object]

NAMES = st.one_of(
    st.sampled_from(
        ["a", "b 1", "ü", "it's", 'q"q', "new\nline", "$x_{", "<b>&", "|a|", "-x", "..x", "\x1b[31m", "t001"]
    ),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12),
)
TARGETS = st.builds(Target, st.sampled_from(["cell", "cell-border"]), st.integers(0, 3), st.integers(1, 5))
INTERESTING = st.sampled_from([0, 1, 2, 3, 8, 16, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1])


def mutated(draw: Draw, content: bytes, most: int = 5) -> bytes:
    """The content with a few bytes changed, cut, repeated or overwritten by telling numbers; often in its header."""
    data = bytearray(content)
    for _ in range(draw(st.integers(0, most))):
        if not data:
            break
        reach = min(len(data), 300) if draw(st.booleans()) else len(data)
        place = draw(st.integers(0, reach - 1))
        kind = draw(st.sampled_from(["byte", "bit", "number", "cut", "delete", "insert", "repeat"]))
        if kind == "byte":
            data[place] = draw(st.integers(0, 255))
        elif kind == "bit":
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "number":
            size, order = draw(st.sampled_from([2, 4, 8])), draw(st.sampled_from(["little", "big"]))
            data[place : place + size] = (draw(INTERESTING) % 256**size).to_bytes(size, order)
        elif kind == "cut":
            del data[place:]
        elif kind == "delete":
            del data[place : place + draw(st.integers(1, 40))]
        elif kind == "insert":
            data[place:place] = draw(st.binary(max_size=20))
        else:
            data[place:place] = data[place : place + draw(st.integers(1, 60))]
    return bytes(data)


def pixels(draw: Draw, most: int = 3) -> NDArray[Any]:
    """A small array of any type and number of axes."""
    dtype = draw(st.sampled_from(["u1", "u2", "i2", "u4", "i4", "f4", "f8", "f2", "?", "u8", "c8"]))
    shape = (*draw(st.lists(st.integers(1, 4), max_size=most - 2)), draw(st.integers(1, 20)), draw(st.integers(1, 20)))
    raw = np.frombuffer(draw(st.binary(min_size=8, max_size=64)), np.uint8)
    values = np.resize(raw, shape).astype(dtype)
    if values.dtype.kind == "f" and draw(st.integers(0, 5)) == 0:
        values.flat[0] = draw(st.sampled_from([np.nan, np.inf, 1e30]))
    return values


def tiff(draw: Draw) -> bytes:
    """A TIFF file, whole or damaged."""
    options: dict[str, Any] = {
        "compression": draw(st.sampled_from([None, None, "zlib", "lzw", "packbits", "jpeg", "lzma", "zstd"])),
        "bigtiff": draw(st.booleans()),
        "byteorder": draw(st.sampled_from(["<", ">"])),
        "photometric": draw(st.sampled_from([None, "minisblack", "miniswhite"])),
        "predictor": draw(st.sampled_from([None, None, True])),
    }
    if draw(st.booleans()):
        options["tile"] = (16, 16)
    buffer = io.BytesIO()
    try:
        tifffile.imwrite(buffer, pixels(draw, 4), **options)
    except Exception:  # not every combination can be written
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, np.arange(96, dtype=np.uint8).reshape(2, 6, 8))
    return mutated(draw, buffer.getvalue())


def picture(draw: Draw) -> tuple[bytes, str]:
    """A PNG or JPEG file, whole or damaged, and its suffix."""
    from PIL import Image

    mode, kind = (
        draw(st.sampled_from(["L", "RGB", "RGBA", "P", "1", "I;16", "LA"])),
        draw(st.sampled_from(["PNG", "JPEG"])),
    )
    size = (draw(st.integers(1, 20)), draw(st.integers(1, 20)))
    buffer = io.BytesIO()
    try:
        Image.new(mode, size, draw(st.integers(0, 1))).save(buffer, kind)
    except (OSError, ValueError):
        Image.new("L", size, 7).save(buffer, kind)
    return mutated(draw, buffer.getvalue()), draw(st.sampled_from([".png", ".jpg", ".JPEG"]))


# -- images ------------------------------------------------------------------------------------------------------------


def read_tiff(draw: Draw, folder: Path) -> object:
    """Any TIFF, in all ways of reading, which must agree."""
    from unet.data.images.tiff import image_shape, read_images

    path = folder / "a.tif"
    path.write_bytes(tiff(draw))
    found = read_images(path)
    assert found.ndim == 4
    assert image_shape(path) == found.shape
    np.testing.assert_array_equal(read_images(path, mmap=True, scratch=folder), found)
    return found


def read_picture(draw: Draw, folder: Path) -> object:
    """Any PNG or JPEG."""
    from unet.data.images.tiff import image_shape, read_images

    content, suffix = picture(draw)
    path = folder / f"a{suffix}"
    path.write_bytes(content)
    rgb = draw(st.booleans())
    found = read_images(path, palette_rgb=rgb)
    assert image_shape(path, palette_rgb=rgb) == found.shape
    return found


def _image_file(draw: Draw, folder: Path, name: str) -> None:
    content, suffix = picture(draw) if draw(st.booleans()) else (tiff(draw), ".tif")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}{suffix}").write_bytes(content)
    except OSError:
        pass  # a name that is too long, or taken by a folder


def read_own(draw: Draw, folder: Path) -> object:
    """A user's folder of images and labels under any names."""
    from unet.data import own

    all_good = draw(st.booleans())
    for name in draw(st.lists(NAMES, min_size=1, max_size=3)):
        if all_good or draw(st.booleans()):  # a good pair
            shape = (draw(st.integers(1, 20)), draw(st.integers(1, 20)))
            for part, most in (("images", 255), ("labels", draw(st.sampled_from([0, 1, 3, 255])))):
                (folder / part).mkdir(exist_ok=True)
                values = np.resize(np.frombuffer(draw(st.binary(min_size=1, max_size=30)), np.uint8), shape).astype(
                    "u2"
                ) % (most + 1)
                _written(folder / part / f"{name}.tif", values.astype(draw(st.sampled_from(["u1", "u2", "i4"]))))
        else:
            for part in ("images", "labels"):
                _image_file(draw, folder / part, name if draw(st.booleans()) else draw(NAMES))
    if draw(st.booleans()):
        (folder / "classes.txt").write_bytes(mutated(draw, b"background\ncell\nborder\n"))
    kinds = st.sampled_from(["auto", "binary", "classes", "instances"])
    config = DataConfig(folder=str(folder), label_kind=draw(kinds), ridge_px=draw(st.integers(0, 3)),
                        normalise=draw(st.sampled_from(["auto", "minmax", "fixed"])))  # fmt: skip
    said: list[str] = []
    stack = own.read(folder, config, said.append)
    assert own.instances(folder, config) is not None
    assert said
    return stack.sha256()


def _written(path: Path, values: NDArray[Any]) -> None:
    with suppress(OSError):
        tifffile.imwrite(path, values, photometric="minisblack")


def read_ctc(draw: Draw, folder: Path) -> object:
    """A folder in the layout of the Cell Tracking Challenge, with wrong, missing and damaged files."""
    from unet.data import ctc

    good = draw(st.booleans())  # but for a single damage
    names = (
        st.just(["01", "02"]) if good else st.lists(st.sampled_from(["01", "02", "x", "003"]), min_size=1, unique=True)
    )
    files = []
    for sequence in draw(names):
        for number in range(2 if good else draw(st.integers(0, 3))):
            files += [(f"{sequence}/t{number:03}", "u1"), (f"{sequence}_GT/SEG/man_seg{number:03}", "u2")]
            files += [
                (f"{sequence}_ST/SEG/man_seg{number:03}", "u2"),
                (f"{sequence}_GT/TRA/man_track{number:03}", "u2"),
            ]
    chosen = draw(st.integers(0, 12))
    for place, (name, dtype) in enumerate(files):
        if not good and draw(st.integers(0, 4)) == 0:
            continue
        shape = (9, 11 if good else draw(st.sampled_from([11, 11, 11, 8])))
        values = np.resize(np.frombuffer(draw(st.binary(min_size=1, max_size=9)), np.uint8), shape)
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, values.astype(dtype if good else draw(st.sampled_from([dtype, "f4", "u4", "i1"]))))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        damaged = place == chosen or (not good and draw(st.booleans()))
        (folder / f"{name}.tif").write_bytes(mutated(draw, buffer.getvalue()) if damaged else buffer.getvalue())
    labels = draw(st.sampled_from(["gold", "silver"]))
    stack = ctc.read(folder, labels=labels, target=draw(TARGETS))
    for sequence in ctc.sequences(folder):
        ctc.gold_instances(folder, sequence)
        ctc.tracking_markers(folder, sequence)
    return stack.sha256()


def read_isbi(draw: Draw, folder: Path) -> object:
    """A folder in a layout of the EM challenge, with wrong and damaged files."""
    from unet.data import isbi

    count = draw(st.integers(1, 3))
    for name in ("train-volume", "train-labels", "test-volume"):
        shape = (count, draw(st.sampled_from([12, 12, 12, 9])), 10)
        values = np.resize(np.frombuffer(draw(st.binary(min_size=1, max_size=9)), np.uint8), shape)
        if name == "train-labels" and draw(st.booleans()):
            values = np.where(values > 99, 255, 0).astype(np.uint8)
        buffer = io.BytesIO()
        tifffile.imwrite(
            buffer, values, compression=draw(st.sampled_from([None, "zlib", "lzw"])), photometric="minisblack"
        )
        damage = draw(st.integers(0, 2)) == 0
        (folder / f"{name}.tif").write_bytes(mutated(draw, buffer.getvalue()) if damage else buffer.getvalue())
    stack = isbi.read(folder)
    isbi.read_test(folder)
    return stack.sha256()


def unpack(draw: Draw, folder: Path) -> object:
    """A zip archive with any names, whole or damaged; nothing may appear outside the target."""
    from unet.data.published.archive import unpack as unpack_archive

    names = draw(
        st.lists(st.one_of(NAMES, st.sampled_from(["../x", "/x", "a/../../x", "a/b", "a\\b", "C:x", ""])), max_size=4)
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", draw(st.sampled_from([0, 8, 14]))) as archive:
        for name in filter(None, dict.fromkeys(names)):
            archive.writestr(name, b"x" * draw(st.integers(0, 99)))
    inside = folder / "inside"
    inside.mkdir()
    path = inside / "a.bin"
    path.write_bytes(mutated(draw, buffer.getvalue(), 3))
    try:
        unpack_archive(path, inside / "target", max_bytes=10_000, max_entries=50)
    finally:
        assert sorted(p.name for p in folder.iterdir()) == ["inside"]
        assert {p.name for p in inside.iterdir()} <= {"a.bin", "target"}
    return True


def read_calibration(draw: Draw, folder: Path) -> object:
    """Files to predict, of any name and content, described before anything is computed."""
    from unet.data.images import calibration
    from unet.data.images.tiff import image_shape

    path = folder / "a.tif"
    path.write_bytes(tiff(draw))
    return image_shape(path), calibration.read_calibration(path)
