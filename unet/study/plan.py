"""What a study will decide, said before its runs: primary end points in their order, seeds, looks, levels, margins.

A page names the plan of its study; unet.study.frozen keeps it in a file. The tests, one question per study: end point i
has the weight w_i = share_i + w_(i-1) if end point i - 1 was found different, else share_i, and is tested at each look
with the look's p times w_i (the fallback procedure of Wiens 2003, doi:10.1002/pst.64; with all of the share on the
first end point it is the fixed sequence of Maurer, Hothorn and Lehmacher 1995). The p of the looks add up to alpha, so
that at most a share alpha of the studies without any difference claims one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from unet.errors import ConfigError


@dataclass(frozen=True)
class Look:
    """A moment at which the plan may give a verdict: at this share of the seeds, with p below this."""

    share: float
    p: float


LOOKS = (Look(0.5, 0.0005), Look(1.0, 0.0095))


@dataclass(frozen=True)
class EndPoint:
    """A primary comparison: does `arm` differ from `reference` by this score on these images, trained at this size?

    margin: up to this difference (in units of the score) the arms are called equal. share: of alpha, see above.
    """

    arm: str
    reference: str
    data: str
    score: str
    profile: str
    margin: float
    share: float = 0.0


@dataclass(frozen=True)
class Plan:
    """The family of tests of one question.

    order: the end points, first to last. seeds: how many (0, 1, ...) by profile and data set. most_collapsed: share of
    a comparison's runs that may collapse or diverge before the comparison is stopped.
    """

    order: tuple[EndPoint, ...]
    seeds: Mapping[str, Mapping[str, int]]
    alpha: float = 0.01
    looks: tuple[Look, ...] = LOOKS
    most_collapsed: float = 0.1

    def __post_init__(self) -> None:
        if not self.order or not self.looks:
            raise ConfigError("a plan needs an end point and a look")
        shares = [look.share for look in self.looks]
        if shares != sorted(set(shares)) or shares[0] <= 0 or shares[-1] != 1:
            raise ConfigError(f"a plan's looks come one after the other and end with all seeds, not {shares}")
        if not 0 < self.alpha < 1 or not math.isclose(sum(look.p for look in self.looks), self.alpha, rel_tol=1e-9):
            raise ConfigError(f"the p of a plan's looks must add up to alpha ({self.alpha})")
        if any(point.share < 0 for point in self.order) or not math.isclose(sum(self.shares), 1, rel_tol=1e-9):
            raise ConfigError("the shares of a plan's end points must add up to 1 (or be left out)")
        for point in self.order:
            if point.margin <= 0:
                raise ConfigError(f"{point.arm} against {point.reference}: a margin is more than 0")
            if self.pairs(point, self.looks[0]) < 2:
                raise ConfigError(
                    f"{point.data} ({point.profile}): the first look of the plan has fewer than two pairs"
                )

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of alpha of each end point; all of it on the first where none is given (a fixed sequence)."""
        given = tuple(point.share for point in self.order)
        return given if any(given) else (1.0,) + (0.0,) * (len(given) - 1)

    def pairs(self, point: EndPoint, look: Look) -> int:
        """How many seeds of an end point a look sees."""
        return int(look.share * self.seeds.get(point.profile, {}).get(point.data, 0) + 1e-9)
