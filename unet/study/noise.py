"""The gradient noise of several arms at the trained weights of one run, as a process of its own.

`python -m unet.study.noise RUN_FOLDER EVIDENCE_FOLDER PARENT_PID < request` writes gradient_noise.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unet.config import from_dict, to_dict
from unet.errors import UserError, printable
from unet.files import write_json
from unet.runs.folder import NOISE
from unet.study import evidence
from unet.study.design import Job
from unet.study.ledger import Ledger
from unet.study.pool import PARENT
from unet.study.worker import watch
from unet.terminal import Terminal

BATCHES = 32


def asked(ledger: Ledger, say: Callable[[str], None]) -> list[tuple[Job, list[str], str]]:
    """The runs that a study asks for the gradient noise of and that have none yet: the process of each and its request.

    They are the trained ones of the first arm of `noise`; weights that are not on this machine are said.
    """
    found = []
    for job in ledger.wanted() if ledger.study.noise else ():
        kept = ledger.results / job.name
        if job.arm != ledger.study.noise[0] or ledger.state(job) != "done" or _is_measured(kept):
            continue
        weights = ledger.trained(job)
        if weights is None:
            say(f"{job.name}: its weights are not on this machine, its gradient noise is not measured")
            continue
        arms = {arm: to_dict(ledger.sibling(job, arm).config) for arm in ledger.study.noise}
        command = [sys.executable, "-P", "-m", "unet.study.noise", str(weights), str(kept), PARENT]
        found.append((job, command, json.dumps({"batches": BATCHES, "arms": arms})))
    return found


def _is_measured(kept: Path) -> bool:
    found = evidence.find(kept)
    return found is not None and (found.packed is not None or found.has(NOISE))


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
