"""The notebooks: their two files are in step, they run from a clean kernel, and what is committed can be shown."""

from __future__ import annotations

import ast
import getpass
import importlib
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jupytext")
pytest.importorskip("nbclient")
import nbformat

from tests.study import helpers
from unet.study import registry

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT / "scripts") not in sys.path:
    sys.path.append(str(ROOT / "scripts"))
notebooks = importlib.import_module("notebooks")

pytestmark = pytest.mark.timeout(900)  # a kernel of its own; on an overloaded machine minutes

SOURCES = notebooks.sources()
LONGEST_FUNCTION = 8  # lines; what is longer belongs into the package, with tests
LARGEST_BYTES = 1_500_000
LONG_NAME = 8
PLACES = r"/(?:work|tmp|home|root|Users|var|opt|mnt|usr|private)/|[A-Z]:\\"


def by_name(number: str) -> Path:
    return next(source for source in SOURCES if source.stem.startswith(number))


def committed(source: Path) -> Any:
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def figures(notebook: Any) -> int:
    return sum(any(kind.startswith("image/") for kind in output.get("data", {})) for output in outputs(notebook))


def output_text(notebook: Any) -> str:
    """All text of the outputs but for pictures (whose code may hold any letters)."""
    parts = []
    for output in outputs(notebook):
        parts.append(output.get("text", ""))
        parts += [str(value) for kind, value in output.get("data", {}).items() if not kind.startswith("image/")]
        parts += output.get("traceback", [])
    return "\n".join(parts)


def shown_text(notebook: Any) -> str:
    """The same with the sources of all cells and what the file says of itself."""
    return "\n".join([*(cell.source for cell in notebook.cells), output_text(notebook), str(notebook.metadata)])


def machine_words(text: str, host: str = platform.node(), user: str = getpass.getuser()) -> list[str]:
    """What tells of the machine: absolute paths, its name, its user. Short names may be words of the text."""
    patterns = [PLACES, rf"\b{re.escape(user)}@"]
    if len(host) >= LONG_NAME:
        patterns.append(rf"\b{re.escape(host)}\b")
    return re.findall("|".join(patterns), text)


def complaints(notebook: Any) -> list[str]:
    """What an executed notebook must not hold."""
    cells = code_cells(notebook)
    found = [o.get("ename", "error") for o in outputs(notebook) if o.output_type == "error"]
    found += [f"stderr: {o.text[:200]}" for o in outputs(notebook) if o.get("name") == "stderr"]
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        found.append("its cells were not run once, from top to bottom")
    found += [
        f"name of an object: {name}" for name in re.findall(r"<[\w. ]+ (?:at 0x|size |object)", output_text(notebook))
    ]
    return found + [f"tells of the machine: {word}" for word in machine_words(shown_text(notebook))]


def definitions(source: str) -> list[tuple[str, int]]:
    """Functions and classes with their lines; IPython's own commands would be a syntax error here."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    return [(node.name, (node.end_lineno or node.lineno) - node.lineno + 1) for node in nodes]


def test_the_eight_are_there_and_nothing_else():
    assert [source.stem[:2] for source in SOURCES] == [f"{n:02}" for n in range(1, 9)]
    assert {p.name for p in notebooks.FOLDER.iterdir() if not p.name.startswith((".", "__"))} == {
        "style.mplstyle", *(s.name for s in SOURCES), *(s.with_suffix(".ipynb").name for s in SOURCES)
    }  # fmt: skip


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_pairs_are_in_step(source):
    assert notebooks.in_step(source), "run make notebooks"
    assert len(code_cells(committed(source))) >= 5


def test_a_pair_out_of_step_is_found(tmp_path, capsys):
    source = by_name("04")
    for path in (source, source.with_suffix(".ipynb")):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    copy = tmp_path / source.name
    assert notebooks.in_step(copy)
    copy.write_text(copy.read_text(encoding="utf-8").replace("import ", "import  "), encoding="utf-8")
    assert not notebooks.in_step(copy)
    copy.with_suffix(".ipynb").unlink()
    assert not notebooks.in_step(copy)
    assert notebooks.main(["--check"]) == 0, capsys.readouterr().out
    with pytest.raises(SystemExit):
        notebooks.main(["99"])


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_the_first_cell_says_what_is_shown_and_how_long_it_takes(source):
    first = committed(source).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith(f"# {source.stem[:2]} ")
    assert "**Shows** " in first.source
    assert re.search(r"\*\*Takes\*\* about \d+ seconds on one quiet CPU core", first.source)


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_it_begins_where_there_is_no_copy_of_the_repository(source, tmp_path):
    """The first code cell, as on Colab: it clones the repository, installs it and finds the package."""
    cell = code_cells(committed(source))[0].source
    assert cell == code_cells(committed(SOURCES[0]))[0].source
    if source is not SOURCES[0]:
        return
    code = f"""
import subprocess, sys
sys.meta_path = [f for f in sys.meta_path if "editable" not in f"{{f}}"]
sys.path = [p for p in sys.path if p not in ("", {str(ROOT)!r})]
run, called = subprocess.run, []
subprocess.run = lambda words, check: called.append(words) or (run(words, check=check) if words[0] == "git" else None)
{re.sub(r'^REPOSITORY = ""', f"REPOSITORY = {str(ROOT)!r}", cell)}
assert [words[0] for words in called] == ["git", sys.executable]
assert called[1][1:4] == ["-m", "pip", "install"] and called[1][-1] == "./unet-2015"
print(unet.__file__)
"""
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ""}
    )
    assert found.stdout.strip() == str(tmp_path / "unet-2015" / "unet" / "__init__.py"), found.stderr


def test_the_address_of_the_repository_goes_into_all_of_them(tmp_path):
    source = by_name("06")
    for path in (source, source.with_suffix(".ipynb")):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    for address in ("https://github.com/someone/first.git", "https://github.com/someone/unet-2015/"):
        notebooks.publish(address, tmp_path)
    assert notebooks.in_step(tmp_path / source.name)
    made = nbformat.read((tmp_path / source.name).with_suffix(".ipynb"), as_version=4)
    link = "https://colab.research.google.com/github/someone/unet-2015/blob/main/notebooks/06_predict.ipynb"
    assert made.cells[0].source.count("Open in Colab") == 1
    assert f"]({link})" in made.cells[0].source.splitlines()[2]
    assert 'REPOSITORY = "https://github.com/someone/unet-2015"' in made.cells[1].source
    assert made.cells[1].outputs == []
    assert figures(made) == figures(committed(source))
    with pytest.raises(SystemExit):
        notebooks.main(["--repository", "https://example.org/x"])


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_what_belongs_into_the_package_is_not_defined_here(source):
    assert [d for d in definitions(source.read_text(encoding="utf-8")) if d[1] > LONGEST_FUNCTION] == []


def test_long_definitions_are_found():
    text = "def f():\n" + "    x = 1\n" * 8 + "class A:\n    def g(self): ...\n"
    assert definitions(text) == [("f", 9), ("A", 2), ("g", 1)]


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_committed_outputs_can_be_shown(source):
    notebook = committed(source)
    assert complaints(notebook) == []
    assert figures(notebook) >= (0 if source.stem.startswith("04") else 3)  # 04 shows what there is
    assert source.with_suffix(".ipynb").stat().st_size < LARGEST_BYTES
    assert shown_text(notebook).count("*Figure ") >= 1


def test_complaints_are_made():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", execution_count=1)])
    assert complaints(notebook) == []
    for output in (
        nbformat.v4.new_output("stream", name="stderr", text="training: 10/20"),
        nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[]),
        nbformat.v4.new_output("stream", name="stdout", text=f"read {Path('/', 'home', 'somebody', 'data')}"),
        nbformat.v4.new_output("execute_result", data={"text/plain": f"{getpass.getuser()}@somewhere"}),
    ):
        notebook.cells[0].outputs = [output]
        assert len(complaints(notebook)) == 1, output
    shown = nbformat.v4.new_output("display_data", data={"text/plain": "<Figure size 864x828 with 9 Axes>"})
    notebook.cells[0].outputs = [shown]
    assert len(complaints(notebook)) == 1
    shown.data["image/png"] = "x"
    named = nbformat.v4.new_output(
        "execute_result", data={"text/plain": "<matplotlib.legend.Legend at 0x7f4152c6e5d0>"}
    )
    notebook.cells[0].outputs = [shown, named]
    assert complaints(notebooks.cleaned(notebook, "01")) == []
    assert [dict(output.data) for output in notebook.cells[0].outputs] == [{"image/png": "x"}]
    notebook.cells[0].update(outputs=[], execution_count=3)
    assert len(complaints(notebook)) == 1
    assert machine_words("a t test on lab-computer-7", host="lab-computer-7", user="test") == ["lab-computer-7"]
    assert machine_words("../data/x.tif, experiments/results, w/o weights, a data set", host="set", user="data") == []
    assert machine_words("see C:\\Users, /home/ann/x, ann@here", host="x", user="ann") == ["C:\\", "/home/", "ann@"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_it_runs_from_a_clean_kernel(source, monkeypatch):
    monkeypatch.delenv("UNET_RESULTS", raising=False)
    notebook = notebooks.execute(source, short=True)  # a cell that fails raises; 03, 06 and 07 assert what they show
    assert complaints(notebook) == []
    assert figures(notebook) >= figures(committed(source))


MOST_SUSPICIOUS = r"most suspicious: (\S+); corrupted on purpose: (\S+)"


def test_the_corrupted_label_came_out_on_top():
    """By the committed output; the notebook asserts the same whenever it runs."""
    found = re.search(MOST_SUSPICIOUS, output_text(committed(by_name("07"))))
    assert found is not None
    assert found[1] == found[2]


def test_rows_of_a_gpu_are_shown(tmp_path, monkeypatch):
    """Notebook 05 with rows as a GPU would leave them: none of its sentences may go on denying them."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    kept = (ROOT / "experiments" / "results" / "benchmarks" / "loss.csv").read_text(encoding="utf-8").splitlines()
    row = dict(zip(kept[0].split(","), kept[1].split(","), strict=True)) | {"device": "GPU X", "cuda": "13.0"}
    (folder / "loss.csv").write_text("\n".join([*kept, ",".join(row.values())]) + "\n", encoding="utf-8")
    steps = "part,step,p50_us,device,torch,cuda,commit\nsums,6. shuffles in every warp,140,GPU X,2,13.0,abcdef012\n"
    (folder / "reduction_ladder.csv").write_text(steps, encoding="utf-8")
    monkeypatch.setenv("UNET_RESULTS", str(tmp_path))
    text = output_text(notebook := notebooks.execute(by_name("05"), short=True))
    assert complaints(notebook) == []
    assert f"{len(kept)} rows, 1 of them on a GPU." in text
    assert "measured on GPU X, torch 2, CUDA 13.0, commit abcdef0" in text
    assert "No GPU has been measured" not in text
    assert "has not been run on a GPU" not in text
    assert figures(notebook) == figures(committed(by_name("05"))) + 1


def test_results_that_are_there_are_shown(tmp_path, monkeypatch):
    """Notebook 04 with evidence made by a stand-in for training."""
    study = registry.study_of(ROOT / "experiments" / "baselines.py")
    monkeypatch.setattr("unet.data.load.require", lambda *_: None)  # nothing is trained: the images need not be here
    helpers.run(tmp_path, study, profile="reduced", seeds=3)
    monkeypatch.setenv("UNET_RESULTS", str(tmp_path / "results"))
    text = output_text(notebook := notebooks.execute(by_name("04"), short=True))
    assert complaints(notebook) == []
    assert figures(notebook) == 1
    assert "`reduced`: 18 runs of 2 arms, up to 3 seeds" in text
    assert "No study has results yet" not in text
    assert "### Comparisons" in text
    assert str(tmp_path) not in text


def test_without_results_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_RESULTS", str(tmp_path))
    text = output_text(notebook := notebooks.execute(by_name("04"), short=True))
    assert complaints(notebook) == []
    assert "**No study has results yet.**" in text
    assert "The baselines have no results yet." in text
