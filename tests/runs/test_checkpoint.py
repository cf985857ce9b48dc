"""Checkpoints: round trip, damage is found, the previous one is offered, no code is ever loaded."""

import errno
import os
import pickle
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from unet.errors import RunError
from unet.files import sha256, write_json
from unet.runs import checkpoint
from unet.runs.checkpoint import load_latest, load_weights, save_checkpoint, save_weights


def state(value):
    return {"update": value, "model": {"w": torch.full((3,), float(value))}, "list": [[1.0, 2.0]]}


def test_the_newest_is_loaded_and_two_are_kept(tmp_path):
    for update in (5, 999_999, 1_000_000):
        save_checkpoint(tmp_path, update, state(update))
    loaded, complaints = load_latest(tmp_path)
    assert loaded is not None
    assert loaded["update"] == 1_000_000
    assert complaints == []
    assert len(list(tmp_path.glob("*.pt"))) == len(list(tmp_path.glob("*.json"))) == 2


@pytest.mark.parametrize("damage", ["cut", "emptied", "flipped", "no record", "half a record", "odd record", "list"])
def test_a_damaged_one_is_passed_over_for_the_previous(tmp_path, damage):
    save_checkpoint(tmp_path, 5, state(5))
    path = save_checkpoint(tmp_path, 10, state(10))
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[:-7])
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "no record":
        path.with_suffix(".json").unlink()
    else:
        records = {"half a record": '{"upda', "odd record": '{"bytes": "1", "sha256": null}', "list": "[1]"}
        path.with_suffix(".json").write_text(records[damage])
    loaded, complaints = load_latest(tmp_path)
    assert loaded is not None
    assert loaded["update"] == 5
    assert len(complaints) == 1
    assert "update-000010.pt" in complaints[0]


def test_no_checkpoint_at_all(tmp_path):
    assert load_latest(tmp_path / "absent") == (None, [])


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    path = tmp_path / "update-000003.pt"
    path.write_bytes(pickle.dumps(Evil()))
    write_json(path.with_suffix(".json"), {"update": 3, "bytes": path.stat().st_size, "sha256": sha256(path)})
    loaded, complaints = load_latest(tmp_path)
    assert loaded is None
    assert "unreadable" in complaints[0]
    assert not (tmp_path / "ran").exists()


def test_weights_and_what_they_say(tmp_path):
    weights = {"a": torch.randn(2, 3).t(), "b": torch.arange(3)}
    save_weights(tmp_path / "w.safetensors", weights, {"classes": ["x", "y"]})
    loaded, metadata = load_weights(tmp_path / "w.safetensors")
    torch.testing.assert_close(loaded, weights, rtol=0, atol=0)
    assert metadata == {"classes": ["x", "y"]}


@pytest.mark.parametrize("content", [b"", b"not weights", b"\xff" * 64])
def test_broken_weights_are_one_line(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(RunError, match="no readable weights") as caught:
        load_weights(tmp_path / "w.safetensors")
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_line_and_the_previous_one_stays(tmp_path):
    """Written for real: torch.save itself answers a failed write with an error that names no disk."""
    code = (
        "import resource, sys, pathlib, torch\nfrom unet.errors import RunError\n"
        "from unet.runs.checkpoint import load_latest, save_checkpoint\nfolder = pathlib.Path(sys.argv[1])\n"
        "save_checkpoint(folder, 5, {'update': 5})\nresource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "try:\n    save_checkpoint(folder, 10, {'w': torch.zeros(9000)})\n"
        "except RunError as error:\n    print(error)\nprint(load_latest(folder)[0]['update'])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    message, update = done.stdout.splitlines()
    assert "update-000010.pt: no space left" in message
    assert update == "5"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["update-000005.json", "update-000005.pt"]


def test_damaged_ones_do_not_take_the_place_of_the_previous(tmp_path):
    """A run that fell back behind a damaged checkpoint and saves before it comes there again."""
    save_checkpoint(tmp_path, 200, state(200))
    save_checkpoint(tmp_path, 400, state(400)).write_bytes(b"")
    save_checkpoint(tmp_path, 210, state(210))
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == ["update-000200.pt", "update-000210.pt"]


def test_other_files_are_left_alone(tmp_path):
    for name in ("update-best.pt", "update-².pt", "update-.pt"):
        (tmp_path / name).write_text("mine")
    for update in range(4):
        save_checkpoint(tmp_path, update, state(update))
    assert len(list(tmp_path.glob("*.pt"))) == 5
    loaded, complaints = load_latest(tmp_path)
    assert loaded is not None
    assert (loaded["update"], complaints) == (3, [])


def test_a_write_that_went_wrong_unnoticed_costs_no_older_one(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, 5, state(5))
    save_checkpoint(tmp_path, 10, state(10))
    original = checkpoint.atomic_write

    @contextmanager
    def flips(path):
        with original(path) as file:
            yield file
            if path.suffix == ".pt":
                file.seek(100)
                file.write(b"?")

    monkeypatch.setattr(checkpoint, "atomic_write", flips)
    with pytest.raises(RunError, match="damaged"):
        save_checkpoint(tmp_path, 15, state(15))
    loaded, complaints = load_latest(tmp_path)
    assert loaded is not None
    assert (loaded["update"], len(complaints)) == (10, 1)
    assert (tmp_path / "update-000005.pt").exists()


@pytest.mark.parametrize("dies_at", range(1, 5))
def test_a_kill_while_one_is_written_again_leaves_it_whole(tmp_path, monkeypatch, dies_at):
    """Whatever was renamed last: of the same update there is the old one, or the new one, never a damaged one."""
    save_checkpoint(tmp_path, 5, state(5))
    save_checkpoint(tmp_path, 10, state(10))
    renames = 0
    original = Path.replace

    def dies(self, target):
        nonlocal renames
        renames += 1
        if renames == dies_at:
            raise KeyboardInterrupt
        original(self, target)

    monkeypatch.setattr(Path, "replace", dies)
    with suppress(KeyboardInterrupt):
        save_checkpoint(tmp_path, 10, state(11))
        save_checkpoint(tmp_path, 15, state(15))
    monkeypatch.undo()
    loaded, complaints = load_latest(tmp_path)
    assert complaints == []
    assert loaded is not None
    assert loaded["update"] == {1: 10, 2: 10, 3: 11, 4: 11}[dies_at]


LARGE = {"update": 10, "w": torch.arange(4096.0)}


def damage(path, how):
    """Make a checkpoint one that is passed over; torch would read the content all the same."""
    if how == "flipped":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x40
        path.write_bytes(content)
    else:
        path.with_suffix(".json").write_text({"half a record": '{"upda', "list": "[1]"}[how])


@pytest.mark.parametrize("how", ["flipped", "half a record", "list"])
def test_a_damaged_one_whose_replacement_fails_does_not_become_whole(tmp_path, monkeypatch, how):
    """A resumed run passed it over, comes to its update again, and finds the disk full."""
    save_checkpoint(tmp_path, 5, state(5))
    path = save_checkpoint(tmp_path, 10, LARGE)
    damage(path, how)
    original = os.fsync

    def full(descriptor):
        if "update-000010.pt" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, "No space left on device")
        original(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="no space left"):
        save_checkpoint(tmp_path, 10, LARGE)
    monkeypatch.undo()
    loaded, complaints = load_latest(tmp_path)
    assert loaded is not None
    assert (loaded["update"], complaints) == (5, [])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["update-000005.json", "update-000005.pt"]


def dead_after(steps, patch):
    """Let so many files be renamed or removed and none after; returns the list of what is still allowed."""
    left = [None] * steps

    def allowed(original):
        def step(self, *arguments, **options):
            if not left:
                raise KeyboardInterrupt
            left.pop()
            return original(self, *arguments, **options)

        return step

    for name in ("replace", "unlink"):
        patch.setattr(Path, name, allowed(getattr(Path, name)))
    return left


@pytest.mark.parametrize("how", ["flipped", "half a record"])
def test_no_moment_of_a_kill_makes_a_damaged_one_whole(tmp_path, monkeypatch, how):
    found = []
    for steps in range(10):
        folder = tmp_path / str(steps)
        save_checkpoint(folder, 5, state(5))
        damage(save_checkpoint(folder, 10, LARGE), how)
        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            left = dead_after(steps, patch)
            save_checkpoint(folder, 10, LARGE | {"update": 11})
        loaded, _ = load_latest(folder)
        assert loaded is not None
        found.append(loaded["update"])
    assert left  # the last one was not killed
    assert found == [5, 5, 5] + [11] * 7


def test_one_that_a_bad_disk_does_not_read_is_replaced(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, 10, state(10))
    original = checkpoint.sha256

    def unreadable(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(checkpoint, "sha256", unreadable)
    save_checkpoint(tmp_path, 10, state(11))
    monkeypatch.setattr(checkpoint, "sha256", original)
    loaded, complaints = load_latest(tmp_path)
    assert loaded is not None
    assert (loaded["update"], complaints) == (11, [])
