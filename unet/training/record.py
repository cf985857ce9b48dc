"""What a run is made with: its files, and the lines that say it when training begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from unet.data.doubts import doubts
from unet.evaluation.constant import missing_classes
from unet.model import parameters
from unet.runs.environment import continued, describe
from unet.runs.folder import ENVIRONMENT, SPLIT

if TYPE_CHECKING:
    from unet.training.trainer import Trainer


def write_record(run: Trainer) -> None:
    """Write environment.json and the names of the frames, and say what there is to say of them."""
    config, hardware, stack, parts = run.setup.config, run.setup.hardware, run.setup.stack, run.setup.parts
    environment = describe(hardware.device) | {
        "precision": hardware.precision,
        "tf32": torch.backends.cudnn.allow_tf32,
        "compiled": hardware.compile,
        "workers": hardware.workers,
        "threads": torch.get_num_threads(),
        "loss": run.loss.name,
        "data_source": stack.source,
        "data_sha256": stack.sha256(),
        "parameters": parameters(run.model),
        "parent": run.parent,
    }
    if run.processes.launched:
        environment["processes"] = run.processes.count
    if earlier := run.folder.environment:
        environment, changed = continued(earlier, environment, run.state.update)
        if changed:
            run.terminal.say(f"resumed with another {', '.join(changed)}: the bits may differ from a run never stopped")
    run.folder.write_json(ENVIRONMENT, environment)
    names = parts.names(stack)
    run.folder.write_json(SPLIT, names)
    for part, indices in (("training", parts.train), ("held-out", parts.held_out)):
        held = [stack.frames[i] for i in indices]
        for line in missing_classes(held, stack.class_names, part) if held else []:
            run.terminal.say(line)
    for line in doubts(stack, parts.train, parts.held_out):
        run.terminal.say(line)
    if run.loss.message:
        run.terminal.say(run.loss.message)
    held_out = len(names["held_out"]) or "none"
    count = environment["threads"]
    threads = f", {count} thread{'s' * (count > 1)}" if hardware.device.type == "cpu" else ""
    run.terminal.say(
        f"{run.folder.path}: {config.model.variant} network with {environment['parameters']:,} parameters, "
        f"tiles of {config.tile.input_px} px, batch {config.train.batch}, "
        f"{'averaged weights, ' if run.average is not None else ''}{hardware.precision} on "
        f"{environment['device']}{threads}; {len(names['train'])} frames to train on, {held_out} held out"
        f"{f'; {run.processes.count} processes' if run.processes.launched else ''}"
    )
