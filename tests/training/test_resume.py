"""A run that was cut and resumed is the run that was not: weights, metrics.jsonl, the best so far, scores."""

import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch.utils.data._utils import signal_handling

from tests.training.test_loop import QUIET, SMALL, Killed, configured, discs, start
from unet.config import from_dict
from unet.errors import Diverged, RunError, TrainingError, UserError
from unet.evaluation.run import evaluate_run
from unet.loss.compile import KernelError
from unet.runs.checkpoint import load_latest, load_weights, save_checkpoint
from unet.runs.folder import METRICS, TIMING
from unet.signals import Interrupted, Stopper
from unet.tiles.batches import batches
from unet.tiles.source import TileSource
from unet.training.trainer import Trainer

TINY = {
    "tile": {"input_px": 28},
    "model": {"base_channels": 2, "depth": 2, "dropout": 0.3},
    "train": {"updates": 12, "batch": 2, "accumulate": 2, "eval_every": 4, "checkpoint_every": 3},
}
NEEDS_COMPILER = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="torch.compile needs a C++ compiler"
)


@pytest.fixture(autouse=True)
def data(monkeypatch):
    monkeypatch.setattr("unet.training.loop.load", lambda *_: discs())
    monkeypatch.setattr("unet.evaluation.run.load", lambda *_: discs())


def tiny(**changes):
    return from_dict(changes, from_dict(TINY, from_dict(SMALL)))


def everything(path):
    """All that must be equal to the bit."""
    saved, complaints = load_latest(path / "checkpoints")
    assert saved is not None
    assert complaints == []
    scores = evaluate_run(path, QUIET)
    assert json.loads((path / "scores.json").read_text()) == scores
    return {
        "weights": load_weights(path / "weights.safetensors")[0],
        "optimizer": saved["optimizer"]["state"],
        "state": saved["state"],
        "metrics": (path / METRICS).read_bytes(),
        "scores": (path / "scores.json").read_bytes(),
        "probabilities": (path / "probabilities.tif").read_bytes(),
    }


def assert_same(first, second):
    for key in ("weights", "optimizer"):
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=0)
    for key in ("state", "metrics", "scores", "probabilities"):
        assert first[key] == second[key], key


def disturbed():
    """What another process would have in its generators."""
    torch.manual_seed(time.monotonic_ns())
    np.random.seed(time.monotonic_ns() % 2**32)  # noqa: NPY002
    random.seed(time.monotonic_ns())


def cut(monkeypatch, path, config, *updates):
    """Train in pieces, dying before each of these updates (counted over all attempts) and resuming."""
    calls = 0
    original = Trainer._update

    def dies(self, stream):
        nonlocal calls
        calls += 1
        if calls in updates:
            raise Killed
        original(self, stream)

    monkeypatch.setattr(Trainer, "_update", dies)
    for number, _ in enumerate(updates):
        disturbed()
        with pytest.raises(Killed):
            start(path, config, resume=number > 0)
    disturbed()
    start(path, config, resume=True)
    monkeypatch.setattr(Trainer, "_update", original)
    assert calls > config.train.updates  # something was done twice


SGD = {"name": "sgd", "lr": 1e-3, "momentum": 0.9}
ADAM = {"name": "adam", "lr": 3e-3, "schedule": "cosine", "warmup_updates": 4, "clip_norm": 1.0, "average": 0.9}
CASES = [
    pytest.param(
        optim, workers, compiled, precision,
        id=f"{optim['name']}-{workers} workers-{compiled}-{precision}",
        marks=[NEEDS_COMPILER, pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")]
        if compiled == "on" else [],
    )
    for optim, workers, compiled, precision in itertools.product((SGD, ADAM), (0, 2), ("off", "on"), ("fp32", "bf16"))
    if precision == "fp32" or (workers == 0 and compiled == "off")
]  # fmt: skip


@pytest.mark.parametrize(("optim", "workers", "compiled", "precision"), CASES)
def test_cut_and_resumed_to_the_bit(tmp_path, monkeypatch, optim, workers, compiled, precision):
    """With gradient accumulation, dropout, a schedule, evaluations between the checkpoints."""
    train = {"workers": workers, "compile": compiled, "precision": precision}
    config = tiny(optim=optim, train=train)
    start(tmp_path / "whole", config)
    cut(monkeypatch, tmp_path / "cut", config, 5, 11)
    whole = everything(tmp_path / "whole")
    assert_same(whole, everything(tmp_path / "cut"))
    assert whole["state"]["best"]["update"] in (4.0, 8.0, 12.0)


def test_the_comparison_sees_a_single_bit(tmp_path):
    start(tmp_path / "a", tiny())
    start(tmp_path / "b", tiny(train={"seed": 1}))
    first, second = everything(tmp_path / "a"), everything(tmp_path / "b")
    with pytest.raises(AssertionError):
        assert_same(first, second)
    name = next(iter(first["weights"]))
    other = {**first, "weights": {k: v.clone() for k, v in first["weights"].items()}}
    bits = other["weights"][name].view(torch.int32)
    bits.view(-1)[0] ^= 1
    with pytest.raises(AssertionError):
        assert_same(first, other)


def test_the_best_so_far_survives_though_it_lies_before_the_cut(tmp_path, monkeypatch):
    scores = iter([0.9, 0.5, 0.4, 0.5, 0.4])  # the last two are repeated after the cut
    monkeypatch.setattr("unet.training.trainer.pixel_scores", lambda *_: {"mean_iou": next(scores)})
    config = tiny(train={"checkpoint_every": 5})
    cut(monkeypatch, tmp_path / "run", config, 8)
    saved, _ = load_latest(tmp_path / "run" / "checkpoints")
    assert saved is not None
    assert saved["state"]["best"] == {"mean_iou": 0.9, "update": 4.0}


def test_a_signal_between_accumulated_batches_loses_no_whole_update(tmp_path, monkeypatch):
    """An update of many batches may take longer than a machine that is taken away leaves."""
    config = tiny(train={"accumulate": 6})
    start(tmp_path / "whole", config)
    original, taken = Trainer._next, 0

    def signalled(self, stream):
        nonlocal taken
        taken += 1
        if taken == 5 * 6 + 2:
            signal.raise_signal(signal.SIGTERM)
        return original(self, stream)

    monkeypatch.setattr(Trainer, "_next", signalled)
    with pytest.raises(Interrupted):
        start(tmp_path / "cut", config)
    assert taken == 5 * 6 + 2  # the remaining batches of the update were not awaited
    saved, _ = load_latest(tmp_path / "cut" / "checkpoints")
    assert saved is not None
    assert saved["state"]["update"] == 5
    monkeypatch.setattr(Trainer, "_next", original)
    start(tmp_path / "cut", config, resume=True)
    assert_same(everything(tmp_path / "whole"), everything(tmp_path / "cut"))


def test_a_second_ctrl_c_saves_nothing_from_the_middle_of_an_update(tmp_path, monkeypatch):
    config = tiny()
    start(tmp_path / "whole", config)
    original = torch.optim.Adam.step

    def interrupted(self, *arguments):
        result = original(self, *arguments)
        if int(next(iter(self.state.values()))["step"]) == 5:  # weights are new, the counter of updates is not
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", interrupted)
    with pytest.raises(Interrupted):
        start(tmp_path / "cut", config)
    monkeypatch.setattr(torch.optim.Adam, "step", original)
    saved, _ = load_latest(tmp_path / "cut" / "checkpoints")
    assert saved is not None
    assert saved["state"]["update"] == 3
    start(tmp_path / "cut", config, resume=True)
    assert_same(everything(tmp_path / "whole"), everything(tmp_path / "cut"))


def test_sigterm_twice_is_asked_once():
    """Systems that end a machine send it to every process, and parents pass it on."""
    with Stopper() as stopper:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted) as stop:
            stopper.check()
        assert (stop.value.exit_code, stop.value.at_once) == (143, False)
        with pytest.raises(Interrupted) as stop:
            signal.raise_signal(signal.SIGINT)
        assert (stop.value.exit_code, stop.value.at_once) == (130, True)


def test_sigterm_to_the_whole_group_still_leaves_a_checkpoint(tmp_path):
    """Pre-emptible machines tell every process to stop, also those that cut tiles for the trainer."""
    command = [
        sys.executable, "-m", "unet", "train", "--profile", "smoke", "--data.name", "synthetic-hela", "--run", "run",
        "--train.workers", "2", "--train.updates", "4000", "--train.eval-every", "4000", "--train.checkpoint-every",
        "4000",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": os.getcwd()}  # noqa: PTH109
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment
    ) as process:
        metrics = tmp_path / "run" / METRICS
        limit = time.monotonic() + 60
        while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < limit:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGTERM)
        asked = time.monotonic()
        _, error = process.communicate(timeout=60)
    assert process.returncode == 143, error
    assert time.monotonic() - asked < 10
    saved, _ = load_latest(tmp_path / "run" / "checkpoints")
    assert saved is not None
    assert saved["state"]["update"] >= 10
    assert not [name for name in os.listdir(tmp_path / "run") if name.endswith(".part")]  # noqa: PTH208


def test_a_process_that_cuts_tiles_and_dies_is_one_line(tmp_path, monkeypatch):
    config = tiny(train={"workers": 2})
    start(tmp_path / "whole", config)
    original = TileSource.__getitem__
    trainer = os.getpid()

    def dies(self, index):
        if index >= 30 and os.getpid() != trainer:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, index)

    monkeypatch.setattr(TileSource, "__getitem__", dies)
    with pytest.raises(TrainingError, match=r"cuts tiles failed.*last good checkpoint: .*--resume") as caught:
        start(tmp_path / "cut", config)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(TileSource, "__getitem__", original)
    resume = (tmp_path / "cut" / "checkpoints").exists()
    start(tmp_path / "cut", config, resume=True)
    assert_same(everything(tmp_path / "whole"), everything(tmp_path / "cut"))
    assert resume


def test_a_process_that_dies_while_a_checkpoint_is_written_leaves_it_whole(tmp_path, monkeypatch):
    """Its death must not be taken for a damaged file: it is told of where its next batch is waited for."""
    monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", False)  # as in a new process
    handler = signal.getsignal(signal.SIGCHLD)
    original = torch.load
    deaths = []

    def load(*arguments, **options):
        for worker in multiprocessing.active_children()[: not deaths]:
            deaths.append(worker.pid)
            worker.kill()
            worker.join(10)
        return original(*arguments, **options)

    monkeypatch.setattr(torch, "load", load)
    config = tiny(train={"workers": 2, "updates": 30})
    with pytest.raises(TrainingError, match=r"cuts tiles failed.*last good checkpoint: update-0000.*--resume"):
        start(tmp_path / "cut", config)
    assert deaths
    saved, complaints = load_latest(tmp_path / "cut" / "checkpoints")
    assert saved is not None
    assert saved["state"]["update"] >= 3
    assert complaints == []
    assert signal.getsignal(signal.SIGCHLD) == handler


def test_workers_outlive_sigterm_and_end_with_their_trainer():
    """A worker that is told to stop must go on serving tiles until the trainer has written its checkpoint."""
    source = TileSource(discs(), tiny(), 0)
    before = set(multiprocessing.active_children())
    stream = batches(source, 0, 200, 2, 2, pin=False)
    for _ in range(2):  # one of each worker: both are past their beginning
        next(stream)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    for worker in workers:
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGTERM)
    assert len(list(itertools.islice(stream, 60))) == 60
    del stream
    for worker in workers:
        worker.join(10)
        assert not worker.is_alive()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("CUDNN_STATUS_ALLOC_FAILED"),
        KernelError("NVIDIA driver: CUDA_ERROR_OUT_OF_MEMORY"),
    ],
    ids=["cuda", "python", "cpu", "cudnn", "driver"],
)
@pytest.mark.parametrize("where", ["_update", "_predict_held_out"])
def test_exhausted_memory_says_what_to_lower_and_keeps_the_checkpoint(tmp_path, monkeypatch, error, where):
    config = tiny()
    start(tmp_path / "whole", config)
    original = getattr(Trainer, where)

    def exhausted(self, *arguments):
        if self.state.update >= 8:
            raise error
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, where, exhausted)
    with pytest.raises(
        TrainingError,
        match=r"out of memory: .*batch 1 with train\.accumulate 4.*input-px below 28.*update-000006\.pt.*--resume",
    ) as caught:
        start(tmp_path / "cut", config)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(Trainer, where, original)
    start(tmp_path / "cut", config, resume=True)
    assert_same(everything(tmp_path / "whole"), everything(tmp_path / "cut"))


def test_other_errors_are_not_explained_away(tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "_update", lambda *_: (_ for _ in ()).throw(RuntimeError("a mistake in the program")))
    with pytest.raises(RuntimeError, match="a mistake in the program"):
        start(tmp_path / "run", tiny())


def test_damaged_checkpoints_cost_updates_and_no_bits(tmp_path, capsys, monkeypatch):
    """The newest is damaged: the previous one is taken. All are: the run begins again, and says so."""
    from unet.terminal import Terminal

    config = tiny()
    start(tmp_path / "run", config)
    whole = everything(tmp_path / "run")
    kept = tmp_path / "run" / "checkpoints"
    content = bytearray((kept / "update-000012.pt").read_bytes())
    content[1000] ^= 1
    (kept / "update-000012.pt").write_bytes(content)
    start(tmp_path / "run", config, resume=True, terminal=Terminal())
    said = capsys.readouterr().err
    assert "update-000012.pt: damaged checkpoint (its content does not fit its checksum); passed over" in said
    assert "resumed after update 9" in said
    assert_same(whole, everything(tmp_path / "run"))
    for path in kept.glob("*.pt"):
        path.write_bytes(b"")
    start(tmp_path / "run", config, resume=True, terminal=Terminal())
    assert "no checkpoint is whole; it starts again from update 0" in capsys.readouterr().err
    assert_same(whole, everything(tmp_path / "run"))


@pytest.mark.parametrize("change", ["no optimizer", "other fields", "other weights", "no state"])
def test_a_checkpoint_of_another_version_is_one_line(tmp_path, change):
    config = tiny()
    start(tmp_path / "run", config)
    kept = tmp_path / "run" / "checkpoints"
    saved, _ = load_latest(kept)
    assert saved is not None
    if change == "no optimizer":
        del saved["optimizer"]
    elif change == "other fields":
        saved["state"]["epoch"] = 3
    elif change == "other weights":
        saved["model"]["more"] = torch.zeros(1)
    else:
        saved = {"update": 12}
    save_checkpoint(kept, 12, saved)
    with pytest.raises(RunError, match="its checkpoint is of another version") as caught:
        start(tmp_path / "run", config, resume=True)
    assert "\n" not in str(caught.value)


def test_a_clock_that_goes_backwards_changes_nothing(tmp_path, monkeypatch):
    start(tmp_path / "whole", tiny())
    seconds = itertools.count(2_000_000_000, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(seconds)))
    monkeypatch.setattr(time, "time_ns", lambda: next(seconds) * 10**9)
    cut(monkeypatch, tmp_path / "cut", tiny(), 8)
    assert_same(everything(tmp_path / "whole"), everything(tmp_path / "cut"))
    rows = [json.loads(line) for line in (tmp_path / "cut" / TIMING).read_text().splitlines()]
    assert all(row["seconds_per_update"] > 0 for row in rows)


def test_what_was_automatic_stays_what_it_became(tmp_path, monkeypatch):
    """A study that goes on with fewer runs at once has more threads, another machine other instructions."""
    config = tiny(train={"threads": 0, "precision": "auto"})
    before = torch.get_num_threads()
    try:
        for name, threads, features in (("whole", 1, []), ("cut", 1, []), ("cut", 2, ["amx"])):
            torch.set_num_threads(threads)
            monkeypatch.setattr("unet.device.cpu_features", lambda found=features: found)
            if name == "whole" or threads == 2:
                start(tmp_path / name, config, resume=threads == 2)
            else:
                with monkeypatch.context() as patch, pytest.raises(Killed):
                    patch.setattr(Trainer, "_evaluate", dies_at(8))
                    start(tmp_path / name, config)
        made = json.loads((tmp_path / "cut" / "environment.json").read_text())
        assert (made["threads"], made["precision"], made["resumed"]) == (1, "fp32", [])
        assert_same(everything(tmp_path / "whole"), everything(tmp_path / "cut"))
        start(tmp_path / "cut", tiny(train={"threads": 2, "precision": "auto"}), resume=True)
        made = json.loads((tmp_path / "cut" / "environment.json").read_text())
        assert made["resumed"] == [{"update": 12, "before": {"threads": 1}}]  # as it was asked for
    finally:
        torch.set_num_threads(before)


def dies_at(update):
    """An evaluation during which the process dies."""
    original = Trainer._evaluate

    def evaluate(self, bar):
        if self.state.update == update:
            raise Killed
        original(self, bar)

    return evaluate


def test_the_record_tells_what_changed_when_a_run_was_resumed(tmp_path, monkeypatch):
    config = tiny()
    cut(monkeypatch, tmp_path / "run", config, 8)
    path = tmp_path / "run" / "environment.json"
    first = json.loads(path.read_text())
    assert first["resumed"] == []
    assert len(first["data_sha256"]) == 64
    path.write_text(json.dumps(first | {"commit": "a" * 40, "command": ["unet", "train", "--profile", "x"]}))
    (tmp_path / "run" / "weights.safetensors").unlink()
    start(tmp_path / "run", config, resume=True)
    now = json.loads(path.read_text())
    assert now["command"] == ["unet", "train", "--profile", "x"]
    assert now["resumed"] == [{"update": 12, "before": {"commit": "a" * 40}}]
    assert now["commit"] == first["commit"]
    path.write_text("[1]")
    start(tmp_path / "run", config, resume=True)
    assert json.loads(path.read_text())["commit"] == first["commit"]


def test_divergence_is_an_error_of_its_own(tmp_path):
    assert issubclass(Diverged, TrainingError)
    assert issubclass(TrainingError, UserError)
    with pytest.raises(Diverged):
        start(
            tmp_path / "run", from_dict({"optim": {"name": "sgd", "lr": 900.0}, "train": {"updates": 40}}, configured())
        )
