"""What is demanded of the kernels' results, each demand a function of the kernels. The tests hold the product to them,
and every mutant of the source must fail one of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch

from tests.loss.shim.cases import (
    CHANNELS_LAST,
    PLANAR,
    TRANSPOSED,
    Arrangement,
    Case,
    assert_agrees,
    assert_same_bits,
    expected,
    make_case,
    run,
)
from tests.loss.shim.host import BACKWARD, FORWARD, RANDOM
from tests.loss.shim.launcher import Kernels, ShimLauncher
from unet.loss import launch, plan
from unet.loss.launch import Inputs

MODES = ("recompute", "one_pass")
SCHEDULES = ((FORWARD, 0), (BACKWARD, 0), (RANDOM, 1), (RANDOM, 2))
REDUCTIONS = ("mean", "weighted_mean", "sum")

FLOAT, HALF, BFLOAT, BYTE, LONG = torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.int64
VARIED = (
    ("planar", (2, 2, 8, 24), FLOAT, BYTE, Arrangement(PLANAR)),
    ("head and tail", (2, 2, 9, 20), FLOAT, BYTE, Arrangement(PLANAR, offsets=(3, 3, 3, 3))),
    ("other alignments", (2, 2, 8, 24), FLOAT, BYTE, Arrangement(PLANAR, offsets=(0, 1, 2, 3))),
    ("apart", (3, 2, 4, 8), FLOAT, BYTE, Arrangement(PLANAR, gaps=(0, 2, 0, 0), pixel_gaps=(0, 2, 0))),
    ("cropped", (2, 2, 5, 7), FLOAT, BYTE, Arrangement(PLANAR, gaps=(0, 0, 3, 2), pixel_gaps=(0, 1, 3))),
    ("channels last", (2, 3, 7, 9), BFLOAT, LONG, Arrangement(CHANNELS_LAST)),
    ("channels last, head", (2, 3, 7, 9), BFLOAT, LONG, Arrangement(CHANNELS_LAST, offsets=(9, 1, 2, 3))),
    ("channels last, runs", (2, 3, 8, 8), BFLOAT, LONG, Arrangement(CHANNELS_LAST, gaps=(0, 0, 1, 0))),
    ("many classes", (1, 20, 5, 9), FLOAT, LONG, Arrangement(PLANAR)),
    ("many classes, last", (2, 17, 3, 5), FLOAT, LONG, Arrangement(CHANNELS_LAST)),
    ("narrow access", (1, 16, 8, 9), HALF, LONG, Arrangement(PLANAR, offsets=(1, 0, 0, 0))),
    ("transposed", (2, 16, 5, 6), HALF, LONG, Arrangement(TRANSPOSED)),
    # Aligned packs of the logits, whose gradient has no gaps: its class planes, or its images, start beside them.
    ("cut off", (1, 4, 5, 7), FLOAT, BYTE, Arrangement(PLANAR, gaps=(0, 0, 3, 0))),
    ("last, cut off", (2, 2, 5, 7), FLOAT, BYTE, Arrangement(CHANNELS_LAST, (0, 0, 3, 0), pixel_gaps=(0, 1, 0))),
    ("planes apart", (2, 2, 4, 8), FLOAT, BYTE, Arrangement(PLANAR, gaps=(0, 0, 1, 0))),
    ("channels last, pairs", (2, 2, 6, 8), FLOAT, BYTE, Arrangement(CHANNELS_LAST)),
    ("channels last, pixels apart", (3, 2, 5, 8), FLOAT, BYTE, Arrangement(CHANNELS_LAST, pixel_gaps=(0, 1, 0))),
    ("odd planes", (1, 2, 5, 7), FLOAT, BYTE, Arrangement(PLANAR)),
    ("halves", (2, 2, 4, 8), HALF, BYTE, Arrangement(PLANAR)),
    # The first image's arrays are aligned, the second's are not: those without classes; the logits.
    ("later pixels", (2, 2, 4, 6), FLOAT, BYTE, Arrangement(PLANAR, pixel_gaps=(0, 1, 0))),
    ("later logits", (2, 2, 4, 7), FLOAT, BYTE, Arrangement(CHANNELS_LAST, gaps=(0, 0, 1, 0))),
)


def kind_of(inputs: Inputs) -> str:
    """The kernels that these inputs take."""
    return plan.make_plan(inputs.logits, inputs.target, inputs.weight, inputs.valid, None).kind


def varied(index: int, **options: object) -> Case:
    """One of VARIED; targets, weights and masks come and go."""
    _, shape, dtype, target_dtype, arrangement = VARIED[index]
    options = {"weights": index % 4 != 1, "mask": index % 3 != 1} | options
    return make_case(index, shape, dtype, target_dtype, arrangement, **options)  # type: ignore[arg-type]


def agrees_with_the_reference(kernels: Kernels) -> None:
    """Loss, counts, denominator and gradient, in every layout, type, mode, reduction and schedule."""
    for index, (mode, reduction) in itertools.product(range(len(VARIED)), itertools.product(MODES, REDUCTIONS)):
        for options in ({}, {"weights": True, "mask": True}, {"weights": False, "mask": False}):
            case = varied(index, reduction=reduction, upstream=1.0 if index % 2 else -0.75, **options)
            schedule, seed = SCHEDULES[index % len(SCHEDULES)]
            actual = run(case, ShimLauncher(kernels, 1 + index % 4, schedule, seed), mode)
            assert_agrees(actual, expected(case))


def ways_give_the_same_bits(kernels: Kernels) -> None:
    """The gradient from one pass is that computed anew, for every upstream gradient."""
    for index, upstream in itertools.product((0, 1, 5, 8, 10), (1.0, 0.3, 0.0)):
        case = varied(index, reduction="weighted_mean", weights=True, upstream=upstream)
        assert_same_bits(*(run(case, ShimLauncher(kernels), mode) for mode in MODES))


def special_values_propagate_as_in_torch(kernels: Kernels) -> None:
    """NaN and infinite scores and weights: NaN and infinities where torch has them, the same numbers elsewhere."""
    inf, nan = torch.inf, torch.nan
    scores = torch.tensor([*itertools.product((0.0, 1.0, inf, -inf, nan), repeat=3)]).t()
    for classes, target, weight in itertools.product((2, 3, 20), (0, 1), (1.0, 0.0, inf, nan)):
        rows = scores if classes == 3 else (scores[:2] if classes == 2 else torch.cat([scores, torch.zeros(17, 125)]))
        dtype, target_dtype = {2: (FLOAT, BYTE), 3: (BFLOAT, LONG), 20: (FLOAT, LONG)}[classes]
        logits = rows.reshape(1, classes, 5, 25).to(dtype)
        if classes == 3:
            logits = logits.to(memory_format=torch.channels_last)
        case = Case(
            logits, torch.full((1, 5, 25), target, dtype=target_dtype), torch.full((1, 5, 25), weight), None, "sum"
        )
        for mode in MODES:
            actual, wanted = run(case, ShimLauncher(kernels), mode), expected(case, FLOAT)
            torch.testing.assert_close(actual.confusion, wanted.confusion, rtol=0, atol=0)
            torch.testing.assert_close(actual.gradient.float(), wanted.gradient, rtol=1e-2, atol=1e-6, equal_nan=True)
            torch.testing.assert_close(actual.loss, wanted.loss, equal_nan=True)
    for pixel in range(125):  # one at a time, or all would be hidden behind the first NaN
        logits = scores[:, pixel].reshape(1, 3, 1, 1).to(BFLOAT)
        case = Case(logits, torch.zeros(1, 1, 1, dtype=LONG), torch.ones(1, 1, 1), None, "mean")
        actual, wanted = run(case, ShimLauncher(kernels), "recompute"), expected(case, FLOAT)
        torch.testing.assert_close(actual.loss, wanted.loss, equal_nan=True)


def masked_pixels_may_hold_anything(kernels: Kernels) -> None:
    """NaN scores, infinite weights and impossible targets of pixels that carry no loss change no bit."""
    for index, mode in itertools.product((0, 1, 5, 8, 10), MODES):
        case = varied(index, reduction="weighted_mean", weights=True, mask=True)
        before = run(case, ShimLauncher(kernels), mode)
        assert case.weight is not None
        assert case.valid is not None
        masked = ~case.valid | (case.target == case.ignore_index)
        assert masked.any()
        assert not masked.all()
        logits, target, weight = case.logits.clone(), case.target.clone(), case.weight.clone()
        logits.movedim(1, -1)[masked] = torch.nan
        weight[masked] = torch.inf
        target[~case.valid] = 99
        spoiled = run(case.but(logits=logits, target=target, weight=weight), ShimLauncher(kernels), mode)
        unspoiled = run(case.but(logits=case.logits.clone()), ShimLauncher(kernels), mode)
        assert_same_bits(spoiled, unspoiled)
        assert_agrees(before, expected(case))
        assert not spoiled.gradient.movedim(1, -1)[masked].any()


def nothing_valid_is_zero(kernels: Kernels) -> None:
    """Loss 0, gradient 0, counts 0: all pixels ignored, all masked, all weights 0, no pixel at all."""
    for index, reduction, mode in itertools.product((0, 5, 8), REDUCTIONS, MODES):
        case = varied(index, reduction=reduction, weights=True, mask=True)
        assert case.valid is not None
        assert case.weight is not None
        empty = case.but(logits=case.logits[:0], target=case.target[:0], weight=case.weight[:0], valid=case.valid[:0])
        for nothing in (
            case.but(target=torch.full_like(case.target, case.ignore_index)),
            case.but(valid=torch.zeros_like(case.valid)),
            empty,
        ):
            result = run(nothing, ShimLauncher(kernels), mode)
            assert result.loss == 0
            assert result.denominator == 1
            assert not result.confusion.any()
            assert not result.gradient.any()
            assert not result.gradient.isnan().any()
        weightless = run(case.but(weight=torch.zeros_like(case.weight)), ShimLauncher(kernels), mode)
        assert weightless.loss == 0
        assert not weightless.gradient.any()
        assert weightless.confusion.any()


def targets_outside_the_classes_are_seen(kernels: Kernels) -> None:
    """The target of a valid pixel that is no class: the loss is NaN, so is that pixel's gradient, no other's, it is
    not counted, and nothing is read or written out of bounds."""
    for index, mode in itertools.product((1, 5, 8, 10), MODES):
        case = varied(index, reduction="sum", weights=True, mask=True)
        assert case.valid is not None
        n, y, x = torch.nonzero(case.valid & (case.target != case.ignore_index))[0].tolist()
        without = case.target.clone()
        without[n, y, x] = case.ignore_index
        others = expected(case.but(target=without))
        wide = case.target.dtype == LONG
        for value in (case.logits.shape[1], 254, *((-1, 2**32 + 1, -(2**32)) if wide else ())):
            target = case.target.clone()
            target[n, y, x] = value
            result = run(case.but(target=target), ShimLauncher(kernels), mode)
            assert result.loss.isnan()
            torch.testing.assert_close(result.confusion, others.confusion, rtol=0, atol=0)
            assert result.gradient[n, :, y, x].isnan().all()
            result.gradient[n, :, y, x] = 0
            torch.testing.assert_close(result.gradient.double(), others.gradient, rtol=5e-3, atol=1e-6)


def digits_of_confident_pixels(kernels: Kernels) -> None:
    """A small loss and the gradient 1 - p of a pixel that is nearly certain keep their digits."""
    for classes, target in itertools.product((2, 3, 20), (0, 1)):
        logits = torch.full((1, classes, 4, 8), -30.0)
        logits[:, target] = torch.linspace(-20, -13, 32).reshape(4, 8)
        target_dtype = BYTE if classes == 2 else LONG
        case = Case(logits, torch.full((1, 4, 8), target, dtype=target_dtype), torch.ones(1, 4, 8), None, "sum")
        for column in range(32):
            one = torch.zeros(1, 4, 8, dtype=torch.bool)
            one.view(-1)[column] = True
            actual, wanted = run(case.but(valid=one), ShimLauncher(kernels), "one_pass"), expected(case.but(valid=one))
            torch.testing.assert_close(actual.loss.double(), wanted.loss, rtol=1e-5, atol=0)
            torch.testing.assert_close(actual.gradient.double(), wanted.gradient, rtol=1e-5, atol=0)


def weights_may_be_negative(kernels: Kernels) -> None:
    """Their sum too: only a sum of 0 is taken for 1."""
    for index, mode in itertools.product((0, 5, 8), MODES):
        case = varied(index, reduction="weighted_mean", weights=True)
        assert case.weight is not None
        case = case.but(weight=-case.weight)
        wanted = expected(case)
        assert wanted.denominator < 0
        assert_agrees(run(case, ShimLauncher(kernels), mode), wanted)


def one_pair_many_times(kernels: Kernels) -> None:
    """All pixels of one class, which is predicted for all: more of them than 16 bits count in a single block, and as
    many in a thread's chunk as there can be."""
    for (shape, dtype, order), rows, pair in itertools.product(
        (((1, 2, 264, 256), HALF, PLANAR), ((1, 3, 264, 256), BFLOAT, CHANNELS_LAST)),
        (plan.ROWS_PER_ITEM, 1),
        ((0, 0), (1, 1), (0, 1), (1, 0)),
    ):
        if rows != 1 and pair != (1, 0):
            continue
        logits = torch.zeros(shape, dtype=dtype)
        logits[:, pair[1]] = 1
        target = torch.full((1, *shape[2:]), pair[0], dtype=BYTE if dtype is HALF else LONG)
        memory_format = torch.contiguous_format if order == PLANAR else torch.channels_last
        case = Case(logits.contiguous(memory_format=memory_format), target, None, None)
        with rows_per_item_are(rows):
            confusion = run(case, ShimLauncher(kernels, 1), "recompute").confusion
        wanted = torch.zeros_like(confusion)
        wanted[pair] = target.numel()
        assert target.numel() > 2**16
        torch.testing.assert_close(confusion, wanted, rtol=0, atol=0)


@contextmanager
def rows_per_item_are(rows: int) -> Iterator[None]:
    """Plans for small tensors as they are made for large ones."""
    launch.forget_plans()
    with mock.patch.object(plan, "ROWS_PER_ITEM", rows):
        yield
    launch.forget_plans()


def other_ignored_targets(kernels: Kernels) -> None:
    """Any number can mark a pixel to be ignored, a class too, and one that fits into 64 bits only."""
    for index, ignore_index in ((0, 0), (0, 1), (8, -100), (8, 2**40), (8, 3), (5, -(2**33))):
        case = varied(index, ignore_index=ignore_index, reduction="weighted_mean", weights=True)
        assert_agrees(run(case, ShimLauncher(kernels), "one_pass"), expected(case))
    case = varied(0).but(ignore_index=-1)  # torch compares a byte with -1 as with 255
    assert_agrees(run(case, ShimLauncher(kernels), "one_pass"), expected(case))


def weights_and_masks_of_other_shapes_and_types(kernels: Kernels) -> None:
    """One map of weights for all images; masks that lie apart, of one row, of numbers of which a byte is 0."""
    for index, mode in itertools.product((0, 5), MODES):
        case = varied(index, reduction="weighted_mean", weights=True, mask=True)
        assert case.weight is not None
        assert case.valid is not None
        images, rows, columns = case.target.shape
        apart = torch.zeros(images, rows + 8, columns, dtype=torch.bool)[:, :rows].copy_(case.valid)
        for weight, valid in (
            (case.weight[:1], apart),
            (case.weight[:1].clone(), case.valid[:, :1].clone()),
            (case.weight.double(), case.valid.long() * 256),
        ):
            full = case.but(weight=weight.expand(case.target.shape), valid=valid.bool().expand(case.target.shape))
            assert_agrees(run(case.but(weight=weight, valid=valid), ShimLauncher(kernels), mode), expected(full))


def plans_are_not_mixed_up(kernels: Kernels) -> None:
    """Tensors that differ in one respect alone, one after the other: each is planned for itself."""
    first = make_case(1, (2, 2, 4, 8))
    wide = make_case(1, (2, 2, 4, 8), target_dtype=LONG)
    assert first.weight is not None
    assert first.valid is not None
    apart = make_case(1, (2, 2, 4, 8), arrangement=Arrangement(pixel_gaps=(0, 2, 0)))
    for case in (
        *(first, first.but(target=apart.target), first.but(weight=apart.weight), first.but(valid=apart.valid)),
        *(make_case(1, (2, 2, 4, 8), dtype, LONG) for dtype in (HALF, BFLOAT)),
        *(first, wide, first.but(reduction="sum"), first.but(reduction="weighted_mean")),
        first.but(target=torch.where(first.target == 255, 1, first.target), ignore_index=1),
        *(
            first.but(weight=None),
            first.but(valid=None),
            make_case(1, (2, 2, 4, 8), arrangement=Arrangement(TRANSPOSED)),
        ),
        make_case(1, (2, 2, 4, 8), arrangement=Arrangement(offsets=(1, 0, 0, 0))),
        apart,
        first.but(logits=first.logits[:1], target=first.target[:1], weight=first.weight[:1], valid=first.valid[:1]),
    ):
        for mode in MODES:
            assert_agrees(run(case, ShimLauncher(kernels), mode), expected(case))
