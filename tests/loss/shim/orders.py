"""What is demanded of the order of summation: that nothing but the plan decides it. Functions as in checks.py."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from tests.loss.shim.cases import Case, assert_agrees, assert_same_bits, expected, make_case, run
from tests.loss.shim.checks import BYTE, FLOAT, LONG, MODES, SCHEDULES, rows_per_item_are
from tests.loss.shim.host import BACKWARD, RANDOM
from tests.loss.shim.launcher import Kernels, ShimLauncher
from unet.loss import launch, plan
from unet.loss.launch import Params
from unet.loss.plan import BLOCK, Plan


def large_case(dtype: torch.dtype = FLOAT, **options: object) -> Case:
    """Several chunks of planar logits, the last of them not full."""
    return make_case(7, (2, 2, 52, 56), dtype, BYTE, **options)  # type: ignore[arg-type]


def grids_and_schedules_give_the_same_bits(kernels: Kernels) -> None:
    """Any number of blocks, and any order of threads and blocks."""
    for reduction, mode in itertools.product(("weighted_mean", "mean"), MODES):
        case = large_case(reduction=reduction)
        first = run(case, ShimLauncher(kernels, 1), mode)
        assert_agrees(first, expected(case))
        for blocks, (schedule, seed) in itertools.product((1, 2, 5, 1000), SCHEDULES):
            assert_same_bits(run(case, ShimLauncher(kernels, blocks, schedule, seed), mode), first)
    case = make_case(8, (2, 2, 150, 152))
    assert_agrees(run(case, ShimLauncher(kernels, 40, BACKWARD), "recompute"), expected(case))


def several_items_per_thread(kernels: Kernels) -> None:
    """Large tensors give every thread several items of a chunk."""
    for rows_per_item in (1, 2):
        with rows_per_item_are(rows_per_item):
            case = large_case(reduction="weighted_mean")
            inputs = case.inputs()
            made = plan.make_plan(inputs.logits, inputs.target, inputs.weight, inputs.valid, None)
            assert made.items_per_thread > 1
            for mode, blocks in itertools.product(MODES, (1, 3)):
                assert_agrees(run(case, ShimLauncher(kernels, blocks, RANDOM, 3), mode), expected(case))


def more_chunks_than_threads(kernels: Kernels) -> None:
    """600 x 600 pixels, as "auto" gives them to one pass: loss, counts and gradient, and the same bits both ways, where
    the chunks are more than a block has threads."""
    for dtype, target_dtype, classes in ((FLOAT, BYTE, 2), (FLOAT, LONG, 4)):
        case = make_case(9, (1, classes, 600, 600), dtype, target_dtype, reduction="weighted_mean", mask=False)
        inputs = case.inputs()
        assert plan.make_plan(inputs.logits, inputs.target, inputs.weight, None, None).chunks > BLOCK
        results = [run(case, ShimLauncher(kernels, 7), mode) for mode in MODES]
        assert_agrees(results[1], expected(case))
        assert_same_bits(*results)


def butterfly(values: np.ndarray) -> np.ndarray:
    """The sum over the last axis as csrc/reduce.cuh orders it: pairs half the axis apart, then quarter, ..."""
    while values.shape[-1] > 1:
        half = values.shape[-1] // 2
        values = values[..., :half] + values[..., half:]
    return values[..., 0]


def ordered_sums(values: np.ndarray, made: Plan) -> tuple[np.ndarray, float]:
    """The sums of one float32 per item and pixel (items, pixels) in the order that is documented: within a chunk a
    thread's items and their pixels one after the other, the threads of a warp, the warps, in float32; then, in
    float64, the chunks: every 256th by one thread, the threads of a warp, the warps."""
    padded = np.zeros((made.chunks * made.items_per_thread * BLOCK, made.pixels), np.float32)
    padded[: len(values)] = values
    steps = padded.reshape(made.chunks, made.items_per_thread, BLOCK, made.pixels)
    sums = np.zeros((made.chunks, BLOCK), np.float32)
    for item, pixel in itertools.product(range(made.items_per_thread), range(made.pixels)):
        sums = sums + steps[:, item, :, pixel]
    partial = butterfly(butterfly(sums.reshape(made.chunks, -1, 32)))
    return partial, ordered_total(partial)


def ordered_total(partial: np.ndarray) -> float:
    """The sum of partial results, as `finish` orders it."""
    columns = np.zeros(-(-len(partial) // BLOCK) * BLOCK)
    columns[: len(partial)] = partial
    threads = np.zeros(BLOCK)
    for row in columns.reshape(-1, BLOCK):
        threads = threads + row
    return float(butterfly(butterfly(threads.reshape(-1, 32))))


def sums_in_the_documented_order(kernels: Kernels) -> None:
    """The sum of the weights, whose every bit follows from the order of summation: few chunks, several items per
    thread, and more chunks than a block has threads."""
    for size, rows_per_item in (((2, 2, 52, 56), 4096), ((2, 2, 52, 56), 2), ((1, 2, 540, 500), 4096)):
        with rows_per_item_are(rows_per_item):
            case = make_case(7, size, FLOAT, BYTE, reduction="weighted_mean", mask=False)
            case = case.but(target=torch.zeros_like(case.target))
            inputs = case.inputs()
            made = plan.make_plan(inputs.logits, inputs.target, inputs.weight, None, None)
            assert case.weight is not None
            partial, total = ordered_sums(case.weight.numpy().reshape(-1, made.pixels), made)
            for mode in MODES:
                launcher = ShimLauncher(kernels, 2)
                result = run(case, launcher, mode)
                np.testing.assert_array_equal(np.float32(launcher.shares), partial)
                assert result.denominator.item() == np.float32(total)


def finish_adds_in_the_documented_order(kernels: Kernels) -> None:
    """The last kernel alone, on partial results no small input would bring: sums to the bit, counts beyond 32 bits."""
    rng = np.random.default_rng(4)
    for chunks, blocks, classes in ((1, 1, 2), (31, 33, 3), (20_000, 700, 5), (300, 1000, 16)):
        losses, shares = (np.exp(rng.normal(size=chunks) * 3).astype(np.float32) for _ in range(2))
        if chunks > 3 * BLOCK:  # what float32 would lose beside large numbers
            losses[:BLOCK], losses[2 * BLOCK : 3 * BLOCK] = 1e12, -1e12
        counts = rng.integers(0, 2**32, (classes * classes, blocks)).astype(np.uint32)
        confusion, loss, denominator = np.full(classes * classes, -1, np.int64), np.zeros(1, "f4"), np.zeros(1, "f4")
        for reduction in ("mean", "sum"):
            params = Params(chunks=chunks, blocks=blocks, classes=classes, reduction=launch.REDUCTIONS.index(reduction))
            for name, array in (
                ("partial_losses", losses),
                ("partial_shares", shares),
                ("block_confusions", counts),
                ("confusion", confusion),
                ("loss", loss),
                ("denominator", denominator),
            ):
                setattr(params, name, array.ctypes.data)
            kind = plan.kind_name(FLOAT, BYTE, 2, plan.PLANAR)
            ShimLauncher(kernels, schedule=RANDOM, seed=1).launch(kind, ((launch.FINISH, 1),), params)
            divisor = np.float32(ordered_total(shares)) if reduction == "mean" else np.float32(1)
            assert denominator[0] == divisor
            assert loss[0] == np.float32(ordered_total(losses) / np.float64(divisor))
            np.testing.assert_array_equal(confusion, counts.astype(np.int64).sum(axis=1))
