"""scripts/bench/bench_before_after.py: both states are measured, each with its own code."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from tests.loss.test_gpu import script

bench = script("bench_before_after")

STUB = """
import time
from pathlib import Path
BF16, WAYS = "way", {"way": None}
def step_function(way, tile_px, batch, base_channels, loss, device):
    def step(_):
        with Path("made").open("a") as file:
            file.write(f"{tile_px} {batch} {base_channels}\\n")
        end = time.process_time() + 0.25
        while time.process_time() < end:
            pass
    return step
"""


@pytest.fixture
def before(tmp_path, monkeypatch):
    """An earlier state whose step does nothing for a quarter of a second."""
    checkout = tmp_path / "before"
    (checkout / "scripts").mkdir(parents=True)
    (checkout / "scripts" / "bench_train.py").write_text(STUB)
    commit = ["-c", "user.name=a", "-c", "user.email=a", "commit", "-q", "--allow-empty", "-m", "empty"]
    for words in (["init", "-q"], commit):
        subprocess.run(["git", "-C", str(checkout), *words], check=True)
    monkeypatch.chdir(tmp_path)
    return checkout


def test_each_state_computes_with_its_own_code(before, monkeypatch, capsys):
    words = [str(before), "--case", "188x1", "--base-channels", "1", "--rounds", "3", "--csv", "train.csv"]
    monkeypatch.setattr(sys, "argv", ["bench_before_after.py", *words])
    bench.main()
    assert Path("made").read_text() == "188 1 1\n" * 5  # two do not count
    with Path("train.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["rival"].split()[0] for row in rows] == ["before", "after"]
    assert [row["calls"] for row in rows] == ["3", "3"]
    assert float(rows[0]["p20_ms"]) == pytest.approx(250, abs=50)
    assert bench.commit_of(before) in rows[0]["rival"]
    assert "GFLOP/s at best" in capsys.readouterr().out
