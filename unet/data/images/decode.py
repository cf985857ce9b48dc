"""TIFF pages that tifffile can only decode with the optional imagecodecs (LZW, PackBits, ...), by Pillow or OpenCV.

Both are made to show images: they turn a page as its tag Orientation says, divide colours by their opacity, convert
colours. What they would change is refused here: an image and its label must come alike, whatever they are packed with.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import tifffile
from numpy.typing import NDArray

from unet.data.images.png_jpeg import STRETCH
from unet.errors import DataError, one_line

_LZW, _PACKBITS = 5, 32773
_UPRIGHT = 1  # value of the tag Orientation
_MULTIPLIED = 1  # value of the tag ExtraSamples: colours are multiplied by their opacity
_STORED_AS_SHOWN = (0, 1, 2, 3)  # photometric: gray, reversed or not, RGB, indices of a palette


def decodable(page: Any) -> bool:
    """Whether tifffile can decode the page with what is installed."""
    try:
        tifffile.TIFF.DECOMPRESSORS[page.compression]
        tifffile.TIFF.UNPREDICTORS[page.predictor]
    except (KeyError, ImportError, AttributeError, ValueError):
        return False
    return bool(page.bitspersample % 8 == 0 or page.bitspersample == 1)


def decode_elsewhere(path: Path, series: Any) -> NDArray[Any]:
    """Pixels of a series in its own shape and as stored, decoded page by page by Pillow, else by OpenCV.

    Raises DataError where neither can, or where both would change the pixels.
    """
    key = series.keyframe
    changed = _changed(series)
    reasons = [changed] if changed else []
    # OpenCV returns blank pages for compressions it does not know: it is only asked for one that it does
    decoders = (_pages_pillow, _pages_opencv) if key.compression == _LZW else (_pages_pillow,)
    for decode in decoders if not changed else ():
        try:
            pixels = np.stack(decode(path, [page.index for page in series.pages], key))
            if pixels.shape[1:] == key.shape and pixels.dtype == series.dtype:
                return cast(NDArray[Any], pixels.reshape(series.shape))
            reasons.append(f"decoded to {pixels.dtype} {pixels.shape[1:]}")  # Pillow makes 8 bits of 16-bit colours
        except (OSError, ValueError, TypeError, SyntaxError, EOFError) as error:
            reasons.append(one_line(error))
    raise DataError(
        f"{path}: compression {_name(key.compression)} cannot be decoded ({'; '.join(reasons)}); "
        "install imagecodecs or save the file uncompressed"
    )


def _changed(series: Any) -> str:
    """What Pillow and OpenCV would do to the pixels of a series; "" where they hand over what is stored."""
    if series.keyframe.photometric not in _STORED_AS_SHOWN:
        return "its colours would be converted"
    if _MULTIPLIED in series.keyframe.extrasamples:
        return "its colours would be divided by their opacity"
    if any(page.aspage().tags.valueof("Orientation", _UPRIGHT) != _UPRIGHT for page in series.pages):
        return "it would be turned by its tag Orientation"
    return ""


def _name(compression: Any) -> str:
    return f"{int(compression)} {getattr(compression, 'name', '(unknown)')}"


def _pages_pillow(path: Path, indices: list[int], keyframe: Any) -> list[NDArray[Any]]:
    from PIL import Image

    if keyframe.parent.byteorder == ">" and keyframe.bitspersample == 32 and keyframe.compression != _PACKBITS:
        raise ValueError("Pillow swaps the bytes of 32-bit values that libtiff has swapped")
    pages = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size has been checked
        with Image.open(path) as image:
            for index in indices:
                image.seek(index)
                page = np.array(image)
                # Pillow shows 8-bit and 1-bit pages with a reversed table as seen, tifffile and OpenCV as stored
                reversed_table = keyframe.photometric == 0 and image.mode in ("L", "1")
                page = np.invert(page) if reversed_table else page
                if keyframe.planarconfig != 1 and page.ndim == 3:
                    page = np.moveaxis(page, -1, 0)  # stored one channel after the other
                bits = keyframe.bitspersample
                pages.append(page // STRETCH[bits] if image.mode == "L" and bits in STRETCH else page)
    return pages


def _pages_opencv(path: Path, indices: list[int], keyframe: Any) -> list[NDArray[Any]]:
    import cv2

    if keyframe.bitspersample in STRETCH:
        raise ValueError("OpenCV stretches gray values of few bits")
    done, pages = cv2.imreadmulti(str(path), flags=cv2.IMREAD_UNCHANGED)
    if not done or len(pages) <= max(indices):
        raise ValueError("OpenCV cannot read it")
    chosen = [np.asarray(pages[i]) for i in indices]
    if keyframe.planarconfig != 1 and keyframe.samplesperpixel > 1:
        raise ValueError("channels stored one after the other")
    if chosen[0].ndim == 3:
        order = [2, 1, 0, 3][: chosen[0].shape[2]]
        return [np.ascontiguousarray(p[..., order]) for p in chosen]
    return chosen
