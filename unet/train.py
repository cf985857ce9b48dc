"""The training loop.

Everything random is a function of the seed and a counter: the initial weights of the seed, tile i of (seed, i), dropout
of (seed, update). A run that was stopped and resumed is therefore the run that was not.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unet.batches import batches
from unet.config import Config, to_dict
from unet.data.load import load
from unet.data.split import Split, split
from unet.data.stack import Stack
from unet.device import Hardware, check_memory, choose
from unet.errors import Diverged, RunError, one_line
from unet.evaluate import FramePrediction, pixel_scores, predict_frames
from unet.loss.dispatch import choose_loss
from unet.model import build, parameters
from unet.optim import learning_rate, make_optimizer
from unet.panels import Panels, place
from unet.predict import Network
from unet.progress import Bar, Terminal
from unet.runs.checkpoint import load_latest, save_checkpoint, save_weights
from unet.runs.dashboard import Dashboard, mirrored
from unet.runs.environment import continued, describe
from unet.runs.folder import METRICS, TIMING, RunFolder, taken
from unet.signals import Interrupted, Stopper
from unet.slots import Batch
from unet.tiles import TileSource
from unet.trouble import explained, last_checkpoint

LOG_EVERY = 10  # updates per row of metrics.jsonl
CHECKPOINTS, WEIGHTS = "checkpoints", "weights.safetensors"


@dataclass
class State:
    """Where the run stands; with weights and optimizer it is all that a resumed run needs."""

    update: int = 0
    evaluated_at: int = 0
    first_loss: float = 0.0
    window: list[list[float]] = field(default_factory=list)  # [loss, gradient norm] since the last row
    best: dict[str, float] = field(default_factory=dict)
    metrics_bytes: int = 0


def train(
    config: Config, path: Path, *, resume: bool, overwrite: bool, terminal: Terminal, dashboard: Dashboard | None = None
) -> RunFolder:
    """Train a network as configured into the run folder `path`; returns the folder with scores not yet made.

    With `resume` an interrupted run goes on from its newest undamaged checkpoint. Ctrl-C and SIGTERM write a checkpoint
    and raise unet.signals.Interrupted. All input is checked before the folder is touched. `dashboard`: where the run is
    mirrored; it is left open for what follows (default: one of its own).
    """
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    hardware = choose(config)
    stack = load(config.data, terminal.say, terminal)
    parts = split(stack, config.data)
    check_memory(config, hardware, stack.channels)
    source = TileSource(stack.select(parts.train), config, config.train.seed)
    with (
        taken(path, config, resume=resume, overwrite=overwrite) as folder,
        Stopper() as stopper,
        explained(config, path, folder.file(CHECKPOINTS)),
        mirrored(dashboard, terminal.say) as mirror,
    ):
        Trainer(config, hardware, stack, parts, source, folder, terminal, stopper, mirror).run()
    return folder


class Trainer:
    """One run: model, optimizer, loss, and the loop over updates."""

    def __init__(
        self,
        config: Config,
        hardware: Hardware,
        stack: Stack,
        parts: Split,
        source: TileSource,
        folder: RunFolder,
        terminal: Terminal,
        stopper: Stopper,
        dashboard: Dashboard,
    ) -> None:
        self.config, self.hardware, self.stack, self.parts = config, hardware, stack, parts
        self.source, self.folder, self.terminal, self.stopper = source, folder, terminal, stopper
        self.dashboard = dashboard
        self.panels = Panels(dashboard, config, stack, stack.select(parts.train), source)
        self.state = State()
        torch.use_deterministic_algorithms(config.train.deterministic)
        torch.backends.cudnn.benchmark = not config.train.deterministic
        layout = torch.channels_last if hardware.channels_last else torch.contiguous_format
        model = build(config.model, stack.channels, stack.classes, config.train.seed)
        self.model = model.to(hardware.device, memory_format=layout)  # type: ignore[call-overload]
        self.layout = layout
        self.forward = torch.compile(self.model) if hardware.compile else self.model
        self.network = Network(
            self.model,
            hardware.device,
            hardware.precision,
            hardware.channels_last,
            config.model.depth,
            config.model.allow_odd_pooling,
        )
        self.optimizer = make_optimizer(config.optim, self.model)
        self.loss = choose_loss(config.loss, hardware.device)
        self.pending: list[tuple[int, Tensor, Tensor]] = []  # losses still on the device
        self.waited = 0.0
        self.clock = (time.perf_counter(), 0)  # when the timing row began, and at which update

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train to the end, evaluating and writing checkpoints on the way."""
        self._resume()
        self._record()
        updates = self.config.train.updates
        stream = self._stream()  # forks, which is best done before there are threads
        self.dashboard.open(self.config, self.folder.path, self.folder.read_json("environment.json"))
        self.panels.begin()
        with self.terminal.bar("training", updates) as bar:
            try:
                while True:
                    self._between_updates(bar)
                    if self.state.update == updates:
                        break
                    self._update(stream)
                    self._show(bar)
            except Interrupted as interruption:
                if not interruption.at_once:
                    self._checkpoint()
                raise
        metadata = weights_metadata(self.config, self.stack)
        save_weights(self.folder.file(WEIGHTS), self.model.state_dict(), metadata)
        if self.config.wandb.weights:
            self.dashboard.file(self.folder.file(WEIGHTS), "weights", metadata)

    def _stream(self) -> Iterator[Batch]:
        per_update = self.config.train.batch * self.config.train.accumulate
        first, stop = self.state.update * per_update, self.config.train.updates * per_update
        pin = self.hardware.device.type == "cuda"
        return batches(self.source, first, stop, self.config.train.batch, self.hardware.workers, pin)

    def _update(self, stream: Iterator[Batch]) -> None:
        """One update of the weights, from `accumulate` batches; a stop between them leaves all as it was before."""
        settings = self.config.train
        update = self.state.update
        torch.manual_seed(derived_seed(settings.seed, update))
        rate = learning_rate(self.config.optim, update, settings.updates)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.hardware.device)
        for _ in range(settings.accumulate):
            self.stopper.check()
            image, target, weight = self._next(stream)
            with torch.autocast(self.hardware.device.type, torch.bfloat16, enabled=self.hardware.precision == "bf16"):
                logits = self.forward(image)
            loss = self.loss.function(logits, target, weight).loss / settings.accumulate
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        self.pending.append((update, total, self._gradient_norm()))
        self.optimizer.step()
        self.state.update += 1
        if self.hardware.device.type == "cpu" or self.state.update % LOG_EVERY == 0:
            self._flush()

    def _next(self, stream: Iterator[Batch]) -> Batch:
        started = time.perf_counter()
        batch = next(stream)
        self.waited += time.perf_counter() - started
        device = self.hardware.device
        image = batch.image.to(device, non_blocking=True, memory_format=self.layout)
        return Batch(image, batch.target.to(device, non_blocking=True), batch.weight.to(device, non_blocking=True))

    def _gradient_norm(self) -> Tensor:
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.config.optim.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.config.optim.clip_norm, norm)
        return norm

    # -- between updates ---------------------------------------------------------------------------------------------

    def _between_updates(self, bar: Bar) -> None:
        """Evaluation, checkpoint and an orderly end when one was asked for, at their times."""
        settings, state = self.config.train, self.state
        last = state.update == settings.updates
        if self.parts.held_out and state.update and (state.update % settings.eval_every == 0 or last):
            self._flush()
            self._evaluate(bar)
        self.stopper.check()
        if last or (state.update and state.update % settings.checkpoint_every == 0):
            self._checkpoint()

    def _evaluate(self, bar: Bar) -> None:
        """Score the stitched held-out frames in eval mode; a resumed run does not repeat a finished evaluation."""
        state = self.state
        if state.evaluated_at == state.update:
            return
        bar.update(state.update, "evaluating")
        self.evaluated = lambda done: bar.update(state.update, f"evaluating, {done} frames done")
        predictions = self._predict_held_out()
        scores = pixel_scores(predictions, self.stack.class_names)
        state.evaluated_at = state.update
        if (scores["mean_iou"] or 0.0) > state.best.get("mean_iou", -1.0):
            state.best = {"mean_iou": scores["mean_iou"] or 0.0, "update": float(state.update)}
        self._log({"update": state.update, "part": "held_out", **scores})
        self.panels.evaluation(state.update, predictions)
        self._log_timing()

    def _predict_held_out(self) -> list[FramePrediction]:
        settings = self.config.predict
        return predict_frames(
            self.network,
            self.stack,
            self.parts.held_out,
            tile_px=evaluation_tile(self.config),
            batch=settings.batch,
            on_frame=self.evaluated,
            on_tile=lambda *_: self.stopper.check(),
        )

    def _flush(self) -> None:
        """Bring losses from the device, refuse what is not finite, write a row every LOG_EVERY updates."""
        state = self.state
        for update, loss_tensor, norm_tensor in self.pending:
            loss, norm = float(loss_tensor), float(norm_tensor)
            state.first_loss = state.first_loss or loss
            self._check_loss(update, loss, norm)
            state.window.append([loss, norm])
            if (update + 1) % LOG_EVERY == 0 or update + 1 == self.config.train.updates:
                self._log_window(update)
        self.pending.clear()

    def _check_loss(self, update: int, loss: float, norm: float) -> None:
        limit = self.config.train.explode_factor * max(self.state.first_loss, 1e-3)
        if math.isfinite(loss) and math.isfinite(norm) and (not self.config.train.explode_factor or loss <= limit):
            return
        per_update = self.config.train.batch * self.config.train.accumulate
        first = update * per_update
        raise Diverged(
            f"update {update} (tiles {first}..{first + per_update - 1}): loss {loss:.4g}, gradient norm {norm:.4g}; "
            f"lower optim.lr (now {self.config.optim.lr:g}) or set optim.clip-norm, and check these tiles' frames; "
            f"{last_checkpoint(self.folder.file(CHECKPOINTS))}"
        )

    def _log_window(self, update: int) -> None:
        losses, norms = zip(*self.state.window, strict=True)
        self.state.window = []
        self._log(
            {
                "update": update + 1,
                "part": "train",
                "loss": sum(losses) / len(losses),
                "loss_max": max(losses),
                "gradient_norm": sum(norms) / len(norms),
                "lr": learning_rate(self.config.optim, update, self.config.train.updates),
            }
        )

    def _log(self, row: dict[str, Any]) -> None:
        self.state.metrics_bytes = self.folder.append(METRICS, row)
        part, update = row["part"], row["update"]
        values = {f"{part}/{k}": v for k, v in row.items() if k not in ("part", "update")}
        self.dashboard.log(values | place(update, self.config))

    def _log_timing(self) -> None:
        now, update = time.perf_counter(), self.state.update
        began, first = self.clock
        if update > first:
            row = self._speed(now - began, update - first)
            self.folder.append(TIMING, {"update": update, **row})
            self.dashboard.log({f"timing/{k}": v for k, v in row.items()} | place(update, self.config))
        self.waited, self.clock = 0.0, (time.perf_counter(), update)

    def _speed(self, seconds: float, updates: int) -> dict[str, float]:
        tiles = updates * self.config.train.batch * self.config.train.accumulate
        return {
            "tiles_per_s": tiles / seconds,
            "seconds_per_update": seconds / updates,
            "data_wait_share": self.waited / seconds,
        }

    def _show(self, bar: Bar) -> None:
        began, first = self.clock
        speed = self._speed(time.perf_counter() - began, max(1, self.state.update - first))
        loss = self.state.window[-1][0] if self.state.window else None
        shown = f"loss {loss:.4f}, " if loss is not None else ""
        note = f"{shown}{speed['tiles_per_s']:.1f} tiles/s, waiting for data {speed['data_wait_share']:.1%}"
        bar.update(self.state.update, note)

    # -- the record --------------------------------------------------------------------------------------------------

    def _record(self) -> None:
        """Write what the run is made with."""
        environment = describe(self.hardware.device) | {
            "precision": self.hardware.precision,
            "compiled": self.hardware.compile,
            "workers": self.hardware.workers,
            "threads": torch.get_num_threads(),
            "loss": self.loss.name,
            "data_source": self.stack.source,
            "data_sha256": self.stack.sha256(),
            "parameters": parameters(self.model),
        }
        with suppress(RunError):  # none, or damaged: there is nothing to carry on
            environment = continued(self.folder.read_json("environment.json"), environment, self.state.update)
        self.folder.write_json("environment.json", environment)
        frames = self.stack.frames
        names = {part: [frames[i].name for i in getattr(self.parts, part)] for part in ("train", "held_out")}
        self.folder.write_json("split.json", names)
        if self.loss.message:
            self.terminal.say(self.loss.message)
        self.terminal.say(
            f"{self.folder.path}: {self.config.model.variant} network with {environment['parameters']:,} parameters, "
            f"tiles of {self.config.tile.input_px} px, batch {self.config.train.batch}, {self.hardware.precision} on "
            f"{environment['device']}; {len(names['train'])} frames to train on, {len(names['held_out'])} held out"
        )

    def _checkpoint(self) -> None:
        self._flush()
        if not all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            raise Diverged(f"update {self.state.update}: the weights are not finite; lower optim.lr and start anew")
        state = {
            "format": 1,
            "model_config": to_dict(self.config.model),
            "state": dict(vars(self.state)),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        self.folder.sync(METRICS)  # a checkpoint counts on the rows before it
        save_checkpoint(self.folder.file(CHECKPOINTS), self.state.update, state)

    def _resume(self) -> None:
        """Go back to the newest undamaged checkpoint, or to the beginning when there is none."""
        saved, complaints = load_latest(self.folder.file(CHECKPOINTS))
        for complaint in complaints:
            self.terminal.say(f"{complaint}; passed over")
        if saved is not None:
            self._restore(saved)
            self.terminal.say(f"{self.folder.path}: resumed after update {self.state.update}")
        elif complaints:
            self.terminal.say(f"{self.folder.path}: no checkpoint is whole; it starts again from update 0")
        self.folder.truncate(METRICS, self.state.metrics_bytes)
        self.clock = (time.perf_counter(), self.state.update)

    def _restore(self, saved: dict[str, Any]) -> None:
        place = self.folder.path
        try:
            if saved["model_config"] != to_dict(self.config.model):
                raise RunError(f"{place}: its checkpoint holds another network than its config.yaml describes")
            self.state = State(**saved["state"])
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise RunError(
                f"{place}: its checkpoint is of another version ({one_line(error)[:160]}); resume with that version"
            ) from None


def weights_metadata(config: Config, stack: Stack) -> dict[str, Any]:
    """What prediction must know besides the weights: the network, its input and its output."""
    return {
        "model": to_dict(config.model),
        "channels": stack.channels,
        "class_names": list(stack.class_names),
        "normalisation": vars(stack.normalisation).copy(),
        "tile_px": evaluation_tile(config),
        "data": stack.source,
    }


def evaluation_tile(config: Config) -> int:
    """Input side of prediction tiles: free to choose (0) for aligned networks, as in training for misaligned ones."""
    if config.predict.tile_px:
        return config.predict.tile_px
    return config.tile.input_px if config.model.allow_odd_pooling else 0


def derived_seed(seed: int, update: int) -> int:
    """Seed of everything torch draws in one update."""
    digest = hashlib.sha256(f"{seed}:{update}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
