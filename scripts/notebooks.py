"""Runs the notebooks from a clean kernel and writes their .ipynb files, outputs included.

    python scripts/notebooks.py [--short] [--check] [NAME ...]

The sources are notebooks/*.py (jupytext, percent format); what is edited in an .ipynb is brought back into them with
`jupytext --sync notebooks/*.ipynb` first. NAME: the beginning of a notebook's name, such as 03 (default: all). --short:
less training, nothing is written. --check: runs nothing, ends with 1 when a pair is out of step.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

from unet.files import write_text

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
SHORT = "UNET_NOTEBOOKS"
"""Environment variable; set to `short`, the notebooks train less."""

TIMEOUT_S = 900
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
PAIR = {"formats": "ipynb,py:percent"}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
QUIET = {"NO_ALBUMENTATIONS_UPDATE": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def sources(folder: Path = FOLDER) -> list[Path]:
    """The notebooks' sources, in order."""
    return sorted(folder.glob("[0-9][0-9]_*.py"))


def execute(source: Path, *, short: bool = False) -> Any:
    """The notebook with its outputs, run in a clean kernel with one thread, from the notebooks' folder.

    nbclient.exceptions.CellExecutionError when a cell fails.
    """
    notebook = nbformat.from_dict(jupytext.read(source))
    kernel = os.environ | ONE_THREAD | QUIET | {SHORT: "short" if short else ""}
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT_S,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(source.parent)}},
    )
    client.execute(env=kernel)
    return cleaned(notebook, source.stem)


def cleaned(notebook: Any, stem: str) -> Any:
    """The same without what differs from run to run: times, random names of cells, versions of the kernel."""
    notebook.metadata = nbformat.from_dict({"jupytext": PAIR, "kernelspec": KERNEL})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{stem[:2]}-{number:02}"
        cell.metadata = nbformat.from_dict({})
    return notebook


def text_of(notebook: Any) -> list[tuple[str, str]]:
    """Kind and source of every cell, which the two files of a pair have in common."""
    return [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]


def in_step(source: Path) -> bool:
    """Whether the .ipynb beside a source exists and has the same cells."""
    paired = source.with_suffix(".ipynb")
    return paired.is_file() and text_of(jupytext.read(source)) == text_of(nbformat.read(paired, as_version=4))


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[""])
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    chosen = [source for source in sources() if source.stem.startswith(tuple(options.names))]
    if not chosen:
        parser.error(
            f"no notebook begins with {' or '.join(options.names)}; there are {', '.join(map(_name, sources()))}"
        )
    if options.check:
        behind = [source.stem for source in chosen if not in_step(source)]
        print(f"out of step, run make notebooks: {', '.join(behind)}" if behind else "all pairs are in step")
        return 1 if behind else 0
    for source in chosen:
        began, busy = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        notebook = execute(source, short=options.short)
        if not options.short:
            write_text(source.with_suffix(".ipynb"), nbformat.writes(notebook) + "\n")
        seconds, busy = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - busy
        print(f"{source.stem}: {seconds:.0f} s, {busy:.0f} s of processor time", flush=True)
    return 0


def _name(source: Path) -> str:
    return source.stem


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
