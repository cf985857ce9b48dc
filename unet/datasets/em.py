"""ISBI 2012 EM segmentation challenge."""

from unet.datasets.dataset import DataSet, Source

_ARCHIVE = "https://downloads.imagej.net/ISBI-2012-challenge.zip"
_PNG = "https://raw.githubusercontent.com/zhixuhao/unet/909ae9b5fefd8a55900e24a771b073b1d4ef70ff/data/membrane/"
_JPEG = "https://raw.githubusercontent.com/hoangp/isbi-datasets/623f91b9c34f62ef6d99797c30a66ebd154ae023/data/"
_PNG_PLACES = [f"{part}/{i}.png" for part in ("train/image", "train/label", "test") for i in range(30)]
_JPEG_STEMS = (("images", "train-volume"), ("labels", "train-labels"))
_JPEG_PLACES = [f"{part}/{stem}{i:02}.jpg" for part, stem in _JPEG_STEMS for i in range(30)]

DATA_SET = DataSet(
    name="em",
    label="EM",
    title="ISBI 2012 EM segmentation challenge: ssTEM of the Drosophila larva ventral nerve cord",
    scores="membranes",
    folds="blocks",
    reader="isbi",
    gray="fixed",
    folder="ISBI-2012-EM",
    sources=(
        Source("downloads.imagej.net", ((_ARCHIVE, ""),), note="the challenge's archive, with test labels"),
        Source("zhixuhao/unet on GitHub", tuple((_PNG + p, p) for p in _PNG_PLACES), note="lossless PNG slices"),
        Source(
            "hoangp/isbi-datasets on GitHub",
            tuple((_JPEG + place, f"jpeg/{place}") for place in _JPEG_PLACES),
            note="lossy JPEG copies",
            lossy=True,
        ),
    ),
    terms="free for generating or testing non-commercial image segmentation software, citing the paper",
    citation="Cardona et al. 2010, doi:10.1371/journal.pbio.1000502",
    test="the challenge's test slices are scored by unet evaluate RUN --test",
    test_labels=True,
    stand_in=True,
)
