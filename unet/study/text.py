"""Numbers and names as the tables and sentences show them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from unet.errors import printable
from unet.study.stats import Summary

SCORES = {
    "mean_iou_last5": "IoU, median of last 5", "loss_last5": "held-out loss, median of last 5", "mean_iou": "IoU",
    "seg": "SEG", "seg_components": "SEG of components", "det": "DET", "foreground_iou": "foreground IoU",
    "ap": "AP 0.5..0.95", "v_rand": "V_rand", "v_info": "V_info",
    "pixel_error": "pixel error", "rand_error": "Rand error", "warping_error": "warping error",
    "spikes": "loss spikes", "train_loss": "training loss", "pixel_accuracy": "pixel accuracy",
}  # fmt: skip
DATA = {"em": "EM", "phc": "PhC-U373", "hela": "DIC-HeLa"}
COLUMNS = {
    "em": ("mean_iou_last5", "pixel_error", "rand_error", "warping_error", "v_rand", "v_info"),
    "phc": ("mean_iou_last5", "seg", "det", "foreground_iou", "ap"),
    "hela": ("mean_iou_last5", "seg", "det", "foreground_iou", "ap"),
}
_DECIMALS = {"warping_error": 6, "spikes": 1}


def score_name(score: str) -> str:
    """A score as tables name it."""
    return SCORES.get(score, score.replace("_", " "))


def data_name(data: str) -> str:
    """A data set as tables name it."""
    return DATA.get(data, data)


def number(value: float, score: str, sign: bool = False) -> str:
    """A score with its usual number of decimals."""
    if not math.isfinite(value):
        return "-"
    return f"{value:{'+' if sign else ''}.{_DECIMALS.get(score, 4)}f}"


def spread(found: Summary | None, score: str) -> str:
    """mean ± std of an arm's runs."""
    if found is None:
        return "-"
    return number(found.mean, score) if found.n < 2 else f"{number(found.mean, score)} ± {number(found.std, score)}"


def p_value(p: float) -> str:
    """A p-value with two digits."""
    if math.isnan(p):
        return "-"
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; bars, line ends and HTML in cells are written out."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return _HTML.sub("&lt;", printable(text).replace("|", "\\|"))


_HTML = re.compile(r"<(?=[A-Za-z/!?])")


def hours(seconds: float) -> str:
    """1.25 h."""
    return f"{seconds / 3600:.2f} h"
