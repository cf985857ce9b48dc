"""What the rest of the house must know about a published data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Source:
    """One place that publishes a data set.

    urls: what is downloaded, each with its place below the data set's folder; an archive ("" as its place) is unpacked.
    sha256: of the archive, where known. note: what the copy is. lossy: JPEG copies, taken only when asked for.
    """

    name: str
    urls: tuple[tuple[str, str], ...]
    sha256: str = ""
    note: str = "original files"
    lossy: bool = False


@dataclass(frozen=True)
class DataSet:
    """A published data set.

    name: as data.name has it. label: as tables and figures have it. title: what it shows. scores: which scores it gets
    beside those of pixels (see unet.metrics.table). folds: what is held out, blocks of consecutive slices or whole
    sequences. reader: how its folder is laid out, a key of unet.data.readers. gray: how gray values are normalised
    where the configuration says auto. folder: its place below the data root. sources: in the order they are tried.
    terms, citation: what its owners ask for. test: why our scores are not of its official test set. test_labels:
    whether the labels of that are public, for `unet evaluate --test`. stand_in: whether a synthetic stack is built in.
    """

    name: str
    label: str
    title: str
    scores: Literal["classes", "membranes", "objects"]
    folds: Literal["blocks", "sequences"]
    reader: str
    gray: Literal["fixed", "percentile"]
    folder: str
    sources: tuple[Source, ...]
    terms: str
    citation: str
    test: str = ""
    test_labels: bool = False
    stand_in: bool = False
