"""A stand-in for CUDA graphs on the CPU: what torch computes while a graph is captured is noted, operator by operator,
and computed again, into the same memory, when the graph is replayed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map


class Recording:
    """Stands for torch.cuda.CUDAGraph."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self.replays = 0

    @torch.no_grad()
    def replay(self) -> None:
        self.replays += 1
        for function, args, kwargs, result in self.calls:
            again = function(*args, **kwargs)
            taken = {_memory(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and _memory(old) not in taken:  # no view, nothing computed in place
                    old.copy_(new)


def _memory_alone(value: Any) -> Any:
    """A tensor's memory, without its history."""
    return value.detach() if isinstance(value, Tensor) else value


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class _Watch(TorchDispatchMode):
    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self.recording = recording

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        result = function(*args, **(kwargs or {}))
        self.recording.calls.append(tree_map(_memory_alone, (function, args, kwargs or {}, result)))
        return result


@contextmanager
def _capture(recording: Recording, **_: Any) -> Iterator[None]:
    with _Watch(recording):
        yield


def pretend(patch: pytest.MonkeyPatch) -> list[Recording]:
    """Torch captures graphs on the CPU; the list holds them as they are made."""
    made: list[Recording] = []

    def new() -> Recording:
        made.append(Recording())
        return made[-1]

    stream = SimpleNamespace(wait_stream=lambda _: None)
    patch.setattr(torch.cuda, "CUDAGraph", new)
    patch.setattr(torch.cuda, "graph", _capture)
    patch.setattr(torch.cuda, "Stream", lambda _: stream)
    patch.setattr(torch.cuda, "current_stream", lambda _: stream)
    patch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    true_fork = torch.random.fork_rng
    patch.setattr(torch.random, "fork_rng", lambda devices: true_fork(devices=[]))  # noqa: ARG005
    return made
