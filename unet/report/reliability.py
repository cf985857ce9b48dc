"""The reliability plot of a run: how sure the network was, and how often it was right."""

from __future__ import annotations

from typing import Any

from unet.report import chart
from unet.report.chart import Line
from unet.report.markup import Markup

SAID = (
    "Of the pixels given a class with a probability, the share that is of it: below the thin line the network is too "
    "sure. The expected calibration error (Guo et al. 2017) is the mean distance from that line over the pixels."
)


def plot(scores: dict[str, Any]) -> Markup | None:
    """The figure of what a scores.json holds; None where it holds none (of older runs, of masks)."""
    points = scores.get("reliability")
    if not isinstance(points, list) or not points or not all(map(_is_point, points)):
        return None
    lines = [
        Line("share that is right", [p[0] for p in points], [p[1] for p in points]),
        Line("as sure as right", [0.0, 1.0], [0.0, 1.0], colour=5, faint=True),
    ]
    return chart.lines("Reliability", lines, x_name="probability of the class chosen", note=SAID, log=False)


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(number, (int, float)) for number in value)
