"""A fault: what is replaced by what."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from unet.loss import launch


class Mutant(NamedTuple):
    """Replace the `which`-th occurrence of `old` in a file by `new`."""

    name: str
    file: str
    old: str
    new: str
    which: int = 0

    def plant(self, path: Path) -> str:
        """The text of a file with the fault in it."""
        parts = path.read_text().split(self.old)
        at = self.which + 1
        if len(parts) <= at:
            raise ValueError(f"{self.name}: {self.file} no longer holds {self.old!r}")
        return self.old.join(parts[:at]) + self.new + self.old.join(parts[at:])


def execute(module: ModuleType, mutant: Mutant | None = None) -> None:
    """Define a module's functions anew: with a fault, or as they are. Who has imported one of them calls its old self,
    which looks up the others as they are now."""
    path = Path(str(module.__file__))
    launch.forget_plans()
    exec(compile(mutant.plant(path) if mutant else path.read_text(), str(path), "exec"), vars(module))
