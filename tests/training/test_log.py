"""What a run tells about its speed."""

from types import SimpleNamespace

import pytest

from unet.config import from_dict
from unet.runs.folder import TIMING, RunFolder
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


def test_a_run_without_held_out_frames_tells_its_speed(tmp_path, clock):
    journal = Journal(from_dict({"train": {"batch": 1}}), RunFolder(tmp_path), SimpleNamespace(log=lambda _: None))
    journal.begin()
    clock.now += 2
    journal.state.update = 4
    journal.timing()
    (row,) = RunFolder(tmp_path).rows(TIMING)
    assert (row["tiles_per_s"], row["evaluation_s"]) == (2.0, 0.0)
