"""Image files that no library in use here writes, and what the readers say of files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from unet.data.tiff import read_images
from unet.errors import DataError


def one_line_error(path: Path) -> str:
    """What the reader says of a file that it refuses."""
    with pytest.raises(DataError) as caught:
        read_images(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def write_time_points(folder: Path, stack_THW: np.ndarray, sizes: str = "") -> None:
    """One OME-TIFF per time point, t0.ome.tif and so on, each of which names them all (Micro-Manager, Zeiss)."""
    times, height, width = stack_THW.shape
    parts = "".join(
        f'<TiffData FirstT="{t}" FirstC="0" FirstZ="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="t{t}.ome.tif">urn:uuid:{t}</UUID></TiffData>'
        for t in range(times)
    )
    for t in range(times):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{t}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
            f'SizeX="{width}" SizeY="{height}" SizeZ="1" SizeC="1" SizeT="{times}" {sizes}>'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{parts}</Pixels></Image></OME>'
        )
        tifffile.imwrite(folder / f"t{t}.ome.tif", stack_THW[t], description=xml, metadata=None)


def write_png(path: Path, pixels: np.ndarray, bits: int) -> None:
    """H x W or H x W x C (2: gray and opacity, 3: RGB, 4: RGB and opacity), with 1..16 bits per sample."""
    height, width, channels = np.atleast_3d(pixels).shape
    rows = pixels.reshape(height, -1).astype(">u2")
    in_bits = np.unpackbits(rows.view(np.uint8).reshape(height, -1, 2), axis=2)[..., 16 - bits :]
    packed = np.packbits(in_bits.reshape(height, -1), axis=1)
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0),
        b"IDAT": zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed)),
        b"IEND": b"",
    }
    chunks = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts.items()]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
