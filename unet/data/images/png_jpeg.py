"""PNG and JPEG files -> C x H x W with the gray values that are stored, for `tiff.read_images`.

Pillow decodes them; a JPEG is turned as its camera noted, which is how viewers show it. Pillow keeps 8 of the 16 bits
of colours (OpenCV decodes those here) and stretches gray values of 2 and 4 bits over 0..255 (taken back here).

Axes: C channels, H rows, W columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.data.images.foreign import other_content
from unet.errors import DataError, UserError, one_line

STRETCH = {2: 85, 4: 17}
"""By how much Pillow multiplies gray values of so many bits."""

_HARMLESS_BYTES = 256 * 2**20  # always allowed
MAX_RATIO = 2000
"""Of decoded to stored bytes: deflate (PNG, most TIFFs) reaches 1,032, LZW about 1,400, JPEG and PackBits less."""

_ORDER = {2: [2, 1, 0], 4: [0, 3], 6: [2, 1, 0, 3]}  # by PNG colour type: RGB, gray and opacity, RGB and opacity, each
# out of OpenCV's blue, green, red, opacity; it repeats gray three times, and adds the opacity of a transparent colour


_ORIENTATION = 274  # the tag of EXIF
_SHOWN = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE",
    8: "ROTATE_90",
}  # fmt: skip


def check_declared(path: Path, stored: int, declared: int, ratio: int = MAX_RATIO) -> None:
    """DataError when a file of `stored` bytes cannot hold the `declared` bytes of pixels; ratio: of its codec."""
    if declared > max(_HARMLESS_BYTES, ratio * stored):
        raise DataError(
            f"{path}: declares {declared / 1e9:,.1f} GB of pixels in a file of {stored:,} bytes; it is damaged"
        )


def read_picture(path: Path, *, palette_rgb: bool, indices: bool) -> NDArray[Any]:
    """The pixels of a PNG or JPEG file, C x H x W; DataError and indexed colours as in `tiff.read_images`."""
    with _opened(path) as image:
        return _channels(path, image, palette_rgb, indices)


def picture_shape(path: Path, *, palette_rgb: bool) -> tuple[int, int, int]:
    """(C, H, W) of what `read_picture` returns without `indices`; decodes only where the pixels decide about C."""
    with _opened(path) as image:
        if _has_opacity(image) or (image.mode == "P" and not palette_rgb):
            channels, height, width = _channels(path, image, palette_rgb, False).shape
            return channels, height, width
        on_its_side = (_turned(image) or "").startswith(("ROTATE_90", "ROTATE_270", "TRANS"))
        height, width = (image.width, image.height) if on_its_side else (image.height, image.width)
        return 3 if image.mode == "P" else len(image.getbands()), height, width


def _channels(path: Path, image: Any, palette_rgb: bool, indices: bool) -> NDArray[Any]:
    """Pixels of a Pillow image as stored, without an opacity that says nothing because it is the same everywhere."""
    if getattr(image, "n_frames", 1) > 1:
        raise DataError(f"{path}: an animation; save its images as separate files")
    if image.mode == "P":
        pixels = np.array(image) if indices else _colours(image, palette_rgb)
    else:
        pixels = _decoded(path, image)
    pixels = np.atleast_3d(pixels)
    if _has_opacity(image) and pixels[..., -1].min() == pixels[..., -1].max():
        pixels = pixels[..., :-1]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _has_opacity(image: Any) -> bool:
    return bool(image.getbands()[-1] == "A")


def _colours(image: Any, always_rgb: bool) -> NDArray[Any]:
    """Indexed colours as H x W x 3, or x 1 where every colour that occurs is a gray."""
    rgb = np.array(image.convert("RGB"))
    gray = not always_rgb and bool((rgb == rgb[..., :1]).all())
    return rgb[..., :1] if gray else rgb


def _decoded(path: Path, image: Any) -> NDArray[Any]:
    """Pixels that are no indices, H x W or H x W x C, with all their bits, and turned as they are to be shown."""
    from PIL import Image

    depth, colour_type = _png_header(path) if image.format == "PNG" else (8, 0)
    if depth == 16 and colour_type in _ORDER:
        return _deep_colours(path, image, _ORDER[colour_type])
    turned = _turned(image)
    pixels = np.array(image.transpose(getattr(Image.Transpose, turned)) if turned else image)
    return pixels // STRETCH[depth] if depth in STRETCH else pixels


def _turned(image: Any) -> str | None:
    """How a JPEG is turned before it is shown, by its EXIF note, in Pillow's words; None: not at all."""
    if image.format != "JPEG":
        return None
    try:
        return _SHOWN.get(image.getexif().get(_ORIENTATION))
    except Exception:  # a note that cannot be read says nothing
        return None


def _png_header(path: Path) -> tuple[int, int]:
    """Bits of a sample and colour type, from the chunk IHDR."""
    with path.open("rb") as file:
        head = file.read(26)
    return head[24], head[25]


def _deep_colours(path: Path, image: Any, order: list[int]) -> NDArray[Any]:
    import cv2

    image.load()  # Pillow refuses a truncated file, OpenCV may fill it up
    try:
        decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)  # imread refuses some file names
    except cv2.error:
        decoded = None
    shape = (image.height, image.width)
    if decoded is None or decoded.dtype != np.uint16 or decoded.shape[:2] != shape or decoded[0, 0].size <= max(order):
        raise DataError(f"{path}: its 16-bit colours cannot be decoded; save it as TIFF")
    return np.asarray(decoded[..., order])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file as a Pillow image that does not declare too much; whatever fails inside becomes one DataError."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `check_declared` has its own bound
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                bits = _png_header(path)[0] if image.format == "PNG" else 8
                declared = image.width * image.height * len(image.getbands()) * bits // 8
                check_declared(path, path.stat().st_size, declared)
                yield image
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: {one_line(error)}; cut it into smaller images") from None
    except UnidentifiedImageError:
        with path.open("rb") as file:
            raise DataError(f"{path}: not a PNG or JPEG image: {other_content(file.read(32))}") from None
    except MemoryError:
        raise DataError(f"{path}: does not fit into memory; cut it into smaller images") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise DataError(f"{path}: damaged ({one_line(error)}); fetch or export it again") from None
