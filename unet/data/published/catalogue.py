"""The published data sets: where they live on disk, where they come from, on which terms."""

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
    """A published data set: its folder below the data root, its sources in the order they are tried, its terms.

    kind: how the folder is laid out, as the ISBI challenge (see isbi.py) or the Cell Tracking Challenge (ctc.py) does.
    """

    name: str
    kind: Literal["isbi", "ctc"]
    folder: str
    title: str
    sources: tuple[Source, ...]
    terms: str
    citation: str


_CTC = "https://data.celltrackingchallenge.net/training-datasets/"
_CTC_TERMS = "free for research; cite the papers and acknowledge the providers of the data"
_CTC_CITATION = "Ulman et al. 2017, doi:10.1038/nmeth.4473; Maska et al. 2023, doi:10.1038/s41592-023-01879-y"
_PNG = "https://raw.githubusercontent.com/zhixuhao/unet/909ae9b5fefd8a55900e24a771b073b1d4ef70ff/data/membrane/"
_JPEG = "https://raw.githubusercontent.com/hoangp/isbi-datasets/623f91b9c34f62ef6d99797c30a66ebd154ae023/data/"


_CHALLENGE = "https://downloads.imagej.net/ISBI-2012-challenge.zip"


def _em_png() -> tuple[tuple[str, str], ...]:
    places = [f"{part}/{i}.png" for part in ("train/image", "train/label", "test") for i in range(30)]
    return tuple((_PNG + place, place) for place in places)


def _em_jpeg() -> tuple[tuple[str, str], ...]:
    stems = (("images", "train-volume"), ("labels", "train-labels"))
    places = [f"{part}/{stem}{i:02}.jpg" for part, stem in stems for i in range(30)]
    return tuple((_JPEG + place, f"jpeg/{place}") for place in places)


_DATA_SETS = (
    DataSet(
        "em",
        "isbi",
        "ISBI-2012-EM",
        "ISBI 2012 EM segmentation challenge: ssTEM of the Drosophila larva ventral nerve cord",
        (
            Source("downloads.imagej.net", ((_CHALLENGE, ""),), note="the challenge's archive, with test labels"),
            Source("zhixuhao/unet on GitHub", _em_png(), note="lossless PNG slices"),
            Source("hoangp/isbi-datasets on GitHub", _em_jpeg(), note="lossy JPEG copies", lossy=True),
        ),
        "free for generating or testing non-commercial image segmentation software, citing the paper",
        "Cardona et al. 2010, doi:10.1371/journal.pbio.1000502",
    ),
    DataSet(
        "phc",
        "ctc",
        "PhC-C2DH-U373",
        "Cell Tracking Challenge: glioblastoma-astrocytoma U373 cells, phase contrast",
        (Source("celltrackingchallenge.net", ((_CTC + "PhC-C2DH-U373.zip", ""),),
                "b18185c18fce54e8eeb93e4bbb9b201d757add9409bbf2283b8114185a11bc9e"),),
        _CTC_TERMS,
        _CTC_CITATION,
    ),
    DataSet(
        "hela",
        "ctc",
        "DIC-C2DH-HeLa",
        "Cell Tracking Challenge: HeLa cells, differential interference contrast",
        (Source("celltrackingchallenge.net", ((_CTC + "DIC-C2DH-HeLa.zip", ""),),
                "832fed2d05bb7488cf9c51a2994b75f8f3f53b3c3098856211f2d39023c34e1a"),),
        _CTC_TERMS,
        _CTC_CITATION,
    ),
)  # fmt: skip


def data_sets() -> dict[str, DataSet]:
    """The published data sets by name: em, phc, hela."""
    return {data_set.name: data_set for data_set in _DATA_SETS}
