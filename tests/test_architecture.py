"""The house keeps its one-way flow: who may import what, and where the seams are."""

import ast
from pathlib import Path

import pytest

from unet.runs import folder

ROOT = Path(__file__).resolve().parents[1]
FILES_OF_A_RUN = {name for key, name in vars(folder).items() if key.isupper() and isinstance(name, str)} - {".lock"}

# Floors from the ground up: a room imports those of lines above its own; rooms of one line do not know each other, and
# no modules, within a room either, import each other in a circle.
LEVELS = """
unet unet.errors unet.cores
unet.files unet.geometry unet.signals unet.terminal unet.metrics unet.datasets
unet.config
unet.data unet.model unet.loss unet.runs
unet.networks unet.tiles
unet.device
unet.views
unet.prediction
unet.evaluation unet.export
unet.training
unet.study
unet.report unet.api
unet.app unet.napari
unet.commands
unet.__main__
"""
FLOOR = {room: floor for floor, line in enumerate(LEVELS.split("\n")) for room in line.split()}
FLOOR["unet.cli"] = FLOOR["unet.commands"]  # imports commands by name only, when they are called for
WITHOUT_TORCH = """
unet.errors unet.cores unet.files unet.geometry unet.terminal unet.config unet.data unet.datasets unet.metrics unet.cli
unet.tiles.source unet.tiles.deform unet.tiles.gray unet.tiles.weightmap
unet.prediction.tile_plan unet.prediction.instances unet.prediction.submission
unet.views.display unet.views.preview unet.evaluation.published_scores unet.study
"""


def module_of(path: Path, root: Path = ROOT) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(module: str) -> str | None:
    """The room that a module lies in: `unet.x` of `unet.x.y`; None where LEVELS has none."""
    room = ".".join(module.split(".")[:2])
    return room if room in FLOOR else None


def within(module: str, places: str) -> bool:
    return any(module == place or module.startswith(place + ".") for place in places.split())


def violations(module: str, source: str) -> list[str]:
    """What is wrong with the imports of one module."""
    own = room_of(module)
    if module.split(".")[0] == "unet" and own is None:
        return [f"{module} stands in no room; name its floor in LEVELS"]
    wrong = []
    for name in imports_of(source):
        top = name.split(".")[0]
        room = room_of(name)
        if module.startswith("unet"):
            if top in ("experiments", "notebooks", "scripts", "tests"):
                wrong.append(f"{module} imports {name}")
            if room and own and room not in (own, "unet") and FLOOR[room] >= FLOOR[own]:
                wrong.append(f"{module} imports {name}, which stands no lower")
        if top == "wandb" and module != "unet.runs.wandb_client" and not module.startswith(("scripts", "tests")):
            wrong.append(f"{module} imports wandb")
        if top == "torch" and within(module, WITHOUT_TORCH):
            wrong.append(f"{module} imports torch")
    if own == "unet.metrics":
        wrong += [f"{module} imports {n}" for n in imports_of(source) if n.startswith("unet.") and room_of(n) != own]
    return wrong


def run_time_imports(source: str) -> set[str]:
    """What a module imports when it runs: not what stands under `if TYPE_CHECKING`."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return imports_of(ast.unparse(ast.fix_missing_locations(tree)))


def circles(sources: dict[str, str]) -> list[str]:
    """Modules in a circle of imports, or above one: what is left when those that import none of the rest are taken."""
    left = {name: {n for n in run_time_imports(text) if n in sources and n != name} for name, text in sources.items()}
    for name, taken in left.items():  # `from a.b import c` runs a.b too, but a package's face is no part of a circle
        left[name] = {n for n in taken if not name.startswith(n + ".")}
    while free := [name for name, taken in left.items() if not taken & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


SOURCES = {p: p.read_text() for top in ("unet", "experiments", "scripts") for p in sorted(ROOT.glob(f"{top}/**/*.py"))}


def test_imports_run_one_way():
    assert [wrong for path, source in SOURCES.items() for wrong in violations(module_of(path), source)] == []


def test_no_modules_import_each_other():
    sources = {module_of(path): source for path, source in SOURCES.items() if module_of(path).startswith("unet")}
    assert circles(sources) == []
    assert circles({"a": "import b", "b": "def f():\n    from c import x", "c": "import a"}) == ["a", "b", "c"]
    assert circles({"a": "import b", "b": "import a", "d": "import a"}) == ["a", "b", "d"]
    assert circles({"a": "import b", "b": "import c", "c": "", "d": "import a"}) == []
    assert circles({"a": "import b", "b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a"}) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("unet.geometry", "from unet.training.loop import train"),
        ("unet.metrics.pixel", "from unet.errors import DataError"),
        ("unet.data.isbi", "import torch"),
        ("unet.tiles.deform", "import torch"),
        ("unet.training.loop", "def f():\n    import wandb"),
        ("unet.model", "from experiments import baselines"),
        ("unet.novelty", "import math"),
        ("unet.novelty.part", "import math"),
        ("unet.evaluation.frames", "from unet.training import loop"),
        ("unet.evaluation.frames", "from unet import training"),
    ],
)
def test_the_check_catches(module, source):
    assert violations(module, source)


def test_files_stay_readable():
    assert [path for path, source in SOURCES.items() if len(source.splitlines()) > 400] == []


def file_names(source: str) -> set[str]:
    """Files of a run that a module names itself, in a literal or at the end of a path in one."""
    literals = {
        n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }
    written = {literal.rsplit("/", 1)[-1] for literal in literals if " " not in literal}
    return written & (FILES_OF_A_RUN - {folder.CHECKPOINTS})


def test_only_the_run_folder_names_its_files():
    named = {module_of(path): names for path, source in SOURCES.items() if (names := file_names(source))}
    assert set(named) == {"unet.runs.folder"}, named


def test_a_file_name_written_elsewhere_is_found():
    assert {"config.yaml", "metrics.jsonl", "weights.safetensors", "checkpoints"} <= FILES_OF_A_RUN
    assert file_names('path = run / "scores.json"') == {"scores.json"}
    assert file_names('paths = folder.glob("*/split.json")') == {"split.json"}
    assert (
        file_names('from unet.runs.folder import SCORES\npath = run / SCORES\n"""Reads scores.json and all."""')
        == set()
    )
