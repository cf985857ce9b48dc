"""Which files of a folder belong together, and what is said of those that do not."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from unet.commands.words import image_files, left_out
from unet.config import DataConfig
from unet.data import own
from unet.data.load import load
from unet.errors import DataError
from unet.evaluation.pairing import pair_files

IMAGE = np.arange(600, dtype=np.uint16).reshape(20, 30)


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".tif", ".TIF", ".Tiff")):
            tifffile.imwrite(folder / name, (IMAGE > 300).astype(np.uint8) if "images" not in name else IMAGE)
        else:
            (folder / name).write_bytes(b"")
    return folder


def names(folder: Path) -> list[str]:
    stack = own.read(folder, DataConfig(folder=str(folder), split="all"), lambda _: None)
    return [frame.name for frame in stack.frames]


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        load(DataConfig(folder=str(folder)), lambda _: None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("image", "label"),
    [("IMG1.TIF", "img1.tif"), ("img1.tif", "IMG1_Mask.Tiff"), ("a.tif", "a_cp_masks.tif"), ("a.tif", "a-masks.tif")],
)
def test_names_in_other_letters_and_of_cellpose_are_pairs(tmp_path: Path, image: str, label: str) -> None:
    write(tmp_path, f"images/{image}", f"labels/{label}", "images/b.tif", "labels/b.tif")
    assert sorted(names(tmp_path)) == sorted([Path(image).stem, "b"])
    write(tmp_path, "predicted/b.tif", f"predicted/{image}")
    pairs, _ = pair_files(tmp_path / "predicted", tmp_path / "labels")
    assert {one.labels.name: one.prediction("binary").name for one in pairs} == {"b.tif": "b.tif", label: image}


def test_predictions_of_cellpose_belong_to_plain_names(tmp_path: Path) -> None:
    write(tmp_path, "labels/s1.tif", "labels/s2.tif", "predicted/S1_cp_masks.tif", "predicted/s2_cp_masks.tif")
    pairs, _ = pair_files(tmp_path / "predicted", tmp_path / "labels")
    assert [one.prediction("instances").name for one in pairs] == ["S1_cp_masks.tif", "s2_cp_masks.tif"]


def test_names_that_differ_in_letters_alone_are_not_confused(tmp_path: Path) -> None:
    write(tmp_path, "images/a.tif", "images/A.tif", "labels/A.tif", "labels/a.tif")
    assert names(tmp_path) == ["A", "a"]
    write(tmp_path, "images/B.tif", "images/b.tif", "labels/B.tif", "labels/b_mask.tif")
    assert names(tmp_path) == ["A", "B", "a", "b"]
    (tmp_path / "labels" / "B.tif").rename(tmp_path / "labels" / "B_MASK.tif")
    assert names(tmp_path) == ["A", "B", "a", "b"]


def test_images_without_labels_are_one_line(tmp_path: Path) -> None:
    write(tmp_path, *(f"images/t{i}.tif" for i in range(12)), "labels/t3.tif", "labels/t10.tif")
    told = refusal(tmp_path)
    assert "10 of 12 images have no label of their name in labels/ (t0.tif, t1.tif, t2.tif and 7 more)" in told
    assert "take them out of images/" in told


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("images/a.tif", "labels/a.json"), "labels/ holds no label image (.tif, .tiff, .png); a.json: images"),
        (("images/a.tif", "labels/a_seg.npy"), "a_seg.npy: of Cellpose"),
        (("images/a.tif", "labels/a.zip"), "regions of ImageJ"),
        (("images/a.czi", "labels/a.tif"), "images/ holds no image (.tif, .tiff, .png, .jpg, .jpeg); a.czi: open it"),
        (("train/images/a.tif", "train/labels/a.tif"), "but train/ in it has one; name "),
        (("a/images/a.tif", "b/images/a.tif"), "but a/, b/ in it have one; name one of them, such as "),
        (("a.tif", "a_masks.tif", "a_seg.npy"), "but 2 image files itself; put the images into images/"),
        (("images/a.tif", "masks/1.tif", "masks/2.tif"), "none of 2 images is named like a.tif; if each is the mask"),
    ],
)  # fmt: skip
def test_folders_of_other_programs_are_told_what_to_do(tmp_path: Path, files: tuple[str, ...], said: str) -> None:
    assert said in refusal(write(tmp_path / "mine", *files))


def test_an_archive_is_no_folder(tmp_path: Path) -> None:
    assert "a file, not a folder; unpack it" in refusal(write(tmp_path, "mine.zip") / "mine.zip")
    with pytest.raises(DataError, match=r"holds no image .*; of a.nd2: open it in Fiji"):
        image_files(write(tmp_path / "scans", "a.nd2", "b.nd2"))


def test_what_is_left_out_of_a_folder_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "scans", "a.tif", "b.czi", "c.npy", "notes.txt", "Thumbs.db", "._a.tif", "sub/d.tif")
    assert left_out([str(folder), str(folder / "a.tif")]) == (
        "left out, for no images that are read: b.czi, c.npy, sub/"
    )
    assert left_out([str(write(tmp_path / "plain", "a.tif", "table.csv"))]) == ""
