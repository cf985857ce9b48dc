from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.data.files import one_line_error
from unet.data.images import png_jpeg
from unet.data.images.tiff import image_shape, read_gray, read_images, stores_planes
from unet.errors import DataError


@pytest.fixture
def stack() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 21, 34), np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64])
def test_every_pixel_type_comes_back_as_stored(tmp_path: Path, dtype: type) -> None:
    pixels = np.arange(2 * 5 * 7).reshape(2, 5, 7).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    found = read_images(tmp_path / "a.tif")
    np.testing.assert_array_equal(found, pixels[:, None], strict=True)


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_byte_order_is_respected(tmp_path: Path, byteorder: str) -> None:
    pixels = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1000
    tifffile.imwrite(tmp_path / "a.tif", pixels, byteorder=byteorder)
    np.testing.assert_array_equal(read_gray(tmp_path / "a.tif")[0], pixels)


def test_axes_of_stacks_and_channels(tmp_path: Path) -> None:
    gray = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    rgb = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    hyper = np.arange(3 * 2 * 5 * 6, dtype=np.uint16).reshape(3, 2, 5, 6)
    tifffile.imwrite(tmp_path / "gray.tif", gray, photometric="minisblack")
    tifffile.imwrite(tmp_path / "rgb.tif", rgb, photometric="rgb")
    tifffile.imwrite(tmp_path / "planar.tif", rgb.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    tifffile.imwrite(tmp_path / "hyper.tif", hyper, imagej=True, metadata={"axes": "ZCYX"})
    assert read_images(tmp_path / "gray.tif").shape == (4, 1, 5, 6)
    np.testing.assert_array_equal(read_images(tmp_path / "rgb.tif"), rgb.transpose(2, 0, 1)[None])
    np.testing.assert_array_equal(read_images(tmp_path / "planar.tif"), rgb.transpose(2, 0, 1)[None])
    np.testing.assert_array_equal(read_images(tmp_path / "hyper.tif"), hyper)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_compressed_stacks(tmp_path: Path, stack: np.ndarray, compression: str, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "a.tif", stack.astype(dtype) * 3, compression=compression, photometric="minisblack")
    np.testing.assert_array_equal(read_gray(tmp_path / "a.tif"), stack.astype(dtype) * 3, strict=True)


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
@pytest.mark.parametrize("bits", [1, 2, 4, 6, 10, 12, 14])
def test_samples_of_few_bits_are_read_as_stored(tmp_path: Path, bits: int, compression: str | None) -> None:
    path, samples = tmp_path / "a.tif", np.random.default_rng(0).integers(0, 2**bits, (9, 35))
    single = samples[..., None] >> np.arange(bits)[::-1] & 1  # rows begin at whole bytes
    tifffile.imwrite(path, np.packbits(single.reshape(9, -1), axis=1), compression=compression)
    patch_tag(path, 256, 35)
    patch_tag(path, 258, bits)
    np.testing.assert_array_equal(read_gray(path)[0], samples)
    np.testing.assert_array_equal(read_images(path, mmap=True, scratch=tmp_path)[0, 0], samples)


def test_an_uncompressed_file_in_one_piece_can_be_memory_mapped(tmp_path: Path, stack: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    found = read_images(tmp_path / "a.tif", mmap=True)
    base = found
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    np.testing.assert_array_equal(found[:, 0], stack)
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0, 0, 0] = 1


def mapped(array: np.ndarray) -> bool:
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False


def test_a_memory_map_has_the_byte_order_of_the_file(tmp_path: Path) -> None:
    pixels = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1000
    for byteorder in "<>":
        tifffile.imwrite(tmp_path / "a.tif", pixels, byteorder=byteorder, imagej=True)
        found = read_gray(tmp_path / "a.tif", mmap=True)[0]
        assert mapped(found)
        np.testing.assert_array_equal(found, pixels)


LAYOUTS = {
    "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "predictor": {"compression": "zlib", "predictor": True},
    "tiles": {"tile": (32, 48)},
    "compressed tiles, big-endian": {"tile": (16, 32), "compression": "zlib", "byteorder": ">"},
    "lzw": {"compression": "lzw"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("colour", ["gray", "rgb", "planar"])
def test_what_cannot_be_mapped_is_decoded_into_a_scratch_map(
    tmp_path: Path, layout: str, kind: str, colour: str
) -> None:
    shape = {"gray": (3, 50, 70), "rgb": (2, 50, 70, 3), "planar": (3, 50, 70)}[colour]
    options = {"photometric": "minisblack" if colour == "gray" else "rgb"} | LAYOUTS[layout]
    if colour == "planar":
        options["planarconfig"] = "separate"
    pixels = (np.random.default_rng(0).random(shape) * 200).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    found = read_images(tmp_path / "a.tif", mmap=True, scratch=tmp_path / "scratch")
    expected = read_images(tmp_path / "a.tif")
    assert mapped(found)
    assert not mapped(expected)
    np.testing.assert_array_equal(found, expected, strict=True)
    assert image_shape(tmp_path / "a.tif") == found.shape
    assert list((tmp_path / "scratch").iterdir()) == []


def test_pages_that_do_not_lie_in_one_piece(tmp_path: Path, stack: np.ndarray) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in stack:
            file.write(page, contiguous=False, metadata=None, photometric="minisblack")
    found = read_images(tmp_path / "a.tif", mmap=True, scratch=tmp_path)
    assert mapped(found)
    np.testing.assert_array_equal(found[:, 0], stack)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("bits", [2, 4])
def test_gray_values_of_few_bits_are_the_stored_ones(tmp_path: Path, bits: int, photometric: str) -> None:
    values = np.arange(2 * 5 * 7, dtype=np.uint8).reshape(2, 5, 7) % 2**bits
    tifffile.imwrite(tmp_path / "a.tif", values, bitspersample=bits, photometric=photometric)
    for options in ({}, {"mmap": True, "scratch": tmp_path}):
        found = read_images(tmp_path / "a.tif", **options)
        np.testing.assert_array_equal(found, values[:, None], strict=True)


def test_planes_or_pixels(tmp_path: Path) -> None:
    pixels = np.zeros((3, 5, 7), np.uint8)
    write = {
        "planes": {"photometric": "rgb", "planarconfig": "separate"},
        "imagej": {"imagej": True, "metadata": {"axes": "CYX"}},
    }
    for name, options in write.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, **options)
        assert stores_planes(tmp_path / f"{name}.tif")
    tifffile.imwrite(tmp_path / "rgb.tif", pixels.transpose(1, 2, 0), photometric="rgb")
    tifffile.imwrite(tmp_path / "rgbs.tif", np.zeros((4, 5, 7, 3), np.uint8), photometric="rgb")
    Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / "rgb.png")
    assert not any(stores_planes(tmp_path / name) for name in ("rgb.tif", "rgbs.tif", "rgb.png"))


def test_channels_are_refused_where_gray_is_needed(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5, 3), np.uint8), photometric="rgb")
    with pytest.raises(DataError, match=r"a\.tif: has 3 channels"):
        read_gray(tmp_path / "a.tif")


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    assert "no such file" in one_line_error(tmp_path / "none.tif")
    (tmp_path / "text.tif").write_text("hello")
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "a.czi").touch()
    (tmp_path / "folder.tif").mkdir()
    assert "not a TIFF" in one_line_error(tmp_path / "text.tif")
    assert "not a TIFF" in one_line_error(tmp_path / "empty.tif")
    assert "not a PNG or JPEG" in one_line_error(tmp_path / "text.png")
    assert "not an image type" in one_line_error(tmp_path / "a.czi")
    assert "no such file" in one_line_error(tmp_path / "folder.tif")


@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.97])
def test_truncated_files(tmp_path: Path, compression: str | None, share: float) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (4, 64, 64), np.uint8)
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, pixels, compression=compression, photometric="minisblack")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    one_line_error(path)


def patch_tag(path: Path, code: int, value: int) -> None:
    """Overwrite the first value of a tag in the first page."""
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages[0].tags[code].overwrite(value)


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_absurd_size_is_refused_before_memory_is_taken(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "huge.tif"
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8), rowsperstrip=8, compression=compression)
    patch_tag(path, 256, 2_000_000_000)
    patch_tag(path, 257, 2_000_000_000)
    assert "damaged" in one_line_error(path)


def test_what_zstandard_makes_of_nearly_empty_labels_is_no_absurd_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(png_jpeg, "_HARMLESS_BYTES", 0)
    labels = np.zeros((4, 1024, 1024), np.uint16)
    labels[:, 5:9, 5:9] = 3
    tifffile.imwrite(tmp_path / "a.tif", labels, compression="zstd", rowsperstrip=1024, photometric="minisblack")
    assert labels.nbytes > png_jpeg.MAX_RATIO * (tmp_path / "a.tif").stat().st_size
    np.testing.assert_array_equal(read_gray(tmp_path / "a.tif"), labels)


def test_masks_of_one_bit_are_measured_as_they_are_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png_jpeg, "_HARMLESS_BYTES", 0)
    mask = np.zeros((4096, 4096), np.bool_)
    tifffile.imwrite(tmp_path / "a.tif", mask, compression="zlib", rowsperstrip=4096, photometric="minisblack")
    assert mask.nbytes > png_jpeg.MAX_RATIO * (tmp_path / "a.tif").stat().st_size
    assert image_shape(tmp_path / "a.tif") == (1, 1, 4096, 4096)


def test_too_few_strips_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "strips.tif"
    tifffile.imwrite(path, np.ones((64, 8), np.uint8), rowsperstrip=8, compression="zlib")
    patch_tag(path, 257, 128)
    assert "strip" in one_line_error(path)


def test_strip_that_is_shorter_than_its_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.tif"
    tifffile.imwrite(path, np.ones((64, 8), np.uint8), rowsperstrip=64)
    patch_tag(path, 279, 100)
    assert "truncated" in one_line_error(path)


def test_unknown_compression_is_named(tmp_path: Path) -> None:
    path = tmp_path / "odd.tif"
    tifffile.imwrite(path, np.ones((8, 8), np.uint8), compression="zlib")
    patch_tag(path, 259, 60_001)
    assert "60001" in one_line_error(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_flipped_bytes_give_pixels_or_one_line(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever is broken in a header, the reader ends with pixels or with DataError, never with another exception."""
    path = tmp_path_factory.mktemp("fuzz") / "a.tif"
    compression = data.draw(st.sampled_from([None, "lzw", "zlib"]))
    tifffile.imwrite(path, np.arange(96, dtype=np.uint8).reshape(2, 6, 8), compression=compression)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    message = ""
    try:
        pixels = read_images(path)
        assert pixels.ndim == 4
        assert image_shape(path) == pixels.shape
        np.testing.assert_array_equal(read_images(path, mmap=True, scratch=path.parent), pixels)
    except DataError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.real_data
def test_real_files_have_the_published_shapes(data_root: Path) -> None:
    em = read_gray(data_root / "ISBI-2012-EM/train-volume.tif")
    assert (em.shape, em.dtype) == ((30, 512, 512), np.uint8)
    mask = read_gray(data_root / "PhC-C2DH-U373/01_GT/SEG/man_seg001.tif")
    assert (mask.shape, mask.dtype) == ((1, 520, 696), np.uint16)
    assert len(np.unique(mask)) == 7


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("opacity", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("stored", [{}, {"compression": "zlib", "rowsperstrip": 5}, {"tile": (16, 16)}])
def test_an_opacity_that_says_nothing_is_left_out(
    tmp_path: Path, planes: bool, opacity: str, stored: dict[str, object]
) -> None:
    """As a PNG's: what a drawing program saved with opacity is the same image. Tiles reach beyond the sides."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 24, 4), np.uint8)
    pixels[..., 3] = 255
    layout = {"photometric": "rgb", "planarconfig": "separate" if planes else "contig", "extrasamples": [opacity]}
    path = tmp_path / "image.tif"
    for channels, changed in ((3, 255), (4, 7)):
        pixels[1, -1, -1, 3] = changed
        tifffile.imwrite(path, np.moveaxis(pixels, -1, 1) if planes else pixels, **layout, **stored)
        wanted = np.moveaxis(pixels[..., :channels], -1, 1)
        for how in ({}, {"indices": True}, {"mmap": True}, {"scratch": tmp_path}):
            np.testing.assert_array_equal(read_images(path, **how), wanted)
        assert image_shape(path) == wanted.shape


def test_the_transparency_mask_beside_an_image_is_no_page(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 24), np.uint8)
    with tifffile.TiffWriter(tmp_path / "image.tif") as tif:
        tif.write(image)
        tif.write(np.full((20, 24), 255, np.uint8), subfiletype=1)
    with tifffile.TiffFile(tmp_path / "image.tif", mode="r+") as tif:
        tif.pages[1].tags["NewSubfileType"].overwrite(4)
    np.testing.assert_array_equal(read_images(tmp_path / "image.tif"), image[None, None])
