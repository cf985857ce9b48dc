"""The EM challenge's test slices: predicted by one network or the mean of several, scored by both protocols."""

import json
import sys

import numpy as np
import pytest
import tifffile

from tests.commands.test_bad_input import TINY, refused, write_stack
from tests.runs.test_folder import is_free
from unet.cli import main
from unet.config import PredictConfig, from_dict
from unet.data import isbi, isbi_labels
from unet.device import prepare
from unet.evaluation.leaderboard import PROTOCOLS, score, table
from unet.metrics.em import em_sweeps
from unet.prediction.overlap import predict_image
from unet.prediction.trained import load_network
from unet.study.collect import _on_test_slices

ALL = ["--data.split", "all"]
SIZE = (30, 44, 52)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs with different seeds on all frames of a small EM stack with test slices and their labels."""
    folder = tmp_path_factory.mktemp("test-slices")
    rng = np.random.default_rng(1)
    stack = write_stack(folder)
    pixels = rng.integers(0, 255, SIZE, dtype=np.uint8)
    tifffile.imwrite(stack / "test-volume.tif", pixels, photometric="minisblack")
    labels = np.where(pixels > 80, 255, 0).astype(np.uint8)
    (folder / "data" / "ISBI-2012-EM-test-labels").mkdir()
    tifffile.imwrite(folder / "data" / "ISBI-2012-EM-test-labels" / "test-labels.tif", labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("UNET_DATA", str(folder / "data"))
        for seed in "01":
            assert main([*TINY[:-1], f"run{seed}", *ALL, "--train.seed", seed]) == 0
    return folder


@pytest.fixture
def place(trained, monkeypatch, capsys):
    """The working folder with both runs."""
    monkeypatch.chdir(trained)
    monkeypatch.setenv("UNET_DATA", str(trained / "data"))
    return trained


def cells_of(place, run, symmetries):
    """Probability of cell of every test slice by one run, N x H x W."""
    network, _ = load_network(place / run, prepare(from_dict({"train": {"device": "cpu"}})))
    frames = isbi.read_test(place / "data" / "ISBI-2012-EM").frames
    return np.stack([predict_image(network, f.image, 2, PredictConfig(symmetries=symmetries))[1] for f in frames])


def labels_of(place):
    return tifffile.imread(place / "data" / "ISBI-2012-EM-test-labels" / "test-labels.tif") > 0


def test_one_run_is_scored_into_its_folder(place, capsys):
    assert main(["evaluate", "run0", "--test", "--quiet"]) == 0
    out = capsys.readouterr().out
    saved = json.loads((place / "run0" / "test-scores.json").read_text())
    cells = cells_of(place, "run0", 1)
    np.testing.assert_array_equal(tifffile.imread(place / "run0" / "test-probabilities.tif"), cells)
    sweeps = em_sweeps(labels_of(place), cells)
    assert saved["protocols"]["paper"]["scores"] == {name: sweep.value for name, sweep in sweeps.items()}
    assert saved["runs"] == ["run0"]
    assert saved["trained_on"][0].startswith("10 frames of ")
    assert saved["symmetries"] == 1
    rows = [line.split() for line in out.splitlines()]
    assert rows[0][:5] == ["EM", "challenge,", "test", "slices:", "one"]
    assert "labels: of unknown origin" in out
    ours = next(row for row in rows if row[:2] == ["ours,", "the"] and "2015)" in row)
    assert ours[-5:] == [f"{sweeps[n].value:.6f}" for n in ("pixel_error", "rand_error", "warping_error")] + [
        f"{sweeps[n].value:.5f}" for n in ("v_rand", "v_info")
    ]
    assert ["u-net", "(Table", "1", "of", "the", "paper)", "0.0611", "0.0382", "0.000353", "-", "-"] in rows
    assert ["U-Net", "(later", "leaderboard)", "-", "-", "-", "0.97276", "0.98662"] in rows
    assert rows[-1] == ["scores:", "run0/test-scores.json"]
    assert not (place / "run0" / "scores.json").exists()
    kept = _on_test_slices(place / "run0")["scores"]  # what a study keeps of the same file
    assert kept == {f"test_{name}": value for name, value in saved["protocols"]["paper"]["scores"].items()}


def test_several_runs_are_the_mean_of_their_probabilities(place, tmp_path, capsys):
    out = tmp_path / "both"
    words = ["evaluate", "run0", "run1", "--test", "--out", str(out), "--symmetries", "8", "--quiet"]
    assert main(words) == 0
    assert "mean of 2 networks, 8 symmetries (probabilities averaged); labels:" in capsys.readouterr().out
    mean = (cells_of(place, "run0", 8) + cells_of(place, "run1", 8)) / np.float32(2)
    kept = tifffile.imread(out / "test-probabilities.tif")
    np.testing.assert_allclose(kept, mean, atol=1e-6)
    saved = json.loads((out / "test-scores.json").read_text())
    assert saved["protocols"]["paper"]["scores"]["v_rand"] == em_sweeps(labels_of(place), kept)["v_rand"].value
    assert "holds test scores already" in refused(capsys, *words)


def test_the_recovered_copy_is_named_in_every_table(place, monkeypatch, capsys):
    import hashlib

    pixels = tifffile.imread(place / "data" / "ISBI-2012-EM-test-labels" / "test-labels.tif")
    monkeypatch.setattr(isbi_labels, "RECOVERED_SHA256", hashlib.sha256(pixels.tobytes()).hexdigest())
    assert main(["evaluate", "run0", "--test", "--quiet"]) == 0
    assert "labels: recovered copy, 2.6 % of the pixels reconstructed" in capsys.readouterr().out.splitlines()[0]
    saved = json.loads((place / "run0" / "test-scores.json").read_text())
    assert saved["labels"]["note"] == "recovered copy, 2.6 % of the pixels reconstructed"


def test_nobody_can_take_a_run_that_is_being_scored(place, monkeypatch):
    seen = []
    monkeypatch.setattr("unet.evaluation.leaderboard.write_isbi", lambda *_: seen.append(is_free(place / "run0")))
    assert main(["evaluate", "run0", "--test", "--quiet"]) == 0
    assert seen == [False]
    assert is_free(place / "run0")


def test_what_cannot_be_scored_is_one_line(place, tmp_path, monkeypatch, capsys):
    assert main([*TINY[:-1], str(tmp_path / "other"), "--data.name", "synthetic-em"]) == 0
    capsys.readouterr()
    told = refused(capsys, "evaluate", str(tmp_path / "other"), "--test")
    assert "was trained on synthetic-em; only the EM challenge has published its test labels" in told
    assert "--out DIR goes with several runs" in refused(capsys, "evaluate", "run0", "run1", "--test")
    assert "--test scores runs" in refused(capsys, "evaluate", "--test", "--prediction", "a", "--labels", "b")
    write_stack(tmp_path)
    monkeypatch.setenv("UNET_DATA", str(tmp_path / "data"))
    told = refused(capsys, "evaluate", "run0", "--test")
    assert "holds no labels of the test slices" in told
    assert "unet data fetch em" in told
    folder = tmp_path / "data" / "ISBI-2012-EM"
    tifffile.imwrite(folder / "test-labels.tif", np.zeros((30, 9, 9), np.uint8))
    assert "test-volume.tif" in refused(capsys, "evaluate", "run0", "--test")
    tifffile.imwrite(folder / "test-volume.tif", np.zeros((30, 9, 8), np.uint8))
    assert "has shape (30, 9, 9), not that of the slices" in refused(capsys, "evaluate", "run0", "--test")


def test_nothing_but_this_scoring_opens_the_labels(place, monkeypatch, capsys):
    """As the system sees it: training, scoring, prediction, report, preview and reproduction leave the file closed."""
    opened: list[str] = []
    watching = True
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if watching and event == "open" else None)
    run, volume = place / "watched", str(place / "data" / "ISBI-2012-EM" / "test-volume.tif")
    assert main([*TINY[:-1], str(run), "--data.split", "blocks"]) == 0
    for words in (["evaluate", str(run)], ["predict", str(run), volume, "--out", "probabilities.tif"],
                  ["report", str(run)], ["reproduce", str(run), "--go"], ["data", "show", "em"],
                  ["data", "preview", "em", "--out", "sheet.png"]):  # fmt: skip
        assert main([*words, "--quiet"]) == 0, words
    assert any("train-labels.tif" in path for path in opened), "the hook sees what is opened"
    assert not [path for path in opened if "test-labels" in path]
    assert main(["evaluate", str(run), "--test", "--quiet"]) == 0
    assert [path for path in opened if "test-labels" in path]
    watching = False


# -- the protocols ---------------------------------------------------------------------------------------------------


def test_the_later_script_takes_ten_slices():
    paper, archive = PROTOCOLS
    assert paper.slices == tuple(range(30))
    assert archive.slices == (1, 4, 7, 10, 13, 16, 19, 22, 25, 28)
    assert archive.warping_thresholds[0] == 0.1
    assert len(archive.warping_thresholds) == 9
    label = np.ones((30, 10, 10), bool)
    label[:, 5] = False
    proposal = label.astype(np.float32)
    proposal[0, 0] = 0.0  # a slice that the ten leave out: 10 of 30 x 90 cell pixels are missed
    found = score(label, proposal)["protocols"]
    assert found["archive"]["scores"]["pixel_error"] == 0
    recall = 1 - 10 / (30 * 90)
    assert found["paper"]["scores"]["pixel_error"] == pytest.approx(1 - 2 * recall / (1 + recall))


def ring() -> np.ndarray:
    """One cell, a ring 3 px thick round a hole of 13 x 13 px, in 64 x 64 px."""
    label = np.zeros((64, 64), bool)
    label[20:39, 20:39] = True
    label[23:36, 23:36] = False
    return label


def test_a_cut_ring_is_a_split_within_the_smaller_window_only():
    """Within 10 px of the cut the ring is in two pieces, within 20 px it is still one."""
    label = np.stack([ring()] * 30)
    proposal = label.astype(np.float32)
    proposal[:, 20:23, 29] = 0.0  # through the upper side
    found = score(label, proposal)["protocols"]
    assert found["paper"]["scores"]["warping_error"] == 0
    assert found["archive"]["scores"]["warping_error"] == 1 / 64**2  # a pixel per slice cannot be bent away


def test_the_older_script_also_tries_a_threshold_of_0():
    label = np.zeros((30, 64, 64), bool)
    label[:, 30:33, 2:62] = True  # a bar: cut in the middle it is two pieces in every window
    proposal = label.astype(np.float32)
    proposal[:, 30:33, 31] = 0.05
    found = score(label, proposal)["protocols"]
    assert found["paper"]["scores"]["warping_error"] == 0
    assert found["paper"]["thresholds"]["warping_error"] == 0
    assert found["archive"]["scores"]["warping_error"] == 1 / 64**2
    assert found["archive"]["thresholds"]["warping_error"] == 0.1


def test_an_empty_slice_is_said():
    label = np.zeros((30, 16, 16), bool)
    label[:, 2:9] = True
    proposal = label.astype(np.float32)
    proposal[4] = 0.0
    found = score(label, proposal)
    saved = found | {"runs": ["a"], "symmetries": 1, "labels": {"note": "x"}, "notes": []}
    assert "note: warping_error: 1 slices have no cell at its best threshold; do not trust it" in table(saved)
