from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from unet.data import ctc
from unet.data.masks import Target
from unet.data.stack import IGNORE, Normalisation
from unet.errors import DataError


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pixels, compression="lzw")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Sequence 01: frame 0 complete, frame 1 partial, frame 2 without gold; sequence 02: one frame, complete."""
    rng = np.random.default_rng(0)
    silver = np.zeros((40, 50), np.uint16)
    silver[5:20, 5:20], silver[5:20, 20:40], silver[28:38, 5:20] = 1, 2, 3
    gold = np.zeros_like(silver)
    gold[5:20, 4:20], gold[5:20, 20:41], gold[27:38, 5:20] = 10, 20, 30
    partial = np.where(gold == 20, gold, 0).astype(np.uint16)
    for sequence, frames in (("01", 3), ("02", 1)):
        for t in range(frames):
            write(tmp_path / sequence / f"t{t:03}.tif", rng.integers(0, 256, (40, 50), np.uint8))
            write(tmp_path / f"{sequence}_ST/SEG/man_seg{t:03}.tif", silver)
    write(tmp_path / "01_GT/SEG/man_seg000.tif", gold)
    write(tmp_path / "01_GT/SEG/man_seg001.tif", partial)
    write(tmp_path / "02_GT/SEG/man_seg000.tif", gold)
    return tmp_path


def test_gold_labels(root: Path) -> None:
    stack = ctc.read(root, "test")
    assert [(f.name, f.sequence, f.label is not None) for f in stack.frames] == [
        ("01/t000", "01", True), ("01/t001", "01", True), ("01/t002", "01", False), ("02/t000", "02", True),
    ]  # fmt: skip
    complete, partial = stack.frames[0], stack.frames[1]
    assert complete.label is not None
    assert complete.instances is not None
    assert set(np.unique(complete.label)) == {0, 1}
    assert set(np.unique(complete.instances)) == {0, 10, 20, 30}
    np.testing.assert_array_equal(complete.label[10, 17:24], [1, 1, 0, 0, 1, 1, 1])
    assert partial.label is not None
    silver = tifffile.imread(root / "01_ST/SEG/man_seg001.tif")
    np.testing.assert_array_equal(partial.label == IGNORE, np.isin(silver, [1, 3]))
    assert "gold truth of 3 of 4 frames, 1 of them partial" in stack.source


def test_three_classes_leave_out_what_is_not_annotated(root: Path) -> None:
    stack = ctc.read(root, "test", target=Target("cell-border", border_px=2))
    assert stack.class_names == ("background", "cell", "border")
    complete, partial = stack.frames[0], stack.frames[1]
    assert complete.label is not None
    assert partial.label is not None
    np.testing.assert_array_equal(complete.label[10, 15:26], [1, 1, 1, 2, 2, 2, 2, 1, 1, 1, 1])
    silver = tifffile.imread(root / "01_ST/SEG/man_seg001.tif")
    np.testing.assert_array_equal(partial.label == IGNORE, np.isin(silver, [1, 3]))


def test_background_outside_the_field_of_interest_is_unknown(root: Path) -> None:
    whole, inner = ctc.read(root, "test").frames[0], ctc.read(root, "test", foi_px=12).frames[0]
    assert whole.label is not None
    assert inner.label is not None
    border = np.ones((40, 50), bool)
    border[12:-12, 12:-12] = False
    expected = np.where(border & (tifffile.imread(root / "01_GT/SEG/man_seg000.tif") == 0), IGNORE, whole.label)
    np.testing.assert_array_equal(inner.label, expected)
    assert (inner.label == IGNORE).any()
    assert (inner.label[border] == 1).any()


def test_silver_labels_are_complete(root: Path) -> None:
    stack = ctc.read(root, "test", labels="silver", target=Target(ridge_px=0))
    assert all(f.label is not None and not (f.label == IGNORE).any() for f in stack.frames)
    silver = tifffile.imread(root / "01_ST/SEG/man_seg001.tif")
    np.testing.assert_array_equal(stack.frames[1].instances, silver)
    np.testing.assert_array_equal(stack.frames[1].label, silver > 0)


def test_gold_instances_are_untouched(root: Path) -> None:
    found = ctc.gold_instances(root, "01")
    assert list(found) == ["01/t000", "01/t001"]
    np.testing.assert_array_equal(found["01/t000"], tifffile.imread(root / "01_GT/SEG/man_seg000.tif"))
    assert found["01/t000"].dtype == np.int32
    (root / "01_GT/SEG/man_seg000.tif").unlink()  # the others keep the names of their own images
    np.testing.assert_array_equal(
        ctc.gold_instances(root, "01")["01/t001"], tifffile.imread(root / "01_GT/SEG/man_seg001.tif")
    )


def test_images_are_normalised_as_asked(root: Path) -> None:
    raw = tifffile.imread(root / "01/t002.tif")
    np.testing.assert_array_equal(ctc.read(root).frames[2].image[0], raw.astype(np.float32) / 255)
    found = ctc.read(root, normalise=Normalisation("minmax")).frames[2].image
    assert (found.min(), found.max()) == (0, 1)


def test_what_is_wrong_is_named(root: Path) -> None:
    with pytest.raises(DataError, match="no sequence folder"):
        ctc.read(root / "01")
    with pytest.raises(DataError, match="cannot be read"):
        ctc.read(root / "nowhere")
    write(root / "01_GT/SEG/man_seg001.tif", np.zeros((40, 49), np.uint16))
    with pytest.raises(DataError, match=r"man_seg001\.tif: has shape \(40, 49\)"):
        ctc.read(root)
    write(root / "01_GT/SEG/man_seg001.tif", np.zeros((40, 50), np.float32))
    with pytest.raises(DataError, match="float32"):
        ctc.read(root)
    write(root / "01_GT/SEG/man_seg009.tif", np.zeros((40, 50), np.uint16))
    with pytest.raises(DataError, match="no image of this number"):
        ctc.gold_instances(root, "01")
    with pytest.raises(DataError, match="no gold masks"):
        ctc.gold_instances(root, "03")


PARTIAL = {
    "PhC-C2DH-U373": {"02/t026", "02/t051", "02/t085", "02/t106"},
    "DIC-C2DH-HeLa": {"01/t067", "02/t042", "02/t061"},
}


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "size", "frames", "gold"),
    [("PhC-C2DH-U373", (520, 696), 230, {"01": 15, "02": 19}), ("DIC-C2DH-HeLa", (512, 512), 168, {"01": 9, "02": 9})],
)
def test_real_sets(data_root: Path, folder: str, size: tuple[int, int], frames: int, gold: dict[str, int]) -> None:
    """Counts as the challenge publishes them; exactly the frames known to be partial are found to be."""
    stack = ctc.read(data_root / folder)
    assert len(stack) == frames
    assert {f.size for f in stack.frames} == {size}
    known = [f for f in stack.frames if f.label is not None]
    assert {s: sum(f.sequence == s for f in known) for s in gold} == gold
    assert {f.name for f in known if (f.label == IGNORE).any()} == PARTIAL[folder]
    truth = {name: mask for s in gold for name, mask in ctc.gold_instances(data_root / folder, s).items()}
    assert set(truth) == {f.name for f in known}
    for frame in known:
        assert frame.label is not None
        assert set(np.unique(frame.instances)) == set(np.unique(truth[frame.name]))
        np.testing.assert_array_equal(frame.label == 1, frame.instances > 0)  # type: ignore[operator]


@pytest.mark.real_data
def test_three_of_eighteen_cells_are_annotated_in_hela_01_067(data_root: Path) -> None:
    stack = ctc.read(data_root / "DIC-C2DH-HeLa")
    frame = next(f for f in stack.frames if f.name == "01/t067")
    silver = ctc.read_mask(data_root / "DIC-C2DH-HeLa/01_ST/SEG/man_seg067.tif")
    assert frame.label is not None
    ignored = {int(v) for v in np.unique(silver[frame.label == IGNORE])}
    assert len(ignored) == 15
    assert len(np.unique(frame.instances)) - 1 == 3


@pytest.mark.parametrize("place", ["", "01", "01_GT/SEG"])
def test_a_folder_that_may_not_be_listed_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    listed = os.listdir

    def listdir(path: Path) -> list[str]:
        if Path(path) == root / place:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(DataError) as caught:
        ctc.read(root)
    assert str(caught.value) == f"{root / place}: cannot be read (Permission denied); check the path and its rights"
