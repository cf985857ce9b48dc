"""What is odd about images and labels that can be read all the same, a line each: their scores may mean nothing.

Axes: C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from unet.data.stack import IGNORE, FloatImage, Frame, LabelImage, Stack
from unet.errors import some

_LOOKED_AT = 12  # frames, spread evenly
_PIXELS = 2**18  # of a frame that are looked at, in a regular grid
_TWICE, _MORE = 2.0, 0.1  # a turned label must explain so many times the variance, and so much more of it
_MOSTLY = 0.8  # of the frames, on which it must explain more
_ALL = 0.999  # of the variance, explained by a label that the image is a copy of
_CONTRAST = 0.02  # of the range that becomes 0..1, below which all classes together fill hardly any of it

_TURNS: dict[str, Callable[[NDArray[np.generic]], NDArray[np.generic]]] = {
    "mirrored top to bottom": lambda a: a[..., ::-1, :],
    "mirrored left to right": lambda a: a[..., ::-1],
    "turned by 180 degrees": lambda a: a[..., ::-1, ::-1],
    "transposed (rows for columns)": lambda a: a.swapaxes(-1, -2),
    "turned by 90 degrees": lambda a: np.rot90(a, 1, (-2, -1)),
    "turned by 270 degrees": lambda a: np.rot90(a, 3, (-2, -1)),
    "transposed and turned by 180 degrees": lambda a: a.swapaxes(-1, -2)[..., ::-1, ::-1],
}


def doubts(stack: Stack, train: Sequence[int], held_out: Sequence[int]) -> list[str]:
    """Lines about the labelled images of a stack of one's own and their division; none of published sets.

    train, held_out: indices of frames.
    """
    if not stack.own:
        return []
    used = [stack.frames[i] for i in sorted((*train, *held_out))]
    copies = _copies([stack.frames[i] for i in train], [stack.frames[i] for i in held_out])
    return [*_unlabelled(used), *_gray_values(used), *misplaced(used), *copies]


def _unlabelled(frames: Sequence[Frame]) -> list[str]:
    """A line when more than half of the labels hold nothing but background, and others hold something."""
    empty = [f.name for f in frames if f.label is not None and not f.label.any()]
    if not len(frames) / 2 < len(empty) < len(frames):
        return []
    return [
        f"warning: {len(empty)} of {len(frames)} labels hold background alone ({some(empty)}): were these images not "
        "labelled? Leave them out then, or the network learns that there is nothing in them"
    ]


def misplaced(frames: Sequence[Frame], what: str = "images") -> list[str]:
    """A line when labels explain the gray values of their images better in another place: turned, or a slice away.

    what: stands for the images in the line.
    """
    known = [(frame, frame.label) for frame in frames if frame.label is not None]
    chosen = _spread(len(known))
    elsewhere: dict[str, list[tuple[float, float]]] = {}
    for i in chosen:
        frame, label = known[i]
        frame = replace(frame, image=_levelled(frame.image))
        here = explained(frame, label)
        others = {name: turn(label) for name, turn in _TURNS.items()}
        for step, name in ((-1, "one slice later"), (1, "one slice earlier")):
            if 0 <= i + step < len(known) and known[i + step][0].sequence == frame.sequence:
                others[name] = known[i + step][1]
        for name, other in others.items():
            if other.shape == label.shape:
                elsewhere.setdefault(name, []).append((explained(frame, np.asarray(other, np.uint8)), here))
    found: list[tuple[float, float, str]] = []
    for name, pairs in elsewhere.items():
        there, here = (float(np.mean(values)) for values in zip(*pairs, strict=True))
        wins = sum(a > b for a, b in pairs)
        if len(pairs) > len(chosen) / 2 and there > max(_TWICE * here, here + _MORE) and wins >= _MOSTLY * len(pairs):
            found.append((there, here, name))
    if not found:
        return []
    there, here, name = max(found)
    return [
        f"warning: the labels fit the {what} better when they are {name} (they explain {there:.0%} of the variance, as "
        f"they are {here:.0%}): do both have the same orientation and order? Look at them (unet data preview DIR)"
    ]


def _levelled(image_CHW: FloatImage) -> FloatImage:
    """Without the plane that fits each channel best: uneven light is explained by any label that fills one side."""
    _, height, width = image_CHW.shape
    for shape in ((1, height, 1), (1, 1, width)):
        ramp = np.linspace(-1, 1, max(shape), dtype=np.float32).reshape(shape)
        image_CHW = image_CHW - (image_CHW * ramp).mean(axis=(1, 2), keepdims=True) / (ramp**2).mean() * ramp
    return image_CHW


def _spread(count: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, min(count, _LOOKED_AT)).round().astype(int)).tolist() if count else []


def _step(frame: Frame) -> int:
    """Of the grid of pixels that are looked at, along both axes."""
    return max(1, int((frame.image[0].size / _PIXELS) ** 0.5))


def explained(frame: Frame, label_HW: LabelImage) -> float:
    """Share 0..1 of a frame's variance that lies between the classes of a label (eta squared), in its best channel."""
    step = _step(frame)
    label = label_HW[::step, ::step].ravel()
    known = label != IGNORE
    sizes = np.bincount(label[known])
    shares = [0.0]
    for plane in frame.image[:, ::step, ::step]:
        gray = plane.ravel()[known].astype(np.float64)
        total = gray.var() * gray.size if gray.size else 0.0
        if total > 0:
            sums = np.bincount(label[known], gray - gray.mean())
            shares.append(float((sums[sizes > 0] ** 2 / sizes[sizes > 0]).sum() / total))
    return max(shares)


def _gray_values(frames: Sequence[Frame]) -> list[str]:
    """Images of one gray value, those whose classes share a sliver of the range that becomes 0..1, copies of labels."""
    flat = [frame.name for frame in frames if all(plane.min() == plane.max() for plane in frame.image)]
    faint = [(frame.name, span) for frame in frames if frame.name not in flat and (span := _span(frame)) < _CONTRAST]
    lines = []
    looked_at = [frames[i] for i in _spread(len(frames))]
    if looked_at and all(f.label is not None and explained(f, f.label) > _ALL for f in looked_at):
        lines.append(
            "warning: the gray values of the images are those of their labels and nothing else: are the files in "
            "images/ copies of the labels?"
        )
    if flat:
        lines.append(f"warning: every pixel of {some(flat)} has the same gray value; leave out what is no image")
    if faint:
        lines.append(
            f"warning: nearly all gray values of {some([name for name, _ in faint])} lie within "
            f"{max(span for _, span in faint):.1%} of the range that the network sees as 0 to 1: hot pixels? Set "
            "--data.percentiles 1 99, or --data.normalise percentile"
        )
    return lines


def _span(frame: Frame) -> float:
    """From the 1st to the 99th percentile of the gray values, the widest of all channels and classes together.

    At least _CONTRAST is all that is said of an image that has as much already where its classes are not told apart.
    """
    step = _step(frame)
    together = max(float(np.ptp(np.percentile(plane[::step, ::step], (1, 99)))) for plane in frame.image)
    if together >= _CONTRAST:  # which the classes one by one only exceed; their percentiles take longer than reading it
        return together
    label = np.zeros(frame.size, np.uint8) if frame.label is None else frame.label
    spans = []
    for plane in frame.image:
        ends = [np.percentile(plane[label == k], (1, 99)) for k in np.unique(label)]
        spans.append(max(high for _, high in ends) - min(low for low, _ in ends))
    return float(max(spans))


def _copies(train: Sequence[Frame], held_out: Sequence[Frame]) -> list[str]:
    """A line when held-out images are images that are trained on, or mirrored or turned copies of them."""
    alike: dict[tuple[object, ...], list[Frame]] = {}
    for frame in train:
        alike.setdefault(_likeness(frame), []).append(frame)
    copies = []
    for frame in held_out:
        same = next((other for other in alike.get(_likeness(frame), []) if _is_copy(frame, other)), None)
        copies += [] if same is None else [f"{frame.name} (as {same.name})"]
    if not copies:
        return []
    return [
        f"warning: held-out images are trained on under other names, so their scores say little: {some(copies)}; "
        "keep copies, mirrored ones too, on one side (a folder of their own is a sequence, data.split sequences)"
    ]


def _likeness(frame: Frame) -> tuple[object, ...]:
    """Equal for images that are copies of each other, however turned; for others hardly ever."""
    mean, square = (np.sum(frame.image.astype(np.float64) ** power) for power in (1, 2))
    return (tuple(sorted(frame.size)), f"{mean:.6e}", f"{square:.6e}")


def _is_copy(frame: Frame, other: Frame) -> bool:
    turned = (turn(frame.image) for turn in (lambda a: a, *_TURNS.values()))
    return frame.image.min() < frame.image.max() and any(np.array_equal(image, other.image) for image in turned)
