"""Numbers and names as the tables and sentences show them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from unet.datasets import DATA_SETS
from unet.errors import printable
from unet.metrics import table as table_of_scores
from unet.metrics.table import decimals, label
from unet.study.stats import Summary

score_name = label


def data_name(data: str) -> str:
    """A data set as tables name it."""
    return DATA_SETS[data].label if data in DATA_SETS else data


def columns(data: str) -> tuple[str, ...]:
    """The scores in tables of a data set; of images of one's own all that tables of any data set show."""
    if data in DATA_SETS:
        return table_of_scores.columns(DATA_SETS[data].scores)
    of_any = [*table_of_scores.columns("objects"), *table_of_scores.columns("membranes"), "pixel_accuracy"]
    return tuple(dict.fromkeys(of_any))


def number(value: float, score: str, sign: bool = False) -> str:
    """A score with its usual number of decimals."""
    if not math.isfinite(value):
        return "-"
    return f"{value:{'+' if sign else ''}.{decimals(score)}f}"


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


def counted(n: int, noun: str) -> str:
    """1 run, 2 runs."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


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
