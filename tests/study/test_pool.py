"""Processes of a study: which cores and how many threads each may use."""

import json
import os
import sys
import time

import pytest

import unet
from unet.cores import gpus, usable
from unet.study.ledger import Options
from unet.study.pool import Pool

TELL = """import json, os, sys
sys.stdin.read()
print(json.dumps([sorted(os.sched_getaffinity(0)), os.environ.get("OMP_NUM_THREADS")]))
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")


def told(folder, size, names):
    """What processes that run at the same time see: their cores and OMP_NUM_THREADS."""
    pool, ended = Pool(size), []
    for name in names:
        pool.start(name, [sys.executable, "-c", TELL], "", folder / f"{name}.log")
    while pool.names:
        ended += pool.reap()
        time.sleep(0.01)
    assert [entry.code for entry in ended] == [0] * len(names)
    return [json.loads((folder / f"{name}.log").read_text()) for name in names]


def test_each_of_two_has_half_of_the_cores(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = usable()
    if len(cores) < 2:
        pytest.skip("one core cannot be shared out")
    (first, one), (second, other) = told(tmp_path, 2, ["a", "b"])
    assert first + second == cores
    assert (one, other) == (str(len(first)), str(len(second)))


def test_one_alone_and_more_than_there_are_cores_are_not_pinned(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert told(tmp_path, 1, ["a"]) == [[usable(), None]]
    assert told(tmp_path, len(usable()) + 1, ["b", "c"]) == [[usable(), "1"]] * 2


def test_who_chooses_the_threads_chooses_the_cores(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    assert told(tmp_path, 2, ["a", "b"]) == [[usable(), "77"]] * 2


def test_the_cores_of_one_that_has_ended_are_taken_again(tmp_path, monkeypatch):
    monkeypatch.setattr("unet.study.pool.shares", lambda size: [[slot] for slot in range(size)])
    pinned = []
    monkeypatch.setattr("unet.study.pool.pin", lambda _, cores: pinned.append(cores))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pool = Pool(2)
    wait = [sys.executable, "-c", "import time; time.sleep(60)"]
    pool.start("a", [sys.executable, "-c", ""], "", tmp_path / "a.log")
    try:
        pool.start("b", wait, "", tmp_path / "b.log")
        while "a" in pool.names:
            pool.reap()
            time.sleep(0.01)
        pool.start("c", wait, "", tmp_path / "c.log")
    finally:
        pool.stop()
    assert pinned == [[0], [1], [0]]


def test_a_process_imports_what_its_parent_does_and_nothing_of_the_current_folder(tmp_path, monkeypatch):
    for place, text in (("here/unet", "raise ImportError('another package')"), ("added", "")):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "__init__.py").write_text(text)
    (tmp_path / "added" / "extra_of_the_parent.py").write_text("WHERE = __file__")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "added")])
    pool, log = Pool(1), tmp_path / "log"
    assert Options("smoke", 1, tmp_path, tmp_path).worker[1] == "-P"
    tell = "import sys; sys.stdin.read(); import unet, extra_of_the_parent as e; print(unet.__file__, e.WHERE)"
    pool.start("a", [sys.executable, "-P", "-c", tell], "", log)
    while not (ended := pool.reap()):
        time.sleep(0.01)
    assert ended[0].code == 0, log.read_text()
    assert log.read_text().split() == [unet.__file__, str(tmp_path / "added" / "extra_of_the_parent.py")]


def test_each_of_several_has_a_gpu_in_turn(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    tell = [sys.executable, "-c", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"]

    def seen(size, names):
        pool = Pool(size)
        for name in names:
            pool.start(name, tell, "", tmp_path / f"{size}{name}.log")
        while pool.names:
            pool.reap()
            time.sleep(0.01)
        return [(tmp_path / f"{size}{name}.log").read_text().strip() for name in names]

    assert seen(3, "abc") == ["4", "7", "4"]
    assert seen(1, "a") == ["4,7"]  # alone it has all


def test_gpus_are_counted_without_torch(tmp_path, monkeypatch):
    told = tmp_path / "nvidia-smi"
    told.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: GPU-1)'\necho 'GPU 1: B (UUID: GPU-2)'\necho '  MIG 1g: x'\n")
    told.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert gpus() == ["0", "1"]
    told.unlink()
    assert gpus() == []
    for value, found in (("", []), ("-1", []), ("3", ["3"]), ("GPU-1, 2", ["GPU-1", "2"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert gpus() == found
