"""Pictures as bytes within a page, and how many bytes they may take.

Axes: H rows, W columns, 3 colours.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_IMAGE_BYTES = 6_000_000  # of all pictures of a page before they are written as text (base64 adds a third)
JPEG_QUALITY = 88

Colours = NDArray[np.uint8]
Encoded = Mapping[str, tuple[bytes, str]]
"""Bytes and kind (MIME type) by layer."""


@dataclass
class Budget:
    """Bytes that pictures may still take."""

    left: int = MAX_IMAGE_BYTES

    def uris(self, layers: Encoded) -> dict[str, str] | None:
        """Encoded layers as data URIs; None, and nothing spent, when they do not fit together."""
        size = sum(len(data) for data, _ in layers.values())
        if size > self.left:
            return None
        self.left -= size
        return {name: f"data:{kind};base64,{base64.b64encode(data).decode()}" for name, (data, kind) in layers.items()}


def encoded(layers: Mapping[str, Colours]) -> Encoded:
    """Labels and mistakes as PNG, which keeps their few colours, the others as JPEG."""
    return {name: (png if name in ("label", "mistakes") else jpeg)(colours) for name, colours in layers.items()}


def jpeg(colours: Colours) -> tuple[bytes, str]:
    """JPEG and its kind; gray where the three colours are equal."""
    from PIL import Image

    gray = bool((colours[..., :1] == colours).all())
    picture = Image.fromarray(np.ascontiguousarray(colours[..., 0] if gray else colours))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return buffer.getvalue(), "image/jpeg"


def png(colours: Colours) -> tuple[bytes, str]:
    """PNG and its kind, few colours as a palette; where shrinking has mixed them, a JPEG."""
    from PIL import Image

    codes = colours.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    values, inverse = np.unique(codes, return_inverse=True)
    if len(values) > 256:
        return jpeg(colours)
    palette = np.stack([values >> 16, values >> 8 & 255, values & 255], axis=1).astype(np.uint8)
    picture = Image.fromarray(inverse.reshape(codes.shape).astype(np.uint8), mode="P")
    picture.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue(), "image/png"
