"""Objects as the code released with the paper makes them, and the preset that asks for them."""

import numpy as np
import pytest
import tifffile

from tests.commands.test_predict import gray, place, predict, refused, save_run
from unet.prediction.instances.released import release_instances

__all__ = ["place"]  # the fixture of a working folder


def made() -> np.ndarray:
    """Probabilities K x H x W of 200 x 220 px: an object each for what is kept and for what is dropped."""
    cell = np.full((200, 220), 0.5, np.float32)  # equal: the first class, background
    cell[60:80, 60:85] = 0.51  # 500 px: kept
    cell[70, 70] = 0.2  # a hole of one pixel leaves 499 px
    cell[60, 85] = 0.9  # and this one makes them 500 again
    cell[100:120, 60:84] = 0.99  # 480 px: too small
    cell[10:50, 60:100] = 0.99  # 1600 px that end where the field of interest begins: dropped
    cell[130:180, 145:171] = 0.99  # reaches into the field of interest by one column (169): kept whole
    cell[130:180, 145:169] = 0.1
    cell[130:180, 169:190] = 0.99
    return np.stack([1 - cell, cell])


def test_small_objects_and_those_in_the_border_are_dropped_and_holes_stay():
    expected = np.zeros((200, 220), np.int32)
    expected[60:80, 60:85] = 1
    expected[70, 70] = 0
    expected[60, 85] = 1
    expected[130:180, 169:190] = 2
    np.testing.assert_array_equal(release_instances(made()), expected)


def test_one_pixel_less_is_too_small():
    probabilities = made()
    probabilities[:, 60, 85] = 0.5
    assert release_instances(probabilities).max() == 1


def test_an_image_without_objects_or_field_has_none():
    assert not release_instances(np.stack([np.ones((120, 90)), np.zeros((120, 90))]).astype(np.float32)).any()
    assert not release_instances(np.stack([np.zeros((99, 400)), np.ones((99, 400))]).astype(np.float32)).any()


def test_the_preset_averages_logits_over_the_flips(place, capsys, monkeypatch, tmp_path):
    asked = []

    def predicted(network, image, classes, how, **_):
        asked.append((how.symmetries, how.average))
        return made()

    monkeypatch.setattr("unet.prediction.overlap.predict_image", predicted)
    (tmp_path / "01").mkdir()
    for number in range(2):
        tifffile.imwrite(tmp_path / "01" / f"t00{number}.tif", gray(200, 220, number))
    predict(capsys, "01", "--ctc", "01_RES", "--preset", "release")
    assert asked == [(4, "logits")] * 2
    for number in range(2):
        np.testing.assert_array_equal(tifffile.imread(f"01_RES/mask00{number}.tif"), release_instances(made()))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a folder for them with --ctc"),
        (["--ctc", "x", "--symmetries", "8"], "leave out --symmetries"),
        (["--ctc", "x", "--average", "logits"], "leave out --symmetries"),
    ],
)
def test_where_the_preset_does_not_apply(place, capsys, tmp_path, words, said):
    tifffile.imwrite(tmp_path / "a.tif", gray(60, 60))
    assert said in refused(capsys, "a.tif", "--preset", "release", *words)


def test_three_classes_have_no_such_preset(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_run(tmp_path / "run", classes=("background", "cell", "border"))
    tifffile.imwrite(tmp_path / "a.tif", gray(60, 60))
    assert "needs a network of two classes" in refused(capsys, "a.tif", "--preset", "release", "--ctc", "x")
