"""Checkpoints: round trip, damage is found, the previous one is offered, no code is ever loaded."""

import pickle

import pytest
import torch

from unet.errors import RunError
from unet.files import sha256, write_json
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


@pytest.mark.parametrize("damage", ["cut", "emptied", "flipped", "no record", "half a record"])
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
        path.with_suffix(".json").write_text('{"upda')
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
