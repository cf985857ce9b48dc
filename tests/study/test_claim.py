"""Claims on runs: one process has a run, the dead give theirs up, and who comes late learns that it has lost."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import pytest

from unet.study import claim
from unet.study.claim import Claims, this_place


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "claims"


def made_by(folder, place, pid, run="a", number=1):
    folder.mkdir(exist_ok=True)
    file = folder / f"{run}.{number}"
    file.write_text(json.dumps({"place": place, "pid": pid}))
    return file


def dead():
    """The number of a process that is over."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_run_is_one_process_s_until_it_is_given_back(folder):
    with Claims(folder) as one, Claims(folder) as other:
        assert one.take("a")
        assert one.take("a")
        assert not other.take("a")
        assert other.take("a.1")  # a name of its own
        one.release("a")
        assert other.take("a")
        assert not one.take("a")
        assert one.lost() == other.lost() == set()
    with Claims(folder) as third:
        assert third.take("a")


def test_a_block_gives_back_only_what_it_took(folder):
    with Claims(folder) as one, Claims(folder) as other:
        with one.held("a") as ours:
            assert ours
            with other.held("a") as theirs:
                assert not theirs
        assert one.take("b")
        with one.held("b"):
            pass
        assert not other.take("b")
        assert other.take("a")
        one.take("c")
        one.keep({"b"})
        assert other.take("c")
        assert not other.take("b")


def test_a_dead_process_of_this_machine_has_nothing(folder):
    made_by(folder, this_place(), dead())
    assert Claims(folder).take("a")


def test_a_living_process_keeps_its_claim(folder):
    made_by(folder, this_place(), os.getppid())
    assert not Claims(folder).take("a")


def test_a_machine_that_was_started_anew_has_lost_its_claims(folder):
    host, _, inside = this_place().partition(" ")
    made_by(folder, f"{host} another-start {inside.split()[-1]}", os.getppid())
    assert Claims(folder).take("a")


@pytest.mark.parametrize("place", ["elsewhere 1 2", "{host} {boot} pid:[1]"], ids=["machine", "container"])
def test_of_another_place_only_the_silence_tells(folder, place, monkeypatch):
    host, boot, _ = this_place().split()
    file = made_by(folder, place.format(host=host, boot=boot), dead())
    assert not Claims(folder).take("a")
    os.utime(file, (time.time() - claim.VOID_S - 5,) * 2)
    late, other = Claims(folder), Claims(folder)
    assert late.take("a")
    assert not other.take("a")


def test_the_clock_is_the_file_system_s(folder, monkeypatch):
    """A machine whose clock is an hour ahead takes nothing away."""
    made_by(folder, "elsewhere 1 2", 1)
    monkeypatch.setattr(time, "time", lambda: 10**10)
    assert not Claims(folder).take("a")


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"place": 3})])
def test_a_claim_that_is_being_written_or_damaged_holds_for_a_while(folder, text):
    file = made_by(folder, "", 1)
    file.write_text(text)
    assert not Claims(folder).take("a")
    os.utime(file, (0, 0))
    assert Claims(folder).take("a")


def test_claims_are_renewed_while_their_process_lives(folder, monkeypatch):
    monkeypatch.setattr(claim, "RENEW_S", 0.02)
    with Claims(folder) as claims:
        claims.take("a")
        os.utime(folder / "a.1", (0, 0))
        for _ in range(500):
            if (folder / "a.1").stat().st_mtime > 1:
                return
            time.sleep(0.01)
    pytest.fail("it was not renewed")


def test_who_was_taken_for_dead_learns_it(folder):
    late, other = Claims(folder), Claims(folder)
    folder.mkdir()
    assert late.take("a")
    os.utime(folder / "a.1", (0, 0))
    assert other.take("a")
    assert late.lost() == {"a"}
    late.release("a")  # its own file, not the other's
    assert not late.take("a")
    assert other.lost() == set()


def _tries(folder, results, all_done):
    claims = Claims(folder)
    results.put(sum(claims.take(f"run{number}") for number in range(40)))
    all_done.wait(60)  # the claims of a process that has ended are free


def test_of_many_at_once_one_has_each(folder):
    """Also where all are to be taken over."""
    for number in range(0, 40, 2):
        os.utime(made_by(folder, "elsewhere 1 2", 1, f"run{number}"), (0, 0))
    context = multiprocessing.get_context("fork")
    results, all_done = context.Queue(), context.Barrier(4)
    processes = [context.Process(target=_tries, args=(folder, results, all_done)) for _ in range(4)]
    for process in processes:
        process.start()
    assert sum(results.get() for _ in processes) == 40
    for process in processes:
        process.join()


def test_old_numbers_go_and_none_comes_twice(folder):
    folder.mkdir()
    for _ in range(6):
        claims = Claims(folder)
        assert claims.take("a")
        claims.release("a")
    assert sorted(place.name for place in folder.iterdir()) == ["a.5", "a.6"]


def test_the_thread_ends_with_the_block(folder, monkeypatch):
    monkeypatch.setattr(claim, "RENEW_S", 0.01)
    before = threading.active_count()
    with Claims(folder):
        assert threading.active_count() == before + 1
    for _ in range(500):
        if threading.active_count() == before:
            return
        time.sleep(0.01)
    pytest.fail("it goes on")
