"""`unet predict` with several networks and images, and what it makes of probabilities: label masks and outlines."""

import re
import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from tests.commands.test_predict import OPTIONS, gray, names, save_run, signalled
from unet.cli import main
from unet.commands.words import places, sort_words
from unet.data.stack import Normalisation
from unet.errors import ConfigError, DataError
from unet.files import sha256, write_json
from unet.prediction import objects
from unet.prediction.instances import InstanceSettings, to_instances
from unet.prediction.objects import write_overlay
from unet.prediction.overlap import predict_image
from unet.prediction.trained import ensemble_members, precision_of
from unet.runs.folder import RunFolder

__all__ = ["signalled"]

FOUR = {"rule": "components", "connectivity": 4, "fill_holes": False}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a run that has chosen the median of its probabilities of a.tif; these."""
    monkeypatch.chdir(tmp_path)
    network = save_run(tmp_path / "run")
    image = gray(60, 50)
    tifffile.imwrite("a.tif", image)
    cell = predict_image(network, Normalisation()(image[None]), 2)[1]
    chosen = FOUR | {"threshold": float(np.median(cell)), "min_area_px": 5}
    write_json(Path("run/scores.json"), {"instances": chosen})
    return cell


def predict(capsys, *words, code=0):
    found = main(["predict", *words, *OPTIONS])
    out, err = capsys.readouterr()
    assert found == code, err
    assert "Traceback" not in err
    return out, err


def by_scipy(cell, threshold, smallest):
    """Components of at least so many pixels, numbered in order of their first pixel."""
    ids, count = ndimage.label(cell > threshold)
    kept = [i for i in range(1, count + 1) if (ids == i).sum() >= smallest]
    return sum((ids == old) * new for new, old in enumerate(kept, 1))


# ---------------------------------------------------------------------------------------------- objects


def test_masks_are_made_as_the_run_has_chosen(place, capsys):
    out, err = predict(capsys, "run", "a.tif", "--instances")
    assert out == "a-probabilities.tif\na-masks.tif\n"
    assert "from run/scores.json" in err
    probabilities, masks = tifffile.imread("a-probabilities.tif"), tifffile.imread("a-masks.tif")
    np.testing.assert_allclose(probabilities, place, rtol=0, atol=1e-5)
    expected = by_scipy(probabilities, np.median(place), 5)
    assert expected.max() > 3
    assert masks.dtype == np.uint16
    np.testing.assert_array_equal(masks, expected)
    assert f"a-masks.tif: {expected.max()} objects" in err


def test_a_threshold_overrides_and_is_of_objects_only(place, capsys):
    high = float(np.quantile(place, 0.8))
    _, err = predict(capsys, "run", "a.tif", "--instances", "--threshold", str(high))
    assert f"threshold {high:g} as asked" in err
    found = tifffile.imread("a-probabilities.tif")
    np.testing.assert_array_equal(tifffile.imread("a-masks.tif"), by_scipy(found, high, 5))
    _, err = predict(capsys, "run", "a.tif", "--threshold", "0.5", "--out", "b.tif", code=2)
    assert "--threshold is of objects; add --instances" in err
    _, err = predict(capsys, "run", "a.tif", "--instances", "--threshold", "1.5", "--out", "b.tif", code=2)
    assert "1.5 is not allowed" in err


@pytest.mark.usefixtures("place")
def test_weights_without_settings_use_the_defaults_and_say_so(capsys):
    Path("run/weights.safetensors").rename("w.safetensors")
    _, err = predict(capsys, "w.safetensors", "a.tif", "--instances")
    assert "defaults; the run has chosen none" in err
    found = tifffile.imread("a-probabilities.tif")
    expected = to_instances(np.stack([1 - found, found]), InstanceSettings())
    np.testing.assert_array_equal(tifffile.imread("a-masks.tif"), expected)


def test_beyond_65535_objects_masks_have_32_bits(place, capsys, monkeypatch):
    monkeypatch.setattr(objects, "_SIXTEEN_BITS", int(by_scipy(place, np.median(place), 5).max()) - 1)
    predict(capsys, "run", "a.tif", "--instances")
    masks = tifffile.imread("a-masks.tif")
    assert masks.dtype == np.uint32
    np.testing.assert_array_equal(masks, by_scipy(tifffile.imread("a-probabilities.tif"), np.median(place), 5))


def test_a_stack_becomes_a_stack_of_masks_and_a_picture_of_each(place, capsys):
    stack = np.stack([gray(30, 41, n) for n in range(3)])
    tifffile.imwrite("s.tif", stack, photometric="minisblack", resolution=(1e4, 1e4), resolutionunit="CENTIMETER")
    predict(capsys, "run", "s.tif", "--overlay", "--out", "o/s.tif")
    assert names("o") == ["s-masks.tif", *(f"s-overlay-000{n}.png" for n in range(3)), "s.tif"]
    found = tifffile.imread("o/s.tif")
    with tifffile.TiffFile("o/s-masks.tif") as tif:
        assert tif.series[0].axes == "ZYX"
        assert tif.pages[0].tags["XResolution"].value == (10000, 1)
        masks = tif.asarray()
    for n in range(3):
        np.testing.assert_array_equal(masks[n], by_scipy(found[n], np.median(place), 5))


def test_three_classes_are_all_written_and_all_used(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    network = save_run(tmp_path / "run", classes=("background", "cell", "border"))
    image = gray(60, 50)
    tifffile.imwrite("a.tif", image)
    expected = predict_image(network, Normalisation()(image[None]), 3)
    low, high = np.quantile(expected[1], (0.4, 0.6)).tolist()
    share = float(np.median(expected[1] / (expected[0] + expected[1])))
    markers = InstanceSettings(share, 1, 4, True, "markers", (low, high), 0.5, 0.5)
    write_json(Path("run/scores.json"), {"instances": markers.to_dict()})
    predict(capsys, "run", "a.tif", "--instances")
    with tifffile.TiffFile("a-probabilities.tif") as tif:
        assert tif.series[0].axes == "CYX"
        found = tif.asarray()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=0), 1, rtol=0, atol=1e-5)
    masks = tifffile.imread("a-masks.tif")
    assert masks.max() > 1
    np.testing.assert_array_equal(masks, to_instances(found, markers))
    tifffile.imwrite("t000.tif", image)
    predict(capsys, "run", "t000.tif", "--ctc", "RES")
    np.testing.assert_array_equal(tifffile.imread("RES/mask000.tif") > 0, masks > 0)


@pytest.mark.parametrize("words", [["--instances"], ["--ctc", "x"]])
def test_other_classes_make_no_objects(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    save_run(tmp_path / "run", classes=("a", "b", "c"))
    tifffile.imwrite("a.tif", gray(30, 30))
    _, err = predict(capsys, "run", "a.tif", *words, code=2)
    assert "objects are made of two classes or of background, cell and border; the network has a, b, c" in err
    assert names() == ["a.tif", "run"]


# ---------------------------------------------------------------------------------------------- going on


@pytest.mark.usefixtures("place")
def test_masks_are_not_overwritten_and_made_when_missing(capsys):
    Path("a-masks.tif").write_bytes(b"mine")
    _, err = predict(capsys, "run", "a.tif", "--instances", code=2)
    assert "a-masks.tif exists already" in err
    assert names() == ["a-masks.tif", "a.tif", "run"]
    Path("a-masks.tif").unlink()
    predict(capsys, "run", "a.tif")
    predict(capsys, "run", "a.tif", "--instances", "--resume")
    kept = [Path(name).stat().st_mtime_ns for name in ("a-probabilities.tif", "a-masks.tif")]
    predict(capsys, "run", "a.tif", "--instances", "--resume")
    assert [Path(name).stat().st_mtime_ns for name in ("a-probabilities.tif", "a-masks.tif")] == kept
    words = ["run", "a.tif", "--instances", "--threshold", "0.4", "--resume"]
    assert "a-masks.tif exists already" in predict(capsys, *words, code=2)[1]
    predict(capsys, *words, "--overwrite")
    assert Path("a-probabilities.tif").stat().st_mtime_ns == kept[0]
    np.testing.assert_array_equal(
        tifffile.imread("a-masks.tif"), by_scipy(tifffile.imread("a-probabilities.tif"), 0.4, 5)
    )


@pytest.mark.usefixtures("place")
def test_a_stop_between_prediction_and_masks_can_be_gone_on_with(capsys, monkeypatch):
    made = objects.to_instances
    monkeypatch.setattr(objects, "to_instances", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["predict", "run", "a.tif", "--instances", *OPTIONS]) == 130
    assert names() == ["a-probabilities.tif", "a.tif", "run"]
    monkeypatch.setattr(objects, "to_instances", made)
    predict(capsys, "run", "a.tif", "--instances", "--resume")
    assert names() == ["a-masks.tif", "a-probabilities.tif", "a.tif", "run"]


# ---------------------------------------------------------------------------------------------- outlines


def test_outlines_are_drawn_on_the_image(tmp_path):
    image = np.random.default_rng(0).random((1, 20, 30)).astype(np.float32)
    ids = np.zeros((20, 30), np.int32)
    ids[5:12, 4:15], ids[5:12, 15:22] = 1, 2  # they touch
    write_overlay(tmp_path / "o.png", image, ids)
    drawn = np.asarray(Image.open(tmp_path / "o.png"))
    assert drawn.shape == (20, 30, 3)
    coloured = (drawn != drawn[..., :1]).any(axis=-1)
    expected = np.zeros((20, 30), bool)
    for x, width in ((4, 11), (15, 7)):
        expected[5:12, x : x + width] = True
        expected[6:11, x + 1 : x + width - 1] = False
    np.testing.assert_array_equal(coloured, expected)
    assert (drawn[8, 14] != drawn[8, 15]).any()  # the touching ones have each their colour
    low, high = np.percentile(image, (0.2, 99.8))
    gray_values = 255 * np.clip((image[0] - low) / (high - low), 0, 1)
    np.testing.assert_allclose(drawn[..., 0][~expected], gray_values[~expected], rtol=0, atol=0.51)


def test_a_large_picture_is_reduced_by_a_whole_factor(tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "LARGEST_OVERLAY_PX", 10)
    image = np.arange(24 * 9, dtype=np.uint8).reshape(1, 24, 9)
    write_overlay(tmp_path / "o.png", image, np.zeros((24, 9), np.int32))
    drawn = np.asarray(Image.open(tmp_path / "o.png"))
    assert drawn.shape == (8, 3, 3)
    means = image[0].reshape(8, 3, 3, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(np.argsort(means, axis=None), np.argsort(objects.reduced(image, 3)[0], axis=None))
    np.testing.assert_allclose(objects.reduced(image, 3)[0], means, rtol=1e-6)


def test_the_outlines_of_a_reduced_picture_are_those_of_the_first_pixel_of_each_square(tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "LARGEST_OVERLAY_PX", 10)
    ids = np.zeros((30, 30), np.int32)
    ids[6:18, 9:21] = 1  # rows 2..5, columns 3..6 of the picture
    ids[18:19, 9:21] = 2  # ends within squares whose first pixels it holds
    write_overlay(tmp_path / "o.png", np.zeros((1, 30, 30), np.float32), ids)
    drawn = np.asarray(Image.open(tmp_path / "o.png"))
    coloured = np.zeros((10, 10), bool)
    coloured[2:7, 3:7] = True
    coloured[3:5, 4:6] = False
    np.testing.assert_array_equal((drawn != drawn[..., :1]).any(axis=-1), coloured)


def test_of_two_classes_both_probabilities_are_made(tmp_path):
    foreground = np.random.default_rng(0).random((1, 7, 9)).astype(np.float32)
    np.testing.assert_array_equal(
        objects.all_classes(foreground, tmp_path), np.stack([1 - foreground[0], foreground[0]])
    )
    three = np.full((3, 7, 9), 1 / 3, np.float32)
    assert objects.all_classes(three, tmp_path) is three


def test_colour_images_keep_their_colours(tmp_path):
    image = np.zeros((3, 12, 12), np.uint8)
    image[0, :6], image[2, 6:] = 200, 100
    write_overlay(tmp_path / "o.png", image, np.zeros((12, 12), np.int32))
    drawn = np.asarray(Image.open(tmp_path / "o.png"))
    assert drawn[0, 0].tolist() == [255, 0, 0]
    assert drawn[11, 0].tolist() == [0, 0, 255]


# ---------------------------------------------------------------------------------------------- words


@pytest.fixture
def two(place, tmp_path):
    """A second run and two more images."""
    save_run(tmp_path / "other", seed=2)
    for name in ("b1", "b10", "b2"):
        tifffile.imwrite(f"{name}.tif", gray(20, 30, len(name)))
    return place


def test_an_ensemble_is_the_mean_of_its_networks(two, capsys):
    _, err = predict(capsys, "run", "other", "a.tif", "--instances")
    assert "mean of probabilities over 2 networks" in err
    assert "the first run; for the ensemble's own: unet evaluate RUN RUN --ensemble" in err
    for name in ("run", "other"):
        predict(capsys, name, "a.tif", "--out", f"{name}.tif")
    single = [tifffile.imread(f"{name}.tif") for name in ("run", "other")]
    assert np.abs(single[0] - single[1]).max() > 1e-2
    found = tifffile.imread("a-probabilities.tif")
    np.testing.assert_allclose(found, np.mean(single, axis=0), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(tifffile.imread("a-masks.tif"), by_scipy(found, np.median(two), 5))


@pytest.mark.usefixtures("two")
def test_a_stopped_ensemble_ends_in_the_same_bytes(capsys, signalled):
    words = ["run", "other/weights.safetensors", "a.tif", "--tile-px", "60", "--symmetries", "4"]
    predict(capsys, *words, "--out", "whole.tif")
    count = signalled(2 * 4 * 4, signal.SIGINT)
    predict(capsys, *words, "--out", "stopped.tif", code=130)
    assert count[0] >= 2 * 4 * 4
    assert not Path("stopped.tif").exists()
    predict(capsys, *words, "--out", "stopped.tif", "--resume")
    assert Path("stopped.tif").read_bytes() == Path("whole.tif").read_bytes()


def test_a_scored_ensemble_stands_for_its_runs_and_settings(two, capsys):
    high = float(np.quantile(two, 0.7))
    members = [
        {"run": f"../{name}", "weights": sha256(Path(name) / "weights.safetensors")} for name in ("run", "other")
    ]
    Path("both").mkdir()
    write_json(Path("both/scores.json"), {"members": members, "instances": FOUR | {"threshold": high}})
    _, err = predict(capsys, "both", "a.tif", "--instances")
    assert "mean of probabilities over 2 networks" in err
    assert "from both/scores.json" in err
    predict(capsys, "run", "other", "a.tif", "--out", "named.tif")
    found = tifffile.imread("a-probabilities.tif")
    np.testing.assert_array_equal(found, tifffile.imread("named.tif"))
    np.testing.assert_array_equal(tifffile.imread("a-masks.tif"), by_scipy(found, high, 0))
    Path("other/weights.safetensors").write_bytes(Path("run/weights.safetensors").read_bytes())
    _, err = predict(capsys, "both", "b1.tif", code=2)
    assert "both: the weights of other are not those that were scored; evaluate the runs again" in err


@pytest.mark.parametrize("members", [[3], [{"run": 5}], [{"weights": "x"}]])
def test_a_damaged_list_of_runs_is_one_line(tmp_path, members):
    write_json(tmp_path / "scores.json", {"members": members})
    with pytest.raises(Exception, match=r"scores\.json: does not name its runs"):
        ensemble_members(tmp_path)


@pytest.mark.usefixtures("two")
def test_several_images_go_into_a_folder(tmp_path, capsys):
    out, _ = predict(capsys, "run", "b1.tif", "a.tif", "--out", "o")
    assert (out, names("o")) == ("o\n", ["a.tif", "b1.tif"])
    out, _ = predict(capsys, "run", "b*.tif", "--instances")
    assert out == f"{tmp_path.name}-probabilities\n"
    assert names(out.strip()) == sorted(f"{n}{s}.tif" for n in ("b1", "b2", "b10") for s in ("", "-masks"))
    assert [p.name for p in places(("b*.tif",), "").sources] == ["b1.tif", "b2.tif", "b10.tif"]
    Path("in").mkdir()
    tifffile.imwrite("in/c.tif", gray(9, 9))
    assert [str(p) for p in places(("in", "a.tif", str(tmp_path / "b1?.tif")), "").sources] == [
        "in/c.tif", "a.tif", str(tmp_path / "b10.tif")
    ]  # fmt: skip
    tifffile.imwrite("[x].tif", gray(9, 9))
    assert places(("[x].tif",), "").target == Path("[x]-probabilities.tif")
    with pytest.raises(DataError, match=r"z\*\.tif: holds no image"):
        places(("z*.tif",), "")
    tifffile.imwrite("in/a.tif", gray(9, 9))
    _, err = predict(capsys, "run", "a.tif", "in/a.tif", "--out", "p", code=2)
    assert "a.tif and a.tif would both become a.tif" in err
    _, err = predict(capsys, "run", "a.tif", "b1.tif", "--out", "p.tif", code=2)
    assert "there are several images; name a folder for the results" in err


@pytest.mark.usefixtures("two")
def test_words_are_taken_for_networks_and_images():
    words = sort_words(("run", "other/weights.safetensors", "a.tif", "b1.tif"))
    assert words.networks == (Path("run"), Path("other/weights.safetensors"))
    assert words.images == ("a.tif", "b1.tif")
    cases = {
        (): "took nothing for networks and nothing for images; name a run folder",
        ("a.tif",): "needs a trained network: took nothing for networks and a.tif for images; name a run folder",
        ("rnu", "a.tif", "b1.tif", "b2.tif", "b10.tif"): "rnu, a.tif, b1.tif and 2 more for images.*unet train",
        ("run", "other"): "needs images: took run, other for networks and nothing for images",
        ("run", "a.tif", "other"): "other is a network, but stands behind images: took run for networks and a.tif, ot",
    }
    for given, message in cases.items():
        with pytest.raises(ConfigError, match=message):
            sort_words(given)


# ---------------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize(("trained", "expected"), [("fp32", "fp32"), ("bf16", "auto"), (None, "auto")])
def test_a_run_trained_in_fp32_predicts_in_it(place, capsys, monkeypatch, trained, expected):
    del place
    if trained:
        RunFolder(Path("run")).write_json("environment.json", {"precision": trained})
    assert precision_of(Path("run")) == precision_of(Path("run/weights.safetensors")) == expected
    monkeypatch.setattr("unet.device._computes_in_bf16", lambda _: True)
    automatic = "fp32" if expected == "fp32" else "bf16"
    for words, wanted in ((["--quiet"], None), ([], automatic), (["--precision", "bf16"], "bf16")):
        assert main(["predict", "run", "a.tif", "--device", "cpu", "--overwrite", *words]) == 0
        err = capsys.readouterr().err
        assert wanted is None or re.search(rf"tiles of .*px, {wanted} on cpu", err)
