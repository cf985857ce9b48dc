"""Which pages of a TIFF are its images; recordings that lie in several files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.data.files import one_line_error, write_micro_manager, write_time_points
from unet.data.images.calibration import read_calibration
from unet.data.images.tiff import image_shape, read_images, stores_planes

STACK = np.arange(3 * 2 * 5 * 7, dtype=np.uint16).reshape(3, 2, 5, 7)  # T x C x H x W
RECORDING = [(t, c) for t in range(3) for c in range(2)]


def assert_holds(path: Path, images: np.ndarray) -> None:
    """Every reader takes the file for these images N x C x H x W, consecutive in time."""
    for options in ({}, {"mmap": True}, {"mmap": True, "scratch": path.parent}):
        np.testing.assert_array_equal(read_images(path, **options), images, strict=True)
    assert image_shape(path) == images.shape
    assert stores_planes(path)
    found = read_calibration(path)
    assert (found.axes, found.lengths) == (("T", images.shape[:1]) if len(images) > 1 else ("", ()))


@pytest.mark.parametrize("stack", [STACK, STACK[:, :1]], ids=["channels", "gray"])
def test_one_file_per_time_point_is_one_image(tmp_path: Path, stack: np.ndarray) -> None:
    """Its OME-XML names all files of the series; the other ones are images of their own."""
    write_time_points(tmp_path, stack)
    (tmp_path / "t0.ome.tif").unlink()  # one that is missing makes no other one damaged
    for t in (1, 2):
        assert_holds(tmp_path / f"t{t}.ome.tif", stack[t : t + 1])


def test_planes_of_which_the_ome_xml_says_nothing_sensible_are_refused(tmp_path: Path) -> None:
    write_time_points(tmp_path, STACK)
    path = tmp_path / "t1.ome.tif"
    content = path.read_bytes()
    for bad in (b'FirstC="7"', b'FirstC="x"', b'FirstC="-"'):
        path.write_bytes(content.replace(b'FirstC="1"', bad))
        assert "2 planes are no whole images of the recording's 2 channels" in one_line_error(path)


@pytest.mark.parametrize("ndtiff", [False, True], ids=["MMStack", "NDTiff"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_micro_manager_file_is_its_own_frames(tmp_path: Path, channels: int, ndtiff: bool) -> None:
    stack, recording = STACK[:, :channels], [plane for plane in RECORDING if plane[1] < channels]
    cut = 2 * channels
    first, second = tmp_path / "x_MMStack_Pos0.ome.tif", tmp_path / "x_MMStack_Pos0_1.ome.tif"
    write_micro_manager(first, stack, recording[:cut], ndtiff)
    write_micro_manager(second, stack, recording[cut:], ndtiff)
    assert_holds(first, stack[:2])
    assert_holds(second, stack[2:])
    first.unlink()  # of another file nothing is needed
    assert_holds(second, stack[2:])


@pytest.mark.parametrize("ndtiff", [False, True], ids=["MMStack", "NDTiff"])
def test_a_whole_micro_manager_recording_in_any_order_of_its_planes(tmp_path: Path, ndtiff: bool) -> None:
    path = tmp_path / "x_MMStack_Pos0.ome.tif"
    write_micro_manager(path, STACK, sorted(RECORDING, key=lambda plane: (plane[1], -plane[0])), ndtiff)
    assert_holds(path, STACK)


def test_a_file_that_ends_between_the_channels_of_an_image_is_refused(tmp_path: Path) -> None:
    write_micro_manager(tmp_path / "x_MMStack_Pos0.ome.tif", STACK, RECORDING[:3])
    assert "3 planes are no whole images of the" in one_line_error(tmp_path / "x_MMStack_Pos0.ome.tif")
    write_micro_manager(tmp_path / "gray_MMStack_Pos0.ome.tif", STACK, [(0, 1), (2, 1)])
    assert_holds(tmp_path / "gray_MMStack_Pos0.ome.tif", STACK[::2, 1:])


@pytest.mark.parametrize(
    ("last", "shown"), [(np.zeros((9, 8), np.uint8), "(9, 8) uint8"), (np.zeros((8, 8), np.int16), "(8, 8) int16")]
)
def test_pages_of_different_shape_or_type_are_refused(tmp_path: Path, last: np.ndarray, shown: str) -> None:
    with tifffile.TiffWriter(tmp_path / "mixed.tif") as tif:
        for page in (np.zeros((8, 8), np.uint8), last):
            tif.write(page)
    said = one_line_error(tmp_path / "mixed.tif")
    assert f"differ in shape or type: (8, 8) uint8, {shown}; save them as separate files" in said


def test_several_positions_in_one_file_are_refused_as_such(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "scenes.ome.tif", ome=True) as tif:
        for _ in range(2):
            tif.write(np.zeros((3, 20, 21), np.uint8), photometric="minisblack")
    assert "holds 2 series (positions or scenes); save them as separate files" in one_line_error(
        tmp_path / "scenes.ome.tif"
    )
