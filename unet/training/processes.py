"""Several processes that train one run together, as torchrun starts them: the only place that uses torch.distributed.

Every process has the whole network and takes its share of an update's batches; sums are added up over all of them, and
everything that is a function of sums is then computed by all alike. The first process alone writes.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import Any, TypeVar

import torch
from torch import Tensor

from unet.config import Config
from unet.errors import ConfigError, RunError, TrainingError, one_line
from unet.runs.folder import ReadOnly, RunFolder, taken

T = TypeVar("T")
WAIT, COMMUNICATION = "process_wait", "communication"


class ProcessLost(TrainingError):
    """Another process of the run has ended, so that this one cannot go on."""


class Processes:
    """This process among those of a run: number `rank` of `count`. By itself: one that is alone.

    launched: started by torchrun, if only one. spent: seconds spent waiting for the others and exchanging sums.
    """

    def __init__(self, rank: int = 0, count: int = 1, *, launched: bool = False) -> None:
        self.rank, self.count, self.launched = rank, count, launched
        self.spent = dict.fromkeys((WAIT, COMMUNICATION), 0.0) if launched else {}

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def takes(self, number: int) -> bool:
        """Whether batch `number` of an update is this process's: those of rank r are r, r + count, r + 2 count, ..."""
        return number % self.count == self.rank

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor, in place, by its sum over all processes; all of one type, on one device."""
        if self.count == 1:
            return
        import torch.distributed as dist

        with self._timed(WAIT):
            dist.all_reduce(torch.zeros(1))
        with self._timed(COMMUNICATION):
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
            dist.all_reduce(flat)
            for tensor, part in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def largest(self, number: int) -> int:
        """The largest of the numbers that the processes give."""
        if self.count == 1:
            return number
        import torch.distributed as dist

        value = torch.tensor([number])
        with self._timed(WAIT):
            dist.all_reduce(value, dist.ReduceOp.MAX)
        return int(value)

    def of_first(self, value: T) -> T:
        """What the first process gives."""
        if self.count == 1:
            return value
        import torch.distributed as dist

        values: list[Any] = [value]
        with self._timed(WAIT):
            dist.broadcast_object_list(values)
        found: T = values[0]
        return found

    def collected(self, values: list[T]) -> list[T]:
        """In the first process: the values of all, in turns, as `takes` dealt them out; elsewhere nothing."""
        if self.count == 1:
            return values
        import torch.distributed as dist

        parts: list[Any] | None = [None] * self.count if self.first else None
        with self._timed(WAIT):
            dist.gather_object(values, parts)
        if parts is None:
            return []
        longest = max(len(part) for part in parts)
        return [part[i] for i in range(longest) for part in parts if i < len(part)]

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        except RuntimeError as error:
            raise ProcessLost(f"a process of this run has ended ({_plain(error)})") from None
        finally:
            self.spent[what] += time.perf_counter() - started

    def speaks(self) -> bool:
        """Whether this process says what ended all of them: the first to ask, on this machine."""
        if self.count == 1:
            return True
        names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_PORT")
        told = "-".join(os.environ.get(name, "") for name in names)
        try:
            with (Path(gettempdir()) / f"unet-{os.getuid()}-{told}-{os.getppid()}.ended").open("x"):
                return True
        except OSError:
            return False


def _plain(error: BaseException) -> str:
    """The message in one line, without the places in torch's sources that gloo names."""
    return re.sub(r"\[/[^]]*\] ?", "", one_line(error))[:120]


def launched() -> bool:
    """Whether torchrun, or something like it, has started this process as one of several."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


@contextmanager
def joined() -> Iterator[Processes]:
    """This process among those that torchrun has started, or alone. gloo between CPUs, NCCL between GPUs.

    ConfigError when a machine has more processes than GPUs.
    """
    if not launched():
        yield Processes()
        return
    import torch.distributed as dist

    rank, count, local = (int(os.environ.get(name, 0)) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    backend = "gloo"
    if torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"process {local} of this machine has no GPU of its own; start --nproc-per-node "
                f"{torch.cuda.device_count()} or fewer"
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    if count > 1:
        try:
            store, *_ = next(dist.rendezvous("env://", rank, count))  # type: ignore[attr-defined]
            own = dist.PrefixStore(_attempt(), store)  # type: ignore[attr-defined]
            dist.init_process_group(backend, store=own, rank=rank, world_size=count)
        except RuntimeError as error:
            raise ProcessLost(f"the processes of this run do not find each other ({_plain(error)})") from None
    try:
        yield Processes(rank, count, launched=True)
    finally:
        if count > 1:
            dist.destroy_process_group()


def _attempt() -> str:
    """What tells this start of the processes from those before it.

    torchrun keeps one store over its restarts (github.com/pytorch/pytorch/issues/135712), in which a process would
    find the addresses of the dead. Nodes count restarts apart from each other: on several, torchrun must be told to
    make a new store (docs/scaling.md).
    """
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if os.environ.get("GROUP_WORLD_SIZE", "1") == "1" else "0"


@contextmanager
def taken_together(
    path: Path, config: Config, processes: Processes, *, resume: bool, overwrite: bool
) -> Iterator[RunFolder]:
    """`unet.runs.folder.taken` by the first process; the others have a folder that they read only.

    Where it is refused to the first, the others raise the same error.
    """
    with ExitStack() as stack:
        folder, problem = RunFolder(path) if processes.first else ReadOnly(path), ""
        try:
            if processes.first:
                folder = stack.enter_context(taken(path, config, resume=resume, overwrite=overwrite))
        except RunError as error:
            problem = str(error)
        if problem := processes.of_first(problem):
            raise RunError(problem)
        yield folder
