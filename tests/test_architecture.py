"""The house keeps its one-way flow: who may import what, and where the seams are."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Rooms from the ground up: a room may import those of a smaller number; rooms of one number do not know each other.
LEVELS = {
    "unet": 0,
    "unet.errors": 0,
    "unet.cores": 0,
    "unet.published": 1,
    "unet.files": 1,
    "unet.geometry": 1,
    "unet.symmetry": 1,
    "unet.ensemble": 2,
    "unet.progress": 1,
    "unet.signals": 1,
    "unet.metrics": 1,
    "unet.stats": 1,
    "unet.power": 1,
    "unet.config": 2,
    "unet.data": 3,
    "unet.weightmap": 4,
    "unet.deform": 4,
    "unet.gray": 4,
    "unet.display": 4,
    "unet.windows": 4,
    "unet.tiles": 5,
    "unet.preview": 6,
    "unet.model": 3,
    "unet.optim": 3,
    "unet.loss": 3,
    "unet.runs": 3,
    "unet.tile_plan": 2,
    "unet.predict": 3,
    "unet.device": 4,
    "unet.slots": 6,
    "unet.batches": 7,
    "unet.evaluate": 4,
    "unet.constant": 5,
    "unet.features": 4,
    "unet.dynamics": 10,
    "unet.output": 4,
    "unet.record": 4,
    "unet.task": 5,
    "unet.stream": 6,
    "unet.objects": 6,
    "unet.challenge": 5,
    "unet.instances": 4,
    "unet.mistakes": 4,
    "unet.release": 5,
    "unet.picture": 5,
    "unet.scoring": 6,
    "unet.panels": 7,
    "unet.comparison": 7,
    "unet.results": 7,
    "unet.trained": 5,
    "unet.trouble": 4,
    "unet.reproduce": 4,
    "unet.leaderboard": 8,
    "unet.journal": 8,
    "unet.train": 9,
    "unet.gradient_noise": 8,
    "unet.study": 10,
    "unet.report": 11,
    "unet.commands": 12,
    "unet.cli": 9,  # imports commands by name only, when they are called for
    "unet.__main__": 13,
}
WITHOUT_TORCH = ("unet.errors", "unet.cores", "unet.published", "unet.files", "unet.geometry", "unet.tile_plan",
                 "unet.config", "unet.data", "unet.metrics", "unet.tiles", "unet.weightmap", "unet.deform", "unet.gray",
                 "unet.display", "unet.preview", "unet.cli", "unet.progress", "unet.instances", "unet.challenge",
                 "unet.stats", "unet.study")  # fmt: skip


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
    """The longest named room that a module lies in."""
    parts = module.split(".")
    candidates = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((c for c in candidates if c in LEVELS and (c != "unet" or module == "unet")), None)


def violations(module: str, source: str) -> list[str]:
    """What is wrong with the imports of one module."""
    own = room_of(module)
    if module.split(".")[0] == "unet" and own is None:
        return [f"{module} stands in no room; name its level in LEVELS"]
    wrong = []
    for name in imports_of(source):
        top = name.split(".")[0]
        room = room_of(name)
        if module.startswith("unet"):
            if top in ("experiments", "notebooks", "scripts", "tests"):
                wrong.append(f"{module} imports {name}")
            if room and own and room not in (own, "unet") and LEVELS[room] >= LEVELS[own]:
                wrong.append(f"{module} imports {name}, which stands no lower")
        if top == "wandb" and module != "unet.runs.dashboard" and not module.startswith(("scripts", "tests")):
            wrong.append(f"{module} imports wandb")
        if top == "torch" and own in WITHOUT_TORCH:
            wrong.append(f"{module} imports torch")
    if own == "unet.metrics":
        wrong += [f"{module} imports {n}" for n in imports_of(source) if n.startswith("unet.") and room_of(n) != own]
    return wrong


MODULES = sorted([*ROOT.glob("unet/**/*.py"), *ROOT.glob("experiments/**/*.py"), *ROOT.glob("scripts/**/*.py")])


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    assert violations(module_of(path), path.read_text()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("unet.geometry", "from unet.train import train"),
        ("unet.metrics.pixel", "from unet.errors import DataError"),
        ("unet.data.isbi", "import torch"),
        ("unet.train", "def f():\n    import wandb"),
        ("unet.model", "from experiments import baselines"),
        ("unet.novelty", "import math"),
        ("unet.evaluate", "from unet import train"),
    ],
)
def test_the_check_catches(module, source):
    assert violations(module, source)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_readable(path):
    assert len(path.read_text().splitlines()) <= 400
