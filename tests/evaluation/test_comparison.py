"""Somebody's prediction against somebody's labels: what both are taken for, which scores follow, what is refused."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.data import cases
from tests.evaluation.test_scoring import OUTCOMES, grid
from unet.cli import main
from unet.config import DataConfig
from unet.errors import DataError, Problems, RunError
from unet.evaluation.comparison import compare
from unet.evaluation.run import table

MASK = (cases.SCENES[0][1] > 0).astype(np.uint8)
EM_SCORES = {"pixel_error", "rand_error", "v_rand", "v_info", "warping_error", "rand_error_before_2015"}


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pixels, photometric="minisblack")
    return path


def scored(tmp_path, predicted, label, **settings):
    """What scores.json holds for two files; settings: of the data, and `partial`."""
    partial = settings.pop("partial", False)
    files = write(tmp_path / "p.tif", predicted), write(tmp_path / "l.tif", label)
    config = DataConfig(folder=str(files[1]), **settings)
    saved = compare(*files, tmp_path / "out", config, partial=partial, overwrite=True)
    assert json.loads((tmp_path / "out" / "scores.json").read_text()) == saved
    return saved


# -- classes -----------------------------------------------------------------------------------------------------------


def test_two_classes_get_dice_and_no_scores_of_the_em_challenge(tmp_path):
    label = np.zeros((1, 10, 10), np.uint8)
    label[0, :4], predicted = 255, np.zeros((1, 10, 10), np.float32)
    predicted[0, 2:6] = 0.9  # 20 pixels right, 20 missed, 20 extra, 40 rightly left out
    saved = scored(tmp_path, predicted, label)
    values = saved["scores"]
    assert values["pixel_accuracy"] == 0.6
    assert values["dice_foreground"] == values["precision_foreground"] == values["recall_foreground"] == 0.5
    assert values["iou_foreground"] == pytest.approx(1 / 3)
    assert not EM_SCORES & values.keys()
    assert "blog_iou" not in values
    assert saved["labels_read_as"] == "binary"
    assert saved["prediction_read_as"] == "probabilities (floats in 0..1)"
    assert "held-out" not in table(saved)


def test_membranes_get_the_scores_of_the_em_challenge_when_that_is_said(tmp_path):
    label = np.stack([grid(), grid(step=16)]) * 255
    saved = scored(tmp_path, (label / 255).astype(np.float32), label, scores="membranes")
    assert saved["scores"].keys() >= EM_SCORES
    assert saved["scores"]["v_rand"] == pytest.approx(1)
    assert saved["scores"]["iou_membrane"] == 1
    assert (tmp_path / "out" / "prediction.png").stat().st_size > 1000
    with pytest.raises(RunError, match="--overwrite"):
        compare(tmp_path / "p.tif", tmp_path / "l.tif", tmp_path / "out")
    with pytest.raises(DataError, match="membranes needs two classes"):
        scored(tmp_path, label, np.stack([grid(), grid()]) + np.uint8(1) * (np.arange(48) > 40), scores="membranes")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.bool_])
def test_a_mask_of_0_and_1_is_a_prediction_in_every_type(tmp_path, kind):
    label = np.stack([grid(), grid(step=16)])
    values = scored(tmp_path, label.astype(kind), label.astype(np.bool_))["scores"]
    assert (values["pixel_accuracy"], values["iou_foreground"]) == (1, 1)
    assert "loss" not in values  # a mask has no probabilities


@pytest.mark.parametrize(("kind", "largest"), [(np.uint8, 255), (np.uint16, 65535)])
def test_integers_are_divided_by_the_largest_value_of_their_type(tmp_path, kind, largest):
    """A rounded probability differs by half a step at most, and the cross-entropy is that of the floats."""
    rng = np.random.default_rng(0)
    smooth = np.clip(MASK * 0.8 + 0.1 + rng.normal(0, 0.04, MASK.shape), 0.01, 0.99)[None]
    as_floats = scored(tmp_path, smooth.astype(np.float32), MASK[None] * 255)["scores"]
    saved = scored(tmp_path, np.rint(smooth * largest).astype(kind), MASK[None] * 255)
    assert saved["scores"]["loss"] == pytest.approx(as_floats["loss"], abs=1 / largest * 5)
    assert saved["prediction_read_as"].startswith(f"probabilities ({8 * np.dtype(kind).itemsize}-bit")
    flat = np.where(MASK[None], 0.9, 0.1)
    values = scored(tmp_path, np.rint(flat * largest).astype(kind), MASK[None] * 255)["scores"]
    assert values["loss"] == pytest.approx(-np.log(0.9), abs=1 / largest * 2)


def test_several_classes_take_their_maps_or_their_numbers(tmp_path):
    label = np.zeros((2, 12, 12), np.uint8)
    label[:, 4:8], label[:, 8:], label[0, 0, 0] = 1, 2, 255
    maps = (np.arange(3)[None, :, None, None] == np.where(label == 255, 0, label)[:, None]) * np.float32(0.94) + 0.02
    folder = tmp_path / "maps"
    folder.mkdir()
    tifffile.imwrite(folder / "p.tif", maps.astype(np.float32), imagej=True, metadata={"axes": "ZCYX"})
    write(tmp_path / "l.tif", label)
    saved = compare(folder / "p.tif", tmp_path / "l.tif", tmp_path / "of-maps")
    assert saved["scores"]["loss"] == pytest.approx(-np.log(0.96), rel=1e-5)
    assert saved["scores"]["mean_iou"] == 1
    assert any(note.startswith("partial truth: 0.3% of the pixels") for note in saved["notes"])  # 1 of 288
    assert scored(tmp_path, np.where(label == 255, 0, label), label)["prediction_read_as"] == "class numbers"
    with pytest.raises(DataError, match="like objects or other classes"):
        scored(tmp_path, label + np.uint8(1) * (label == 2), label)
    tifffile.imwrite(folder / "p.tif", (5 * maps).astype(np.float32) / 9, imagej=True, metadata={"axes": "ZCYX"})
    with pytest.raises(DataError, match="do not add up to 1"):
        compare(folder / "p.tif", tmp_path / "l.tif", tmp_path / "scaled")


@pytest.mark.parametrize("what", ["prediction", "labels"])
def test_reversed_polarity_is_hinted_at(tmp_path, what):
    predicted, label = MASK[None] * 0.8 + np.float32(0.1), MASK[None] * 255
    right = scored(tmp_path, predicted.astype(np.float32), label)
    assert not [note for note in right["notes"] if "exchanged" in note]
    wrong = (1 - predicted, label) if what == "prediction" else (predicted, 255 - label)
    notes = scored(tmp_path, wrong[0].astype(np.float32), wrong[1])["notes"]
    assert any("(mean IoU 1.000 against 0.000)" in note and "--data.foreground low" in note for note in notes)
    turned = scored(tmp_path, predicted.astype(np.float32), 255 - label, foreground="low")
    assert turned["scores"]["iou_foreground"] == 1


@pytest.mark.parametrize("objects", [False, True])
def test_a_prediction_that_lies_elsewhere_is_hinted_at(tmp_path, objects):
    label = cases.SCENES[0][1].astype(np.uint16) if objects else MASK * np.uint8(255)
    predicted = label if objects else MASK * np.float32(0.8) + np.float32(0.1)
    right, turned = (scored(tmp_path, p[None], label[None])["notes"] for p in (predicted, predicted[::-1]))
    assert not [note for note in right if "fit the predictions better" in note]
    assert any("the labels fit the predictions better when they are mirrored top to bottom" in note for note in turned)


@pytest.mark.parametrize(("kind", "scale"), [(np.uint16, 255), (np.uint16, 4095), (np.uint8, 100)])
def test_probabilities_of_another_scale_are_hinted_at(tmp_path, kind, scale):
    """8 bits in a 16-bit file, 12 bits, per cent: divided by the largest value of the type, nothing is foreground."""
    rng = np.random.default_rng(0)
    smooth = np.clip(MASK * 0.8 + 0.1 + rng.normal(0, 0.04, MASK.shape), 0, 1)[None]
    notes = scored(tmp_path, np.rint(smooth * scale).astype(kind), MASK[None] * 255)["notes"]
    assert any(f"no probability reaches 0.5 (largest number {scale})" in note for note in notes)
    notes = scored(tmp_path, np.rint(smooth * np.iinfo(kind).max).astype(kind), MASK[None] * 255)["notes"]
    assert not [note for note in notes if "scale" in note]


def test_a_flag_overrules_what_the_labels_were_taken_for(tmp_path):
    label = np.where(cases.SCENES[0][1] > 0, cases.SCENES[0][1], 0).astype(np.uint8)[None]
    predicted = (MASK[None] * 0.98 + 0.01).astype(np.float32)
    with pytest.raises(DataError, match=r"labels are instances, but this holds probabilities; .* --data.label-map"):
        scored(tmp_path, predicted, label)
    saved = scored(tmp_path, predicted, label, label_map=("0=background", "1-999=cell"))
    assert (saved["labels_read_as"], saved["scores"]["iou_cell"]) == ("classes", 1)
    two = np.where(label == 1, 1, np.where(label == 2, 2, 0)).astype(np.uint8)
    assert scored(tmp_path, two, two)["labels_read_as"] == "classes"
    assert scored(tmp_path, two, two, label_kind="instances")["scores"]["seg"] == 1


# -- objects -----------------------------------------------------------------------------------------------------------


def two_objects(kind=np.uint16, background=0):
    gold = np.full((1, 30, 30), background, kind)
    gold[0, 2:10, 2:10], gold[0, 15:25, 2:10] = 1, 2
    return gold


def test_two_files_objects(tmp_path):
    gold = two_objects()
    values = scored(tmp_path, np.where(gold == 2, 0, gold), gold, label_kind="instances")["scores"]
    assert values["seg"] == 0.5
    assert [values[f"objects_{name}"] for name in OUTCOMES] == [1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("predicted", "message"),
    [
        (MASK.astype(np.float32) * 0.7, "holds probabilities"),
        (MASK * np.uint8(255), "a mask of two values"),
        (np.rint(np.random.default_rng(0).random(MASK.shape) * 255).astype(np.uint8), "gray values"),
        (np.rint(np.random.default_rng(0).random(MASK.shape) * 65535).astype(np.uint16), "gray values"),
        (np.rint((MASK * 0.8 + 0.1) * 65535).astype(np.uint16), "gray values"),  # of two values only
    ],
)
def test_what_numbers_no_objects_is_refused_against_instances(tmp_path, predicted, message):
    with pytest.raises(DataError, match=rf"labels are instances, but .*{message}.*--instances"):
        scored(tmp_path, predicted[None], cases.SCENES[0][1][None].astype(np.uint16))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32])
def test_objects_are_refused_against_a_mask(tmp_path, kind):
    with pytest.raises(DataError, match="like objects"):
        scored(tmp_path, cases.SCENES[0][1][None].astype(kind), MASK[None] * 255)


def test_labels_that_hold_some_objects_only(tmp_path):
    every = cases.SCENES[0][1][None].astype(np.uint16)
    some = np.where(every < 6, every, 0)  # 5 of 12
    saved = scored(tmp_path, every, some)
    assert saved["scores"]["objects_spurious"] == 7
    assert any(note.startswith("7 predicted objects have no counterpart among 5 labelled") for note in saved["notes"])
    values = scored(tmp_path, every, some, partial=True)["scores"]
    assert values["seg"] == 1
    assert not {"pq", "ap", "ap_50", "foreground_iou", "objects_spurious"} & values.keys()


@pytest.mark.parametrize("file", ["p", "l"])
def test_objects_with_numbers_below_0_are_refused(tmp_path, file):
    gold = two_objects(np.int16)
    bad = np.where(gold == 2, -1, gold)
    with pytest.raises(DataError, match=rf"{file}\.tif: holds the label -1; number the objects from 1"):
        scored(tmp_path, bad if file == "p" else gold, bad if file == "l" else gold, label_kind="instances")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("files", ["p", "l", "pl"])
@pytest.mark.parametrize(("kind", "largest"), [(np.uint32, 2**32 - 1), (np.uint64, 2**64 - 1)])
@pytest.mark.parametrize("background", [0, 5])
def test_objects_with_large_numbers_are_told_apart(tmp_path, files, kind, largest, background):
    gold = two_objects(kind, background)
    large = np.where(gold == 2, kind(largest), np.where(gold == 1, kind(largest - 2**31), gold))
    saved = scored(tmp_path, large if "p" in files else gold, large if "l" in files else gold, label_kind="instances")
    assert saved["scores"]["seg"] == 1


# -- files and folders -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (np.zeros((3, 8, 8), np.float32), "both must be"),
        (np.full((1, 8, 8), 7.5, np.float32), "0..1"),
        (np.full((1, 8, 8), np.nan, np.float32), "0..1"),
    ],
)
def test_files_that_do_not_fit(tmp_path, prediction, message):
    with pytest.raises(DataError, match=message):
        scored(tmp_path, prediction, np.eye(8, dtype=np.uint8)[None] * 255)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_all_that_predict_writes(tmp_path, capsys):
    """Of probabilities, class numbers, objects and outlines beside each other the one that fits the labels is taken."""
    for i, (_, labels) in enumerate(cases.SCENES):
        mask = labels > 0
        write(tmp_path / "out" / f"im{i}.tif", (mask * 0.9 + 0.05).astype(np.float32))
        write(tmp_path / "out" / f"im{i}-classes.tif", np.zeros(mask.shape, np.uint8))
        write(tmp_path / "out" / f"im{i}-masks.tif", labels.astype(np.uint16))
        Image.fromarray(np.zeros((*mask.shape, 3), np.uint8)).save(tmp_path / "out" / f"im{i}-overlay.png")
        for folder, truth in (("masks", mask * np.uint8(255)), ("objects", labels.astype(np.uint16))):
            write(tmp_path / "own" / folder / f"im{i}_mask.tif", truth)
    words = ["evaluate", "--prediction", str(tmp_path / "out"), "--labels"]
    assert main([*words, str(tmp_path / "own"), "--out", str(tmp_path / "a")]) == 0
    told = capsys.readouterr()
    assert "6 images, read as binary (values 0, 255)" in told.err
    assert "read as probabilities (floats in 0..1)" in told.err
    assert "held-out" not in told.out
    saved = json.loads((tmp_path / "a" / "scores.json").read_text())
    assert saved["scores"]["loss"] == pytest.approx(-np.log(0.95), rel=1e-5)
    assert saved["frames"] == [f"im{i}" for i in range(6)]
    assert main([*words, str(tmp_path / "own" / "objects"), "--out", str(tmp_path / "b"), "--quiet"]) == 0
    values = json.loads((tmp_path / "b" / "scores.json").read_text())["scores"]
    assert (values["seg"], values["objects"]) == (1, 72)


def test_the_folder_of_a_hand_in_goes_by_numbers_and_says_what_has_no_label(tmp_path):
    for i, (_, labels) in enumerate(cases.SCENES):
        write(tmp_path / "01_RES" / f"mask{i:03}.tif", labels.astype(np.uint16))
    for i in (2, 5):
        write(tmp_path / "01_GT" / "SEG" / f"man_seg{i:03}.tif", cases.SCENES[i][1].astype(np.uint16))
    (tmp_path / "01_RES" / "res_track.txt").write_text("1 0 5 0\n")
    saved = compare(tmp_path / "01_RES", tmp_path / "01_GT" / "SEG", tmp_path / "out")
    assert saved["scores"]["seg"] == 1  # a frame compared with another's labels would miss objects
    assert saved["notes"][0].startswith("labels of 2 of 6 predicted files: partial truth")
    write(tmp_path / "01_GT" / "SEG" / "man_seg007.tif", cases.SCENES[0][1].astype(np.uint16))
    with pytest.raises(Problems, match=r"man_seg007.tif: no prediction of this name in .*01_RES"):
        compare(tmp_path / "01_RES", tmp_path / "01_GT" / "SEG", tmp_path / "other")
    with pytest.raises(DataError, match="two files or two folders"):
        compare(tmp_path / "01_RES", tmp_path / "01_GT" / "SEG" / "man_seg002.tif", tmp_path / "other")


def test_flags_of_files_are_refused_with_runs(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path), "--data.scores", "membranes"]) == 2
    assert "--data.scores goes with --prediction" in capsys.readouterr().err
