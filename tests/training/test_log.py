"""What a run tells about its speed."""

from types import SimpleNamespace

import pytest
import torch

from unet.config import from_dict
from unet.errors import Diverged
from unet.runs.folder import ATTEMPTS, TIMING, RunFolder
from unet.study.collect import seconds_taken
from unet.training.log import Journal


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    shown = SimpleNamespace(now=100.0)
    monkeypatch.setattr("unet.training.log.time", SimpleNamespace(perf_counter=lambda: shown.now))
    return shown


def test_speed_leaves_out_the_evaluation(tmp_path, clock):
    config = from_dict({"train": {"batch": 2, "accumulate": 3}})
    journal = Journal(config, RunFolder(tmp_path), SimpleNamespace(log=lambda _: None))
    journal.begin()
    for update in (10, 20):
        with journal.waiting():
            clock.now += 1
        clock.now += 4  # 5 s for 10 updates of 6 tiles
        journal.state.update = update
        with journal.evaluating():
            clock.now += 15
    expected = {"tiles_per_s": 12.0, "seconds_per_update": 0.5, "data_wait_share": 0.2, "evaluation_s": 15.0}
    assert RunFolder(tmp_path).rows(TIMING) == [{"update": update, **expected} for update in (10, 20)]
    assert seconds_taken(tmp_path) == 40.0
    RunFolder(tmp_path).append(ATTEMPTS, {"outcome": "ended", "seconds": 21.0})  # another was killed
    assert seconds_taken(tmp_path) == 40.0
    RunFolder(tmp_path).append(ATTEMPTS, {"outcome": "ended", "seconds": 21.5})  # with start and scoring
    assert seconds_taken(tmp_path) == 42.5


def test_a_run_without_held_out_frames_tells_its_speed(tmp_path, clock):
    journal = Journal(from_dict({"train": {"batch": 1}}), RunFolder(tmp_path), SimpleNamespace(log=lambda _: None))
    journal.begin()
    clock.now += 2
    journal.state.update = 4
    journal.timing()
    (row,) = RunFolder(tmp_path).rows(TIMING)
    assert (row["tiles_per_s"], row["evaluation_s"]) == (2.0, 0.0)


def test_counts_of_the_loss_are_shown_as_accuracy_and_iou(tmp_path):
    """In the row of ten updates, of all their pixels; on the progress line, of the last update."""
    shown, sent = [], []
    journal = Journal(from_dict({"train": {"updates": 12}}), RunFolder(tmp_path), SimpleNamespace(log=sent.append))
    journal.begin()
    bar = SimpleNamespace(update=lambda _, note: shown.append(note))
    for update in range(12):
        counts = torch.tensor([[6, 2], [1, 1]]) if update < 9 else torch.tensor([[4, 0], [1, 5]])
        journal.add(update, torch.tensor(0.5), torch.tensor(1.0), counts)
        journal.flush()
        journal.show(bar)
    first, last = RunFolder(tmp_path).rows("metrics.jsonl")
    assert first["pixel_accuracy"] == pytest.approx((9 * 7 + 9) / 100)
    assert first["mean_iou"] == pytest.approx((58 / 86 + 14 / 42) / 2)  # hits 58 and 14, missed or false 28 and 28
    assert (last["pixel_accuracy"], last["mean_iou"]) == (0.9, pytest.approx((4 / 5 + 5 / 6) / 2))
    assert "accuracy 70.0%" in shown[0]
    assert "accuracy 90.0%" in shown[9]  # although the row has been written
    assert sent[0]["train/pixel_accuracy"] == first["pixel_accuracy"]


def test_without_counts_the_row_is_as_it_was(tmp_path):
    journal = Journal(from_dict({"train": {"updates": 1}}), RunFolder(tmp_path), SimpleNamespace(log=lambda _: None))
    journal.begin()
    journal.add(0, torch.tensor(0.5), torch.tensor(1.0))
    journal.flush()
    (row,) = RunFolder(tmp_path).rows("metrics.jsonl")
    assert set(row) == {"update", "part", "loss", "loss_max", "gradient_norm", "lr"}


def test_a_loss_that_is_no_number_is_told_with_the_tiles_of_its_update(tmp_path):
    """Update 4 of 3 batches of 2 tiles each: those before it had tiles 0 to 23."""
    config = from_dict({"train": {"batch": 2, "accumulate": 3}})
    journal = Journal(config, RunFolder(tmp_path), SimpleNamespace(log=lambda _: None))
    journal.add(4, torch.tensor(float("nan")), torch.tensor(1.0))
    with pytest.raises(Diverged, match=r"^update 4 \(tiles 24\.\.29\): loss nan"):
        journal.flush()
