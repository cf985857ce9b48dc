from __future__ import annotations

import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from unet.config import DataConfig
from unet.data import own
from unet.data.split import split
from unet.data.stack import IGNORE, Normalisation
from unet.errors import DataError, Problems


def say_nothing(_line: str) -> None:
    """For tests that look at the stack alone."""


def config(folder: Path, **changes: object) -> DataConfig:
    return DataConfig(folder=str(folder), **changes)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    return tmp_path


def write(folder: Path, name: str, image: np.ndarray, label: np.ndarray) -> None:
    for part, pixels in (("images", image), ("labels", label)):
        path = folder / part / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".tif":
            tifffile.imwrite(path, pixels, photometric="rgb" if pixels.shape[-1] == 3 else "minisblack")
        else:
            Image.fromarray(pixels).save(path)


def gray(seed: int = 0, shape: tuple[int, ...] = (20, 30)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def blobs(values: list[int], dtype: type = np.uint8) -> np.ndarray:
    """20 x 30, one 5 x 5 square of each value."""
    label = np.zeros((20, 30), dtype)
    for i, value in enumerate(values):
        label[2 + 9 * (i // 4) : 7 + 9 * (i // 4), 1 + 7 * (i % 4) : 6 + 7 * (i % 4)] = value
    return label


@pytest.mark.parametrize("one", [1, 255])
def test_binary_labels(folder: Path, one: int) -> None:
    for i in (1, 2, 10):
        write(folder, f"im{i}.png", gray(i), blobs([one, one]))
    lines: list[str] = []
    stack = own.read(folder, config(folder, normalise="fixed"), lines.append)
    assert [f.name for f in stack.frames] == ["im1", "im2", "im10"]
    assert stack.class_names == ("background", "foreground")
    assert stack.normalisation == Normalisation("fixed", 0, 255)
    np.testing.assert_array_equal(stack.frames[0].label, blobs([1, 1]))
    np.testing.assert_array_equal(stack.frames[0].image[0], gray(1).astype(np.float32) / 255)
    assert stack.frames[0].instances is None
    assert len(lines) == 1
    assert "binary" in lines[0]


def test_three_classes_on_large_16_bit_images(folder: Path) -> None:
    """A new user's data: 1024 x 1024, 16 bit, three classes, PNG images beside TIFF labels."""
    rng = np.random.default_rng(0)
    labels = []
    for i in range(4):
        label = np.kron(rng.integers(0, 3, (16, 16)), np.ones((64, 64), int)).astype(np.uint8)
        image = (label.astype(int) * 9000 + rng.integers(0, 4000, label.shape) + 3000).astype(np.uint16)
        Image.fromarray(image).save(folder / "images" / f"field {i}.png")
        tifffile.imwrite(folder / "labels" / f"field {i}.tif", label)
        labels.append(label)
    lines: list[str] = []
    stack = own.read(folder, config(folder), lines.append)
    assert stack.classes == 3
    assert stack.normalisation == Normalisation("percentile", low=0.1, high=99.9)
    assert "labels read as classes" in lines[0]
    for frame, label in zip(stack.frames, labels, strict=True):
        np.testing.assert_array_equal(frame.label, label)
        assert np.percentile(frame.image, 99.9) == pytest.approx(1, abs=0.01)
        assert np.percentile(frame.image, 0.1) == pytest.approx(0, abs=0.01)
    found = split(stack, config(folder, folds=4))
    assert (len(found.train), len(found.held_out)) == (3, 1)


def test_instance_labels_are_recognised_and_parted(folder: Path) -> None:
    touching = np.zeros((20, 30), np.uint16)
    touching[5:15, 5:15], touching[5:15, 15:25] = 1, 2
    write(folder, "a.tif", gray(0), touching)
    write(folder, "b.tif", gray(1), blobs([1, 2, 3, 4, 7, 8], np.uint16))
    lines: list[str] = []
    stack = own.read(folder, config(folder, ridge_px=2), lines.append)
    assert "labels read as instances" in lines[0]
    assert stack.class_names == ("background", "cell")
    np.testing.assert_array_equal(stack.frames[0].label[10, 12:18], [1, 1, 0, 0, 1, 1])  # type: ignore[index]
    assert set(np.unique(stack.frames[0].instances)) == {0, 1, 2}
    three = own.read(folder, config(folder, target="cell-border", border_px=1), lines.append)
    assert three.class_names == ("background", "cell", "border")
    np.testing.assert_array_equal(three.frames[0].label[10, 12:18], [1, 1, 2, 2, 1, 1])  # type: ignore[index]
    with pytest.raises(DataError, match="data.target cell-border needs labels with a number per object"):
        own.read(folder, config(folder, target="cell-border", label_kind="classes"), lines.append)
    whole = own.instances(folder, config(folder))
    np.testing.assert_array_equal(whole["a"], touching)
    assert own.instances(folder, config(folder, label_kind="classes")) == {}


def test_what_labels_are_can_be_told(folder: Path) -> None:
    write(folder, "a.png", gray(), blobs([1, 2, 3]))
    assert own.read(folder, config(folder), say_nothing).classes == 4
    told = own.read(folder, config(folder, label_kind="instances"), say_nothing)
    assert told.classes == 2
    assert set(np.unique(told.frames[0].instances)) == {0, 1, 2, 3}
    (folder / "classes.txt").write_text("ground\nroad\ntree\nhouse\nwater\n")
    named = own.read(folder, config(folder), say_nothing)
    assert named.class_names == ("ground", "road", "tree", "house", "water")


def test_class_labels_may_hold_ignored_pixels(folder: Path) -> None:
    write(folder, "a.png", gray(), blobs([1, 2, 255]))
    stack = own.read(folder, config(folder), say_nothing)
    assert stack.classes == 3
    assert (stack.frames[0].label == IGNORE).sum() == 25


def test_stacks_and_folders_are_sequences(folder: Path) -> None:
    for name in ("x", "y"):
        write(folder, f"{name}.tif", gray(0, (5, 20, 30)), np.stack([blobs([1])] * 5))
    write(folder, "day 1/p.png", gray(3), blobs([1]))
    stack = own.read(folder, config(folder), say_nothing)
    assert [(f.name, f.sequence) for f in stack.frames][:2] == [("day 1/p", "day 1"), ("x[00]", "x")]
    assert {f.sequence for f in stack.frames} == {"x", "y", "day 1"}
    assert len(stack) == 11


def test_colour_images_and_opaque_alpha(folder: Path) -> None:
    rgb = gray(0, (20, 30, 3))
    write(folder, "a.png", np.dstack([rgb, np.full((20, 30), 255, np.uint8)]), blobs([1]))
    write(folder, "b.tif", rgb, blobs([1]))
    Image.fromarray(rgb).save(folder / "images" / "c.jpg", quality=95)
    Image.fromarray(blobs([1])).save(folder / "labels" / "c.png")
    stack = own.read(folder, config(folder), say_nothing)
    assert stack.channels == 3
    np.testing.assert_array_equal(stack.frames[0].image, stack.frames[1].image)


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ("auto", Normalisation("percentile", low=0.1, high=99.9)),
        ("minmax", Normalisation("minmax")),
        ("zscore", Normalisation("zscore")),
        ("percentile", Normalisation("percentile", low=0.1, high=99.9)),
        ("fixed", Normalisation("fixed", 0.0, 65535.0)),
    ],
)
def test_normalisation(folder: Path, how: str, wanted: Normalisation) -> None:
    image = gray().astype(np.uint16) * 100
    write(folder, "a.tif", image, blobs([1]))
    stack = own.read(folder, config(folder, normalise=how), say_nothing)
    assert stack.normalisation == wanted
    np.testing.assert_array_equal(stack.frames[0].image, wanted(image[None]))


def test_images_of_several_depths_are_divided_by_the_largest_value_of_all(folder: Path) -> None:
    write(folder, "a.tif", gray(1), blobs([1]))
    write(folder, "b.tif", gray(2).astype(np.uint16), blobs([1]))
    said: list[str] = []
    assert own.read(folder, config(folder, normalise="fixed"), said.append).normalisation.scale == 65535
    assert "warning: images of the types uint16 and uint8 are all divided by 65535; save them in one type" in said[0]
    own.read(folder, config(folder), said.append)  # percentiles of each image do not mind
    assert sum("types" in line for line in said) == 1


def test_float_images_and_whole_float_labels(folder: Path) -> None:
    image = np.random.default_rng(0).normal(0, 1, (20, 30)).astype(np.float32)
    write(folder, "a.tif", image, blobs([1, 2]).astype(np.float32))
    stack = own.read(folder, config(folder, normalise="fixed"), say_nothing)
    np.testing.assert_array_equal(stack.frames[0].image[0], image)
    np.testing.assert_array_equal(stack.frames[0].label, blobs([1, 2]))


def test_images_too_narrow_to_be_predicted_are_not_trained_on_either(folder: Path) -> None:
    write(folder, "row.tif", gray(0, (1, 200)), np.tile(np.array([0, 1], np.uint8), 100)[None])
    with pytest.raises(Problems, match=r"images/row.tif: reads as 1 image of 1 x 200 px; a side of 1 px is a channel"):
        own.read(folder, config(folder), say_nothing)


def test_all_offenders_are_named_at_once(folder: Path) -> None:
    write(folder, "good1.tif", gray(1), blobs([1]))
    write(folder, "good2.tif", gray(2), blobs([1]))
    write(folder, "good3.tif", gray(3), blobs([1]))
    write(folder, "shape.tif", gray(), blobs([1])[:-1])
    write(folder, "slices.tif", gray(0, (5, 20, 30)), np.stack([blobs([1])] * 4 + [blobs([1])] * 2))
    nan = gray().astype(np.float32)
    nan[3, 4:6] = np.nan
    write(folder, "nan.tif", nan, blobs([1]))
    write(folder, "colour.tif", gray(0, (20, 30, 3)), blobs([1]))
    write(folder, "half.tif", gray(), blobs([1]) * np.float32(0.5))
    Image.fromarray(gray()).save(folder / "images" / "alone.png")
    Image.fromarray(gray()).save(folder / "labels" / "orphan.png")
    (folder / "images" / "broken.png").write_bytes(b"\x89PNG not really")
    (folder / "labels" / "broken.png").write_bytes(b"\x89PNG not really")
    (folder / "images" / "scan.nd2").touch()
    (folder / "images" / ".hidden").touch()
    (folder / "images" / "readme.txt").touch()
    Image.fromarray(gray()).save(folder / "images" / "lossy.png")
    Image.fromarray(gray()).save(folder / "labels" / "lossy.jpg")
    with pytest.raises(Problems) as caught:
        own.read(folder, config(folder), say_nothing)
    message = str(caught.value)
    assert "\n" not in message
    for name, what in {
        "labels/shape.tif": "has shape (19, 30), its image (20, 30)",
        "labels/slices.tif": "has 6 slices, its image 5",
        "images/nan.tif": "2 gray values are NaN",
        "images/colour.tif": "has 3 channels, most others 1",
        "labels/half.tif": "holds NaN or fractions",
        "images/alone.png": "no label of this name",
        "labels/orphan.png": "no image of this name",
        "images/broken.png": "not a PNG or JPEG",
        "labels/broken.png": "not a PNG or JPEG",
        "images/scan.nd2": "not a type read here",
        "labels/lossy.jpg": "JPEG alters label values",
    }.items():
        assert any(
            part.startswith(name) and what in part
            for part in caught.value.problems  # the line shows ten
        ), message
    assert "11 problems" in message
    assert "good" not in message
    assert "hidden" not in message


@pytest.mark.parametrize(
    ("values", "changes", "message"),
    [
        ([1, 2, 9], {"label_kind": "classes"}, "leave out 3"),
        ([0, 2], {"label_kind": "binary"}, r"labels/a\.png: label values 2 lie outside"),
        ([1, 128, 255], {"label_kind": "classes"}, "leave out 2"),
    ],
)
def test_label_values_outside(folder: Path, values: list[int], changes: dict[str, object], message: str) -> None:
    write(folder, "a.png", gray(), blobs(values))
    with pytest.raises(DataError, match=message):
        own.read(folder, config(folder, **changes), say_nothing)


def test_values_beyond_the_named_classes_are_named(folder: Path) -> None:
    (folder / "classes.txt").write_text("sky\nground\n")
    write(folder, "a.png", gray(), blobs([1]))
    write(folder, "b.png", gray(), blobs([1, 2]))
    with pytest.raises(DataError, match=r"labels/b\.png: label values 2 lie outside \(classes are 0..1"):
        own.read(folder, config(folder), say_nothing)


def test_a_mixture_of_0_1_and_0_255_is_no_ignore_mask(folder: Path) -> None:
    write(folder, "a.png", gray(), blobs([1]))
    write(folder, "b.png", gray(), blobs([255]))
    with pytest.raises(DataError, match="others 0 and 255"):
        own.read(folder, config(folder), say_nothing)


def test_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no folder images/"):
        own.read(tmp_path, config(tmp_path), say_nothing)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        own.read(tmp_path, config(tmp_path), say_nothing)


def test_stacks_of_three_slices_that_were_saved_as_colours(folder: Path) -> None:
    """Some programs store three slices as the planes of a colour image; the labels tell them from one."""
    images, labels = gray(0, (3, 20, 30)), np.stack([blobs([1]), blobs([1, 1]), blobs([0, 1])])
    for part, pixels in (("images", images), ("labels", labels)):
        tifffile.imwrite(folder / part / "a.tif", pixels, photometric="rgb", planarconfig="separate")
    stack = own.read(folder, config(folder), say_nothing)
    assert [f.name for f in stack.frames] == ["a[00]", "a[01]", "a[02]"]
    np.testing.assert_array_equal(stack.frames[2].label, labels[2])


def test_an_imagej_file_without_axes_holds_channels_by_name_and_slices_by_its_labels(folder: Path) -> None:
    images = gray(shape=(6, 20, 30)).astype(np.uint16)
    tifffile.imwrite(folder / "images" / "s.tif", images, imagej=True)
    tifffile.imwrite(folder / "labels" / "s.tif", np.stack([blobs([1] * n) for n in range(1, 7)]))
    stack = own.read(folder, config(folder, normalise="fixed"), say_nothing)
    assert (len(stack), stack.channels) == (6, 1)
    np.testing.assert_array_equal(np.concatenate([f.image for f in stack.frames]) * 65535, images)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("colours", [3, 4])
def test_colour_masks_of_colour_images_are_refused(folder: Path, suffix: str, colours: int) -> None:
    """A red and a green object: no three slices, though image and label have as many channels."""
    mask = np.zeros((20, 30, colours), np.uint8)
    mask[2:7, 1:6, 0], mask[2:7, 10:15, 1] = 255, 255
    for i in range(3):
        for part, pixels in (("images", gray(i, (20, 30, colours))), ("labels", mask)):
            if suffix == "png":
                Image.fromarray(pixels).save(folder / part / f"{i}.png")
            else:
                tifffile.imwrite(folder / part / f"{i}.tif", pixels, photometric="rgb")
    with pytest.raises(DataError, match=rf"3 problems to fix: labels/0\.{suffix}: is a colour image; "):
        own.read(folder, config(folder), say_nothing)


def test_colours_stored_pixel_by_pixel_are_no_slices_whatever_the_labels_are(folder: Path) -> None:
    labels = np.stack([blobs([1]), blobs([1, 1]), blobs([0, 1])])
    write(folder, "a.tif", gray(0, (20, 30, 3)), labels)
    with pytest.raises(DataError, match=r"labels/a\.tif: has 3 slices, its image 1"):
        own.read(folder, config(folder), say_nothing)
    planes = gray(0, (3, 20, 30))
    tifffile.imwrite(folder / "images" / "a.tif", planes, photometric="rgb", planarconfig="separate")
    assert len(own.read(folder, config(folder), say_nothing)) == 3
    tifffile.imwrite(folder / "labels" / "a.tif", labels.transpose(1, 2, 0) * 200, photometric="rgb")
    with pytest.raises(DataError, match=r"labels/a\.tif: is a colour image"):
        own.read(folder, config(folder), say_nothing)


def test_two_names_beside_0_and_255_are_those_of_background_and_foreground(folder: Path) -> None:
    (folder / "classes.txt").write_text("ground\ncell\n")
    write(folder, "a.png", gray(0), blobs([]))  # nothing in the first frame
    write(folder, "b.png", gray(1), blobs([255, 255]))
    lines: list[str] = []
    stack = own.read(folder, config(folder), lines.append)
    assert "labels read as binary (values 0, 255, named in classes.txt): ground, cell" in lines[0]
    assert [np.unique(f.label).tolist() for f in stack.frames] == [[0], [0, 1]]
    np.testing.assert_array_equal(stack.frames[1].label, blobs([1, 1]))
    for changes in ({"label_kind": "classes"}, {}):
        with pytest.raises(DataError, match="nothing but 0, 255 occurs, and 255 is ignored, which leaves no class but"):
            own.read(folder, config(folder, **changes), say_nothing)
        (folder / "classes.txt").write_text("ground\ncell\nwall\n")


def test_a_first_frame_without_any_class_is_no_mistake(folder: Path) -> None:
    (folder / "classes.txt").write_text("ground\ncell\n")
    write(folder, "a.png", gray(0), blobs([255]))
    write(folder, "b.png", gray(1), blobs([1, 255]))
    stack = own.read(folder, config(folder), say_nothing)
    assert [np.unique(f.label).tolist() for f in stack.frames] == [[0, IGNORE], [0, 1, IGNORE]]


def test_label_masks_with_a_palette_are_their_indices(folder: Path) -> None:
    """As in Pascal VOC: classes as colours of a palette; a palette of grays makes no difference."""
    for name, palette in (("a", [0, 0, 0, 128, 0, 0, 0, 128, 0]), ("b", [0, 0, 0, 90, 90, 90, 200, 200, 200])):
        mask = Image.fromarray(blobs([1, 2]), "L")
        mask.putpalette(palette)
        mask.save(folder / "labels" / f"{name}.png")
        Image.fromarray(gray()).save(folder / "images" / f"{name}.png")
    stack = own.read(folder, config(folder), say_nothing)
    for frame in stack.frames:
        np.testing.assert_array_equal(frame.label, blobs([1, 2]))


def test_objects_in_16_bit_colour_pngs_keep_their_numbers(folder: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 4096, (20, 30, 3)).astype(np.uint16)
    label = blobs([1, 2, 3, 4, 300, 7, 20], np.uint16)
    cv2.imwrite(str(folder / "images" / "a.png"), rgb[..., ::-1])
    cv2.imwrite(str(folder / "labels" / "a.png"), np.dstack([label] * 3))
    stack = own.read(folder, config(folder, normalise="fixed"), say_nothing)
    np.testing.assert_array_equal(np.unique(stack.frames[0].instances), np.unique(label))
    np.testing.assert_array_equal(stack.frames[0].image, rgb.transpose(2, 0, 1).astype(np.float32) / np.float32(65535))


def test_a_mask_with_grays_at_its_borders_is_refused_beside_all_other_problems(folder: Path) -> None:
    disc = cv2.circle(np.zeros((60, 60), np.uint8), (30, 30), 20, 255, -1)
    mask = cv2.resize(disc, (131, 131), interpolation=cv2.INTER_LINEAR)
    write(folder, "a.png", gray(0, mask.shape), mask)
    Image.fromarray(gray()).save(folder / "images" / "alone.png")
    with pytest.raises(DataError, match="2 problems to fix: images/alone.png: no .*; labels: values 0, .* 255 lie in"):
        own.read(folder, config(folder), say_nothing)
    (folder / "images" / "alone.png").unlink()
    assert own.read(folder, config(folder, label_kind="instances"), say_nothing).classes == 2


def test_frames_have_one_order_whatever_their_names_hash_to(folder: Path) -> None:
    for name in ("s1_1", "s01_1", "s001_1", "s2_1"):
        write(folder, f"{name}.png", gray(), blobs([1]))
    names = [f.name for f in own.read(folder, config(folder), say_nothing).frames]
    assert names == ["s001_1", "s01_1", "s1_1", "s2_1"]


def test_linked_folders_are_sequences_too(folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    (elsewhere / "images").mkdir(parents=True)
    (elsewhere / "labels").mkdir()
    write(folder, "a/p.png", gray(1), blobs([1]))
    write(elsewhere, "q.png", gray(2), blobs([1, 1]))
    for part in ("images", "labels"):
        (folder / part / "b").symlink_to(elsewhere / part, target_is_directory=True)
        (elsewhere / part / "loop").symlink_to(folder / part, target_is_directory=True)
        (folder / part / "a" / "up").symlink_to(folder / part / "a", target_is_directory=True)
    stack = own.read(folder, config(folder), say_nothing)
    assert [(f.name, f.sequence) for f in stack.frames] == [("a/p", "a"), ("b/q", "b")]
    np.testing.assert_array_equal(stack.frames[1].label, blobs([1, 1]))


def test_two_sequences_may_share_their_labels(folder: Path) -> None:
    for sequence in "ab":
        write(folder, f"{sequence}/p.png", gray(1), blobs([1]))
    (folder / "labels" / "b" / "p.png").unlink()
    (folder / "labels" / "b").rmdir()
    (folder / "labels" / "b").symlink_to("a", target_is_directory=True)
    assert [f.name for f in own.read(folder, config(folder), say_nothing).frames] == ["a/p", "b/p"]


@pytest.mark.parametrize("place", ["labels", "labels/s", "images"])
def test_a_folder_that_may_not_be_listed_is_the_one_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    for name in ("s/a.png", "s/b.png"):
        write(folder, name, gray(), blobs([1]))

    def refused(name: str) -> None:
        if name == str(folder / place):
            raise PermissionError(errno.EACCES, "Permission denied", name)

    listed, scanned = os.listdir, os.scandir  # pathlib lists by one or the other
    monkeypatch.setattr(os, "listdir", lambda path: refused(str(path)) or listed(path))
    monkeypatch.setattr(os, "scandir", lambda path: refused(str(path)) or scanned(path))
    with pytest.raises(DataError) as caught:
        own.read(folder, config(folder), say_nothing)
    assert str(caught.value) == f"{folder / place}: cannot be read (Permission denied); check the path and its rights"
