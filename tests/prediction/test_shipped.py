"""The networks that come with the package: small, whole, and as good as their card says."""

import json

import cv2
import numpy as np
import pytest

import unet
from scripts import ship_weights
from unet.data import isbi
from unet.data.isbi_labels import read as read_labels
from unet.data.load import find_root
from unet.datasets import DATA_SETS
from unet.metrics.em import em_sweeps
from unet.metrics.instance import seg
from unet.prediction.shipped import FOLDER, shipped
from unet.runs.checkpoint import read_metadata

NAMES = sorted(shipped())
CELLS = {"hela": ("DIC-C2DH-HeLa", 0.7), "phc": ("PhC-C2DH-U373", 0.7)}


def test_they_are_small_and_their_card_is_theirs():
    assert "em" in NAMES
    assert sum(file.stat().st_size for file in shipped().values()) < 16e6
    assert (FOLDER / "README.md").read_text() == ship_weights.card()


@pytest.mark.parametrize("name", NAMES)
def test_they_say_what_they_are_and_nothing_of_the_machine(name):
    said = read_metadata(shipped()[name])
    assert said["record"]["scores"]
    assert said["predict"]["symmetries"] == 8
    assert (name == "em") != ("instances" in said)
    assert "/" not in json.dumps(said)
    image = np.random.default_rng(0).integers(0, 256, (70, 50)).astype(np.uint8)
    model = unet.load(name)
    probabilities = model.predict(image, symmetries=1)
    assert probabilities.shape == (len(model.class_names), 70, 50)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-3)


def test_the_membranes_of_a_test_slice_are_found():
    root = find_root(DATA_SETS["em"], "")
    if root is None or not (root / "ISBI-2012-EM-test-labels").is_dir():
        pytest.skip("the EM stack and its test labels are not here")
    image = isbi.read_test(root / "ISBI-2012-EM", normalise=None).frames[0].image[0]
    cell = unet.load("em").predict(np.rint(255 * image).astype(np.uint8), symmetries=1)[1]
    truth = read_labels(root).cells[:1]
    scores = {name: sweep.value for name, sweep in em_sweeps(truth, cell[None]).items()}
    assert scores["v_rand"] > 0.98
    assert scores["pixel_error"] < 0.09


@pytest.mark.parametrize("name", [name for name in CELLS if name in NAMES])
def test_the_cells_of_a_frame_that_was_left_out_are_found(name):
    folder, least = CELLS[name]
    root = find_root(DATA_SETS[name], "")
    if root is None:
        pytest.skip(f"{folder} is not here")
    sequence = read_metadata(shipped()[name])["record"]["held_out"]
    truth = sorted((root / folder / f"{sequence}_GT" / "SEG").glob("man_seg*.tif"))[0]
    image = cv2.imread(str(root / folder / sequence / truth.name.replace("man_seg", "t")), cv2.IMREAD_UNCHANGED)
    found = unet.load(name).segment(image)
    assert seg([cv2.imread(str(truth), cv2.IMREAD_UNCHANGED)], [found]) > least
