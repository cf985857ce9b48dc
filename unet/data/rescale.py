"""A run's normalisation for images larger than memory: the same numbers as `Normalisation`, computed block by block.

The percentiles of a whole image need its order statistics. They are found exactly, for every pixel type, by counting
16 bits of the gray values at a time, the highest first (radix selection): one pass over the image for 8- and 16-bit
values, two for 32-bit, four for 64-bit ones, with 65536 counters in memory for each order statistic.

Axes: C channels, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.data.images.mapped import blocks
from unet.data.stack import FloatImage, Normalisation
from unet.errors import DataError

Check = Callable[[], None]

_BITS = 16  # counted in one pass


@dataclass(frozen=True, eq=False)
class Rescaling:
    """(raw - zero) / span per channel, the outcome for one image of a normalisation that looks at it."""

    zero: NDArray[np.float64]  # C
    span: NDArray[np.float64]  # C

    def __call__(self, raw_CHW: NDArray[Any]) -> FloatImage:
        """A window C x h x w of the image, as float32."""
        return np.asarray((raw_CHW - self.zero[:, None, None]) / self.span[:, None, None], np.float32)


def rescaling(
    normalisation: Normalisation, image_CHW: NDArray[Any], name: str, check: Check | None = None
) -> Callable[[NDArray[Any]], FloatImage]:
    """What maps a window of the image to what `normalisation(image_CHW)` holds there, to the last bit.

    The image may be a memory map; it is read in blocks. `check` is called between blocks (what it raises ends the
    pass). Raises DataError naming the image when it holds NaN or infinite values.
    """
    if image_CHW.dtype.kind == "f":
        bad = sum(int((~np.isfinite(block)).sum()) for plane in image_CHW for block in blocks(plane, check))
        if bad:
            raise DataError(f"{name}: {bad} gray values are NaN or infinite; repair or remove the image")
    if normalisation.kind == "fixed":
        return normalisation

    def found(plane_HW: NDArray[Any], q: Sequence[float]) -> NDArray[np.float64]:
        return percentiles(plane_HW, q, check)

    return Rescaling(*np.array([normalisation.zero_and_span(plane, found, check) for plane in image_CHW]).T)


_MOSTLY = 0.9  # of the pixels: a value that fills more is the background of a sparse image


def fill_value(image_CHW: NDArray[Any], normalisation: Normalisation, check: Check | None = None) -> str:
    """What is said of an image whose darkest or brightest gray value looks like one of "no data"; empty: nothing.

    That is a value which lies so far from all others that it takes more than half of the contrast from them: one that
    the normalisation takes for 0 or 1 and that is further from the others than they are from each other, or, with
    "zscore", one that at least doubles the standard deviation. The image may be a memory map.
    """
    if normalisation.kind == "fixed":
        return ""
    allowed = [q / 100 for q in (normalisation.percentiles[0], 100 - normalisation.percentiles[1])]
    for plane in image_CHW:
        extremes = [(float(b.min()), float(b.max())) for b in blocks(plane, check)]
        ends = min(low for low, _ in extremes), max(high for _, high in extremes)
        counts, low, high = [0, 0], math.inf, -math.inf
        for block in blocks(plane, check):
            counts = [n + int((block == end).sum()) for n, end in zip(counts, ends, strict=True)]
            between = block[(block > ends[0]) & (block < ends[1])]
            if between.size:
                low, high = min(low, float(between.min())), max(high, float(between.max()))
        span = high - low
        far = [
            count > most * plane.size and gap > span * _reach(count / plane.size, normalisation)
            for count, most, gap in zip(counts, allowed, (low - ends[0], ends[1] - high), strict=True)
        ]
        low, high = (low if far[0] else min(low, ends[0])), (high if far[1] else max(high, ends[1]))
        for end, count, is_far in zip(ends, counts, far, strict=True):
            gap = low - end if end == ends[0] else end - high
            if is_far and count < _MOSTLY * plane.size and gap > high - low > 0:
                return (
                    f"{count / plane.size:.1%} of the pixels are {end:g}, far from all others ({low:g} to {high:g}): a "
                    "value of no data? It leaves them less than half of the contrast; give these pixels a usual gray "
                    "value, or crop them"
                )
    return ""


def _reach(share: float, normalisation: Normalisation) -> float:
    """From how many ranges of the others on, a value that fills this share of an image takes half of their contrast.

    The others deviate by at most half of their range R. A share p at a distance d adds p (1 - p) d^2 to the variance,
    which is three times (R / 2)^2 when the standard deviation is sure to double.
    """
    if normalisation.kind != "zscore":
        return 1.0
    return math.sqrt(0.75 / (share * (1 - share))) if 0 < share < 1 else math.inf


_DARK, _BRIGHT = 0.01, 2.0  # of the value that becomes 1: what the brightest of an image can hardly be


def unlike_training(images_NCHW: NDArray[Any], normalisation: Normalisation, check: Check | None = None) -> str:
    """What is said of gray values that can hardly be of the range a network was trained on; empty: nothing.

    Only a fixed normalisation depends on the range. Integers are judged by their type, floats and booleans by the
    brightest pixel, since 0..1 and 0..255 are both usual. The images may be a memory map.
    """
    if normalisation.kind != "fixed":
        return ""
    one, kind = normalisation.offset + normalisation.scale, images_NCHW.dtype.kind
    if kind in "ui":
        if 1 / _BRIGHT < np.iinfo(images_NCHW.dtype).max / one < _BRIGHT:
            return ""
        held = f"{8 * images_NCHW.dtype.itemsize}-bit gray values"
    else:
        planes = (plane for image in images_NCHW for plane in image)
        top = max(float(block.max()) for plane in planes for block in blocks(plane, check))
        if _DARK * one < top <= _BRIGHT * one or not math.isfinite(top):  # NaN is refused by `rescaling`
            return ""
        held = f"gray values of at most {top:g}"
    return (
        f"holds {held}, and the run divides them by {normalisation.scale:g}; "
        "bring them into the range of the training images if they are not"
    )


def percentiles(plane_HW: NDArray[Any], q: Sequence[float], check: Check | None = None) -> NDArray[np.float64]:
    """`np.percentile` of the gray values as float64 (linear interpolation), to the last bit, with bounded memory."""
    positions = [(plane_HW.size - 1) * (p / 100) for p in q]
    below = [math.floor(p) for p in positions]
    ranks = sorted({*below, *(min(b + 1, plane_HW.size - 1) for b in below)})
    value = dict(zip(ranks, order_statistics(plane_HW, ranks, check).tolist(), strict=True))
    found = []
    for position, rank in zip(positions, below, strict=True):
        a, b, t = value[rank], value[min(rank + 1, plane_HW.size - 1)], position - rank
        found.append(a + (b - a) * t if t < 0.5 else b - (b - a) * (1 - t))
    return np.array(found, np.float64)


def order_statistics(plane_HW: NDArray[Any], ranks: Sequence[int], check: Check | None = None) -> NDArray[np.float64]:
    """The values that stand at these places (0 = smallest) among all gray values, as float64; there is no NaN."""
    bits = 8 * plane_HW.dtype.itemsize
    found = dict.fromkeys(ranks, 0)  # the leading bits of each, as far as they are known
    left = {rank: rank for rank in ranks}  # its place among the values that share these bits
    known = 0
    while known < bits:
        width = min(_BITS, bits - known)
        counts = {head: np.zeros(1 << width, np.int64) for head in set(found.values())}
        for block in blocks(plane_HW, check):
            keys = _keys(block).reshape(-1)
            for head, count in counts.items():
                chosen = keys if known == 0 else keys[keys >> _like(keys, bits - known) == _like(keys, head)]
                digits = (chosen >> _like(keys, bits - known - width)) & _like(keys, (1 << width) - 1)
                count += np.bincount(digits.astype(np.intp), minlength=1 << width)
        for rank in ranks:
            cumulative = counts[found[rank]].cumsum()
            digit = int(np.searchsorted(cumulative, left[rank], side="right"))
            left[rank] -= int(cumulative[digit - 1]) if digit else 0
            found[rank] = found[rank] << width | digit
        known += width
    return _values(np.array([found[rank] for rank in ranks], f"u{bits // 8}"), plane_HW.dtype)


def _like(keys: NDArray[Any], number: int) -> Any:
    return keys.dtype.type(number)


def _keys(block: NDArray[Any]) -> NDArray[Any]:
    """Unsigned integers of the same width that are ordered as the values are."""
    kind, width = block.dtype.kind, block.dtype.itemsize
    bits: NDArray[Any] = np.ascontiguousarray(block, block.dtype.newbyteorder("=")).view(f"u{width}")
    sign = bits.dtype.type(1 << (8 * width - 1))
    if kind == "i":
        return np.asarray(bits ^ sign)
    if kind == "f":  # IEEE 754: below 0 a larger pattern is a smaller value
        return np.where(bits & sign, ~bits, bits | sign)
    return bits


def _values(keys: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """The gray values with these keys, as float64."""
    sign = keys.dtype.type(1 << (8 * dtype.itemsize - 1))
    if dtype.kind == "i":
        keys = keys ^ sign
    elif dtype.kind == "f":
        keys = np.where(keys & sign, keys ^ sign, ~keys)
    return np.asarray(keys.view(dtype.newbyteorder("=")).astype(np.float64))
