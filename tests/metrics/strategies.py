"""Small random labels and proposals whose gray values tie often, so that every rule about order matters."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Pair = tuple[NDArray[np.bool_], NDArray[np.float32]]

GRAYS = np.arange(11, dtype=np.float32) / np.float32(10)
"""Float32 values next to the thresholds: some lie just above theirs, some just below."""


@st.composite
def pairs(draw: st.DrawFn, largest: int = 9) -> Pair:
    """Cells H x W and a proposal H x W: one noise, one the cells with part of the pixels redrawn."""
    height, width = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    cell_share, kept = draw(st.sampled_from([0.2, 0.5, 0.8, 0.95])), draw(st.sampled_from([0.0, 0.5, 0.9]))
    return random_pair(draw(st.integers(0, 2**32 - 1)), (height, width), cell_share, kept)


def random_pair(seed: int, shape: tuple[int, int], cell_share: float = 0.7, kept: float = 0.6) -> Pair:
    rng = np.random.default_rng(seed)
    cells = rng.random(shape) < cell_share
    noise = rng.choice(GRAYS, shape)
    return cells, np.where(rng.random(shape) < kept, cells.astype(np.float32), noise).astype(np.float32)
