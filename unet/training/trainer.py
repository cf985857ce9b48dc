"""The trainer: one run's network and the loop over its updates.

Everything random is a function of the seed and a counter: the initial weights of the seed, tile i of (seed, i), dropout
of (seed, update). A run that was stopped and resumed is therefore the run that was not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from unet.device import allow_tf32
from unet.errors import Diverged, RunError
from unet.evaluation.during import ChallengeScores
from unet.evaluation.frames import FramePrediction, pixel_scores, predict_frames
from unet.loss.dispatch import choose_loss
from unet.model import parameters
from unet.networks import build
from unet.prediction.overlap import Network
from unet.runs.checkpoint import load_latest, newest_first, save_checkpoint, save_weights
from unet.runs.dashboard import Dashboard
from unet.runs.folder import CHECKPOINTS, ENVIRONMENT, WEIGHTS, RunFolder
from unet.signals import Interrupted, Stopper
from unet.terminal import Bar, Terminal
from unet.tiles.batches import batches
from unet.tiles.shared_batches import Batch
from unet.training.continuing import Learning, checkpoint_of, restore
from unet.training.graphs import GraphedStep
from unet.training.log import LOG_EVERY, Journal
from unet.training.optim import learning_rate, make_optimizer, weight_average
from unet.training.processes import Processes
from unet.training.record import write_record
from unet.training.setup import Setup
from unet.training.step import EagerStep, Step
from unet.training.wandb_panels import Panels
from unet.training.warm_start import warm_start

Callback: TypeAlias = "Callable[[Trainer], None]"


class Trainer:
    """One run: model, optimizer, loss, and the loop over updates.

    callbacks: called with the trainer between two updates, before the first and after the last; what they do must leave
    the weights and the random numbers as they are.
    """

    def __init__(
        self,
        setup: Setup,
        folder: RunFolder,
        terminal: Terminal,
        stopper: Stopper,
        dashboard: Dashboard,
        callbacks: Sequence[Callback],
        processes: Processes,
    ) -> None:
        self.setup = setup
        self.config = config = setup.config
        self.hardware = hardware = setup.hardware
        self.stack = stack = setup.stack
        self.parts, self.source = parts, source = setup.parts, setup.source
        self.split = parts.names(stack)
        self.folder, self.terminal, self.stopper = folder, terminal, stopper
        self.dashboard, self.callbacks = dashboard, callbacks
        self.processes = processes
        self.challenge_scores = ChallengeScores(config, stack)
        self.panels = Panels(dashboard, config, stack, stack.select(parts.train), source)
        self.journal = Journal(config, folder, dashboard, processes.spent)
        self.state = self.journal.state
        torch.use_deterministic_algorithms(config.train.deterministic)
        torch.backends.cudnn.benchmark = not config.train.deterministic
        allow_tf32(False)
        layout = torch.channels_last if hardware.channels_last else torch.contiguous_format
        model = build(config.model, stack.channels, stack.classes, config.train.seed)
        self.parent = folder.environment.get("parent")
        if config.train.parent and not newest_first(folder.file(CHECKPOINTS)):
            self.parent = warm_start(model, config, stack, terminal.say)
        self.model = model.to(hardware.device, memory_format=layout)  # type: ignore[call-overload]
        self.layout = layout
        self.average = weight_average(config.optim, self.model)
        self.network = Network(
            self.scored,
            hardware.device,
            hardware.precision,
            hardware.channels_last,
            config.model.depth,
            config.model.allow_odd_pooling,
        )
        self.optimizer = make_optimizer(config.optim, self.model)
        self.learning = Learning(self.model, self.optimizer, self.average)
        self.loss = choose_loss(config.loss, hardware.device)
        self.step = self._make_step()

    @property
    def scored(self) -> nn.Module:
        """What is evaluated and saved: the average of the weights where there is one."""
        return self.model if self.average is None else self.average.module

    def _make_step(self) -> Step:
        """The computation of a batch: as a CUDA graph where the hardware takes them."""
        config, hardware = self.config, self.hardware
        forward = torch.compile(self.model) if hardware.compile else self.model
        pooled = config.train.accumulate > 1
        eager = EagerStep(forward, self.loss, config.loss, pooled=pooled, bf16=hardware.precision == "bf16")
        if not hardware.cuda_graphs:
            return eager
        required = config.train.cuda_graphs == "on"
        return GraphedStep(eager, self.model.parameters(), required=required, say=self.terminal.say)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self, lost_metrics: bool = False) -> None:
        """Train to the end, evaluating and writing checkpoints on the way; lost_metrics: see `Journal.begin`."""
        self._resume()
        self.journal.begin(lost_metrics)
        if self.processes.first:
            write_record(
                self.setup, self.folder, self.terminal, self.processes, loss=self.loss,
                parameters=parameters(self.model), parent=self.parent, update=self.state.update,
            )  # fmt: skip
        updates = self.config.train.updates
        stream = self._stream()  # forks, which is best done before there are threads
        if self.processes.first:
            self.dashboard.open(self.config, self.folder.path, self.folder.read_json(ENVIRONMENT))
        self.panels.begin()
        with self.terminal.bar("training", updates) as bar:
            try:
                while True:
                    self._between_updates(bar)
                    for callback in self.callbacks:
                        callback(self)
                    if self.state.update == updates:
                        break
                    self._update(stream)
                    self.journal.show(bar)
            except Interrupted as interruption:
                if not interruption.at_once:
                    self._checkpoint()
                raise
        if not self.processes.first:
            return
        metadata = self.setup.weights_metadata()
        save_weights(self.folder.file(WEIGHTS), self.scored.state_dict(), metadata)
        if self.config.wandb.weights:
            self.dashboard.file(self.folder.file(WEIGHTS), "weights", metadata)

    def _stream(self) -> Iterator[Batch]:
        per_update = self.config.train.batch * self.config.train.accumulate
        first, stop = self.state.update * per_update, self.config.train.updates * per_update
        pin = self.hardware.device.type == "cuda"
        several = self.config.train.accumulate

        def ours(number: int) -> bool:
            return self.processes.takes(number % several)

        return batches(self.source, first, stop, self.config.train.batch, self.hardware.workers, pin, ours)

    def _update(self, stream: Iterator[Batch]) -> None:
        """One update of the weights, from `accumulate` batches; a stop between them leaves all as it was before.

        The update is that of one batch of all their tiles: a mean is divided by the pixels of all, whatever each has.
        """
        settings = self.config.train
        update = self.state.update
        if not self.processes.launched:  # one stream of random numbers for all batches of the update
            torch.manual_seed(derived_seed(settings.seed, update))
        rate = learning_rate(self.config.optim, update, settings.updates)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=not self.step.keeps_gradients)
        total, divisor = (torch.zeros((), device=self.hardware.device) for _ in range(2))
        counts: Tensor | None = None
        for number in filter(self.processes.takes, range(settings.accumulate)):
            if self.processes.launched:  # a stream for each, whoever takes it
                torch.manual_seed(derived_seed(settings.seed, f"{update}:{number}"))
            else:
                self.stopper.check()
            sums = self.step(self._next(stream))
            total += sums.loss
            if sums.divisor is not None:
                divisor += sums.divisor
            if sums.counts is not None:
                counts = sums.counts + (0 if counts is None else counts)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        self.processes.add([total, divisor, *gradients])
        if counts is not None:
            self.processes.add([counts])
        if self.step.pooled:
            self._divide([total, *gradients], divisor)
        self.journal.add(update, total, self._gradient_norm(gradients), counts)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.state.update += 1
        if self.hardware.device.type == "cpu" or self.state.update % LOG_EVERY == 0:
            self.journal.flush()

    @staticmethod
    def _divide(sums: list[Tensor], divisor: Tensor) -> None:
        """In place; by 1 where no pixel of the update carries loss."""
        divisor = torch.where(divisor == 0, torch.ones_like(divisor), divisor)
        for tensor in sums:
            tensor /= divisor

    def _next(self, stream: Iterator[Batch]) -> Batch:
        with self.journal.waiting():
            batch = next(stream)
        device = self.hardware.device
        image = batch.image.to(device, non_blocking=True, memory_format=self.layout)
        return Batch(image, batch.target.to(device, non_blocking=True), batch.weight.to(device, non_blocking=True))

    def _gradient_norm(self, gradients: list[Tensor]) -> Tensor:
        """Of all gradients together, before they are clipped where that is asked for."""
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.config.optim.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.config.optim.clip_norm, norm)
        return norm

    # -- between updates ---------------------------------------------------------------------------------------------

    def _between_updates(self, bar: Bar) -> None:
        """Evaluation, checkpoint and an orderly end when one was asked for, at their times."""
        settings, state = self.config.train, self.state
        last = state.update == settings.updates
        if state.update and (state.update % settings.eval_every == 0 or last):
            self.journal.flush()
            self._evaluate(bar)
        self._check_stop()
        if last or (state.update and state.update % settings.checkpoint_every == 0):
            self._checkpoint()

    def _check_stop(self) -> None:
        """Interrupted when one of the processes was asked to end: all do, between the same two updates."""
        if not self.processes.launched:
            self.stopper.check()
        elif number := self.processes.largest(self.stopper.number):
            raise Interrupted(number)

    def _evaluate(self, bar: Bar) -> None:
        """Score the stitched held-out frames in eval mode; a resumed run does not repeat a finished evaluation.

        Without held-out frames only the speed is noted.
        """
        state = self.state
        if state.evaluated_at == state.update:
            return
        if not self.parts.held_out:
            self.journal.timing()
            return
        bar.update(state.update, "evaluating")
        with self.journal.evaluating():
            predictions = self.processes.collected(self._predict_held_out(bar))
            if not self.processes.first:
                state.evaluated_at = state.update
                return
            scores = pixel_scores(predictions, self.stack.class_names, self.stack.own)
            self.journal.held_out(scores | self.challenge_scores(predictions))
            self.panels.evaluation(state.update, predictions)

    def _predict_held_out(self, bar: Bar) -> list[FramePrediction]:
        return predict_frames(
            self.network,
            self.stack,
            [index for number, index in enumerate(self.parts.held_out) if self.processes.takes(number)],
            self.setup.evaluation,
            on_frame=lambda done: bar.update(self.state.update, f"evaluating, {done} frames done"),
            on_tile=None if self.processes.launched else lambda *_: self.stopper.check(),
        )

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        self.journal.flush()
        if not all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            raise Diverged(f"update {self.state.update}: the weights are not finite; lower optim.lr and start anew")
        if not self.processes.first:
            return
        self.journal.seal()
        kept = checkpoint_of(self.learning, self.state, self.config, self.split)
        save_checkpoint(self.folder.file(CHECKPOINTS), self.state.update, kept)

    def _resume(self) -> None:
        """Go back to the newest undamaged checkpoint, or to the beginning when there is none."""
        found = load_latest(self.folder.file(CHECKPOINTS)) if self.processes.first else None
        saved, complaints = self.processes.of_first(found) or (None, [])
        for complaint in complaints:
            self.terminal.say(f"{complaint}; passed over")
        if saved is not None:
            place = self.folder.path
            self.state = self.journal.state = restore(self.learning, saved, place, self.config, self.split)
            self.terminal.say(f"{self.folder.path}: resumed after update {self.state.update}")
        elif complaints and self.config.train.parent:
            raise RunError(f"{self.folder.path}: no checkpoint is whole; start again with --overwrite")
        elif complaints:
            self.terminal.say(f"{self.folder.path}: no checkpoint is whole; it starts again from update 0")


def derived_seed(seed: int, update: int | str) -> int:
    """Seed of everything torch draws in one update, or in one batch of it ("update:batch")."""
    digest = hashlib.sha256(f"{seed}:{update}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
