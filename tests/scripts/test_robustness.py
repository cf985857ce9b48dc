"""Short forms of scripts/robustness: crash, fault and fuzz tests, and the page made of what the long ones found."""

import csv
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts" / "robustness"
if str(SCRIPTS) not in sys.path:
    sys.path.append(str(SCRIPTS))
fuzz = importlib.import_module("fuzz")
harness = importlib.import_module("harness")
page = importlib.import_module("page")


def script(name, *words, seconds=200):
    """Run a script as the README says; its processes must find no threads, so that they get a process of their own."""
    command = [sys.executable, str(SCRIPTS / name), *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment)


def test_kill_9_while_a_checkpoint_is_written():
    done = script("crash_test.py", "--only", "checkpoint's write", "--scale", "0.12", "--seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("Row(")]
    assert len(rows) == 2
    assert all("being written" in row and "bit_equal='yes'" in row for row in rows)


def test_kill_9_of_a_process_under_torchrun(tmp_path):
    done = script("crash_ranks.py", "--kills", "2", "--out", str(tmp_path), seconds=600)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = harness.read_rows(tmp_path / "ranks.csv")
    assert [row["moment"] for row in rows] == ["training", "starting"]
    assert "2 times kill -9" in (tmp_path / "README.md").read_text()


def test_disk_full_while_a_row_is_written():
    done = script("fault_test.py", "--only", "row of metrics.jsonl is")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "b/metrics.jsonl: no space left on the device" in done.stdout
    assert "--resume: the same bits" in done.stdout


@pytest.mark.parametrize("name", fuzz.READERS)
def test_hostile_files_give_a_result_or_one_declared_error(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    count = fuzz.Count()

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def run(data):
        fuzz.one(fuzz.READERS[name], data.draw, count)

    run()
    assert count.failures == {}
    assert count.cases == count.results + count.refused >= 20
    assert count.other == 0


def test_an_undeclared_error_and_a_slow_case_are_found(monkeypatch):
    count = fuzz.Count()
    fuzz.one(lambda *_: {}["x"], None, count)
    assert list(count.failures) == ["KeyError at the case itself"]
    monkeypatch.setattr(fuzz, "SLOWEST_S", -1.0)
    fuzz.one(lambda *_: 1, None, count)
    assert "slow" in count.failures
    assert (count.cases, count.results, count.other) == (2, 1, 2)


def test_a_lost_update_is_found():
    crash_test = importlib.import_module("crash_test")
    good = crash_test.Row("during steps", 0, "steps", 1.0, 20, 14, 6, "yes", "", "", "yes")
    assert crash_test.wrong_rows([good]) == []
    for change in ({"lost": 8}, {"lost": -1}, {"resumed": "no"}, {"half_written": "x.json"}, {"bit_equal": "no"}):
        bad = crash_test.Row(**{**vars(good), **change})
        assert crash_test.wrong_rows([bad]) == [bad], change
    late = crash_test.Row(**{**vars(good), "kind": "SIGTERM during steps", "lost": 0, "leave_s": 11.0})
    assert crash_test.wrong_rows([late]) == [late]
    assert crash_test.wrong_rows([crash_test.Row(**{**vars(late), "leave_s": 0.5, "lost": 1})])


def test_a_process_that_does_not_end_is_found():
    crash_ranks = importlib.import_module("crash_ranks")
    good = crash_ranks.Row(2, 1, "training", 20, 14, 0.4, 3.0, "", "yes")
    assert crash_ranks.wrong_rows([good]) == []
    for change in ({"last_row": 30}, {"all_ended_s": 31.0}, {"half_written": "x.json"}, {"bit_equal": "no"}):
        bad = crash_ranks.Row(**{**vars(good), **change})
        assert crash_ranks.wrong_rows([bad]) == [bad], change


def test_half_written_files_are_found(tmp_path):
    crash_test = importlib.import_module("crash_test")
    (tmp_path / "scores.json").write_text('{"a": ')
    (tmp_path / "metrics.jsonl").write_text('{"update": 1}\n{"upd')  # dropped when the run goes on
    (tmp_path / ".x.json.1.part").write_text("{")
    assert [line.split(":")[0] for line in crash_test.half_written(tmp_path)] == ["scores.json"]


def test_the_record_in_the_repository_says_that_nothing_was_lost():
    """The tables that are kept were made by the long forms; the page is made of them."""
    folder = harness.RESULTS
    with (folder / "crash.csv").open(newline="") as file:
        crashes = list(csv.DictReader(file))
    killed = [row for row in crashes if not row["kind"].startswith("SIG")]
    assert len(killed) >= 50
    assert {row["bit_equal"] for row in crashes} == {row["resumed"] for row in crashes} == {"yes"}
    assert max(int(row["lost"]) for row in crashes if row["lost"]) <= harness.CHECKPOINT_EVERY
    ranks = harness.read_rows(folder / "ranks.csv")
    assert len(ranks) >= 20
    assert {row["bit_equal"] for row in ranks} == {"yes"}
    assert max(float(row["all_ended_s"]) for row in ranks) < 30
    with (folder / "faults.csv").open(newline="") as file:
        assert {row["right"] for row in csv.DictReader(file)} <= {"yes", "skipped"}
    found = json.loads((folder / "fuzz.json").read_text())
    assert sum(reader["cases"] for reader in found["readers"].values()) >= 10_000
    assert sum(reader["other"] for reader in found["readers"].values()) == 0


def test_the_page_is_up_to_date(tmp_path):
    for name in ("crash.csv", "ranks.csv", "faults.csv", "fuzz.json"):
        (tmp_path / name).write_bytes((harness.RESULTS / name).read_bytes())
    page.write_readme(tmp_path)
    assert (tmp_path / "README.md").read_text() == (harness.RESULTS / "README.md").read_text()
