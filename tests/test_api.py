"""`unet.load(...)`: the same probabilities and objects as `unet predict` writes, and images that do not fit."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

import unet
from unet.cli import main
from unet.config import ModelConfig, to_dict
from unet.errors import ConfigError, DataError, RunError
from unet.networks import build
from unet.prediction import shipped
from unet.runs.checkpoint import save_weights

RGB = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
GRAY = RGB[..., 0]


def weights(path: Path, channels: int = 1, classes: int = 2, seed: int = 0, **said: object) -> Path:
    described = ModelConfig(base_channels=4, depth=3)
    names = ["background", "cell", "border"][:classes] if classes < 4 else [str(n) for n in range(classes)]
    metadata = {"model": to_dict(described), "channels": channels, "class_names": names, "tile_px": 0}
    normalisation = {"kind": "percentile", "offset": 0.0, "scale": 1.0, "low": 1.0, "high": 99.0}
    metadata |= {"normalisation": normalisation} | said
    save_weights(path, build(described, channels, classes, seed).state_dict(), metadata)
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_predicted_as_the_command_does(tmp_path, channels):
    chosen = {"threshold": 0.4, "min_area_px": 5, "connectivity": 4, "fill_holes": True, "rule": "components"}
    file = weights(
        tmp_path / "w.safetensors",
        channels,
        predict={"symmetries": 4, "average": "logits"},
        instances=chosen,
    )
    image = GRAY if channels == 1 else RGB
    tifffile.imwrite(tmp_path / "image.tif", image, photometric="rgb" if channels == 3 else "minisblack")
    out = tmp_path / "out.tif"
    assert main(["predict", str(file), str(tmp_path / "image.tif"), "--out", str(out), "--instances", "--quiet"]) == 0
    model = unet.load(file)
    found = model.predict(image)
    assert found.shape == (2, 40, 50)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[1], tifffile.imread(out))
    np.testing.assert_array_equal(model.segment(image), tifffile.imread(tmp_path / "out-masks.tif"))
    assert model.instances.threshold == 0.4
    assert not np.array_equal(model.predict(image, symmetries=1), found)
    if channels == 3:
        np.testing.assert_array_equal(model.predict(np.moveaxis(image, 2, 0)), found)


def test_several_networks_predict_as_one(tmp_path):
    one, two = weights(tmp_path / "a.safetensors"), weights(tmp_path / "b.safetensors", seed=1)
    single = [unet.load(file, precision="fp32").predict(GRAY) for file in (one, two)]
    both = unet.load(one, two, precision="fp32").predict(GRAY)
    np.testing.assert_allclose(both, np.mean(single, axis=0), atol=1e-6)


def test_what_does_not_fit_is_one_clear_error(tmp_path):
    model = unet.load(weights(tmp_path / "w.safetensors"))
    for image in (RGB, np.zeros((2, 3, 4, 5)), np.zeros(7)):
        with pytest.raises(DataError, match="the network takes one image H x W"):
            model.predict(image)
    with pytest.raises(DataError, match="1 gray values are NaN"):
        model.predict(np.where(np.arange(2000).reshape(40, 50) == 7, np.nan, 1.0))
    with pytest.raises(ConfigError, match="objects are made of two classes"):
        unet.load(weights(tmp_path / "many.safetensors", classes=5)).segment(GRAY)
    with pytest.raises(RunError, match=r"nothing: no run folder, weights file or network of the package \("):
        unet.load("nothing")
    with pytest.raises(RunError, match="name a network to load"):
        unet.load()


def test_gray_values_of_another_range_are_warned_of(tmp_path):
    fixed = {"kind": "fixed", "offset": 0.0, "scale": 255.0, "low": 0.0, "high": 100.0}
    model = unet.load(weights(tmp_path / "w.safetensors", normalisation=fixed))
    with pytest.warns(UserWarning, match="16-bit gray values, and the run divides them by 255"):
        model.predict(GRAY.astype(np.uint16))


@pytest.mark.parametrize(
    ("image", "top"), [(GRAY / 255, "1"), (GRAY > 9, "1"), (GRAY.astype(np.float32) * 256, "65280"), (GRAY * 1.0, "")]
)
def test_floats_of_another_range_are_warned_of(tmp_path, image, top):
    fixed = {"kind": "fixed", "offset": 0.0, "scale": 255.0, "low": 0.0, "high": 100.0}
    file = weights(tmp_path / "w.safetensors", normalisation=fixed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        unet.load(file).predict(image)
    told = [str(warning.message) for warning in caught]
    assert (f"gray values of at most {top}, and the run divides them by 255" in "".join(told)) == bool(top)
    assert bool(told) == bool(top)


def test_tensors_of_any_type_are_arrays(tmp_path):
    model = unet.load(weights(tmp_path / "w.safetensors"))
    known = model.predict(GRAY)
    for tensor in (torch.from_numpy(GRAY), torch.tensor(GRAY, dtype=torch.float32, requires_grad=True)):
        np.testing.assert_array_equal(model.predict(tensor), known)
    np.testing.assert_array_equal(model.predict(torch.from_numpy(GRAY).bfloat16()), known)  # its 8 bits hold 0..255


def test_pixels_that_are_masked_are_not_taken_for_known(tmp_path):
    model = unet.load(weights(tmp_path / "w.safetensors"))
    for image in (np.ma.masked_less(GRAY, 10), GRAY.astype(object), [[1, 2], [3]], np.zeros((0, 5)), np.array([["a"]])):
        with pytest.raises(DataError, match="the image: "):
            model.predict(image)
    np.testing.assert_array_equal(model.predict(np.ma.array(GRAY)), model.predict(GRAY))


def test_networks_of_the_package_are_found_by_name_unless_one_on_disk_has_it(tmp_path, monkeypatch):
    (tmp_path / "package").mkdir()
    ours = weights(tmp_path / "package" / "em.safetensors")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "em").mkdir()  # a folder of images, no network
    assert shipped.find_network("em") == ours
    assert shipped.find_network("other") is None
    tifffile.imwrite("em/image.tif", GRAY)
    assert main(["predict", "em", "em/", "--out", "out", "--quiet"]) == 0
    assert tifffile.imread("out/image.tif").shape == (40, 50)
    run = weights(tmp_path / "em" / "weights.safetensors", seed=1)
    assert shipped.find_network("em") == Path("em")
    np.testing.assert_array_equal(unet.load("em").predict(GRAY), unet.load(run).predict(GRAY))


def test_importing_the_package_does_not_import_torch():
    code = "import sys, unet; assert 'torch' not in sys.modules; assert 'load' in dir(unet); unet.nothing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "module 'unet' has no attribute 'nothing'" in done.stderr


def test_objects_are_scored_by_seg():
    labels, found = np.zeros((2, 20, 20), np.int32)
    labels[2:6, 2:6], labels[10:14, 10:14] = 3, 7
    found[2:6, 2:5], found[10:12, 10:14] = 1, 2  # IoU 0.75; half of the object is no match
    scores = unet.evaluate(found, labels)
    assert scores["seg"] == pytest.approx(0.75 / 2)
    assert (scores["objects_found"], scores["objects_missed"], scores["objects_spurious"]) == (1, 1, 1)


def test_probabilities_are_scored_by_pixels_and_by_the_challenge_where_asked_for():
    labels = np.zeros((40, 40), np.uint8)
    labels[:, :18], labels[:, 20:], labels[:2] = 1, 1, 255
    cell = np.where(labels == 1, 0.9, 0.2).astype(np.float32)
    cell[5, 0] = 0.1  # one pixel of 1444 cells is wrong
    scores = unet.evaluate(cell, labels)
    assert scores["pixel_accuracy"] == pytest.approx(1 - 1 / (38 * 40))
    assert scores["iou_0"] == pytest.approx(76 / 77)
    assert "v_rand" not in scores
    assert unet.evaluate(np.stack([1 - cell, cell]), labels) == pytest.approx(scores, nan_ok=True)
    labels[:2, :18], labels[:2, 18:20], labels[:2, 20:] = 1, 0, 1  # the challenge's scores need every pixel
    cell[:2] = np.where(labels[:2] == 1, 0.9, 0.2)
    challenge = unet.evaluate(cell, labels, scores="membranes")
    assert challenge["v_rand"] > 0.99
    assert challenge["iou_membrane"] == pytest.approx(80 / 81)


def test_what_cannot_be_scored_is_refused():
    labels = np.eye(8, dtype=np.uint8)
    for prediction, wrong, match in (
        (np.ones((8, 7)), labels, "their sides must agree"),
        (np.ones((8, 8)), labels * 0.5, "they are H x W integers"),
        (np.ones((1, 8, 8, 1)), labels, "their sides must agree"),
        (np.full((8, 8), 1.5), labels, "prediction: "),
        (np.full((3, 8, 8), 1 / 3), labels, "scores of membranes need two classes; there are 3"),
    ):
        with pytest.raises(DataError, match=match):
            unet.evaluate(prediction, wrong, "membranes")


def test_masks_of_0_and_255_are_two_classes():
    truth, found = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    truth[2:6, 2:6] = truth[10:14, 10:14] = 255  # 32 pixels, of which 24 are found
    found[2:6, 2:6], found[10:12, 10:14] = 255, 255
    expected = {"iou_1": 24 / 32, "pixel_accuracy": 1 - 8 / 400}
    for prediction, labels in ((found, truth), (found > 0, truth > 0), (found / 255, truth), (found > 0, truth // 255)):
        scores = unet.evaluate(prediction, labels)
        assert {name: scores[name] for name in expected} == pytest.approx(expected)
    numbers = np.where(truth > 0, np.arange(20) // 8 + 1, 0)
    for prediction, labels, which in ((found, numbers, "prediction is"), (numbers, truth, "labels are")):
        with pytest.raises(DataError, match=f"the {which} a mask of two values, no numbered objects"):
            unet.evaluate(prediction, labels)


@pytest.mark.parametrize("number", [-1, 256, 300])
def test_labels_that_are_no_class_numbers_do_not_become_some(number):
    labels = np.eye(8, dtype=np.int64)
    labels[0, 0] = number
    with pytest.raises(DataError, match=f"the labels hold {number}"):
        unet.evaluate(np.full((8, 8), 0.5), labels)


def test_other_scores_and_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="'object' are unknown; did you mean 'objects'"):
        unet.evaluate(np.eye(8, dtype=int), np.eye(8, dtype=int), "object")
    (tmp_path / "model.pth").write_bytes(b"PK")
    with pytest.raises(RunError, match="holds no network; name a run folder or its weights.safetensors"):
        unet.load(tmp_path / "model.pth")
