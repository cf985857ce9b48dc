"""Image files that no library in use here writes, and what the readers say of files."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from unet.data.images.tiff import read_images
from unet.errors import DataError


def one_line_error(path: Path) -> str:
    """What the reader says of a file that it refuses."""
    with pytest.raises(DataError) as caught:
        read_images(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def write_time_points(folder: Path, stack: np.ndarray, sizes: str = "") -> None:
    """One OME-TIFF per time point, t0.ome.tif and so on, each of which names them all (Micro-Manager, Zeiss).

    T x H x W or T x C x H x W, uint16.
    """
    times, channels, height, width = (stack if stack.ndim == 4 else stack[:, None]).shape
    parts = "".join(
        f'<TiffData FirstT="{t}" FirstC="{c}" FirstZ="0" IFD="{c}" PlaneCount="1">'
        f'<UUID FileName="t{t}.ome.tif">urn:uuid:{t}</UUID></TiffData>'
        for t in range(times)
        for c in range(channels)
    )
    names = "".join(f'<Channel ID="Channel:0:{c}" SamplesPerPixel="1"/>' for c in range(channels))
    for t in range(times):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{t}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
            f'SizeX="{width}" SizeY="{height}" SizeZ="1" SizeC="{channels}" SizeT="{times}" {sizes}>'
            f"{names}{parts}</Pixels></Image></OME>"
        )
        tifffile.imwrite(folder / f"t{t}.ome.tif", stack[t], description=xml, metadata=None, photometric="minisblack")


def write_micro_manager(
    path: Path, stack_TCHW: np.ndarray, planes: list[tuple[int, int]], ndtiff: bool = False
) -> None:
    """The planes (t, c) of a recording (uint16) that lie in this file, as Micro-Manager cuts long ones.

    The file ends with an index of its planes; with `ndtiff` they are entered in the NDTiff.index beside it.
    """
    times, channels, height, width = stack_TCHW.shape
    known = {"MicroManagerVersion": "2.0", "Prefix": "x", "Frames": times, "Slices": 1, "Channels": channels}
    summary = json.dumps(known | {"Positions": 1, "TimeFirst": True, "SlicesFirst": True}).encode()
    count, ifd_bytes = height * width * 2, 162
    note = (24 if ndtiff else 40) + len(summary)  # where the pages' own metadata lie, "{}" for all
    start = note + 3 + (note + 3) % 2
    offsets = [start + i * (ifd_bytes + count) for i in range(len(planes))]
    end = start + len(planes) * (ifd_bytes + count)
    numbers = (483729, 2) if ndtiff else (54773648, end, 483765892, 0, 99384722, 0)
    head = struct.pack(f"<{len(numbers) + 2}I", *numbers, 2355492, len(summary)) + summary + b"{}"
    out = (b"II*\0" + struct.pack("<I", offsets[0]) + head).ljust(start, b"\0")
    for (t, c), offset, following in zip(planes, offsets, [*offsets[1:], 0], strict=True):
        tags = [(254, 4, 1, 0), (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1),
                (262, 3, 1, 1), (273, 4, 1, offset + ifd_bytes), (277, 3, 1, 1), (278, 3, 1, height),
                (279, 4, 1, count), (284, 3, 1, 1), (339, 3, 1, 1), (51123, 2, 3, note)]  # fmt: skip
        ifd = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        out += ifd + struct.pack("<I", following) + stack_TCHW[t, c].astype("<u2").tobytes()
    if not ndtiff:
        rows = [struct.pack("<IIIII", c, 0, t, 0, offset) for (t, c), offset in zip(planes, offsets, strict=True)]
        out += struct.pack("<II", 3453623, len(planes)) + b"".join(rows)
    path.write_bytes(out)
    if ndtiff:
        with path.with_name("NDTiff.index").open("ab") as index:
            for (t, c), offset in zip(planes, offsets, strict=True):
                axes, name = json.dumps({"time": t, "channel": f"dye {c}"}).encode(), path.name.encode()
                index.write(struct.pack("<I", len(axes)) + axes + struct.pack("<I", len(name)) + name)
                index.write(struct.pack("<IiiiiIii", offset + ifd_bytes, width, height, 1, 0, 0, 0, 0))


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
