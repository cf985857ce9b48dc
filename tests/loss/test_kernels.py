"""The CUDA source of the loss, run on the CPU: every kernel against the float64 reference, and the demands on all."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loss.shim import checks, conversions, distances, ladder, memory, orders
from tests.loss.shim.cases import (
    CHANNELS_LAST,
    PLANAR,
    TRANSPOSED,
    Arrangement,
    assert_agrees,
    assert_same_bits,
    expected,
    make_case,
    run,
)
from tests.loss.shim.host import compiler
from tests.loss.shim.launcher import ShimLauncher, combinations, product
from tests.loss.trial import DEMANDS

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C++ compiler")

ORDERS = (PLANAR, CHANNELS_LAST, TRANSPOSED)


@pytest.fixture(scope="module")
def kernels():
    return product()


@pytest.mark.parametrize("demand", DEMANDS.values(), ids=DEMANDS)
def test_demand(demand, kernels):
    demand(kernels)


@pytest.mark.parametrize("demand", [conversions.to_float16_rounds_as_torch, conversions.from_16_bits_is_exact])
def test_the_shims_own_arithmetic(demand, kernels):
    demand(kernels)


def test_every_demand_is_made():
    found = {
        name
        for module in (checks, conversions, distances, ladder, memory, orders)
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__
        and list(getattr(value, "__annotations__", ())) == ["kernels", "return"]
        and value.__annotations__["return"] == "None"
    }
    assert found == {*DEMANDS, "to_float16_rounds_as_torch", "from_16_bits_is_exact"}


@pytest.mark.parametrize(
    ("classes", "dtype", "target_dtype"),
    combinations(),
    ids=lambda v: str(v).removeprefix("torch."),
)
def test_types_and_numbers_of_classes(classes, dtype, target_dtype, kernels):
    """Every layout, with and without head and tail, all reductions, both ways to the gradient, all schedules."""
    launcher = ShimLauncher(kernels)
    turn = itertools.cycle(itertools.product(checks.REDUCTIONS, checks.SCHEDULES, (1.0, 1.5)))
    for order, size, offset, mode in itertools.product(ORDERS, ((6, 16), (5, 7)), (0, 1), checks.MODES):
        reduction, (launcher.schedule, launcher.seed), upstream = next(turn)
        case = make_case(
            classes, (2, classes, *size), dtype, target_dtype, Arrangement(order, offsets=(offset,) * 4),
            weights=offset == 0 or reduction != "mean", mask=size[0] == 5, reduction=reduction, upstream=upstream,
        )  # fmt: skip
        assert_agrees(run(case, launcher, mode), expected(case))


offsets = st.integers(0, 9)
gaps = st.sampled_from([0, 0, 0, 1, 2, 4, 8])


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(combinations()),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 33), st.integers(1, 40)),
    order=st.permutations((0, 1, 2, 3)) | st.sampled_from(ORDERS),
    gaps=st.tuples(gaps, gaps, gaps, gaps),
    pixel_gaps=st.tuples(gaps, gaps, gaps),
    offsets=st.tuples(offsets, offsets, offsets, offsets),
    weights=st.booleans(),
    mask=st.booleans(),
    reduction=st.sampled_from(checks.REDUCTIONS),
    upstream=st.sampled_from((1.0, 0.0, -2.0, 0.37)),
    blocks=st.integers(1, 9),
    schedule=st.sampled_from(checks.SCHEDULES),
)
def test_any_tensors(
    seed, kind, shape, order, gaps, pixel_gaps, offsets, weights, mask, reduction, upstream, blocks, schedule, kernels
):
    classes, dtype, target_dtype = kind
    images, rows, columns = shape
    arrangement = Arrangement(tuple(order), gaps, pixel_gaps, offsets)
    case = make_case(
        seed, (images, classes, rows, columns), dtype, target_dtype, arrangement,
        weights=weights, mask=mask, reduction=reduction, upstream=upstream,
    )  # fmt: skip
    launcher = ShimLauncher(kernels, blocks, *schedule)
    results = [run(case, launcher, mode) for mode in checks.MODES]
    assert_agrees(results[0], expected(case))
    assert_same_bits(*results)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8, torch.bool])
def test_other_integer_targets(dtype, kernels):
    case = make_case(3, (2, 2, 6, 16), target_dtype=torch.int64)
    target = torch.where(case.target == 255, 0, case.target)
    case = case.but(target=target, ignore_index=-1)
    assert_agrees(run(case.but(target=target.to(dtype)), ShimLauncher(kernels), "one_pass"), expected(case))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_weights(dtype, kernels):
    case = make_case(3, (2, 2, 6, 16))
    case = case.but(weight=case.weight.to(dtype))
    assert_agrees(run(case, ShimLauncher(kernels), "recompute"), expected(case))


def test_the_comparison_can_fail(kernels):
    case = make_case(3, (2, 2, 6, 16))
    actual = run(case, ShimLauncher(kernels), "recompute")
    for other in (case.but(weight=None), case.but(valid=None), case.but(upstream=1.001), case.but(reduction="sum")):
        with pytest.raises(AssertionError):
            assert_agrees(actual, expected(other))


def test_launches(kernels):
    """Two kernels forward and one backward, or three (two for a plain sum) and one that ends at once."""
    case = make_case(3, (2, 2, 6, 16))
    for mode, reduction, wanted in (
        ("recompute", "mean", ["forward_pass", "finish", "backward_pass"]),
        ("one_pass", "mean", ["share_pass", "one_pass", "finish", "backward_pass"]),
        ("one_pass", "sum", ["one_pass", "finish", "backward_pass"]),
    ):
        launcher = ShimLauncher(kernels)
        run(case.but(reduction=reduction), launcher, mode)
        assert launcher.launched == wanted


@pytest.mark.parametrize("mode", checks.MODES)
def test_every_array_that_kernels_write_is_announced(mode, kernels):
    """The watch over memory would be blind to another."""
    written = ("gradient", "partial_losses", "partial_shares", "block_confusions", "confusion", "loss", "denominator")
    announced, used = [], {}

    class Launcher(ShimLauncher):
        def launch(self, kind, kernels, params):
            used.update((name, getattr(params, name)) for name in written if getattr(params, name))
            super().launch(kind, kernels, params)

    run(make_case(3, (2, 2, 6, 16)), Launcher(kernels), mode, lambda array, _: announced.append(array))
    assert set(used) == set(written)
    for address in used.values():
        assert sum(a.data_ptr() <= address < a.data_ptr() + a.numel() * a.element_size() for a in announced) == 1
