"""Files and names not made in good faith: nothing is executed, nothing forges a line, nothing takes all memory."""

import ast
import os
import resource
import time
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from tests.commands.test_bad_input import TINY
from tests.runs.new import new_run
from tests.study.helpers import STUDY, run
from tests.training.test_loop import discs
from unet.cli import main
from unet.config import Config, ModelConfig, load_yaml, to_dict
from unet.data.published.archive import unpack
from unet.device import Hardware
from unet.errors import ConfigError, DataError, UserError
from unet.evaluation.held_out import named_frames
from unet.networks import build
from unet.prediction.trained import load_network
from unet.runs.checkpoint import load_weights, save_weights
from unet.study import report as study_report
from unet.study.text import table

ROOT = Path(__file__).parents[2]
SOURCES = sorted(p for room in ("unet", "experiments", "scripts") for p in (ROOT / room).rglob("*.py"))
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "pandas"}
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}


def loads_code(source):
    """Places in a source at which a file could make code run: pickles, unsafe YAML, evaluated text."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            found += [f"import {name}" for name in names if name.split(".")[0] in PICKLES]
        if not isinstance(node, ast.Call):
            continue
        name, options = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        if name.endswith("torch.load") and options.get("weights_only") != "True":
            found.append(name)
        if options.get("allow_pickle", "False") != "False" or options.get("weights_only", "True") != "True":
            found.append(name)
        if name.startswith("yaml.") and "load" in name and name != "yaml.safe_load":
            found.append(name)
        if name in RUNS_TEXT or name in ("os.system", "torch.jit.load", "torch.hub.load"):
            found.append(name)
        if options.get("shell") == "True":
            found.append("shell=True")
    return found


def test_no_source_loads_code_from_files():
    assert {path: found for path in SOURCES if (found := loads_code(path.read_text()))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from joblib import load", "import torch\ntorch.load('x')", "eval(text)",
        "torch.load('x', weights_only=False)", "torch.load('x', weights_only=trusted)", "yaml.unsafe_load(text)",
        "np.load('x', allow_pickle=True)", "yaml.load(text, Loader=yaml.Loader)", "yaml.full_load(text)",
        "subprocess.run(text, shell=True)",
    ],
)  # fmt: skip
def test_what_would_load_code_is_found(source):
    assert loads_code(source) != []
    assert (
        loads_code("torch.load(f, weights_only=True)\nnp.load(f)\nyaml.safe_load(t)\nmodel.eval()\nre.compile('x')")
        == []
    )


# -- names -------------------------------------------------------------------------------------------------------------

NAMES = [
    "two\nlines",
    'it\'s "quoted"',
    "$x_{$",
    "<script>alert(1)</script>",
    "|a|b|",
    "\x1b[31mred",
    "-rf",
    "ü 日本",
    "a\udcffb",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_any_file_name_goes_through_training_evaluation_and_prediction(tmp_path, monkeypatch, capfd, name):
    """A line feed or an escape sequence in a name forges no line, a dollar is no formula, a dash no flag."""
    name = name.replace("/", "")
    data = tmp_path / f"data {name}"
    rng = np.random.default_rng(0)
    for number in range(3):
        label = (rng.random((60, 64)) > 0.5).astype(np.uint8)
        for part, values in (
            ("images", (label * 99 + rng.integers(0, 99, label.shape)).astype(np.uint8)),
            ("labels", label),
        ):
            (data / part).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(str(data / part) + os.sep + f"{name}{number}.tif", values, photometric="minisblack")
    monkeypatch.chdir(tmp_path)
    words = [*TINY, "--data.folder", str(data), "--data.split", "random", "--data.folds", "2"]
    where = ["--run", f"run {name}"]
    if "\udcff" in name:  # YAML and JSON hold text; this name is none, and is refused in one line
        assert main([*words[:-2], *where]) in (0, 2)
        assert "Traceback" not in capfd.readouterr().err
        return
    assert main([*words, *where]) == 0
    out = capfd.readouterr()
    image = str(data / "images" / f"{name}0.tif")
    assert main(["predict", f"run {name}", image, "--out", f"out {name}.tif"]) == 0
    assert main(["predict", f"run {name}", image, "--out", f"out {name}.tif"]) == 2
    assert main(["reproduce", f"run {name}"]) == 0
    assert main(["evaluate", f"no run {name}"]) == 2
    said = capfd.readouterr()
    for text in (out.out, out.err, said.out, said.err):
        assert "\x1b" not in text
        assert "Traceback" not in text
    assert [line.split(":")[0] for line in said.err.splitlines()].count("unet") == 2
    if "\n" in name:
        assert "\\n" in said.err


def test_cells_of_tables_stay_cells():
    text = table(["a", "b"], [["x|y", "two\nlines"], ["\x1b[31m", "<b>"]])
    lines = text.splitlines()
    assert len(lines) == 4
    assert all(line.count("|") - line.count("\\|") == 3 for line in lines)
    assert "\x1b" not in text
    assert "<b>" not in text


# -- archives, YAML, time and memory -----------------------------------------------------------------------------------


def test_a_zip_with_a_name_that_is_no_text(tmp_path):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("ü.txt", b"x")
    (tmp_path / "a.zip").write_bytes(buffer.getvalue().replace("ü".encode(), b"\xa8\xa8"))
    with pytest.raises(DataError, match="damaged archive"):
        unpack(tmp_path / "a.zip", tmp_path / "target")


@pytest.mark.parametrize(
    "text", ["a: !!int 3", "!!timestamp 9", "!!set {a}", "a: !x 3", "!!binary AAAA", "train: !!map {}"]
)
def test_tags_are_refused(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="tags"):
        load_yaml(path)


@pytest.mark.parametrize("unit", ["[", "- ", "? ", "a: b\n"], ids=range(4))
def test_the_largest_yaml_is_read_or_refused_in_time(tmp_path, unit):
    path = tmp_path / "c.yaml"
    path.write_text((unit * (2**17 // len(unit)))[: 2**17])
    started = time.process_time()
    with pytest.raises(ConfigError):
        load_yaml(path)
    assert time.process_time() - started < 30


def test_a_command_without_flags_is_a_command():
    from unet.commands.train import resolve

    arguments, path = resolve([])
    assert (arguments.profile, path.parent) == ("full", Path("runs"))


# -- weights, evidence, frames -----------------------------------------------------------------------------------------

SAYS = {
    "model": to_dict(ModelConfig(base_channels=2, depth=2)), "channels": 1, "class_names": ["a", "b"], "tile_px": 0,
    "normalisation": {"kind": "fixed", "offset": 0.0, "scale": 255.0, "low": 0.0, "high": 100.0},
}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": 10**9}, {"channels": True}, {"channels": 2}, {"class_names": ["a"] * 3}, {"class_names": [1, 2]},
        {"class_names": "ab"}, {"normalisation": {"kind": "x"}}, {"normalisation": {"scales": 1}}, {"tile_px": -1},
        {"model": {"base_channels": 1024, "depth": 8}}, {"model": {"width": 1}}, {"model": None}, {"tile_px": None},
    ],
)  # fmt: skip
def test_weights_that_say_what_cannot_be_are_refused_before_memory_is_taken(tmp_path, changes):
    path = tmp_path / "w.safetensors"
    save_weights(path, build(ModelConfig(base_channels=2, depth=2), 1, 2, 0).state_dict(), SAYS)
    hardware = Hardware(torch.device("cpu"), "fp32", False, False, 0)
    assert load_network(path, hardware)[1] == SAYS
    save_weights(path, load_weights(path)[0], SAYS | changes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as caught:
        load_network(path, hardware)
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("record.json", "[1]"), ("record.json", '{"arm": "a"}'), ("environment.json", "{}"), ("scores.json", "[]"),
        ("scores.json", '{"scores": {"mean_iou": "high"}}'), ("scores.json", '{"scores": {"mean_iou": 1e999999}, "n'),
        ("metrics.jsonl", '{"update": 1}\n'), ("metrics.jsonl", '{"update": "x", "part": "train"}\n'),
        ("metrics.jsonl", '{"update": 4, "part": "train", "loss": null, "loss_max": 1}\n'),
    ],
)  # fmt: skip
def test_damaged_evidence_is_one_line(tmp_path, name, content):
    run(tmp_path, seeds=1)
    folder = tmp_path / "results" / "small-study" / "smoke"
    assert study_report.make(STUDY, "smoke", folder)
    (folder / "a-em-seed0" / name).write_text(content)
    with pytest.raises(UserError, match=name.replace(".", r"\.")) as caught:
        study_report.make(STUDY, "smoke", folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[]", '{"train": 3}', '{"train": [1]}', "{"])
def test_a_split_that_names_no_frames_is_one_line(tmp_path, content):
    folder = new_run(tmp_path / "run", Config())
    folder.file("split.json").write_text(content)
    with pytest.raises(UserError, match=r"split\.json"):
        named_frames(folder, discs(), "train")
