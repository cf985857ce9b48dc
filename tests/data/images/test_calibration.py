"""Axes and pixel sizes of image files."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.data.files import write_time_points
from unet.data.images.calibration import Calibration, read_calibration

STACK = np.zeros((4, 20, 30), np.uint16)


def of(tmp_path, pixels=STACK, **options):
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    return read_calibration(tmp_path / "a.tif")


@pytest.mark.parametrize("unit", ["um", "micron", r"\u00B5m"])
def test_imagej_stack_in_time(tmp_path, unit):
    metadata = {"axes": "TYX", "unit": unit, "finterval": 1.5, "spacing": 0.5, "min": 3.0, "max": 9.0}
    found = of(tmp_path, imagej=True, resolution=(4, 5), metadata=metadata)
    kept = {"unit": "micron", "finterval": 1.5, "spacing": 0.5}  # nothing of how it is displayed
    assert found == Calibration("T", (4,), ((4, 1), (5, 1)), 1, kept)
    ome = found.ome()
    assert (ome["PhysicalSizeX"], ome["PhysicalSizeY"], ome["PhysicalSizeZ"]) == (0.25, 0.2, 0.5)
    assert (ome["PhysicalSizeXUnit"], ome["TimeIncrement"]) == ("µm", 1.5)


def test_hyperstack(tmp_path):
    found = of(tmp_path, np.zeros((2, 3, 20, 30), np.uint8), imagej=True, metadata={"axes": "TZYX"})
    assert (found.axes, found.lengths) == ("TZ", (2, 3))
    found = of(tmp_path, np.zeros((2, 3, 20, 30), np.uint8), imagej=True, metadata={"axes": "ZCYX"})
    assert (found.axes, found.lengths) == ("Z", (2,))


def test_axes_without_a_name_of_ours_are_one_row_of_images(tmp_path):
    found = of(tmp_path, np.zeros((2, 3, 20, 30), np.uint8), photometric="minisblack", metadata={"axes": "QRYX"})
    assert (found.axes, found.lengths) == ("Z", (6,))


@pytest.mark.parametrize(("unit", "tag", "size"), [("INCH", 2, 25400 / 300), ("CENTIMETER", 3, 10000 / 300)])
def test_resolution_tags(tmp_path, unit, tag, size):
    found = of(tmp_path, resolution=(300, 300), resolutionunit=unit, photometric="minisblack")
    assert (found.resolution, found.resolution_unit) == (((300, 1), (300, 1)), tag)
    assert found.ome()["PhysicalSizeX"] == pytest.approx(size, rel=1e-12)


def test_a_file_that_says_nothing(tmp_path):
    found = of(tmp_path, photometric="minisblack")
    assert found == Calibration("Z", (4,))
    assert found.ome() == {}
    assert of(tmp_path, STACK[0]) == Calibration()


def test_ome_sizes(tmp_path):
    sizes = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 200.0, "PhysicalSizeYUnit": "nm", "PhysicalSizeZ": 2.0}
    found = of(tmp_path, ome=True, photometric="minisblack", metadata={"axes": "ZYX"} | sizes)
    assert found == Calibration("Z", (4,), ((10, 1), (5, 1)), 1, {"unit": "micron", "spacing": 2.0})


def test_one_file_per_time_point_is_one_image(tmp_path):
    sizes = 'PhysicalSizeX="0.5" PhysicalSizeY="0.25"'
    write_time_points(tmp_path, STACK, sizes)
    for t in range(4):
        found = read_calibration(tmp_path / f"t{t}.ome.tif")
        assert found == Calibration("", (), ((2, 1), (4, 1)), 1, {"unit": "micron"})


def test_png(tmp_path):
    Image.fromarray(STACK[0].astype(np.uint8)).save(tmp_path / "a.png", dpi=(300, 150))
    x, y = read_calibration(tmp_path / "a.png").resolution
    assert (x[0] / x[1], y[0] / y[1]) == pytest.approx((300, 150), rel=1e-4)
    Image.fromarray(STACK[0].astype(np.uint8)).save(tmp_path / "b.png")
    assert read_calibration(tmp_path / "b.png") == Calibration()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_metadata_says_nothing_or_something_possible(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("fuzz") / "a.tif"
    tifffile.imwrite(path, STACK, imagej=True, resolution=(4, 5), metadata={"axes": "TYX", "unit": "um"})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 400))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    found = read_calibration(path)
    assert found.axes in ("", "T", "Z", "TZ")
    assert all(np.isfinite(v) for v in found.ome().values() if isinstance(v, float))
