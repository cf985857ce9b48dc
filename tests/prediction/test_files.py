"""Prediction from file to file: the same numbers as in memory, with flat memory, and nothing lost to a kill."""

import dataclasses
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from unet.config import ModelConfig, PredictConfig
from unet.data.images import mapped
from unet.data.stack import Normalisation
from unet.errors import DataError, RunError
from unet.networks import build
from unet.prediction import files as predict_files
from unet.prediction.files import Watch, check_disk, predict_file
from unet.prediction.job import Settings, make_task
from unet.prediction.overlap import Network, predict_image
from unet.prediction.progress import Record

DEPTH = 3  # context 20 px, stride 4
TILE = 60  # 20 px of output


def network_of(channels=1, classes=2):
    model = build(ModelConfig(base_channels=4, depth=DEPTH), channels, classes, seed=1)
    return Network(model, torch.device("cpu"), channels_last=False, depth=DEPTH)


@dataclasses.dataclass(frozen=True)
class Counting:
    """A network that counts its tiles; its probability is the mean gray value of a window's middle."""

    tiles: list[int]
    precision: str = "fp32"
    depth: int = DEPTH
    allow_odd_pooling: bool = False

    def probabilities(self, batch_NCHW):
        self.tiles.append(len(batch_NCHW))
        margin = 20
        middle = batch_NCHW[:, 0, margin:-margin, margin:-margin]
        return np.stack([1 - middle, middle], axis=1).astype(np.float32)

    def logits(self, batch_NCHW):
        return torch.log(torch.from_numpy(self.probabilities(batch_NCHW)))


SETTINGS = Settings(Normalisation(), how=PredictConfig(tile_px=TILE), channels=1, classes=2, weights=("w" * 64,))


def changed(**values):
    how = {key: values.pop(key) for key in vars(SETTINGS.how) if key in values}
    return dataclasses.replace(SETTINGS, how=dataclasses.replace(SETTINGS.how, **how), **values)


def write_stack(path, images=3, height=70, width=50, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (images, height, width), np.uint8)
    tifffile.imwrite(path, pixels, photometric="minisblack")
    return pixels


def run(folder, network=None, settings=SETTINGS, **options):
    network = network or Counting([])
    task = make_task(network, folder / "in.tif", folder / "out.tif", settings)
    return predict_file(network, task, settings, **options)


def listing(folder):
    return sorted(p.name for p in folder.iterdir() if p.name != "in.tif")


class StopAt:
    """Ends the prediction after so many batches of tiles, as a signal would."""

    def __init__(self, tiles):
        self.left = tiles

    def __call__(self):
        self.left -= 1
        if self.left == 0:
            raise InterruptedError


def interrupted(folder, tiles, settings=SETTINGS, network=None, **options):
    with pytest.raises(RunError):  # InterruptedError is an OSError; what it is does not matter here
        run(folder, network, settings, watch=Watch(check=StopAt(tiles)), **options)


# ---------------------------------------------------------------------------------------------- the same numbers

KINDS = {
    "fixed": Normalisation(),
    "minmax": Normalisation("minmax"),
    "zscore": Normalisation("zscore"),
    "percentile": Normalisation("percentile", low=0.5, high=99.0),
}


@pytest.mark.parametrize("symmetries", [1, 8])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("uint8", {}),
        (">u2", {}),
        ("uint16", {"tile": (16, 32), "compression": "zlib"}),
        ("float32", {"rowsperstrip": 9}),
    ],
    ids=["8-bit", "16-bit big-endian", "compressed tiles", "float strips"],
)
def test_files_hold_what_is_predicted_in_memory(tmp_path, dtype, options, kind, symmetries):
    rng = np.random.default_rng(0)
    pixels = (rng.random((2, 47, 62)) * 200).astype(dtype)
    tifffile.imwrite(tmp_path / "in.tif", pixels, photometric="minisblack", **options)
    settings = changed(normalisation=KINDS[kind], symmetries=symmetries, label_map=True, batch=3)
    network = network_of()
    assert run(tmp_path, network, settings)
    assert listing(tmp_path) == ["out-classes.tif", "out.tif"]
    found, labels = tifffile.imread(tmp_path / "out.tif"), tifffile.imread(tmp_path / "out-classes.tif")
    for n in range(2):
        image = KINDS[kind](pixels[n][None])
        expected = predict_image(network, image, 2, PredictConfig(tile_px=TILE, symmetries=symmetries))
        np.testing.assert_allclose(found[n], expected[1], rtol=0, atol=1e-5)
        np.testing.assert_array_equal(labels[n], found[n] > 0.5)
    assert (found.dtype, labels.dtype) == (np.float32, np.uint8)


def test_colours_and_several_classes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    tifffile.imwrite(tmp_path / "in.tif", pixels, photometric="rgb", resolution=(300, 300), resolutionunit="INCH")
    network, settings = network_of(3, 4), changed(channels=3, classes=4, label_map=True)
    run(tmp_path, network, settings)
    expected = predict_image(network, Normalisation()(pixels.transpose(2, 0, 1)), 4, PredictConfig(tile_px=TILE))
    with tifffile.TiffFile(tmp_path / "out.tif") as tif:
        assert tif.series[0].axes == "CYX"
        assert tif.pages[0].tags["XResolution"].value == (300, 1)
        assert tif.pages[0].tags["ResolutionUnit"].value == 2
        np.testing.assert_allclose(tif.asarray(), expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out-classes.tif"), expected.argmax(0))


def test_other_channels_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", np.zeros((9, 9, 3), np.uint8), photometric="rgb")
    with pytest.raises(DataError, match=r"in\.tif: has 3 channels; the network takes gray images"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((160, 192, 2), "160 images of 192 x 2 px"),
        ((160, 192, 10), "160 images of 192 x 10 px"),  # ten bands of a spectrum
        ((7, 90), "1 image of 7 x 90 px"),
    ],
)
def test_a_channel_axis_in_the_wrong_place_is_said(tmp_path, shape, said):
    tifffile.imwrite(tmp_path / "in.tif", np.zeros(shape, np.uint8), photometric="minisblack")
    with pytest.raises(DataError, match=rf"in\.tif: reads as {said}; a side of .* px is a channel axis"):
        run(tmp_path)
    for thin in ((8, 90), (2, 90, 16)):  # a kymograph, channels of a mother machine
        tifffile.imwrite(tmp_path / "in.tif", np.zeros(thin, np.uint8), photometric="minisblack")
        assert run(tmp_path, overwrite=True)


@pytest.mark.parametrize("kind", KINDS)
def test_gray_values_that_are_no_numbers_leave_nothing(tmp_path, kind):
    pixels = np.zeros((3, 30, 30), np.float32)
    pixels[1, 3, 4] = np.nan
    tifffile.imwrite(tmp_path / "in.tif", pixels, photometric="minisblack")
    with pytest.raises(DataError, match=r"in\.tif, image 2: 1 gray values are NaN"):
        run(tmp_path, settings=changed(normalisation=KINDS[kind]))
    assert listing(tmp_path) == []


def test_gray_values_beyond_float32_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", np.full((30, 30), 1e300), photometric="minisblack")
    with pytest.raises(DataError, match=r"in\.tif: gray values are too large"):
        run(tmp_path)
    assert listing(tmp_path) == []


@pytest.mark.parametrize(("dtype", "scale", "warned"), [("u1", 255.0, 0), ("u2", 255.0, 1), ("u1", 65535.0, 1)])
def test_gray_values_unlike_those_of_training_are_mentioned(tmp_path, dtype, scale, warned):
    tifffile.imwrite(tmp_path / "in.tif", np.ones((9, 9), dtype))
    said = []
    run(tmp_path, settings=changed(normalisation=Normalisation(scale=scale)), watch=Watch(say=said.append))
    assert len(said) == warned


# ---------------------------------------------------------------------------------------------- going on

ROWS = 4  # 70 px of height in windows of 20
COLUMNS = 3


@pytest.fixture
def whole(tmp_path):
    """The input of the tests below, and what an undisturbed prediction makes of it."""
    write_stack(tmp_path / "in.tif")
    counting = Counting([])
    run(tmp_path, counting)
    assert sum(counting.tiles) == 3 * ROWS * COLUMNS
    content = (tmp_path / "out.tif").read_bytes()
    (tmp_path / "out.tif").unlink()
    return content


@pytest.mark.parametrize("tiles", [1, 2, 3, 5, 6, 12, 13, 23, 24, 35])
def test_at_most_one_row_is_computed_again(tmp_path, whole, tiles):
    interrupted(tmp_path, tiles)
    assert not (tmp_path / "out.tif").exists()
    again, rows = Counting([]), []
    assert run(tmp_path, again, resume=True, watch=Watch(rows=rows.append))
    assert sum(again.tiles) <= 3 * ROWS * COLUMNS - tiles + COLUMNS
    assert rows == list(range(tiles // COLUMNS, 3 * ROWS + 1))
    assert (tmp_path / "out.tif").read_bytes() == whole
    assert listing(tmp_path) == ["out.tif"]


def test_two_stops_with_larger_batches(tmp_path, whole):
    for tiles in (2, 3):
        interrupted(tmp_path, tiles, changed(batch=4), resume=True)
    run(tmp_path, settings=changed(batch=2), resume=True)
    assert (tmp_path / "out.tif").read_bytes() == whole


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.prediction.test_files import Counting, SETTINGS, run
from unet.prediction.files import Watch
left = [{tiles}]
def check():
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
run(Path({folder!r}), watch=Watch(check=check))
"""


def test_a_killed_process_loses_at_most_one_row(tmp_path, whole):
    code = KILLED.format(root=str(Path(__file__).resolve().parents[2]), tiles=20, folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert listing(tmp_path) == [".out.tif.part", ".out.tif.part.json"]
    with Record(tmp_path / ".out.tif.part.json") as record:
        assert record.rows == 20 // COLUMNS
    again = Counting([])
    run(tmp_path, again, resume=True)
    assert sum(again.tiles) == 3 * ROWS * COLUMNS - 20 // COLUMNS * COLUMNS
    assert (tmp_path / "out.tif").read_bytes() == whole


def test_pixels_are_on_disk_before_their_row_counts(tmp_path, monkeypatch):
    write_stack(tmp_path / "in.tif", 1)
    order = []
    flush, advance = np.memmap.flush, Record.advance
    monkeypatch.setattr(np.memmap, "flush", lambda self: (order.append("flush"), flush(self))[1])
    monkeypatch.setattr(Record, "advance", lambda self, rows: (order.append(rows), advance(self, rows))[1])
    run(tmp_path)
    counted = [x for x in order if x != "flush"]
    assert counted == [1, 2, 3, 4]
    assert all(order[order.index(rows) - 1] == "flush" for rows in counted)


DIFFERENT = {
    "changed in time": (lambda p: os.utime(p, (1, 1)), {}, "input file has changed"),
    "changed in content": (lambda p: write_stack(p, seed=1), {}, "input file has changed"),
    "weights": (lambda _: None, {"weights": ("v" * 64,)}, "other networks"),
    "normalisation": (lambda _: None, {"normalisation": Normalisation("minmax")}, "another normalisation"),
    "tiles": (lambda _: None, {"tile_px": 64}, "another tile size"),
    "symmetries": (lambda _: None, {"symmetries": 8}, "number of symmetries"),
    "average": (lambda _: None, {"average": "logits"}, "symmetries or average"),
    "one network more": (lambda _: None, {"weights": ("w" * 64, "v" * 64)}, "other networks"),
    "label map": (lambda _: None, {"label_map": True}, "another choice of outputs"),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_does_not_fit_is_not_gone_on_with(tmp_path, case):
    change, settings, message = DIFFERENT[case]
    write_stack(tmp_path / "in.tif")
    interrupted(tmp_path, 10)
    change(tmp_path / "in.tif")
    before = (tmp_path / ".out.tif.part.json").read_bytes()
    with pytest.raises(RunError, match=message) as caught:
        run(tmp_path, settings=changed(**settings), resume=True)
    assert "\n" not in str(caught.value)
    assert (tmp_path / ".out.tif.part.json").read_bytes() == before
    assert run(tmp_path, settings=changed(**settings), resume=True, overwrite=True)  # anew
    assert "out.tif" in listing(tmp_path)


def test_another_precision_is_not_gone_on_with(tmp_path):
    write_stack(tmp_path / "in.tif")
    interrupted(tmp_path, 10)
    with pytest.raises(RunError, match="other networks or another precision"):
        run(tmp_path, Counting([], "bf16"), resume=True)


@pytest.mark.parametrize("damage", ["gone", "cut", "foreign"])
def test_a_damaged_part_is_not_gone_on_with(tmp_path, damage):
    write_stack(tmp_path / "in.tif")
    interrupted(tmp_path, 10)
    part = tmp_path / ".out.tif.part"
    if damage == "gone":
        part.unlink()
    elif damage == "cut":
        os.truncate(part, 5000)
    else:
        tifffile.imwrite(part, np.zeros((3, 70, 50), np.float32), photometric="minisblack")
    with pytest.raises(RunError, match="gone or damaged"):
        run(tmp_path, resume=True)


def test_hours_of_work_are_not_thrown_away_by_a_command_without_resume(tmp_path, whole):
    interrupted(tmp_path, 10)
    with pytest.raises(RunError, match="3 of 12 rows of tiles.*--resume.*--overwrite"):
        run(tmp_path)
    assert run(tmp_path, overwrite=True)
    assert (tmp_path / "out.tif").read_bytes() == whole


def test_outputs_are_not_overwritten(tmp_path, whole):
    (tmp_path / "out.tif").write_bytes(b"mine")
    for resume in (False, True):
        with pytest.raises(RunError, match="exists already"):
            run(tmp_path, resume=resume)
    assert (tmp_path / "out.tif").read_bytes() == b"mine"
    interrupted(tmp_path, 10, overwrite=True)
    assert (tmp_path / "out.tif").read_bytes() == b"mine"  # until the new one is complete
    assert run(tmp_path, resume=True, overwrite=True)
    assert (tmp_path / "out.tif").read_bytes() == whole


def test_what_is_finished_is_left_alone(tmp_path):
    write_stack(tmp_path / "in.tif")
    assert run(tmp_path)
    counting = Counting([])
    assert not run(tmp_path, counting, resume=True)
    assert counting.tiles == []
    with pytest.raises(RunError, match="made from another input or network"):
        run(tmp_path, settings=changed(weights=("v" * 64,)), resume=True)


def test_a_crash_between_the_two_names_is_mended(tmp_path, monkeypatch):
    write_stack(tmp_path / "in.tif")
    replace = Path.replace

    def crash(self, target):
        if Path(target).name == "out.tif":
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, settings=changed(label_map=True))
    assert listing(tmp_path) == [".out.tif.part", ".out.tif.part.json", "out-classes.tif"]
    counting = Counting([])
    assert run(tmp_path, counting, settings=changed(label_map=True), resume=True)
    assert counting.tiles == []
    assert listing(tmp_path) == ["out-classes.tif", "out.tif"]


def test_input_and_output_must_differ(tmp_path):
    write_stack(tmp_path / "in.tif")
    (tmp_path / "out.tif").symlink_to(tmp_path / "in.tif")
    with pytest.raises(RunError, match="same file"):
        run(tmp_path, overwrite=True)


def test_one_process_at_a_time(tmp_path):
    write_stack(tmp_path / "in.tif")
    second = []

    def check():
        with pytest.raises(RunError, match="another process"):
            run(tmp_path)
        second.append(1)

    run(tmp_path, watch=Watch(check=check))
    assert second


# ---------------------------------------------------------------------------------------------- disk and memory


def test_a_disk_that_is_too_small_is_refused_at_once(tmp_path, monkeypatch):
    write_stack(tmp_path / "in.tif", 2, 300, 300)
    usage = predict_files.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(predict_files.shutil, "disk_usage", lambda _: usage._replace(free=2 * 300 * 300 * 4 - 1))
    with pytest.raises(RunError, match=r"needs 0\.\d+ GB of disk and 0\.001 GB are free") as caught:
        run(tmp_path)
    assert "\n" not in str(caught.value)
    assert listing(tmp_path) == []
    monkeypatch.setattr(predict_files.shutil, "disk_usage", lambda _: usage._replace(free=2 * 300 * 300 * 4 + 50_000))
    assert run(tmp_path)


def test_what_is_there_needs_no_more_disk(tmp_path, monkeypatch):
    write_stack(tmp_path / "in.tif")
    interrupted(tmp_path, 10)
    task = make_task(Counting([]), tmp_path / "in.tif", tmp_path / "out.tif", SETTINGS)
    usage = predict_files.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(predict_files.shutil, "disk_usage", lambda _: usage._replace(free=0))
    check_disk([task], resume=True)
    assert run(tmp_path, resume=True)
    check_disk([task], resume=True)
    with pytest.raises(RunError, match=r"0\.000 GB are free"):
        check_disk([task])


def test_an_error_of_the_disk_on_the_way_is_one_line_and_can_be_resumed(tmp_path, whole, monkeypatch):
    advance = Record.advance

    def full(self, rows):
        if rows == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        advance(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Record, "advance", full)
        with pytest.raises(RunError, match="no space left") as caught:
            run(tmp_path)
        assert "\n" not in str(caught.value)
    assert run(tmp_path, resume=True)
    assert (tmp_path / "out.tif").read_bytes() == whole


def peak_bytes(side, folder):
    """Peak memory of one prediction above what is in use before, in bytes."""
    image = tifffile.memmap(folder / "in.tif", shape=(side, side), dtype="uint8", photometric="minisblack")
    image[:] = np.arange(side, dtype=np.uint8)
    image.flush()
    del image
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew

    def status(key):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))

    before = status("VmRSS")
    run(folder, settings=changed(tile_px=540, normalisation=Normalisation("percentile")), overwrite=True)
    return status("VmHWM") - before


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs /proc")
def test_memory_is_flat(tmp_path, monkeypatch):
    peak_bytes(1024, tmp_path)  # whatever is loaded the first time
    small, large = peak_bytes(1024, tmp_path), peak_bytes(6144, tmp_path)
    assert large < small + 24 * 2**20  # input and output are 189 MB, 184 MB more than the small ones
    for module in (mapped, predict_files):
        monkeypatch.setattr(module, "release", lambda _: None)
    assert peak_bytes(6144, tmp_path) > small + 100 * 2**20  # the test can fail
