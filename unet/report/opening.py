"""The sentence that a report of a run opens with: how good the network is, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COUNTS = ("objects_found", "objects_missed", "objects_merged", "objects_split")  # together all reference objects


def sentence(saved: Mapping[str, Any]) -> str:
    """What the scores of a scores.json say; empty without scores.

    Of objects how many are separated and what became of the others, of membranes how many pixels are right and how near
    V_rand is to that of a constant image, of classes how many pixels are right. An older file may lack the counts.
    """
    scores = {name: float(v) for name, v in (saved.get("scores") or {}).items() if isinstance(v, (int, float))}
    if saved.get("collapsed") is True:
        return "The network says the same everywhere: its scores are those of a constant prediction."
    if all(name in scores for name in COUNTS) and any(scores[name] for name in COUNTS):
        return _objects(scores)
    if "pixel_accuracy" not in scores:
        return ""
    right = f"{_of_hundred(scores['pixel_accuracy'])} of 100 pixels have the right class"
    constant = (saved.get("constant") or {}).get("pixel_accuracy")
    if isinstance(constant, (int, float)):
        right += f" ({_of_hundred(constant)} if everything were called the same)"
    if "v_rand" in scores:
        return f"{right}; cells are separated with a V_rand of {scores['v_rand']:.3f}, where 1 is perfect."
    if "mean_iou" in scores:
        right += f"; prediction and label overlap by {_of_hundred(scores['mean_iou'])} %, mean over the classes"
    return f"{right}."


def _objects(scores: Mapping[str, float]) -> str:
    found, *others = (int(scores[name]) for name in COUNTS)
    total = found + sum(others)
    fates = [f"{n} {name.removeprefix('objects_')}" for n, name in zip(others, COUNTS[1:], strict=True) if n]
    spurious = int(scores.get("objects_spurious", 0))
    fates += [f"{spurious} found where there is none"] if spurious else []
    told = f"Separates {found} of {total} cell{'s' * (total != 1)}"
    told += f"; {', '.join(fates)}" if fates else ""
    overlap = scores.get("pq_segmentation")
    if found and overlap:
        told += f"; outlines of those it matches overlap by {_of_hundred(overlap)} %"
    return f"{told}."


def _of_hundred(share: float) -> str:
    """A share in percent, without a decimal but where that would make it whole: 99.7, 97, 0.4."""
    percent = 100 * share
    return f"{percent:.0f}" if 1 <= percent <= 99 or percent in (0, 100) else f"{percent:.1f}"
