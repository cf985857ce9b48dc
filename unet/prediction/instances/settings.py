"""How instances are made of class probabilities."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from unet.errors import ConfigError, nearest

Rule = Literal["components", "markers"]

_OF_MARKERS = ("seed_levels", "sigma_px", "height_px")


@dataclass(frozen=True)
class InstanceSettings:
    """How instances are made of the probabilities of background, cell and, with three classes, border between cells.

    threshold: `components`: a cell is where p_cell > threshold. `markers`: the mask that seeds grow into is where
    p_cell / (p_cell + p_background) > threshold (with two classes the same), because a border between cells is no
    background.
    min_area_px: smaller objects are dropped. connectivity: 4 parts objects that meet at a corner only (the training
    target draws a ridge there, too), 8 joins them. fill_holes: background enclosed by one object becomes part of it.
    rule: `components`: the connected components are the objects. `markers`: seeds grow by a watershed.
    seed_levels, sigma_px, height_px (`markers`): a seed is a maximum that rises at least height_px above its
    surroundings in the mean of the distances to where p_cell <= level, over the seed_levels, smoothed by a Gaussian of
    standard deviation sigma_px.

    Raises ConfigError for values out of range.
    """

    threshold: float = 0.5
    min_area_px: int = 0
    connectivity: Literal[4, 8] = 4
    fill_holes: bool = True
    rule: Rule = "components"
    seed_levels: tuple[float, ...] = (0.4, 0.6, 0.8, 0.9)
    sigma_px: float = 2.0
    height_px: float = 4.0

    def __post_init__(self) -> None:
        _check(0 <= self.threshold < 1, "threshold", self.threshold, "0 <= threshold < 1")
        _check(self.min_area_px >= 0, "min_area_px", self.min_area_px, "0 or more pixels")
        _check(self.connectivity in (4, 8), "connectivity", self.connectivity, "4 or 8")
        _check(self.rule in get_args(Rule), "rule", self.rule, " or ".join(get_args(Rule)))
        levels = self.seed_levels
        _check(bool(levels) and all(0 <= v < 1 for v in levels), "seed_levels", list(levels), "levels in [0, 1)")
        _check(0 <= self.sigma_px <= 100, "sigma_px", self.sigma_px, "0..100 pixels")
        _check(0 < self.height_px < 1e4, "height_px", self.height_px, "more than 0 pixels")

    def to_dict(self) -> dict[str, Any]:
        """Plain values of the settings that the rule reads, as JSON and YAML hold them."""
        unread = _OF_MARKERS if self.rule == "components" else ()
        values = {key: value for key, value in dataclasses.asdict(self).items() if key not in unread}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InstanceSettings:
        """The settings `to_dict` wrote, also before there was a choice of rules.

        ConfigError for an unknown key or a value of the wrong type or out of range.
        """
        known = {field.name: field.default for field in dataclasses.fields(cls)}
        checked: dict[str, Any] = {}
        for key, value in values.items():
            if key not in known:
                raise ConfigError(f"unknown instance setting {key!r}{nearest(key, known)}")
            if not _same_type(value, known[key]):
                raise ConfigError(f"instance {key}: {value!r} is not allowed; use a value such as {known[key]!r}")
            checked[key] = tuple(value) if isinstance(value, list) else value
        return cls(**checked)


def _same_type(value: object, default: object) -> bool:
    """Whether a plain value can stand for a default: a whole number for a float, a list of numbers for a tuple."""
    if isinstance(default, tuple):
        return isinstance(value, list | tuple) and all(type(v) in (int, float) for v in value)
    return type(value) is type(default) or (type(default) is float and type(value) is int)


def _check(condition: bool, key: str, value: object, rule: str) -> None:
    if not condition:
        raise ConfigError(f"instance {key} {value!r} is not allowed; use {rule}")
