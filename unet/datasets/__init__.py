"""The published data sets: a file each, and all of them in one table."""

from unet.datasets import em, hela, phc
from unet.datasets.dataset import DataSet, Source

DATA_SETS = {data_set.name: data_set for data_set in (em.DATA_SET, phc.DATA_SET, hela.DATA_SET)}

PAPER = ("em", "phc", "hela")
"""The sets of the paper, which a study compares its arms on unless it names others."""

SYNTHETIC = "synthetic-"
"""Begins the name of the built-in stack that stands for a data set."""

STAND_INS = tuple(f"{SYNTHETIC}{name}" for name, data_set in DATA_SETS.items() if data_set.stand_in)


def find(name: str) -> DataSet | None:
    """The data set of this name, or that a synthetic stack stands for; None for images of one's own."""
    return DATA_SETS.get(name.removeprefix(SYNTHETIC))


__all__ = ["DATA_SETS", "PAPER", "STAND_INS", "SYNTHETIC", "DataSet", "Source", "find"]
