"""`unet predict`: files, stacks and folders in, TIFF out; stops that can be resumed; one line for every mistake."""

import errno
import json
import os
import re
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from ctc_metrics import validate_sequence
from PIL import Image

from unet.cli import main
from unet.commands.words import image_files
from unet.config import ModelConfig, PredictConfig, from_dict, to_dict, to_yaml
from unet.data.stack import Normalisation
from unet.errors import DataError
from unet.networks import build
from unet.prediction.instances import InstanceSettings, to_instances
from unet.prediction.overlap import Network, predict_image
from unet.runs.checkpoint import save_weights

MODEL = ModelConfig(base_channels=4, depth=3)
OPTIONS = ["--device", "cpu", "--precision", "fp32"]


def save_run(folder, channels=1, classes=("ground", "cell"), normalisation=None, seed=1):
    model = build(MODEL, channels, len(classes), seed=seed)
    meaning = normalisation or {"kind": "fixed", "offset": 0.0, "scale": 255.0, "low": 0.0, "high": 100.0}
    folder.mkdir()
    described = {"model": to_dict(MODEL), "channels": channels, "class_names": list(classes), "tile_px": 0}
    save_weights(folder / "weights.safetensors", model.state_dict(), described | {"normalisation": meaning})
    return Network(model, torch.device("cpu"), depth=3)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a run of two classes on gray images; its network."""
    monkeypatch.chdir(tmp_path)
    return save_run(tmp_path / "run")


def gray(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


def predict(capsys, *words, code=0):
    """Standard output and error of `unet predict run WORDS`."""
    found = main(["predict", "run", *words, *OPTIONS])
    out, err = capsys.readouterr()
    assert found == code, err
    return out, err


def refused(capsys, *words):
    _, err = predict(capsys, *words, code=2)
    lines = [line for line in err.splitlines() if line.startswith("unet: ")]
    assert len(lines) == 1
    assert "Traceback" not in err
    return lines[0]


def names(folder="."):
    return sorted(path.name for path in Path(folder).iterdir())


def expected(network, image, normalisation=None):
    raw = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    return predict_image(network, (normalisation or Normalisation())(raw), 2)[1]


# ---------------------------------------------------------------------------------------------- what goes in


def test_a_stack_becomes_the_challenges_stack(place, capsys):
    """The submission to the EM challenge: float32, slices x rows x columns, probabilities of cell in [0, 1]."""
    stack = np.stack([gray(51, 64, n) for n in range(4)])
    tifffile.imwrite("test-volume.tif", stack, photometric="minisblack")
    out, err = predict(capsys, "test-volume.tif", "--out", "submission.tif")
    assert out == "submission.tif\n"
    assert "4 images of 51 x 64 px" in err
    with tifffile.TiffFile("submission.tif") as tif:
        written = tif.asarray()
        assert tif.is_imagej
        assert tif.series[0].axes == "ZYX"
    assert (written.dtype, written.shape) == (np.float32, (4, 51, 64))
    assert written.min() >= 0
    assert written.max() <= 1
    for n in range(4):
        np.testing.assert_allclose(written[n], expected(place, stack[n]), rtol=0, atol=1e-5)
    assert np.abs(written[0] - expected(place, stack[1])).max() > 1e-3  # the comparison can fail


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".TIFF"])
def test_single_files(place, capsys, suffix):
    Image.fromarray(gray(40, 61)).save(f"a{suffix}")
    out, _ = predict(capsys, f"a{suffix}", "--quiet")
    assert out == "a-probabilities.tif\n"
    image = np.asarray(Image.open(f"a{suffix}"))
    np.testing.assert_allclose(tifffile.imread("a-probabilities.tif"), expected(place, image), rtol=0, atol=1e-5)


def test_a_folder_with_images_of_several_kinds_and_sizes(place, capsys):
    Path("in").mkdir()
    images = {"t1": gray(30, 41, 1), "t2": gray(52, 20, 2), "t10": gray(21, 22, 10)}
    Image.fromarray(images["t1"]).save("in/t1.png")
    tifffile.imwrite("in/t2.tif", images["t2"], compression="zlib")
    tifffile.imwrite("in/t10.tif", images["t10"])
    Path("in/notes.txt").write_text("no image")
    Path("in/.hidden.tif").write_text("no image")
    assert [p.name for p in image_files(Path("in"))] == ["t1.png", "t2.tif", "t10.tif"]
    out, err = predict(capsys, "in", "--classes")
    assert out == "in-probabilities\n"
    assert "3 images of 21 x 22 px to 52 x 20 px" in err
    assert names("in-probabilities") == sorted(f"{n}{s}.tif" for n in images for s in ("", "-classes"))
    for name, image in images.items():
        found = tifffile.imread(f"in-probabilities/{name}.tif")
        np.testing.assert_allclose(found, expected(place, image), rtol=0, atol=1e-5)
        np.testing.assert_array_equal(tifffile.imread(f"in-probabilities/{name}-classes.tif"), found > 0.5)
    predict(capsys, "in/t1.png", "--out", "in-probabilities", "--overwrite", "--tile-px", "52")  # into a folder
    np.testing.assert_allclose(
        tifffile.imread("in-probabilities/t1.tif"), expected(place, images["t1"]), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_the_runs_own_normalisation(tmp_path, monkeypatch, capsys, dtype):
    monkeypatch.chdir(tmp_path)
    meaning = {"kind": "percentile", "offset": 0.0, "scale": 255.0, "low": 1.0, "high": 99.0}
    network = save_run(tmp_path / "run", normalisation=meaning)
    image = (np.random.default_rng(0).random((50, 60)) * 3000 + 500).astype(dtype)
    tifffile.imwrite("a.tif", image)
    predict(capsys, "a.tif", "--symmetries", "8", "--batch", "3")
    found = tifffile.imread("a-probabilities.tif")
    normalised = Normalisation(**meaning)(image[None])
    np.testing.assert_allclose(
        found, predict_image(network, normalised, 2, PredictConfig(symmetries=8))[1], rtol=0, atol=1e-5
    )


def test_a_value_of_no_data_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_run(
        tmp_path / "run",
        normalisation={"kind": "percentile", "offset": 0.0, "scale": 255.0, "low": 0.1, "high": 99.9},
    )
    image = gray(50, 60).astype(np.int16)
    tifffile.imwrite("a.tif", image)
    assert "no data" not in predict(capsys, "a.tif")[1]
    image[:5] = -9999
    tifffile.imwrite("b.tif", image)
    assert "b.tif: 10.0% of the pixels are -9999, far from all others (0 to 255)" in predict(capsys, "b.tif")[1]


def test_a_run_is_predicted_as_it_was_configured_unless_something_else_is_asked_for(place, capsys):
    config = from_dict({"model": to_dict(MODEL), "predict": {"symmetries": 4, "average": "logits"}})
    Path("run/config.yaml").write_text(to_yaml(config))
    image = gray(50, 60)
    tifffile.imwrite("a.tif", image)
    raw = Normalisation()(image[None])
    for words, how in (
        ([], {"symmetries": 4, "average": "logits"}),
        (["--average", "probabilities"], {"symmetries": 4}),
        (["--symmetries", "1"], {}),
    ):
        predict(capsys, "a.tif", *words, "--overwrite")
        wanted = predict_image(place, raw, 2, PredictConfig(**how))[1]
        np.testing.assert_allclose(tifffile.imread("a-probabilities.tif"), wanted, rtol=0, atol=1e-6)


def test_colour_images_and_several_classes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    network = save_run(tmp_path / "run", channels=3, classes=("a", "b", "c"))
    rgb = np.random.default_rng(0).integers(0, 256, (33, 44, 3), np.uint8)
    Image.fromarray(rgb).save("a.png")
    predict(capsys, "a.png", "--out", "p.tif", "--classes")
    wanted = predict_image(network, Normalisation()(rgb.transpose(2, 0, 1)), 3)
    np.testing.assert_allclose(tifffile.imread("p.tif"), wanted, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(tifffile.imread("p-classes.tif"), wanted.argmax(0))
    Image.fromarray(rgb).quantize(16).save("palette.png")
    predict(capsys, "palette.png")
    Image.fromarray(rgb[..., 0]).save("gray.png")
    assert "gray.png: has 1 channel; the network takes images of 3 channels" in refused(capsys, "gray.png")


# ---------------------------------------------------------------------------------------------- mistakes


@pytest.mark.usefixtures("place")
def test_a_label_map_never_takes_the_place_of_probabilities(capsys):
    Path("col").mkdir()
    for name in ("a.png", "a-classes.png"):
        Image.fromarray(gray(9, 9)).save(f"col/{name}")
    for words in (["--classes"], ["--classes", "--overwrite"]):
        assert "a-classes.png and a.png would both become a-classes.tif" in refused(capsys, "col", *words, "--out", "o")
    assert not Path("o").exists()
    predict(capsys, "col", "--out", "o")
    assert names("o") == ["a-classes.tif", "a.tif"]


@pytest.mark.usefixtures("place")
def test_mistakes_are_one_line(capsys):
    tifffile.imwrite("a.tif", gray(30, 30))
    tifffile.imwrite("rgb.tif", np.zeros((20, 20, 3), np.uint8), photometric="rgb")
    Path("empty").mkdir()
    Path("twins").mkdir()
    for name in ("a.tif", "a.png"):
        Image.fromarray(gray(9, 9)).save(f"twins/{name}")
    Path("bad.tif").write_bytes(b"II*\0 nonsense")
    cases = [
        (["absent.tif"], "absent.tif: no such file"),
        (["empty"], "empty: holds no image"),
        (["bad.tif"], "bad.tif: not a readable TIFF|bad.tif: holds no image"),
        (["rgb.tif"], "rgb.tif: has 3 channels; the network takes gray images"),
        (["twins"], "would both become a.tif"),
        (["twins", "--out", "twins"], "holds the images"),
        (["twins", "--out", "p.tif"], "is a folder of images; name a folder"),
        (["a.tif", "--out", "p.png"], "ends in .tif"),
        (["a.tif", "--out", "a.tif"], "exists already"),
        (["a.tif", "--out", "a.tif", "--overwrite"], "same file"),
        (["a.tif", "--symmetries", "7"], "--symmetries"),
        (["a.tif", "--batch", "0"], "--batch 0"),
        (["a.tif", "--tile-px", "51"], "52 px"),
        (["a.tif", "--ctc", "x", "--classes"], "--ctc"),
        (["a.tif", "--precison", "fp32"], "precison"),
    ]
    for words, message in cases:
        assert re.search(message, refused(capsys, *words)), words
    np.testing.assert_array_equal(tifffile.imread("a.tif"), gray(30, 30))
    assert names() == ["a.tif", "bad.tif", "empty", "rgb.tif", "run", "twins"]


@pytest.mark.usefixtures("place")
def test_places_that_the_system_refuses_are_one_line(capsys, monkeypatch):
    tifffile.imwrite("a.tif", gray(30, 30))
    assert "File name too long; check the path" in refused(capsys, "a.tif", "--out", f"{'x' * 250}.tif")
    Path("locked").mkdir()

    def denied(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    for name in ("iterdir", "is_dir"):
        with monkeypatch.context() as patched:
            patched.setattr(Path, name, denied)
            with pytest.raises(DataError, match="locked: cannot be read \\(Permission denied\\); check the path"):
                image_files(Path("locked"))


@pytest.mark.usefixtures("place")
def test_nothing_is_overwritten_unless_asked_for(capsys):
    tifffile.imwrite("a.tif", gray(30, 30))
    Path("out.tif").write_bytes(b"mine")
    assert "out.tif exists already" in refused(capsys, "a.tif", "--out", "out.tif")
    Path("other-classes.tif").write_bytes(b"mine")
    assert "other-classes.tif exists" in refused(capsys, "a.tif", "--out", "other.tif", "--classes")
    assert (Path("out.tif").read_bytes(), Path("other-classes.tif").read_bytes()) == (b"mine", b"mine")
    predict(capsys, "a.tif", "--out", "out.tif", "--overwrite")
    assert tifffile.imread("out.tif").shape == (30, 30)


@pytest.mark.usefixtures("place")
def test_of_a_folder_the_last_name_is_checked_before_the_first_image_is_predicted(capsys):
    Path("in").mkdir()
    Path("out").mkdir()
    for name in ("1", "2", "3"):
        tifffile.imwrite(f"in/{name}.tif", gray(30, 30))
    Path("out/3.tif").write_bytes(b"mine")
    assert "3.tif exists" in refused(capsys, "in", "--out", "out")
    assert names("out") == ["3.tif"]
    tifffile.imwrite("in/3.tif", np.zeros((9, 9, 3), np.uint8), photometric="rgb")
    assert "3 channels" in refused(capsys, "in", "--out", "new")
    assert not Path("new").exists()


# ---------------------------------------------------------------------------------------------- stops


@pytest.fixture
def signalled(monkeypatch):
    """Sends this process a signal when so many batches of tiles have been predicted."""
    count = [0]

    def at(tiles, number):
        probabilities = Network.probabilities
        count[0] = 0

        def counted(self, batch):
            count[0] += 1
            if count[0] == tiles:
                os.kill(os.getpid(), number)
            return probabilities(self, batch)

        monkeypatch.setattr(Network, "probabilities", counted)
        return count

    return at


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("quiet", [False, True])
def test_a_stopped_prediction_says_how_to_go_on(place, capsys, signalled, number, code, quiet):
    image = gray(70, 50)
    tifffile.imwrite("a b.tif", image)
    count = signalled(5, number)
    words = ["a b.tif", "--out", "o.tif", "--tile-px", "60", *(["--quiet"] if quiet else [])]
    _, err = predict(capsys, *words, code=code)
    assert count == [5]
    assert not Path("o.tif").exists()
    last = err.splitlines()[-1]
    assert last.startswith(f"unet: stopped by {number.name}; go on with: unet predict run 'a b.tif'")
    assert "1 of 4 rows" in refused(capsys, *words)
    again = shlex.split(last.split("go on with: unet ")[1])
    assert again[-1] == "--resume"
    assert main(again) == 0
    assert capsys.readouterr().out == "o.tif\n"
    assert count == [5 + 12 - 3]  # one row of 3 tiles was kept
    np.testing.assert_allclose(tifffile.imread("o.tif"), expected(place, image), rtol=0, atol=1e-5)
    assert names() == ["a b.tif", "o.tif", "run"]


@pytest.mark.usefixtures("place")
def test_a_stopped_folder_is_completed(capsys, signalled):
    Path("in").mkdir()
    for name in range(4):
        tifffile.imwrite(f"in/{name}.tif", gray(50, 50, name))
    count = signalled(14, signal.SIGTERM)  # in the second image of 9 tiles
    predict(capsys, "in", "--tile-px", "60", code=143)
    assert names("in-probabilities") == [".1.tif.part", ".1.tif.part.json", "0.tif"]
    kept = Path("in-probabilities/0.tif").stat().st_mtime_ns
    predict(capsys, "in", "--tile-px", "60", "--resume")
    assert count == [14 + 36 - 9 - 3]
    assert Path("in-probabilities/0.tif").stat().st_mtime_ns == kept
    assert names("in-probabilities") == ["0.tif", "1.tif", "2.tif", "3.tif"]
    assert "exists already; it was made from another" in refused(capsys, "in", "--symmetries", "8", "--resume")


# ---------------------------------------------------------------------------------------------- cell tracking challenge


ANY_OBJECT = {"threshold": 0.0, "min_area_px": 1, "connectivity": 8, "fill_holes": False}


@pytest.fixture
def frames(place):
    """Three frames t000.tif.. in the folder 01, and what the network makes of them."""
    Path("01").mkdir()
    images = [gray(40, 50, n) for n in range(3)]
    for n, image in enumerate(images):
        tifffile.imwrite(f"01/t{n:03}.tif", image, compression="lzw")
    return [expected(place, image) for image in images]


def test_the_challenges_folder(capsys, frames):
    threshold = float(np.median(frames[0]))
    settings = {"threshold": threshold, "min_area_px": 5, "connectivity": 8, "fill_holes": False}
    Path("run/scores.json").write_text(json.dumps({"instances": settings}))
    out, err = predict(capsys, "01", "--ctc", "OUT/01_RES")
    assert out == "OUT/01_RES\n"
    assert "from run/scores.json" in err
    assert names("OUT/01_RES") == ["mask000.tif", "mask001.tif", "mask002.tif", "res_track.txt"]
    assert validate_sequence("OUT/01_RES", threads=1)["Valid"] == 1
    for n, probability in enumerate(frames):
        mask = tifffile.imread(f"OUT/01_RES/mask{n:03}.tif")
        assert (mask.dtype, mask.shape) == (np.uint16, (40, 50))
        assert not (mask[probability <= threshold - 1e-5]).any()
        ids, counts = np.unique(mask[mask != 0], return_counts=True)
        assert counts.min() >= 5
        assert len(ids) >= 1
    assert "exists already" in refused(capsys, "01", "--ctc", "OUT/01_RES")
    Path("run/scores.json").write_text(json.dumps({"instances": None}))
    _, err = predict(capsys, "01", "--ctc", "OUT/01_RES", "--overwrite")
    assert "'threshold': 0.5" in err
    assert "defaults" in err


@pytest.mark.usefixtures("frames")
def test_a_missing_frame_is_named(capsys):
    Path("01/t001.tif").unlink()
    assert "frame t001 is missing" in refused(capsys, "01", "--ctc", "OUT/01_RES")
    assert not Path("OUT").exists()


@pytest.mark.usefixtures("frames")
def test_another_image_among_the_frames_would_shift_their_numbers(capsys):
    tifffile.imwrite("01/AVG_t.tif", gray(40, 50))
    said = refused(capsys, "01", "--ctc", "OUT/01_RES")
    assert "01/AVG_t.tif: is no frame like t000, and would shift their numbers; move it elsewhere" in said
    assert not Path("OUT").exists()


@pytest.mark.usefixtures("frames")
def test_a_stack_among_the_frames_would_shift_their_numbers(capsys):
    tifffile.imwrite("01/t001.tif", np.stack([gray(40, 50), gray(40, 50)]))
    said = refused(capsys, "01", "--ctc", "OUT/01_RES")
    assert "01/t001.tif: holds several images and would shift the frames after it" in said
    assert not Path("OUT").exists()
    Path("01/t001.tif").rename("t001.tif")
    Path("run/scores.json").write_text(json.dumps({"instances": ANY_OBJECT}))
    predict(capsys, "t001.tif", "--ctc", "OUT/01_RES")  # alone it is the whole sequence


@pytest.mark.usefixtures("frames")
def test_masks_take_the_digits_of_the_frames(capsys):
    for n in range(3):
        Path(f"01/t{n:03}.tif").rename(f"01/t{n:04}.tif")
    Path("run/scores.json").write_text(json.dumps({"instances": ANY_OBJECT}))
    predict(capsys, "01", "--ctc", "OUT/01_RES")
    assert names("OUT/01_RES") == ["mask0000.tif", "mask0001.tif", "mask0002.tif", "res_track.txt"]


@pytest.mark.usefixtures("frames")
def test_a_stopped_submission_leaves_nothing(capsys, signalled):
    signalled(2, signal.SIGINT)
    _, err = predict(capsys, "01", "--ctc", "OUT/01_RES", code=130)
    assert err.splitlines()[-1].startswith(
        "unet: stopped by SIGINT; nothing was written; start again with: unet predict"
    )
    assert not Path("OUT").exists()


def test_instances_of_three_classes_by_markers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    network = save_run(tmp_path / "run", classes=("background", "cell", "border"))
    image = gray(60, 70)
    tifffile.imwrite("t000.tif", image)
    probabilities = predict_image(network, Normalisation()(image[None]), 3)
    levels = np.quantile(probabilities[1], [0.3, 0.5]).tolist()
    settings = InstanceSettings(levels[0], 5, rule="markers", seed_levels=tuple(levels), height_px=0.1)
    Path("run/scores.json").write_text(json.dumps({"instances": settings.to_dict()}))
    predict(capsys, "t000.tif", "--ctc", "01_RES")
    found = tifffile.imread("01_RES/mask000.tif")
    wanted = to_instances(probabilities, settings)
    assert wanted.max() > 2
    pairs = np.unique(np.stack([wanted.ravel(), found.ravel()]), axis=1)
    assert pairs.shape[1] == len(np.unique(wanted)) == len(np.unique(found))  # the same objects, numbered by track
