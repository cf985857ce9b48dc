"""Predictions and labels of other programs: slices as planes, masks in colours, axes in other places."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet.errors import DataError
from unet.evaluation.comparison import compare

NUMBERS = np.zeros((3, 40, 48), np.uint16)
for page, shift in enumerate((0, 5, 9)):
    NUMBERS[page, 4 + shift : 14 + shift, 4:14], NUMBERS[page, 20:30, 20 + shift : 30 + shift] = (
        5,
        9,
    )  # with a gap: no classes
MASKS = np.where(NUMBERS > 0, 255, 0).astype(np.uint8)


def seg(tmp_path: Path, prediction: np.ndarray, labels: np.ndarray, score: str, planes: tuple[bool, bool]) -> float:
    for name, pixels, as_planes in (("p.tif", prediction, planes[0]), ("l.tif", labels, planes[1])):
        layout = {"photometric": "rgb", "planarconfig": "separate"} if as_planes else {"photometric": "minisblack"}
        tifffile.imwrite(tmp_path / name, pixels, **layout)
    return compare(tmp_path / "p.tif", tmp_path / "l.tif", tmp_path / "out", overwrite=True)["scores"][score]


@pytest.mark.parametrize("planes", [(True, True), (True, False), (False, True)])
def test_three_slices_saved_as_the_planes_of_a_colour_image_are_slices(tmp_path, planes):
    found = NUMBERS.copy()
    found[1][found[1] == 9] = 0  # one of six objects is missed
    assert seg(tmp_path, found, NUMBERS, "seg", planes) == pytest.approx(5 / 6)
    assert seg(tmp_path, np.where(found > 0, 255, 0).astype(np.uint8), MASKS, "pixel_accuracy", planes) == (
        pytest.approx(1 - 100 / NUMBERS.size)
    )


@pytest.mark.parametrize("channels", [3, 4])
def test_a_mask_saved_in_colours_is_a_mask(tmp_path, channels):
    found = MASKS[0].copy()
    found[20:30, 20:30] = 0
    rgba = np.dstack([found] * 3 + [np.full_like(found, 255)])[..., :channels]
    Image.fromarray(rgba).save(tmp_path / "p.png")
    tifffile.imwrite(tmp_path / "l.tif", MASKS[0])
    told = compare(tmp_path / "p.png", tmp_path / "l.tif", tmp_path / "out")
    assert told["prediction_read_as"] == "masks (0 and 255)"
    assert told["scores"]["iou_foreground"] == pytest.approx(0.5)


def refusal(tmp_path, prediction, labels=MASKS[0], **how):
    tifffile.imwrite(tmp_path / "p.tif", prediction)
    tifffile.imwrite(tmp_path / "l.tif", labels, **how)
    with pytest.raises(DataError) as caught:
        compare(tmp_path / "p.tif", tmp_path / "l.tif", tmp_path / "out")
    return str(caught.value)


def test_what_cannot_be_compared_says_why(tmp_path):
    cell = np.where(MASKS[0] > 0, 0.9, 0.1).astype(np.float32)
    assert "a channel axis in the wrong place" in refusal(tmp_path, np.dstack([1 - cell, cell]))
    assert "200 values are NaN or infinite" in refusal(tmp_path, np.where(MASKS[0] > 0, np.nan, cell))
    assert "of logits take the softmax" in refusal(tmp_path, 7.5 * cell)
    assert "l.tif: JPEG alters label values" in refusal(tmp_path, cell, compression="jpeg")
