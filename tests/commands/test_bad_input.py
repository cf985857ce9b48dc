"""Bad input ends in one clear line and exit code 2, with nothing overwritten or lost."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.runs.test_folder import is_free
from unet.cli import main
from unet.evaluation import run as evaluation_run
from unet.runs import final

TINY = [
    "train", "--profile", "quick", "--model.base-channels", "2", "--model.depth", "3", "--tile.input-px", "52",
    "--train.updates", "2", "--train.device", "cpu", "--train.threads", "1", "--augment.gray", "--wandb", "disabled",
    "--quiet", "--run", "run",
]  # fmt: skip


def write_stack(folder, images=None, labels=None):
    rng = np.random.default_rng(0)
    target = folder / "data" / "ISBI-2012-EM"
    target.mkdir(parents=True, exist_ok=True)
    labels = (rng.random((10, 60, 64)) > 0.3).astype(np.uint8) * 255 if labels is None else labels
    images = rng.integers(0, 255, (10, 60, 64), dtype=np.uint8) if images is None else images
    for name, pixels in (("train-volume", images), ("train-labels", labels)):
        tifffile.imwrite(target / f"{name}.tif", pixels, photometric="minisblack")
    return target


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a small EM stack in the published layout."""
    write_stack(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNET_DATA", str(tmp_path / "data"))
    return tmp_path


def refused(capsys, *words):
    """The one line printed when `unet WORDS` is refused with exit code 2."""
    assert main(list(words)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("unet: ")
    return error


def test_the_small_run_itself_works(place):
    assert main(TINY) == 0
    assert (place / "run" / "scores.json").is_file()


def test_frames_of_unequal_size_are_written_where_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (tmp_path / "mine" / part).mkdir(parents=True)
    for number, side in enumerate((60, 64, 60, 66)):
        image = rng.integers(0, 255, (side, 60), np.uint8)
        tifffile.imwrite(tmp_path / "mine" / "images" / f"{number}.tif", image)
        tifffile.imwrite(tmp_path / "mine" / "labels" / f"{number}.tif", (image > 99).astype(np.uint8))
    assert main([*TINY, "--data.folder", "mine", "--data.folds", "2"]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.count(" run/"))
    assert told["probabilities:"] == "run/probabilities"
    assert all(Path(place).exists() for place in told.values())


@pytest.mark.parametrize(("folder", "image"), [("mine", b"im\xb5m"), (b"da\xe9", "im")])
def test_a_name_that_is_not_utf_8_is_one_line_and_leaves_nothing(folder, image, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for part, pixels in (("images", np.eye(60, dtype=np.uint8)), ("labels", np.eye(60, dtype=np.uint8))):
        place = tmp_path / os.fsdecode(folder) / part
        place.mkdir(parents=True)
        for number in "012":
            tifffile.imwrite(place / f"{os.fsdecode(image)}{number}.tif", pixels)
    error = refused(capsys, *TINY, "--data.folder", os.fsdecode(folder))
    assert "not UTF-8; rename" in error
    assert not Path("run").exists()


def test_a_missing_tiff(place, capsys):
    assert "absent.tif" in refused(capsys, *TINY, "--data.root", "absent.tif")
    (place / "data" / "ISBI-2012-EM" / "train-labels.tif").unlink()
    assert "train-labels.tif" in refused(capsys, *TINY)
    assert not (place / "run").exists()


def test_an_unreadable_tiff(place, capsys):
    (place / "data" / "ISBI-2012-EM" / "train-volume.tif").write_bytes(b"not a picture at all")
    assert "train-volume.tif" in refused(capsys, *TINY)


def test_a_tile_larger_than_memory_names_one_that_fits(place, capsys, monkeypatch):
    monkeypatch.setattr("unet.device.available_bytes", lambda _: 3_000_000)
    assert "px would fit" in refused(capsys, *TINY, "--tile.input-px", "1036")
    assert not (place / "run").exists()


def test_an_existing_run_is_kept(place, capsys):
    assert main(TINY) == 0
    capsys.readouterr()
    before = {p: p.read_bytes() for p in (place / "run").rglob("*") if p.is_file()}
    assert "--overwrite" in refused(capsys, *TINY)
    assert {p: p.read_bytes() for p in (place / "run").rglob("*") if p.is_file()} == before
    assert main([*TINY, "--overwrite"]) == 0


@pytest.mark.parametrize("more", [[], ["--overwrite"], ["--resume"]])
def test_nobody_can_take_a_run_between_its_training_and_its_scores(place, monkeypatch, more):
    """Two processes with --overwrite on one folder would leave the scores of one beside the weights of the other."""
    if more:
        assert main(TINY) == 0
    free = []

    def watched(original):
        def watch(*arguments, **options):
            free.append(is_free(place / "run"))
            result = original(*arguments, **options)
            free.append(is_free(place / "run"))
            return result

        return watch

    monkeypatch.setattr(evaluation_run, "evaluate_run", watched(evaluation_run.evaluate_run))
    monkeypatch.setattr(final, "send_scores", watched(final.send_scores))
    assert main([*TINY, *more]) == 0
    assert free == [False] * 4
    assert is_free(place / "run")


def test_a_resumed_run_cannot_change_its_configuration(place, capsys):
    assert main(TINY) == 0
    capsys.readouterr()
    message = refused(capsys, "train", "--resume", "--run", "run", "--optim.lr", "0.5")
    assert "optim.lr was 0.002 and cannot become 0.5" in message
    (place / "c.yaml").write_text("optim: {lr: 0.5}")
    again = refused(capsys, "train", "--resume", "--run", "run", "--config-file", "c.yaml")
    assert again == message


def test_no_space_left(place, capsys, monkeypatch):
    """The disk fills up while the first checkpoint is written: one line, and what was there stays."""
    original = os.fsync

    def full(descriptor):
        if "checkpoints" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, "No space left on device")
        original(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert "no space left" in refused(capsys, *TINY)
    assert list((place / "run" / "checkpoints").iterdir()) == []
    assert (place / "run" / "config.yaml").is_file()
    monkeypatch.setattr(os, "fsync", original)
    assert main(["train", "--resume", "--run", "run", "--quiet"]) == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_checkpoints_and_the_run_goes_on(place, number, code):
    command = [sys.executable, "-m", "unet", *TINY, "--train.updates", "400", "--train.eval-every", "400"]
    command.remove("--quiet")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    metrics = place / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == code, error
    assert "--resume --run run" in error
    assert "Traceback" not in error
    assert len(list((place / "run" / "checkpoints").glob("*.pt"))) == 1
    assert main(["train", "--resume", "--run", "run", "--quiet"]) == 0
