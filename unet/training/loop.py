"""Training a network into a run folder, from what a configuration says to the weights at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unet.config import Config
from unet.data.load import load
from unet.device import prepare
from unet.errors import ConfigError
from unet.runs.dashboard import Dashboard, mirrored
from unet.runs.folder import CHECKPOINTS, RunFolder
from unet.signals import Stopper
from unet.terminal import Terminal
from unet.training.continuing import check_same_data
from unet.training.failures import explained
from unet.training.processes import Processes, taken_together
from unet.training.setup import Setup
from unet.training.trainer import Callback, Trainer


def train(
    config: Config,
    path: Path,
    *,
    resume: bool,
    overwrite: bool,
    terminal: Terminal,
    dashboard: Dashboard | None = None,
    changed_data: bool = False,
    lost_metrics: bool = False,
    processes: Processes | None = None,
) -> RunFolder:
    """Train a network as configured into the run folder `path`; returns the folder with scores not yet made.

    With `resume` an interrupted run goes on from its newest undamaged checkpoint, with the precision and the threads it
    was begun with where config leaves them open. Ctrl-C and SIGTERM write a checkpoint and raise
    unet.signals.Interrupted. All input is checked before the folder is touched. `dashboard`: where the run is mirrored;
    it is left open for what follows (default: one of its own). changed_data: go on although the images or labels are
    not those that the run was begun with. lost_metrics: go on although metrics.jsonl is not what the checkpoint left.
    processes: those that train this run together, of which the first one writes (default: this one alone).
    """
    hardware = prepare(config, RunFolder(path).environment if resume else None)
    stack = load(config.data, terminal.say, terminal)
    if resume and not changed_data:
        check_same_data(RunFolder(path), stack)
    setup = Setup.of(config, hardware, stack)
    return run(
        setup, path, resume=resume, overwrite=overwrite, terminal=terminal, dashboard=dashboard,
        lost_metrics=lost_metrics, processes=processes,
    )  # fmt: skip


def run(
    setup: Setup,
    path: Path,
    *,
    resume: bool,
    overwrite: bool,
    terminal: Terminal,
    dashboard: Dashboard | None = None,
    callbacks: Sequence[Callback] = (),
    lost_metrics: bool = False,
    processes: Processes | None = None,
) -> RunFolder:
    """Hold the run folder `path` and train in it; the arguments are those of `train` and of `Trainer`."""
    config, processes = setup.config, processes or Processes()
    if processes.count > config.train.accumulate:
        raise ConfigError(
            f"train.accumulate {config.train.accumulate}: {processes.count} processes share the batches of an update; "
            f"use --train.accumulate {processes.count} or more"
        )
    with (
        taken_together(path, config, processes, resume=resume, overwrite=overwrite) as folder,
        Stopper() as stopper,
        explained(config, path, folder.file(CHECKPOINTS)),
        mirrored(dashboard, terminal.say) as mirror,
    ):
        if resume:
            folder.data_moved(config.data.folder)
        Trainer(setup, folder, terminal, stopper, mirror, callbacks, processes).run(lost_metrics)
    return folder
