"""TIFFs without the optional imagecodecs: pixels as they are stored, or one clear line."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import tifffile

RNG = np.random.default_rng(0)
SMALL, LABEL = RNG.integers(0, 5, (3, 40, 33), np.uint8), RNG.integers(0, 60_000, (40, 33)).astype(np.uint16)
COLOUR = RNG.integers(0, 256, (40, 33, 3), np.uint8)
PLANES = np.moveaxis(COLOUR, -1, 0)

WITHOUT_CODECS = """
import sys; sys.modules["imagecodecs"] = None
import zlib
from pathlib import Path
from unet.data.images.tiff import read_images
from unet.errors import DataError
for path in sys.argv[1:]:
    try:
        found = read_images(Path(path))
        print(found.shape, found.dtype.name, zlib.crc32(found.tobytes()))
    except DataError as error:
        print(error)
"""


def shown(pixels: np.ndarray) -> str:
    return f"{pixels.shape} {pixels.dtype.name} {zlib.crc32(np.ascontiguousarray(pixels).tobytes())}"


def read_without_codecs(*paths: Path) -> list[str]:
    """What is printed of each file: shape, type and checksum of its pixels, or why it is refused."""
    command = [sys.executable, "-W", "error", "-c", WITHOUT_CODECS, *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_lzw_is_read_without_the_optional_codecs(tmp_path: Path) -> None:
    deep = COLOUR.astype(np.uint16) * 257
    files = {
        "stack": (SMALL, {"photometric": "minisblack"}, SMALL[:, None]),
        "label": (LABEL, {"predictor": True}, LABEL[None, None]),
        "big": (LABEL, {"byteorder": ">"}, LABEL[None, None]),
        "big-float": (LABEL.astype(np.float32), {"byteorder": ">"}, LABEL[None, None].astype(np.float32)),
        "big-int": (LABEL.astype(np.int32), {"byteorder": ">"}, LABEL[None, None].astype(np.int32)),
        "colour": (COLOUR, {"photometric": "rgb"}, PLANES[None]),
        "deep": (deep, {"photometric": "rgb"}, np.moveaxis(deep, -1, 0)[None]),
        "planes": (PLANES, {"photometric": "rgb", "planarconfig": "separate"}, PLANES[None]),
        "reversed": (SMALL[0], {"photometric": "miniswhite"}, SMALL[:1, None]),
        "upright": (SMALL[0], {"extratags": [(274, 3, 1, 1, True)]}, SMALL[:1, None]),
    }
    for name, (pixels, options, _) in files.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, compression="lzw", **options)
    out = read_without_codecs(*(tmp_path / f"{name}.tif" for name in files))
    assert dict(zip(files, out, strict=True)) == {name: shown(wanted) for name, (_, _, wanted) in files.items()}


def test_what_other_libraries_would_change_is_refused(tmp_path: Path) -> None:
    """An image and its label must lie alike, one of them compressed or not."""
    turned = {f"turned{n}": (SMALL[0], {"extratags": [(274, 3, 1, n, True)]}) for n in range(2, 9)}
    rgba = np.dstack([COLOUR, RNG.integers(1, 256, (40, 33), np.uint8)])
    others = {
        "later": (SMALL, {"photometric": "minisblack"}),  # its third page alone is turned
        "opacity": (rgba, {"photometric": "rgb", "extrasamples": ["assocalpha"]}),
        "deep opacity": (rgba.astype(np.uint16) * 257, {"photometric": "rgb", "extrasamples": ["assocalpha"]}),
        "lab": (COLOUR, {"photometric": "cielab"}),
        "two planes": (SMALL[:2], {"photometric": "minisblack", "planarconfig": "separate", "extrasamples": [0]}),
    }
    files = turned | others
    for name, (pixels, options) in files.items():
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as file:
            for number, page in enumerate(pixels if name == "later" else [pixels]):
                tags = {"extratags": [(274, 3, 1, 3, True)]} if name == "later" and number == 2 else {}
                file.write(page, compression="lzw", metadata=None, **options, **tags)
    out = read_without_codecs(*(tmp_path / f"{name}.tif" for name in files))
    for name, line in zip(files, out, strict=True):
        assert line.startswith(f"{tmp_path / name}.tif: compression 5 LZW cannot be decoded ("), line
        assert line.endswith("; install imagecodecs or save the file uncompressed")
    assert all("turned by its tag Orientation" in line for line in out[:8])
