"""Seeded synthetic stacks that stand for the published ones: the offline default, and data for tests and first steps.

    synthetic-em     membranes of a bundle of neurites                 (em.py)
    synthetic-phc    well separated cells with bright rims              (cells.py)
    synthetic-hela   crowded, touching cells with hardly any contrast   (cells.py)

Each is a pure function of its seed and has instance labels.
"""

from __future__ import annotations

from collections.abc import Callable

from unet.data.masks import CELLS, Target
from unet.data.stack import Frame, InstanceImage, Normalisation, Stack
from unet.data.synthetic.cells import CellImage, hela_like, phc_like
from unet.data.synthetic.em import em_like
from unet.errors import DataError, nearest

_CELLS: dict[str, Callable[[int], list[CellImage]]] = {"synthetic-phc": phc_like, "synthetic-hela": hela_like}

NAMES = ("synthetic-em", *_CELLS)


def make(name: str, seed: int = 0, target: Target = CELLS, normalise: Normalisation | None = None) -> Stack:
    """The built-in stack of this name; the target of the cells is made as of the real ones (see ctc.read).

    synthetic-em: 12 consecutive slices of 512 x 512. synthetic-phc: sequences 01 and 02 of 8 frames of 520 x 696.
    synthetic-hela: the same of 512 x 512. normalise: default gray value / 255. Raises DataError for another name.
    """
    _known(name)
    normalise = normalise or Normalisation("fixed", 0.0, 255.0)
    source = f"built-in synthetic stack {name}, seed {seed}"
    if name == "synthetic-em":
        frames = tuple(
            Frame(f"{name}[{s:02}]", name, normalise(image[None]), label, instances)
            for s, (image, label, instances) in enumerate(em_like(seed=seed))
        )
        return Stack(name, frames, ("membrane", "cell"), normalise, source)
    cells = []
    for cell in _CELLS[name](seed):
        cells.append(Frame(cell.name, cell.sequence, normalise(cell.image[None]), *target.of(cell.instances)))
    return Stack(name, tuple(cells), target.class_names, normalise, source)


def references(name: str, seed: int = 0) -> dict[str, InstanceImage]:
    """The objects of synthetic-phc and synthetic-hela by frame name, before any ridge is cut; synthetic-em has none."""
    _known(name)
    return {cell.name: cell.instances for cell in _CELLS[name](seed)} if name in _CELLS else {}


def _known(name: str) -> None:
    if name not in NAMES:
        raise DataError(f"no built-in stack is named {name!r}{nearest(name, NAMES)}; there are {', '.join(NAMES)}")
