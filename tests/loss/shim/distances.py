"""What is demanded of tensors with more than 2^31 elements, whose memory need not exist. Functions as in checks.py."""

from __future__ import annotations

import mmap
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.loss.shim.cases import Case, Result, assert_agrees, expected, make_case
from tests.loss.shim.checks import BFLOAT, BYTE, FLOAT, HALF, LONG
from tests.loss.shim.launcher import Kernels, ShimLauncher
from unet.loss import launch, plan
from unet.loss.plan import BLOCK, Plan


def far_memory(elements: int, dtype: torch.dtype) -> Tensor:
    """Address space of which only the pages that are touched take memory."""
    try:
        no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve
        space = mmap.mmap(-1, elements * dtype.itemsize, flags=flags)
    except (OSError, ValueError, AttributeError):
        pytest.skip("this machine does not give out address space beyond its memory")
    return torch.frombuffer(space, dtype=dtype)


FAR = 2**31 + 64


def offsets_beyond_32_bits(kernels: Kernels) -> None:
    """Class planes, images and rows more than 2^31 elements apart, in the logits, the gradient and the rest."""
    for shape, strides, pixel_strides in (
        ((1, 3, 2, 4), (0, FAR, 4, 1), (0, 4, 1)),
        ((1, 3, 2, 3), (0, FAR, 3, 1), (0, 3, 1)),
        ((1, 3, 2, 4), (0, 1, FAR, 3), (0, FAR, 1)),
        ((2, 3, 2, 8), (FAR, 1, 24, 3), (FAR, 8, 1)),
    ):
        agrees_with_the_reference_at(kernels, shape, strides, pixel_strides)


def class_offsets_beyond_32_bits(kernels: Kernels) -> None:
    """Class planes of which the last lies more than 2^31 elements behind the first, for a number of classes that the
    kernels learn at run time. An offset cut to 32 bits leads back into the memory in front."""
    agrees_with_the_reference_at(kernels, (1, 17, 2, 4), (0, 2**27 + 64, 4, 1), (0, 4, 1), 2**31)


def agrees_with_the_reference_at(
    kernels: Kernels, shape: tuple[int, ...], strides: tuple[int, ...], pixel_strides: tuple[int, ...], start: int = 0
) -> None:
    """Loss and gradient of bfloat16 logits with these strides, `start` elements into their memory."""
    scores, targets, masks = far_memory(3 * FAR, BFLOAT), far_memory(2 * FAR, LONG), far_memory(2 * FAR, BYTE)
    weights = far_memory(2 * FAR, FLOAT)
    area, rng = (shape[0], *shape[2:]), np.random.default_rng(3)
    logits = scores.as_strided(shape, strides, start).copy_(torch.from_numpy(rng.normal(size=shape)))
    target = targets.as_strided(area, pixel_strides).copy_(torch.from_numpy(rng.integers(0, shape[1], area)))
    mask = masks.as_strided(area, pixel_strides).copy_(torch.from_numpy(rng.random(area) < 0.7))
    weight = weights.as_strided(area, pixel_strides).copy_(torch.from_numpy(rng.random(area)))
    gradient = scores.as_strided(shape, strides, start + 128).fill_(torch.nan)
    case = Case(logits, target, weight, mask.view(torch.bool), upstream=0.5)
    forward = launch.forward(ShimLauncher(kernels), case.inputs(), "mean")
    upstream = torch.tensor(case.upstream)
    launch.backward(ShimLauncher(kernels), case.inputs(), upstream, forward.denominator, gradient)
    assert_agrees(Result(forward.loss, forward.confusion, forward.denominator, gradient), expected(case))


def items_beyond_32_bits(kernels: Kernels) -> None:
    """The last chunk of tensors of more than 2^32 packs: images that share their memory, with weights that do not."""
    images, step = 2**24 + 2**16, 4
    for columns, dtype, target_dtype in ((1024, FLOAT, BYTE), (257, HALF, LONG)):
        classes = 2 if dtype is FLOAT else 16
        case = make_case(5, (1, classes, 1, columns), dtype, target_dtype, weights=False, mask=False)
        shared = far_memory(images * step + columns, FLOAT)
        shared[-8 * 1024 :] = torch.from_numpy(np.random.default_rng(2).random(8 * 1024).astype(np.float32))
        weight = shared.as_strided((images, 1, columns), (step, columns, 1))
        inputs = launch.prepare(
            case.logits.expand(images, -1, -1, -1), case.target.expand(images, -1, -1), weight, None, 255
        )
        made = plan.make_plan(inputs.logits, inputs.target, inputs.weight, None, None)
        assert made.items > 2**32
        params = last_chunk(kernels, inputs, made)
        per_chunk = made.items_per_thread * BLOCK
        first = (made.chunks - 1) * per_chunk * made.pixels
        total = images * columns
        count = total - first
        chosen = [divmod(i, columns) for i in range(first, total)]
        tail = replace(
            case,
            logits=torch.stack([case.logits[0, :, 0, x] for _, x in chosen], dim=-1)[None, :, None],
            target=torch.stack([case.target[0, 0, x] for _, x in chosen])[None, None],
            weight=torch.stack([weight[n, 0, x] for n, x in chosen])[None, None],
            reduction="sum",
        )
        assert 0 < count <= per_chunk * made.pixels
        torch.testing.assert_close(params.double(), expected(tail).loss, rtol=1e-5, atol=0)


def last_chunk(kernels: Kernels, inputs: launch.Inputs, made: Plan) -> Tensor:
    """The partial loss of the last chunk, computed alone."""
    way = launch._found(ShimLauncher(kernels), inputs, ("forward_pass",), "sum", None)
    params = launch._params(way, inputs, None)
    partials = torch.full((2, 1), torch.nan)
    confusion = torch.zeros(inputs.logits.shape[1] ** 2, dtype=torch.int32)
    # Addresses such that the last element of each array is the one there is.
    params.partial_losses = partials[0].data_ptr() - 4 * (made.chunks - 1)
    params.partial_shares = partials[1].data_ptr() - 4 * (made.chunks - 1)
    grid = made.chunks
    scratch = far_memory(grid * confusion.numel(), torch.int32)
    params.block_confusions = scratch.data_ptr()
    kernels.program(made.kind).run(f"forward_pass<{made.kind}>", params, grid, blocks=(grid - 1, grid))
    return partials[0, 0]
