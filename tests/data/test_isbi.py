from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet.data import isbi
from unet.data.stack import Normalisation
from unet.errors import DataError


@pytest.fixture
def volume() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 16, 20), np.uint8)
    return images, np.where(rng.random((30, 16, 20)) < 0.8, 255, 0).astype(np.uint8)


def write_tiffs(root: Path, images: np.ndarray, labels: np.ndarray) -> None:
    tifffile.imwrite(root / "train-volume.tif", images)
    tifffile.imwrite(root / "train-labels.tif", labels)


def write_pngs(root: Path, images: np.ndarray, labels: np.ndarray) -> None:
    for part, pixels in (("train/image", images), ("train/label", labels), ("test", images[::-1])):
        (root / part).mkdir(parents=True)
        for i, image in enumerate(pixels):
            Image.fromarray(image).save(root / part / f"{i}.png")


def test_tiff_stack(tmp_path: Path, volume: tuple[np.ndarray, np.ndarray]) -> None:
    write_tiffs(tmp_path, *volume)
    stack = isbi.read(tmp_path)
    assert len(stack) == 30
    assert [f.name for f in stack.frames][:2] == ["train-volume[00]", "train-volume[01]"]
    assert {f.sequence for f in stack.frames} == {"train-volume"}
    assert stack.class_names == ("membrane", "cell")
    assert stack.normalisation == Normalisation("fixed", 0.0, 255.0)
    for frame, image, label in zip(stack.frames, *volume, strict=True):
        np.testing.assert_array_equal(frame.image[0], image.astype(np.float32) / 255, strict=True)
        np.testing.assert_array_equal(frame.label, label // 255)
        assert frame.instances is None


def test_png_slices_are_the_same_stack_in_numerical_order(
    tmp_path: Path, volume: tuple[np.ndarray, np.ndarray]
) -> None:
    (tmp_path / "tiff").mkdir()
    write_tiffs(tmp_path / "tiff", *volume)
    for base in ("flat", "copy/membrane", "repository/data/membrane"):
        write_pngs(tmp_path / base, *volume)
    wanted = isbi.read(tmp_path / "tiff")
    for root in ("flat", "copy", "repository"):
        found = isbi.read(tmp_path / root)
        assert "PNG" in found.source
        assert [f.name for f in found.frames] == [f.name for f in wanted.frames]
        for a, b in zip(found.frames, wanted.frames, strict=True):
            np.testing.assert_array_equal(a.image, b.image)
            np.testing.assert_array_equal(a.label, b.label)
    test = isbi.read_test(tmp_path / "flat")
    np.testing.assert_array_equal(test.frames[0].image[0], volume[0][-1].astype(np.float32) / 255)
    assert all(frame.label is None for frame in test.frames)


def test_jpeg_copies_are_read_only_when_asked_for_and_named(
    tmp_path: Path, volume: tuple[np.ndarray, np.ndarray]
) -> None:
    smooth = np.broadcast_to(np.linspace(0, 255, 20).astype(np.uint8), (30, 16, 20))
    for part, stem, pixels in (("images", "train-volume", smooth), ("labels", "train-labels", volume[1])):
        (tmp_path / "jpeg" / part).mkdir(parents=True)
        for i, image in enumerate(pixels):
            Image.fromarray(np.ascontiguousarray(image)).save(
                tmp_path / "jpeg" / part / f"{stem}{i:02}.jpg", quality=80
            )
    with pytest.raises(DataError, match=r"no train-volume\.tif"):
        isbi.read(tmp_path)
    stack = isbi.read(tmp_path, jpeg=True)
    assert "JPEG" in stack.source
    labels = np.stack([f.label for f in stack.frames])
    assert set(np.unique(labels)) == {0, 1}
    assert (labels == volume[1] // 255).mean() > 0.9
    pixels = np.asarray(Image.open(tmp_path / "jpeg" / "labels" / "train-labels07.jpg"))
    assert ((pixels > 0) & (pixels < 128)).any()  # JPEG blurs
    np.testing.assert_array_equal(stack.frames[7].label, pixels >= 128)


def test_what_is_wrong_is_named(tmp_path: Path, volume: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = volume
    with pytest.raises(DataError, match="unet data fetch em"):
        isbi.read(tmp_path)
    tifffile.imwrite(tmp_path / "train-volume.tif", images)
    with pytest.raises(DataError, match=r"train-labels\.tif: no such file"):
        isbi.read(tmp_path)
    tifffile.imwrite(tmp_path / "train-labels.tif", labels[:, :-1])
    with pytest.raises(DataError, match="same slices"):
        isbi.read(tmp_path)
    tifffile.imwrite(tmp_path / "train-labels.tif", np.where(labels == 255, 254, 0).astype(np.uint8))
    with pytest.raises(DataError, match="254"):
        isbi.read(tmp_path)
    tifffile.imwrite(tmp_path / "train-labels.tif", labels.astype(np.float32))
    with pytest.raises(DataError, match="uint8"):
        isbi.read(tmp_path)


@pytest.mark.real_data
def test_real_stack(data_root: Path) -> None:
    stack = isbi.read(data_root / "ISBI-2012-EM")
    assert (len(stack), stack.frames[0].size, stack.channels) == (30, (512, 512), 1)
    labels = np.stack([f.label for f in stack.frames])
    assert set(np.unique(labels)) == {0, 1}
    assert labels.mean() == pytest.approx(0.780369, abs=1e-6)  # cells; membranes are the smaller part
    images = np.stack([f.image[0] for f in stack.frames])
    assert images[labels == 1].mean() > images[labels == 0].mean() + 0.1  # cells are brighter than membranes
    test = isbi.read_test(data_root / "ISBI-2012-EM")
    assert (len(test), test.frames[0].size, test.frames[0].label) == (30, (512, 512), None)
