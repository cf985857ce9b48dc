"""docs/nvidia.md: its commands exist, and its plan fits the time it promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "nvidia.md").read_text()
COMMANDS = sorted(set(re.findall(r"python ((?:scripts|experiments)/\S+\.py[^`\n]*)", PAGE)))


def test_it_names_the_commands_that_there_are():
    scripts = {command.split()[0] for command in COMMANDS}
    assert scripts == {
        "scripts/gpu/gpu_check.py",
        "scripts/bench/bench_loss.py",
        "scripts/bench/pack_gpu_results.py",
        "experiments/reduction_ladder/ladder.py",
    }


@pytest.mark.parametrize("script", sorted({command.split()[0] for command in COMMANDS}))
def test_every_flag_is_one_of_the_script(script):
    done = subprocess.run([sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    flags = {word for command in COMMANDS if command.startswith(script) for word in command.split() if word[:2] == "--"}
    assert flags <= set(re.findall(r"--[a-z-]+", done.stdout))


def test_the_plan_fits_the_time_it_promises():
    minutes = [int(number) for number in re.findall(r"\| (\d+) min \|", PAGE)]
    assert len(minutes) == 4
    assert sum(minutes) <= int(re.search(r"all four fit (\d+) minutes", PAGE)[1])


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
