"""The page of benchmarks says what their CSV files say."""

import importlib
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts" / "bench"
if str(SCRIPTS) not in sys.path:
    sys.path.append(str(SCRIPTS))
bench_page = importlib.import_module("bench_page")

HEAD = "date,benchmark,case,rival,p50_ms,error,device,cores,load,commit\n"


def test_the_page_is_up_to_date(capsys):
    assert bench_page.main(["--check"]) == 0, capsys.readouterr().out


@pytest.fixture
def folder(tmp_path):
    old = "day1,b,c,ours,9,,chip,2,0.1,aaaaaaaaaa\nday1,b,c,gone,8,,chip,2,0.1,aaaaaaaaaa\n"
    new = "day2,b,c,ours,5,,chip,2,0.2,bbbbbbbbbb\nday2,b,c,theirs,7,,chip,2,0.2,bbbbbbbbbb\n"
    (tmp_path / "x.csv").write_text(HEAD + old + "day1,b,other,ours,3,,chip,2,0.1,aaaaaaaaaa\n" + new)
    return tmp_path


def test_the_latest_measurement_of_each_case_counts(folder):
    text = bench_page.page(folder)
    assert "| ours | 5 |" in text
    assert "| theirs | 7 |" in text
    assert "| ours | 3 |" in text  # the other case was not measured again
    assert "| ours | 9 |" not in text
    assert "gone" not in text  # no row of another day beside today's
    assert "day2, chip, cores 2, load 0.2, commit bbbbbbb" in text
    assert "| rival | p50 ms |\n" in text  # `error` is empty everywhere


def test_a_page_that_differs_is_noticed(folder, capsys):
    assert bench_page.main(["--check", "--folder", str(folder)]) == 1
    assert "run python scripts/bench/bench_page.py" in capsys.readouterr().out
    assert bench_page.main(["--folder", str(folder)]) == 0
    assert bench_page.main(["--check", "--folder", str(folder)]) == 0
    with (folder / "x.csv").open("a") as file:
        file.write("day3,b,c,ours,4,,chip,2,0.2,cccccccccc\n")
    assert bench_page.main(["--check", "--folder", str(folder)]) == 1
