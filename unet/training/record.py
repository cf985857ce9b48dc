"""What a run is made with: its files, and the lines that say it when training begins."""

from __future__ import annotations

import torch

from unet.data.doubts import doubts
from unet.evaluation.constant import missing_classes
from unet.loss.dispatch import ChosenLoss
from unet.runs.environment import continued, describe
from unet.runs.folder import ENVIRONMENT, SPLIT, RunFolder
from unet.terminal import Terminal
from unet.training.processes import Processes
from unet.training.setup import Setup


def write_record(
    setup: Setup,
    folder: RunFolder,
    terminal: Terminal,
    processes: Processes,
    *,
    loss: ChosenLoss,
    parameters: int,
    parent: object,
    update: int,
) -> None:
    """Write environment.json and the names of the frames, and say what there is to say of them.

    parameters: how many the network has; parent: the run its weights came from; update: that it goes on from.
    """
    config, hardware, stack, parts = setup.config, setup.hardware, setup.stack, setup.parts
    environment = describe(hardware.device) | {
        "precision": hardware.precision,
        "tf32": torch.backends.cudnn.allow_tf32,
        "compiled": hardware.compile,
        "workers": hardware.workers,
        "threads": torch.get_num_threads(),
        "loss": loss.name,
        "data_source": stack.source,
        "data_sha256": stack.sha256(),
        "parameters": parameters,
        "parent": parent,
    }
    if processes.launched:
        environment["processes"] = processes.count
    if earlier := folder.environment:
        environment, changed = continued(earlier, environment, update)
        if changed:
            terminal.say(f"resumed with another {', '.join(changed)}: the bits may differ from a run never stopped")
    folder.write_json(ENVIRONMENT, environment)
    names = parts.names(stack)
    folder.write_json(SPLIT, names)
    for part, indices in (("training", parts.train), ("held-out", parts.held_out)):
        held = [stack.frames[i] for i in indices]
        for line in missing_classes(held, stack.class_names, part) if held else []:
            terminal.say(line)
    for line in doubts(stack, parts.train, parts.held_out):
        terminal.say(line)
    if loss.message:
        terminal.say(loss.message)
    held_out = len(names["held_out"]) or "none"
    count = environment["threads"]
    threads = f", {count} thread{'s' * (count > 1)}" if hardware.device.type == "cpu" else ""
    terminal.say(
        f"{folder.path}: {config.model.variant} network with {environment['parameters']:,} parameters, "
        f"tiles of {config.tile.input_px} px, batch {config.train.batch}, "
        f"{'averaged weights, ' if config.optim.average else ''}{hardware.precision} on "
        f"{environment['device']}{threads}; {len(names['train'])} frames to train on, {held_out} held out"
        f"{f'; {processes.count} processes' if processes.launched else ''}"
    )
