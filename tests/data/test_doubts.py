"""What can be read and is odd all the same: labels in another place, copies on both sides, images without contrast."""

import numpy as np
import pytest
import tifffile

from tests.data import cases
from unet.config import DataConfig
from unet.data import own
from unet.data.doubts import _span, doubts, explained, misplaced
from unet.data.split import split
from unet.data.stack import IGNORE, Frame


def lines(folder, **settings):
    config = DataConfig(folder=str(folder), **settings)
    stack = own.read(folder, config, lambda _: None)
    parts = split(stack, config)
    return doubts(stack, parts.train, parts.held_out)


def square(array):
    return array[:160, :160]


def test_what_a_label_explains_by_hand():
    image = np.array([[[0, 2, 6, 8]]], np.float32)  # variance 10: 1 within, 9 between the halves
    label = np.array([[0, 0, 1, 1]], np.uint8)
    assert explained(Frame("a", "", image, label), label) == pytest.approx(0.9)
    assert explained(Frame("a", "", np.concatenate([image[:, :, ::-1] * 0, image]), label), label) == pytest.approx(0.9)
    known = np.array([[0, IGNORE, 1, IGNORE]], np.uint8)
    assert explained(Frame("a", "", image, known), known) == pytest.approx(1)
    nothing = np.full((1, 4), IGNORE, np.uint8)
    assert explained(Frame("a", "", image, nothing), nothing) == 0


@pytest.mark.parametrize(
    ("moved", "told"),
    [
        (lambda mask: mask[::-1], "mirrored top to bottom"),
        (lambda mask: mask[:, ::-1], "mirrored left to right"),
        (lambda mask: mask[::-1, ::-1], "turned by 180 degrees"),
        (lambda mask: mask.T, "transposed (rows for columns)"),
        (lambda mask: np.rot90(mask, -1), "turned by 90 degrees"),
        (lambda mask: np.rot90(mask), "turned by 270 degrees"),
    ],
)
def test_labels_that_lie_elsewhere_are_said(tmp_path, moved, told):
    cases.write(tmp_path, lambda labels, _: np.ascontiguousarray(moved(square(cases.mask(labels)))), square)
    (line,) = lines(tmp_path)
    assert f"the labels fit the images better when they are {told} (they explain 8" in line


def stacks(folder, labels):
    for part, slices in (("images", [image for image, _ in cases.SCENES]), ("labels", labels)):
        (folder / part).mkdir(parents=True)
        tifffile.imwrite(folder / part / "s.tif", np.stack(slices), photometric="minisblack")
    return folder


@pytest.mark.parametrize(("by", "told"), [(1, "one slice earlier"), (-1, "one slice later"), (0, "")])
def test_labels_that_are_a_slice_off_are_said(tmp_path, by, told):
    masks = [cases.mask(labels) for _, labels in cases.SCENES]
    said = lines(stacks(tmp_path, np.roll(masks, by, axis=0)))
    assert [f"when they are {told}" in line for line in said] == ([True] if by else [])


def test_labels_without_a_trace_in_the_gray_values_are_no_reason_for_a_doubt(tmp_path):
    noise = np.random.default_rng(0)
    cases.write(tmp_path, cases.mask, lambda image: noise.integers(0, 256, image.shape, np.uint8))
    assert lines(tmp_path) == []
    assert lines(cases.write(tmp_path / "usual")) == []
    assert misplaced([]) == []


@pytest.mark.parametrize("turned", [lambda a: a, lambda a: a[::-1], lambda a: np.rot90(a)])
def test_a_held_out_copy_of_a_training_image_is_said(tmp_path, turned):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for i in range(6):
        image, labels = cases.SCENES[i]
        if i == 0:  # held out
            image, labels = (turned(array) for array in cases.SCENES[4])
        for part, pixels in (("images", image), ("labels", cases.mask(labels))):
            tifffile.imwrite(tmp_path / part / f"{i}.tif", np.ascontiguousarray(pixels))
    (line,) = lines(tmp_path)
    assert "held-out images are trained on under other names, so their scores say little: 0 (as 4);" in line
    assert lines(tmp_path, fold=1) == []


def test_gray_values_that_say_nothing(tmp_path):
    def hot(image):
        """Gray values around 200 beside 0.4 % hot pixels of any height: the percentiles fall on those."""
        pixels = image.astype(np.uint16) + 100
        pixels.ravel()[::250] = np.linspace(20000, 65535, pixels.ravel()[::250].size)
        return pixels

    names = ("{i}.tif", "{i}.tif")
    (line,) = lines(cases.write(tmp_path / "hot", image_of=hot, names=names))
    assert "nearly all gray values of 0, 1, 2 and 3 more lie within 0.3% of the range" in line
    assert lines(tmp_path / "hot", percentiles=(1, 99)) == []
    (line,) = lines(cases.write(tmp_path / "flat", image_of=lambda image: np.full_like(image, 7)))
    assert "every pixel of 0, 1, 2 and 3 more has the same gray value" in line
    cases.write(tmp_path / "same")
    for path in (tmp_path / "same" / "labels").iterdir():
        path.replace(tmp_path / "same" / "images" / path.name)
    cases.write(tmp_path / "other")
    (tmp_path / "same" / "labels").rmdir()
    (tmp_path / "other" / "labels").rename(tmp_path / "same" / "labels")
    (line,) = lines(tmp_path / "same")
    assert "are the files in images/ copies of the labels?" in line


def test_few_bright_objects_are_a_contrast(tmp_path):
    """A few labelled beads, far brighter than all else, are what the range is for."""

    def beads(image):
        pixels = np.full(image.shape, 100, np.uint16) + image % 8
        pixels[50:54, 60:64] = 20000
        return pixels

    def labels(of, _seed):
        mask = np.zeros(of.shape, np.uint8)
        mask[50:54, 60:64] = 255
        return mask

    assert not [line for line in lines(cases.write(tmp_path, labels, beads, ("{i}.tif", "{i}.tif"))) if "range" in line]


def test_images_with_contrast_are_not_looked_at_class_by_class(monkeypatch):
    """Of a large image of many classes that would take longer than to read it."""
    image = np.linspace(0, 1, 100 * 101, dtype=np.float32).reshape(1, 100, 101)
    label = (np.arange(100 * 101).reshape(100, 101) % 200).astype(np.uint8)
    looks, percentile = [], np.percentile
    monkeypatch.setattr(np, "percentile", lambda *given: looks.append(1) or percentile(*given))
    assert _span(Frame("a", "", image, label)) == pytest.approx(0.98)
    assert len(looks) == 1
    assert _span(Frame("dim", "", image / 100, label)) == pytest.approx(0.0098, abs=2e-4)
    assert len(looks) == 2 + 200


def test_uneven_light_is_no_sign_of_a_turned_label():
    image = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (1, 64, 1))
    noise = np.random.default_rng(0).normal(0, 0.05, image.shape).astype(np.float32)
    label = np.zeros((64, 64), np.uint8)
    label[:32] = 1
    assert misplaced([Frame("a", "", image + noise, label)]) == []
    turned = image + noise + 0.5 * np.float32(label.T)
    assert "fit the images better" in misplaced([Frame("a", "", turned, label)])[0]
