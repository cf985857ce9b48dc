"""What others reached on the 30 test slices of the EM challenge, to stand beside ours.

Table 1 of Ronneberger, Fischer, Brox 2015 (doi:10.1007/978-3-319-24574-4_28), standing of 6 March 2015: pixel, Rand and
warping error. V_rand and V_info after border thinning: the challenge's later leaderboard (Arganda-Carreras et al. 2015,
doi:10.3389/fnana.2015.00142), with the best entry known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TABLE_1, BOARD = "Table 1 of the paper", "later leaderboard"


DIGITS = {"pixel_error": 4, "rand_error": 4, "warping_error": 6, "v_rand": 5, "v_info": 5}
"""Decimals with which the scores were published."""


@dataclass(frozen=True)
class Entry:
    """A row of a published table: who, where it stands, its scores by name."""

    name: str
    table: str
    scores: Mapping[str, float]

    def shown(self, score: str) -> str:
        """The score as it was published; empty where there is none."""
        return f"{self.scores[score]:.{DIGITS[score]}f}" if score in self.scores else ""


def _row(name: str, warping: float, rand: float, pixel: float) -> Entry:
    return Entry(name, TABLE_1, {"pixel_error": pixel, "rand_error": rand, "warping_error": warping})


U_NET = _row("u-net", 0.000353, 0.0382, 0.0611)
U_NET_LATER = Entry("U-Net", BOARD, {"v_rand": 0.97276, "v_info": 0.98662})

EM_TEST = (
    _row("human", 0.000005, 0.0021, 0.0010),
    U_NET,
    _row("DIVE-SCI", 0.000355, 0.0305, 0.0584),
    _row("IDSIA", 0.000420, 0.0504, 0.0613),
    _row("DIVE", 0.000430, 0.0545, 0.0582),
    _row("IDSIA-SCI", 0.000653, 0.0189, 0.1027),
    U_NET_LATER,
    Entry("Mutex Watershed", BOARD, {"v_rand": 0.98792, "v_info": 0.99183}),
)
