"""All EM scores together: known values on the real labels, agreement with the single scores, no compiler at import."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from tests.metrics.strategies import random_pair
from unet.data.images.tiff import read_gray
from unet.metrics.em import em_sweeps
from unet.metrics.pixel import misclassification_rate, pixel_error
from unet.metrics.rand import rand_error, v_info, v_rand
from unet.metrics.warping import warping_error, warping_errors

ERRORS = ("pixel_error", "misclassification", "rand_error", "rand_error_before_2015", "warping_error",
          "warping_error_classic")  # fmt: skip
NAMES = (*ERRORS, "v_rand", "v_info")


@pytest.fixture(scope="module")
def shifted_slice(data_root):
    """Train slice 7 and a proposal made from it: shifted by 2 rows and 3 columns and blurred."""
    label = read_gray(data_root / "ISBI-2012-EM" / "train-labels.tif")[7]
    moved = shift((label > 0).astype(np.float64), (2, 3), order=0, mode="nearest")
    return label, np.clip(gaussian_filter(moved, 1), 0, 1).astype(np.float32)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "value", "threshold"),
    [
        ("pixel_error", 0.103271170, 0.3),
        ("rand_error", 0.040601919, 0.2),
        ("warping_error", 38 / 512**2, 0.8),
        ("v_rand", 0.985286159, 0.7),
        ("v_info", 0.973241483, 0.7),
    ],
)
def test_known_values(shifted_slice, name, value, threshold):
    sweep = em_sweeps(*shifted_slice)[name]
    assert sweep.value == pytest.approx(value, abs=5.1e-10)
    assert sweep.threshold == pytest.approx(threshold, abs=1e-12)
    assert not sweep.empty


@pytest.mark.real_data
def test_both_rand_normalisations_are_close_on_full_slices(shifted_slice):
    sweeps = em_sweeps(*shifted_slice)
    difference = abs(sweeps["rand_error"].value - sweeps["rand_error_before_2015"].value)
    assert 0 < difference < 3e-5


@pytest.mark.real_data
def test_the_labels_score_perfectly_against_themselves(data_root):
    label = read_gray(data_root / "ISBI-2012-EM" / "train-labels.tif")[:3]
    sweeps = em_sweeps(label, (label > 0).astype(np.float32))
    assert [sweeps[name].value for name in ERRORS] == [0.0] * len(ERRORS)
    assert [sweeps["v_rand"].value, sweeps["v_info"].value] == pytest.approx([1, 1], abs=1e-12)
    assert em_sweeps(label, label) == sweeps  # 8-bit


def test_the_scores_are_the_single_ones():
    cells, proposal = (np.stack(s) for s in zip(*(random_pair(seed, (20, 17)) for seed in range(3)), strict=True))
    single = [pixel_error, misclassification_rate, rand_error, warping_error, v_rand, v_info]
    names = ["pixel_error", "misclassification", "rand_error", "warping_error", "v_rand", "v_info"]
    sweeps = em_sweeps(cells, proposal)
    assert [sweeps[name] for name in names] == [score(cells, proposal) for score in single]
    before = rand_error(cells, proposal, pairs="n(n-1)/2")
    assert sweeps["rand_error_before_2015"] == before != sweeps["rand_error"]
    classic = warping_errors(cells, proposal)[1]
    assert sweeps["warping_error_classic"] == classic
    assert list(sweeps) == list(NAMES)


def test_empty_proposals_are_flagged():
    label = np.zeros((2, 6, 6), np.uint8)
    label[:, 1:4, 1:4] = 255
    proposal = (label > 0).astype(np.float32)
    proposal[1] = 0
    sweeps = em_sweeps(label, proposal)
    assert [sweeps[name].empty_slices for name in NAMES] == [1] * len(NAMES)
    assert sweeps["warping_error"].value == 0.0


def test_wrong_stacks_are_refused():
    with pytest.raises(ValueError, match="3 slices but proposal 2"):
        em_sweeps(np.ones((3, 4, 4), np.uint8), np.ones((2, 4, 4), np.float32))
    with pytest.raises(ValueError, match="label holds 1 beside 0 and 255"):
        em_sweeps(np.array([[0, 1, 255]], np.uint8), np.ones((1, 3), np.float32))


def test_importing_the_scores_does_not_load_the_compiler():
    code = "import sys, unet.metrics.em; sys.exit('numba' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
