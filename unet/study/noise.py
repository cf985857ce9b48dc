"""The gradient noise of several arms at the trained weights of one run, as a process of its own.

`python -m unet.study.noise RUN_FOLDER EVIDENCE_FOLDER PARENT_PID < request` writes gradient_noise.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet.config import Config, from_dict, to_dict
from unet.errors import UserError, printable
from unet.files import write_json
from unet.runs.folder import NOISE
from unet.study.worker import watch
from unet.terminal import Terminal

BATCHES = 32


def request(arms: Mapping[str, Config]) -> str:
    """What the process is to measure: configurations by arm."""
    return json.dumps({"batches": BATCHES, "arms": {name: to_dict(config) for name, config in arms.items()}})


def main(argv: list[str]) -> int:
    """Measure and write; returns the exit code."""
    run, kept, parent = Path(argv[0]), Path(argv[1]), int(argv[2])
    asked = json.loads(sys.stdin.read())
    watch(parent)
    try:
        write_json(kept / NOISE, measured(run, asked, Terminal()))
    except UserError as error:
        print(f"unet: {printable(str(error))}", file=sys.stderr)
        return error.exit_code
    return 0


def measured(run: Path, asked: dict[str, Any], terminal: Terminal) -> dict[str, Any]:
    """Gradient noise by arm, at the weights in the run's folder, on its training frames."""
    from unet.data.load import load
    from unet.device import prepare
    from unet.evaluation.held_out import named_frames
    from unet.prediction.trained import load_network
    from unet.runs.folder import RunFolder
    from unet.training.gradient_noise import measure

    folder = RunFolder.open_existing(run)
    stack = load(folder.config.data, terminal.say, terminal)
    training = stack.select(named_frames(folder, stack, "train"))
    network, _ = load_network(run, prepare(folder.config))
    found = {}
    for name, values in asked["arms"].items():
        found[name] = measure(network.model, training, from_dict(values), asked["batches"]).to_dict()
        terminal.say(f"{name}: gradient variance {found[name]['variance']:.4g}, signal {found[name]['signal']:.4g}")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
