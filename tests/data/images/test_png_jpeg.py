from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.data.files import one_line_error, write_png
from unet.data.images import png_jpeg
from unet.data.images.tiff import image_shape, read_gray, read_images


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16", "LA"])
def test_shape_from_the_header(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (5, 3)).save(tmp_path / "a.png")
    for palette_rgb in (False, True):
        expected = read_images(tmp_path / "a.png", palette_rgb=palette_rgb).shape
        assert image_shape(tmp_path / "a.png", palette_rgb=palette_rgb) == expected


def test_png_and_jpeg(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 256, (3, 21, 34), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), stack[0])
    cv2.imwrite(str(tmp_path / "b.png"), stack[0].astype(np.uint16) * 257)
    Image.fromarray(stack.transpose(1, 2, 0)).save(tmp_path / "c.png")
    Image.fromarray(np.full((16, 24), 100, np.uint8)).save(tmp_path / "d.JPG")
    np.testing.assert_array_equal(read_gray(tmp_path / "a.png")[0], stack[0])
    np.testing.assert_array_equal(read_gray(tmp_path / "b.png")[0], stack[0].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_images(tmp_path / "c.png")[0], stack)
    np.testing.assert_array_equal(read_gray(tmp_path / "d.JPG")[0], np.full((16, 24), 100))


def test_indexed_colours_are_indices_or_rgb(tmp_path: Path) -> None:
    image = Image.new("P", (2, 2))
    image.putpalette([9, 8, 7, 10, 20, 30, 40, 50, 60])
    image.putdata([0, 1, 2, 1])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_gray(tmp_path / "a.png")[0], [[0, 1], [2, 1]])
    np.testing.assert_array_equal(read_images(tmp_path / "a.png", palette_rgb=True)[0, :, 1, 0], [40, 50, 60])


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_colours_keep_all_their_bits(tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 65_536, (9, 13, channels)).astype(np.uint16)
    path = tmp_path / "\udcb5m.png"  # a name that is no UTF-8, as old archives have them
    write_png(path, pixels, 16)
    np.testing.assert_array_equal(read_images(path), pixels.transpose(2, 0, 1)[None], strict=True)
    assert image_shape(path) == (1, channels, 9, 13)


@pytest.mark.parametrize("channels", [2, 4])
def test_16_bit_opacity_is_left_out_when_it_is_the_same_everywhere(tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 65_536, (9, 13, channels)).astype(np.uint16)
    pixels[..., -1] = 65_535
    write_png(tmp_path / "a.png", pixels, 16)
    np.testing.assert_array_equal(read_images(tmp_path / "a.png"), pixels.transpose(2, 0, 1)[None, :-1])
    pixels[4, 4, -1] -= 1
    write_png(tmp_path / "a.png", pixels, 16)
    assert image_shape(tmp_path / "a.png") == read_images(tmp_path / "a.png").shape == (1, channels, 9, 13)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_gray_values_are_the_stored_ones_whatever_their_bits(tmp_path: Path, bits: int) -> None:
    pixels = np.arange(9 * 13).reshape(9, 13) % 2**bits
    write_png(tmp_path / "a.png", pixels, bits)
    np.testing.assert_array_equal(read_gray(tmp_path / "a.png")[0], pixels)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_16_bit_colours_are_not_filled_up(tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.png"
    write_png(path, np.random.default_rng(0).integers(0, 65_536, (60, 60, 3)), 16)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "damaged" in one_line_error(path)


def test_16_bit_colours_that_opencv_cannot_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_png(tmp_path / "a.png", np.zeros((4, 5, 3), int), 16)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    assert "16-bit colours cannot be decoded; save it as TIFF" in one_line_error(tmp_path / "a.png")


def indexed(path: Path, palette: list[int]) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "L")
    image.putpalette(palette)
    image.save(path)


def test_indexed_grays_become_their_gray_values(tmp_path: Path) -> None:
    """A network for gray images gets what is seen: the numbers of the colours mean nothing."""
    path = tmp_path / "a.png"
    indexed(path, [200, 200, 200, 10, 10, 10, 90, 90, 90, 1, 2, 3])  # the last one does not occur
    assert image_shape(path) == (1, 1, 2, 2)
    np.testing.assert_array_equal(read_images(path)[0, 0], [[200, 10], [90, 10]])
    np.testing.assert_array_equal(read_images(path, indices=True)[0, 0], [[0, 1], [2, 1]])
    assert image_shape(path, palette_rgb=True) == read_images(path, palette_rgb=True).shape == (1, 3, 2, 2)


def test_indexed_colours_have_three_channels_as_rgb_has(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    indexed(path, [9, 8, 7, 10, 20, 30, 40, 50, 60])
    assert image_shape(path) == (1, 3, 2, 2)
    np.testing.assert_array_equal(read_images(path)[0, :, 1, 0], [40, 50, 60])


@pytest.mark.parametrize(("opacity", "channels"), [(255, 3), (7, 3), (None, 4)])
@pytest.mark.parametrize("colours", [3, 1])
def test_an_opacity_that_is_the_same_everywhere_is_left_out(
    tmp_path: Path, opacity: int | None, channels: int, colours: int
) -> None:
    """A screenshot is a colour image to a network, whether it was saved with opacity or without."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (9, 13, colours + 1), np.uint8)
    if opacity is not None:
        pixels[..., -1] = opacity
    Image.fromarray(pixels).save(tmp_path / "a.png")
    wanted = channels - 3 + colours
    assert image_shape(tmp_path / "a.png") == (1, wanted, 9, 13)
    np.testing.assert_array_equal(read_images(tmp_path / "a.png"), pixels.transpose(2, 0, 1)[None, :wanted])


@pytest.mark.parametrize("orientation", [*range(1, 9), 77])
def test_a_photograph_is_turned_as_its_camera_noted(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    pixels = np.kron(np.random.default_rng(0).integers(60, 200, (2, 3)).astype(np.uint8), np.ones((16, 16), np.uint8))
    note = Image.Exif()
    note[0x0112] = orientation
    Image.fromarray(pixels).save(path, quality=95, exif=note)
    shown = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)  # OpenCV turns it, as viewers do
    np.testing.assert_allclose(read_images(path)[0, 0].astype(int), shown, atol=4)
    assert image_shape(path) == (1, 1, *shown.shape)


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_truncated_png_and_jpeg(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"cut.{kind}"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    assert "damaged" in one_line_error(path)


def test_png_that_declares_too_much(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = (100_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    assert "pixels" in one_line_error(path)


def test_blank_pictures_of_few_bits_do_not_declare_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png_jpeg, "_HARMLESS_BYTES", 0)
    for mode in ("1", "L"):
        Image.new(mode, (2000, 2000)).save(tmp_path / "a.png", optimize=True)
        assert image_shape(tmp_path / "a.png") == (1, 1, 2000, 2000)
