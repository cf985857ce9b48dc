"""The largest curvature of the loss: the top eigenvalue of its Hessian, by power iteration.

Gradient descent at a rate r is stable on a quadratic only below a curvature of 2 / r, with momentum b below
2 (1 + b) / r; training tends to rise to this edge and to stay there (Cohen et al. 2021, "Gradient Descent on Neural
Networks Typically Occurs at the Edge of Stability", arXiv 2103.00065).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Curvature(NamedTuple):
    """value: the eigenvalue of the Hessian that is largest in size (with its sign). direction: its unit eigenvector, a
    tensor per parameter. residual: |H v - value v| / |value|; 0: found exactly."""

    value: float
    direction: tuple[Tensor, ...]
    residual: float


def largest_curvature(
    loss: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    iterations: int = 30,
    *,
    tolerance: float = 1e-3,
    start: Sequence[Tensor] | None = None,
    seed: int = 0,
) -> Curvature:
    """The largest curvature of `loss()` with respect to the parameters, at their present values.

    loss: a scalar that depends on the parameters and draws no random numbers (dropout off, the same images). start: a
    direction to begin from, such as that of an earlier update; else random by `seed`. Ends when the residual is below
    `tolerance`. Costs about two backward passes an iteration; the parameters and their gradients stay as they are.
    """
    if start is None:
        generator = torch.Generator().manual_seed(seed)
        start = [torch.randn(p.shape, generator=generator).to(p) for p in parameters]
    gradients = torch.autograd.grad(loss(), parameters, create_graph=True)
    direction, value, residual = _unit(start), 0.0, float("inf")
    for _ in range(iterations):
        product = torch.autograd.grad(gradients, parameters, grad_outputs=direction, retain_graph=True)
        value = _dot(product, direction)
        rest = [h - value * v for h, v in zip(product, direction, strict=True)]
        length = _dot(product, product) ** 0.5
        if length == 0:
            return Curvature(0.0, tuple(direction), 0.0)
        residual = _dot(rest, rest) ** 0.5 / max(abs(value), 1e-30)
        if residual < tolerance:
            break
        direction = [h / length for h in product]
    return Curvature(value, tuple(direction), residual)


class Descent(NamedTuple):
    """What was seen on the way down: before which updates, losses, largest curvatures; direction of the last one."""

    updates: tuple[int, ...]
    losses: tuple[float, ...]
    curvatures: tuple[float, ...]
    direction: tuple[Tensor, ...]


def descend(
    loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer, updates: int, every: int, iterations: int = 25
) -> Descent:
    """Take steps down a loss that is the same in each, and look at its largest curvature every few of them.

    loss: as for `largest_curvature`. There is a look before the first update and one after the last, if it is due.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    seen: list[tuple[int, float, float]] = []
    direction: tuple[Tensor, ...] | None = None
    for update in range(updates + 1):
        value = loss()
        if update % every == 0:
            found = largest_curvature(loss, parameters, iterations, tolerance=0.02, start=direction)
            direction = found.direction
            seen.append((update, value.item(), found.value))
        if update < updates:
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    counts, losses, curvatures = zip(*seen, strict=True)
    return Descent(counts, losses, curvatures, direction or ())


def along(
    loss: Callable[[], Tensor], parameters: Sequence[Tensor], direction: Sequence[Tensor], steps: Sequence[float]
) -> list[float]:
    """The loss at the parameters plus each of the steps times a direction; the parameters come back as they were."""
    kept = [p.detach().clone() for p in parameters]
    found = []
    with torch.no_grad():
        for step in steps:
            for p, origin, d in zip(parameters, kept, direction, strict=True):
                p.copy_(origin + step * d)
            found.append(float(loss()))
        for p, origin in zip(parameters, kept, strict=True):
            p.copy_(origin)
    return found


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return float(sum((x * y).sum().double() for x, y in zip(a, b, strict=True)))


def _unit(tensors: Sequence[Tensor]) -> list[Tensor]:
    length = _dot(tensors, tensors) ** 0.5
    return [tensor.detach() / length for tensor in tensors]
