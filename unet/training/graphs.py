"""A training step as one CUDA graph: some hundred kernels started by one call, for which the processor takes 10 us.

What torch asks for (torch.cuda.graph, "Whole-network capture"): inputs, gradients and results keep their addresses, the
step is warmed up on a stream of its own, and nothing in it waits for the device. The optimizer stays outside: its few
launches are for all parameters together. Dropout draws from torch's generator of the device, whose seed and offset a
replay reads anew: the masks are those of the eager step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from unet.errors import TrainingError, one_line
from unet.tiles.shared_batches import Batch
from unet.training.step import Step, Sums

WARM_UP = 3  # eager steps before the capture, in which libraries choose their algorithms and take their memory


class GraphedStep:
    """`step`, captured with its first batch and replayed from then on; batches of other shapes are computed eagerly.

    parameters: those whose gradients the step adds to. required: TrainingError when the step cannot be captured; else
    `say` is told why, and it stays eager.
    """

    keeps_gradients = True

    def __init__(self, step: Step, parameters: Iterable[Tensor], *, required: bool, say: Callable[[str], None]) -> None:
        self.step, self.parameters = step, list(parameters)
        self.required, self.say, self.pooled = required, say, step.pooled
        self._tried = False
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: Batch
        self._sums: Sums
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)

    @property
    def captured(self) -> bool:
        """Whether steps are replayed."""
        return self._graph is not None

    def __call__(self, batch: Batch) -> Sums:
        if not self._tried:
            self._tried = True
            self._try(batch)
        if self._graph is None or any(part.shape != own.shape for part, own in zip(batch, self._inputs, strict=True)):
            return self.step(batch)
        for own, part in zip(self._inputs, batch, strict=True):
            own.copy_(part)
        self._graph.replay()
        return self._sums

    def _try(self, batch: Batch) -> None:
        """Capture the step, and leave gradients and random numbers as they were."""
        device = batch.image.device
        before = [_gradient(parameter).clone() for parameter in self.parameters]
        try:
            with torch.random.fork_rng(devices=[device]):
                self._capture(batch, device)
        except RuntimeError as error:
            if self.required:
                raise TrainingError(
                    f"train.cuda_graphs: the step cannot be captured ({one_line(error)[:200]}); use auto or off"
                ) from None
            self.say(f"no CUDA graph: the step cannot be captured ({one_line(error)[:200]})")
        for parameter, gradient in zip(self.parameters, before, strict=True):
            _gradient(parameter).copy_(gradient)

    def _capture(self, batch: Batch, device: torch.device) -> None:
        self._inputs = Batch(*(torch.empty_like(part).copy_(part) for part in batch))
        current, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self.step(self._inputs)
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Other threads go on meanwhile: the one that puts batches into page-locked memory asks for memory.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._sums = self.step(self._inputs)
        self._graph = graph


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
