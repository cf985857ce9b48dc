"""Draw docs/synthetic-stacks.jpg: what the three built-in stacks look like, objects in colour beside the image.

python scripts/synthetic_sheet.py [FILE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unet.data.stack import Frame
from unet.data.synthetic import stacks
from unet.files import atomic_write

SIDE = 360  # px of every panel, cut from the middle
PER_STACK = 2


def main(path: Path) -> None:
    """Write the sheet: a row per stack, image and objects of two frames each."""
    rows = []
    for name in stacks.NAMES:
        stack = stacks.make(name)
        frames = [stack.frames[0], stack.frames[-1]][:PER_STACK]
        rows.append(np.hstack([panel for frame in frames for panel in _panels(frame)]))
    done, encoded = cv2.imencode(".jpg", np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 80])
    if not done:
        raise RuntimeError("OpenCV could not encode the sheet")
    with atomic_write(path) as file:
        file.write(encoded.tobytes())


def _panels(frame: Frame) -> list[NDArray[np.uint8]]:
    height, width = frame.size
    middle = (slice((height - SIDE) // 2, (height + SIDE) // 2), slice((width - SIDE) // 2, (width + SIDE) // 2))
    gray = frame.image[0][middle]
    low, high = np.percentile(gray, [0.2, 99.8])  # the low contrast of the cells would hardly show on a page
    shown = np.clip((gray - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    assert frame.instances is not None, "every built-in stack has instances"
    objects = frame.instances[middle]
    colours = np.random.default_rng(0).integers(60, 256, (int(objects.max()) + 1, 3)).astype(np.uint8)
    colours[0] = 0
    return [np.repeat(shown[..., None], 3, axis=2), colours[objects]]


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/synthetic-stacks.jpg"))
