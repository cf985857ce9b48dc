"""Submissions: the EM stack, linked masks and tracks, and what py-ctcmetrics says about the folder."""

import warnings

import numpy as np
import pytest
import tifffile
from ctc_metrics import validate_sequence
from hypothesis import given, settings
from hypothesis import strategies as st

from unet.data.images.tiff import read_gray
from unet.errors import DataError, RunError
from unet.metrics.instance import seg
from unet.prediction.submission import Track, link, write_ctc, write_isbi


def row(*values):
    return np.array([values], np.int32)


def links(*frames):
    masks, tracks = link([row(*f) for f in frames])
    return [m[0].tolist() for m in masks], [tuple(t) for t in tracks]


def test_the_em_stack(tmp_path):
    probabilities = np.random.default_rng(0).random((3, 5, 4)).astype(np.float32)
    path = write_isbi(tmp_path / "test-probabilities.tif", probabilities)
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == 3
        assert tif.is_imagej
        page = tif.pages.first
        assert (page.dtype, page.compression, page.shape) == (np.float32, 1, (5, 4))
    np.testing.assert_array_equal(read_gray(path), probabilities)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((4, 4), np.float32), "expected the probability of cell"),
        (np.zeros((0, 4, 4), np.float32), "expected the probability of cell"),
        (np.zeros((1, 4, 4), np.uint8), "got uint8"),
        (np.full((1, 4, 4), 1.5, np.float32), r"1\.5\.\.1\.5"),
        (np.full((1, 4, 4), np.nan, np.float32), "nan"),
    ],
)
def test_other_em_stacks_are_refused(tmp_path, bad, message):
    with pytest.raises(DataError, match=message):
        write_isbi(tmp_path / "p.tif", bad)
    assert list(tmp_path.iterdir()) == []


def test_linking_by_hand():
    # object 5 goes on as 9; 7 begins in frame 1; in frame 2 nothing overlaps 9, so its place begins a new track
    masks, tracks = links([5, 5, 0, 0, 0, 0], [9, 9, 9, 0, 7, 0], [0, 0, 0, 1, 1, 0])
    assert masks == [[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 2, 0], [0, 0, 0, 2, 2, 0]]
    assert tracks == [(1, 0, 1, 0), (2, 1, 2, 0)]


def test_the_largest_overlap_wins():
    # 3 shares one pixel with object 1 and two with object 2; 1 then has only 4 left
    assert links([1, 1, 1, 2, 2, 0], [4, 4, 3, 3, 3, 0]) == (
        [[1, 1, 1, 2, 2, 0], [1, 1, 2, 2, 2, 0]],
        [(1, 0, 1, 0), (2, 0, 1, 0)],
    )


def test_one_track_goes_on_in_one_object_only():
    # object 1 falls in two; the larger part goes on, the other begins a track; two objects that fuse: one track ends
    assert links([1, 1, 1, 1], [2, 0, 3, 3], [5, 5, 5, 5]) == (
        [[1, 1, 1, 1], [2, 0, 1, 1], [1, 1, 1, 1]],
        [(1, 0, 2, 0), (2, 1, 1, 0)],
    )


def test_equal_overlaps_go_to_the_lower_labels():
    assert links([1, 1, 2, 2], [8, 9, 9, 8])[0] == [[1, 1, 2, 2], [1, 2, 2, 1]]


def test_a_gap_ends_a_track():
    assert links([1, 1], [0, 0], [1, 1]) == ([[1, 1], [0, 0], [2, 2]], [(1, 0, 0, 0), (2, 2, 2, 0)])


def test_frames_without_objects_have_no_tracks():
    assert links([0, 0], [0, 0]) == ([[0, 0], [0, 0]], [])
    assert link([]) == ([], ())


def test_frames_of_unequal_shape_are_refused():
    with pytest.raises(DataError, match="a sequence has one shape"):
        link([row(1), row(1, 2)])


def test_too_many_tracks_are_refused():
    many = np.arange(1, 256 * 256 + 1, dtype=np.int32).reshape(256, 256)
    with pytest.raises(DataError, match="more than 65535 tracks up to frame 0"):
        link([many])
    many[0, 0] = 0
    masks, tracks = link([many])
    assert len(tracks) == 65535
    assert masks[0].max() == 65535


def random_sequence(seed):
    """A few frames of blocks that move, vanish, split and fuse."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(rng.integers(1, 6)):
        coarse = rng.integers(0, 5, rng.integers(3, 5, 2).max() * np.array([1, 1]))[:3, :3]
        frames.append(np.roll(np.kron(coarse, np.ones((3, 3), int)), rng.integers(-1, 2, 2), (0, 1)).astype(np.int32))
    frames[0][0, 0] = 1
    return frames


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_every_link_is_valid(seed):
    frames = random_sequence(seed)
    masks, tracks = link(frames)
    present = {t.label: [i for i, m in enumerate(masks) if (m == t.label).any()] for t in tracks}
    assert [t.label for t in tracks] == list(range(1, len(tracks) + 1))
    for t in tracks:
        assert present[t.label] == list(range(t.begin, t.end + 1))
        for i in range(t.begin, t.end):  # a track never jumps
            assert ((masks[i] == t.label) & (masks[i + 1] == t.label)).any()
    for frame, mask in zip(frames, masks, strict=True):
        assert mask.dtype == np.uint16
        assert set(np.unique(mask)) - {0} <= set(present)
        # the same objects under other numbers
        assert len(set(zip(frame.flat, mask.flat, strict=True))) == len(np.unique(frame)) == len(np.unique(mask))
        np.testing.assert_array_equal(mask == 0, frame == 0)


def accepted(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # py-ctcmetrics warns about what it finds wrong
        return validate_sequence(str(folder), threads=1)["Valid"] == 1


@pytest.mark.parametrize("seed", range(4))
def test_py_ctcmetrics_accepts_the_folder(tmp_path, seed):
    frames = random_sequence(seed)
    folder = tmp_path / "01_RES"
    tracks = write_ctc(folder, frames)
    assert accepted(folder)
    lines = (folder / "res_track.txt").read_text().splitlines()
    assert [Track(*map(int, line.split(" "))) for line in lines] == list(tracks)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "res_track.txt").write_text("1 0 1 0\n"),
        lambda folder: (folder / "res_track.txt").write_text("1 0 2 0\n2 1 2 0\n3 0 2 0\n"),
        lambda folder: tifffile.imwrite(folder / "mask001.tif", np.array([[1, 0, 9]], np.uint16)),
    ],
    ids=["missing track", "track too long", "unknown label"],
)
def test_the_validation_can_fail(tmp_path, damage):
    folder = tmp_path / "01_RES"
    write_ctc(folder, [row(1, 0, 2), row(1, 0, 2), row(1, 0, 0)])
    assert accepted(folder)
    damage(folder)
    assert not accepted(folder)


def test_masks_are_plain_16_bit_files(tmp_path):
    write_ctc(tmp_path / "02_RES", [row(70000, 0, 3)])
    assert sorted(p.name for p in (tmp_path / "02_RES").iterdir()) == ["mask000.tif", "res_track.txt"]
    with tifffile.TiffFile(tmp_path / "02_RES" / "mask000.tif") as tif:
        page = tif.pages.first
        assert (page.dtype, page.compression, page.shape) == (np.uint16, 1, (1, 3))
        np.testing.assert_array_equal(page.asarray(), [[2, 0, 1]])


def test_long_sequences_get_four_digits(tmp_path):
    write_ctc(tmp_path, [row(1)] * 1001)
    assert (tmp_path / "mask0000.tif").exists()
    assert (tmp_path / "mask1000.tif").exists()
    assert (tmp_path / "res_track.txt").read_text() == "1 0 1000 0\n"


def test_an_earlier_longer_result_is_replaced(tmp_path):
    write_ctc(tmp_path, [row(1)] * 5)
    (tmp_path / "notes.txt").write_text("kept")
    write_ctc(tmp_path, [row(1)] * 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mask000.tif", "mask001.tif", "notes.txt", "res_track.txt"]
    assert accepted(tmp_path)


def test_a_result_without_objects_is_refused(tmp_path):
    with pytest.raises(DataError, match="lower the threshold"):
        write_ctc(tmp_path / "01_RES", [row(0, 0)])
    assert not (tmp_path / "01_RES").exists()


def test_a_folder_that_cannot_be_written_is_a_run_error(tmp_path):
    (tmp_path / "01_RES").write_text("a file")
    with pytest.raises(RunError, match="01_RES"):
        write_ctc(tmp_path / "01_RES", [row(1)])


def test_a_failed_write_leaves_no_valid_looking_result(tmp_path, monkeypatch):
    write_ctc(tmp_path, [row(1)] * 2)
    monkeypatch.setattr(
        "unet.prediction.submission._write_mask", lambda *_: (_ for _ in ()).throw(RunError("disk full"))
    )
    with pytest.raises(RunError):
        write_ctc(tmp_path, [row(1)] * 3)
    assert not (tmp_path / "res_track.txt").exists()


@pytest.mark.real_data
def test_the_silver_truth_as_a_submission(data_root, tmp_path):
    paths = sorted((data_root / "DIC-C2DH-HeLa" / "01_ST" / "SEG").glob("*.tif"))[:12]
    frames = [read_gray(path)[0] for path in paths]
    tracks = write_ctc(tmp_path / "01_RES", frames)
    assert accepted(tmp_path / "01_RES")
    written = [read_gray(tmp_path / "01_RES" / f"mask{i:03}.tif")[0] for i in range(12)]
    assert seg(frames, written) == 1
    assert len(tracks) < 2 * max(len(np.unique(f)) for f in frames)  # cells are followed, not begun anew in each frame


def test_masks_take_the_digits_of_the_frames(tmp_path):
    write_ctc(tmp_path, [row(1)] * 2, digits=4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mask0000.tif", "mask0001.tif", "res_track.txt"]
    write_ctc(tmp_path, [row(1)] * 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mask000.tif", "mask001.tif", "res_track.txt"]
