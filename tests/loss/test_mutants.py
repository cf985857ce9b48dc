"""The demands on the kernels find every fault that mutants.py lists under them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.loss.mutants import FOUND_BY
from tests.loss.shim.host import compiler
from tests.loss.trial import CRASH, DEMANDS

pytestmark = pytest.mark.skipif(compiler() is None or not hasattr(os, "fork"), reason="no C++ compiler")

MUTANTS = [(mutant, demand) for demand, mutants in FOUND_BY.items() for mutant in mutants]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What became of each fault, tried in a process apart."""
    result = tmp_path_factory.mktemp("mutants") / "found.json"
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-m", "tests.loss.trial", str(result)],
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    return json.loads(result.read_text())


def test_names_are_unique():
    assert len({mutant.name for mutant, _ in MUTANTS}) == len(MUTANTS)
    assert set(FOUND_BY) <= set(DEMANDS)


@pytest.mark.parametrize(("mutant", "demand"), MUTANTS, ids=[m.name.replace(" ", "-") for m, _ in MUTANTS])
def test_the_fault_is_found(mutant, demand, found):
    assert found[mutant.name] in (demand, CRASH)
