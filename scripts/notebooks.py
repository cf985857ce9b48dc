"""Runs the notebooks from a clean kernel and writes their .ipynb files, outputs included.

    python scripts/notebooks.py [--short] [--check] [NAME ...]
    python scripts/notebooks.py --repository https://github.com/OWNER/NAME

The sources are notebooks/*.py (jupytext, percent format); what is edited in an .ipynb is brought back into them with
`jupytext --sync notebooks/*.ipynb` first. NAME: the beginning of a notebook's name, such as 03 (default: all). --short:
less training, nothing is written. --check: runs nothing, ends with 1 when a pair is out of step. --repository: runs
nothing, writes the address that the notebooks are published at into all of them: a badge that opens them in Colab, and
where their first cell clones the repository from.
"""

from __future__ import annotations

import argparse
import os
import re
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

TIMEOUT_S, START_S, MESSAGE_S = 900, 300, 120
"""For a cell, the kernel's start and a message of its output: an overloaded machine is late with all of them."""

COLAB = "https://colab.research.google.com/github"
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
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
        startup_timeout=START_S,
        iopub_timeout=MESSAGE_S,
        raise_on_iopub_timeout=True,  # not a figure less, without a word
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(source.parent)}},
    )
    client.execute(env=kernel)
    return cleaned(notebook, source.stem)


def cleaned(notebook: Any, stem: str) -> Any:
    """The same without what differs from run to run: times, random names of cells, versions of the kernel; and without
    the names of Python objects (`<Figure size ...>`) that stand beside, or in place of, what is to be seen."""
    notebook.metadata = nbformat.from_dict({"jupytext": PAIR, "kernelspec": KERNEL})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{stem[:2]}-{number:02}"
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _is_to_be_seen(output)]
    return notebook


def _is_to_be_seen(output: Any) -> bool:
    """Whether an output is more than the name of an object, which is taken out of it."""
    if output.output_type not in ("execute_result", "display_data"):
        return True
    output.data.pop("text/plain", None)
    return bool(output.data)


def addressed(text: str, stem: str, repository: str) -> str:
    """The source of a notebook with the address it is published at: a badge below its title, and in its first cell.

    ValueError unless the address is one of GitHub, which Colab opens notebooks from.
    """
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?", repository)
    if found is None:
        raise ValueError(f"{repository}: not of the form https://github.com/OWNER/NAME")
    badge = f"[![Open in Colab]({BADGE})]({COLAB}/{found[1]}/blob/main/notebooks/{stem}.ipynb)"
    text = re.sub(r"^# \[!\[Open in Colab\].*\n#\n", "", text, flags=re.M)
    text = re.sub(r"^(# # .*\n#\n)", rf"\g<1># {badge}\n#\n", text, count=1, flags=re.M)
    return re.sub(r'^REPOSITORY = ".*?"', f'REPOSITORY = "https://github.com/{found[1]}"', text, count=1, flags=re.M)


def publish(repository: str, folder: Path = FOLDER) -> None:
    """Write the address into all notebooks of a folder; their outputs stay."""
    for source in sources(folder):
        write_text(source, addressed(source.read_text(encoding="utf-8"), source.stem, repository))
        notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
        for cell, new in zip(notebook.cells, jupytext.read(source).cells, strict=True):
            cell.source = new.source
        write_text(source.with_suffix(".ipynb"), nbformat.writes(notebook) + "\n")


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
    parser.add_argument("--repository")
    options = parser.parse_args(arguments)
    if options.repository:
        try:
            publish(options.repository)
        except ValueError as error:
            parser.error(str(error))
        return 0
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
