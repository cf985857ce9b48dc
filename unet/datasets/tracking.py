"""What the two-dimensional sets of the Cell Tracking Challenge have in common."""

from unet.datasets.dataset import DataSet, Source

_SITE = "https://data.celltrackingchallenge.net/training-datasets/"


def tracking(name: str, label: str, title: str, folder: str, sha256: str, *, stand_in: bool = False) -> DataSet:
    """A set of the challenge: two sequences of cells, each in turn held out; sha256: of its archive."""
    return DataSet(
        name=name,
        label=label,
        title=f"Cell Tracking Challenge: {title}",
        scores="objects",
        folds="sequences",
        reader="ctc",
        gray="percentile",
        folder=folder,
        sources=(Source("celltrackingchallenge.net", ((f"{_SITE}{folder}.zip", ""),), sha256),),
        terms="free for research; cite the papers and acknowledge the providers of the data",
        citation="Ulman et al. 2017, doi:10.1038/nmeth.4473; Maska et al. 2023, doi:10.1038/s41592-023-01879-y",
        test="the labels of the official test set are not public",
        stand_in=stand_in,
    )
