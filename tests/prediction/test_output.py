"""Probability files: axes, pixel sizes, space on disk; what ImageJ would read."""

import errno
import os

import numpy as np
import pytest
import tifffile

from unet.data.images.calibration import Calibration, read_calibration
from unet.errors import RunError
from unet.prediction import output
from unet.prediction.output import (
    create_map,
    foreground,
    map_bytes,
    maps_written,
    open_map,
    software_of,
    write_probabilities,
)

TIME = Calibration("T", (3,), ((4, 1), (4, 1)), 1, {"unit": "micron", "finterval": 2.0})
INCH = Calibration("TZ", (2, 3), ((300, 1), (150, 1)), 2)
CASES = [
    (TIME, (3, 1, 20, 30), "TYX"),
    (INCH, (6, 3, 20, 30), "TZCYX"),
    (Calibration(), (1, 1, 5, 7), "YX"),
    (Calibration(), (1, 4, 5, 7), "CYX"),
    (Calibration("Z", (3,)), (3, 3, 4, 5), "ZCYX"),
    (Calibration("Z", (3,)), (3, 4, 9, 1), "ZCYX"),
    (Calibration(), (1, 1, 1, 1), "YX"),
    (Calibration("T", (5,)), (3, 1, 8, 8), "ZYX"),  # a calibration of another stack is not believed
]


@pytest.mark.parametrize("large", [False, True], ids=["classic", "beyond 4 GB"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize(("calibration", "shape", "axes"), CASES)
def test_maps_come_back_with_axes_and_pixel_size(tmp_path, monkeypatch, large, dtype, calibration, shape, axes):
    if large:
        monkeypatch.setattr(output, "CLASSIC_BYTES", 10)
    path = tmp_path / ".a.tif.part"
    create_map(path, shape, dtype, calibration, 1.0, "unet job 7")
    values = (np.arange(np.prod(shape)) % 251).reshape(shape).astype(dtype)
    pixels = open_map(path, shape)
    pixels[...] = values
    pixels.flush()
    del pixels
    path = path.replace(tmp_path / "a.tif")
    with tifffile.TiffFile(path) as tif:
        assert tif.series[0].axes == axes
        assert (tif.is_bigtiff, tif.is_ome) == (large, large or shape[3] == 1)
        np.testing.assert_array_equal(tif.asarray().reshape(shape), values, strict=True)
        assert len(tif.pages) == shape[0] * shape[1]
    assert software_of(path) == "unet job 7"
    assert path.stat().st_size <= map_bytes(shape, dtype)
    found = read_calibration(path)
    if calibration.axes and calibration.lengths != (5,):
        assert (found.axes, found.lengths) == (calibration.axes, calibration.lengths)
    if not large and calibration.resolution:
        assert (found.resolution, found.resolution_unit) == (calibration.resolution, calibration.resolution_unit)
    for key, value in calibration.ome().items():
        assert found.ome()[key] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-6))


def test_the_disk_is_taken_at_once(tmp_path):
    create_map(tmp_path / "a.tif", (1, 1, 1000, 1000), "float32", Calibration(), 1.0, "")
    assert (tmp_path / "a.tif").stat().st_blocks * 512 >= 4_000_000


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunError, match="no space left"):
        create_map(tmp_path / "a.tif", (1, 1, 10, 10), "float32", Calibration(), 1.0, "")
    assert list(tmp_path.iterdir()) == []


def test_opening_another_shape_is_an_error(tmp_path):
    create_map(tmp_path / "a.tif", (1, 1, 10, 10), "float32", Calibration(), 1.0, "")
    with pytest.raises(ValueError):
        open_map(tmp_path / "a.tif", (2, 1, 10, 10))


def test_software_of_what_is_no_tiff(tmp_path):
    (tmp_path / "a").write_bytes(b"nothing")
    assert software_of(tmp_path / "a") == software_of(tmp_path / "none") == software_of(tmp_path) == ""


def test_the_foreground_of_two_classes_or_all_of_several():
    two, three = np.random.default_rng(0).random((2, 4, 5)), np.random.default_rng(0).random((3, 4, 5))
    np.testing.assert_array_equal(foreground(two), two[1])
    np.testing.assert_array_equal(foreground(three), three)
    assert [maps_written(k) for k in (2, 3, 5)] == [1, 3, 5]


def test_stacks_and_files_of_unequal_size(tmp_path):
    maps = [np.full((4, 5), 0.25, np.float32), np.full((4, 5), 0.5, np.float32)]
    assert write_probabilities(tmp_path / "a.tif", maps) == tmp_path / "a.tif"
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), np.stack(maps))
    folder = write_probabilities(tmp_path / "b.tif", [*maps, np.zeros((3, 3), np.float32)])
    assert sorted(p.name for p in folder.iterdir()) == ["0000.tif", "0001.tif", "0002.tif"]
