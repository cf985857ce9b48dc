"""How pixels are dealt out to the kernels: which layout, which packs, and an order that depends on the shape alone."""

import pytest
import torch

from tests.loss.shim.cases import CHANNELS_LAST, PLANAR, TRANSPOSED, Arrangement, make_case
from unet.loss import plan
from unet.loss.compile import CSRC
from unet.loss.plan import make_plan


def plan_of(shape, dtype=torch.float32, target_dtype=torch.uint8, arrangement=None, gradient=True):
    inputs = make_case(0, shape, dtype, target_dtype, arrangement).inputs()
    made = torch.empty_like(inputs.logits) if gradient else None
    return make_plan(inputs.logits, inputs.target, inputs.weight, inputs.valid, made)


@pytest.mark.parametrize("size", [68, 324, 388])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("order", [PLANAR, CHANNELS_LAST])
@pytest.mark.parametrize("classes", [2, 3, 8])
def test_the_networks_outputs_are_read_in_128_bits(size, dtype, order, classes):
    with torch.device("meta"):
        logits = torch.empty(2, classes, size, size, dtype=dtype)
        target, weight = torch.empty(2, size, size, dtype=torch.uint8), torch.empty(2, size, size)
    if order == CHANNELS_LAST:
        logits = logits.to(memory_format=torch.channels_last)
    made = make_plan(logits, target, weight, None, torch.empty_like(logits))
    assert made.layout == (plan.PLANAR if order == PLANAR else plan.CHANNELS_LAST)
    assert made.kind.endswith(", 16>")
    assert (made.whole_begin, made.whole_end) == (0, made.items_per_run)
    assert made.items * made.pixels == 2 * size * size


@pytest.mark.parametrize(
    ("shape", "arrangement", "layout", "phase"),
    [
        ((2, 2, 4, 8), Arrangement(), plan.PLANAR, 0),
        ((2, 2, 4, 8), Arrangement(offsets=(3, 0, 0, 0)), plan.PLANAR, 3),
        ((2, 2, 5, 7), Arrangement(), plan.STRIDED, 0),  # planes on different multiples of 16 bytes
        ((2, 2, 4, 8), Arrangement(gaps=(1, 1, 0, 0)), plan.PLANAR, 0),
        ((2, 2, 4, 8), Arrangement(gaps=(0, 0, 0, 4)), plan.STRIDED, 0),
        ((2, 2, 4, 8), Arrangement(pixel_gaps=(0, 0, 1)), plan.STRIDED, 0),
        ((2, 2, 5, 7), Arrangement(CHANNELS_LAST), plan.CHANNELS_LAST, 0),
        ((2, 2, 5, 7), Arrangement(CHANNELS_LAST, offsets=(2, 0, 0, 0)), plan.CHANNELS_LAST, 1),
        ((2, 2, 5, 7), Arrangement(CHANNELS_LAST, offsets=(1, 0, 0, 0)), plan.STRIDED, 0),  # values straddle
        ((2, 2, 4, 8), Arrangement(CHANNELS_LAST, gaps=(0, 2, 0, 0)), plan.STRIDED, 0),
        ((2, 2, 4, 8), Arrangement(TRANSPOSED), plan.STRIDED, 0),
        ((2, 1, 4, 8), Arrangement(), plan.STRIDED, 0),
        ((2, 17, 4, 8), Arrangement(), plan.STRIDED, 0),
        ((2, 2, 1, 1), Arrangement(CHANNELS_LAST), plan.CHANNELS_LAST, 0),
    ],
)
def test_layouts(shape, arrangement, layout, phase):
    made = plan_of(shape, arrangement=arrangement)
    assert (made.layout, made.phase) == (layout, phase)


def test_runs():
    one = plan_of((3, 2, 5, 7), arrangement=Arrangement(CHANNELS_LAST))
    assert (one.run_length, one.items_per_run, one.items) == (105, 53, 53)
    apart = plan_of((3, 2, 5, 7), arrangement=Arrangement(CHANNELS_LAST, pixel_gaps=(0, 1, 0)))
    assert apart.layout == plan.STRIDED  # an odd number of pixels: images start on different multiples
    apart = plan_of((3, 2, 5, 8), arrangement=Arrangement(CHANNELS_LAST, pixel_gaps=(0, 1, 0)))
    assert (apart.run_length, apart.items_per_run, apart.items) == (40, 20, 60)
    headed = plan_of((3, 2, 4, 8), arrangement=Arrangement(offsets=(1, 0, 0, 0)))
    assert (headed.items_per_run, headed.items) == (9, 27)


@pytest.mark.parametrize(
    ("arrangement", "gradient", "whole"),
    [
        (Arrangement(), True, (0, 8)),
        (Arrangement(offsets=(0, 4, 4, 4)), True, (0, 8)),
        (Arrangement(offsets=(1, 1, 1, 1)), False, (1, 8)),  # a head of three pixels, a tail of one
        (Arrangement(offsets=(0, 1, 0, 0)), True, (0, 0)),
        (Arrangement(offsets=(0, 0, 1, 0)), True, (0, 0)),
        (Arrangement(offsets=(0, 0, 0, 2)), True, (0, 0)),
        (Arrangement(offsets=(1, 1, 1, 1)), True, (0, 0)),  # the gradient begins on a multiple of 16 bytes
        (Arrangement(offsets=(1, 0, 0, 0)), False, (0, 0)),
        (Arrangement(pixel_gaps=(0, 1, 0)), True, (0, 8)),
    ],
)
def test_whole_packs(arrangement, gradient, whole):
    made = plan_of((2, 2, 4, 8), arrangement=arrangement, gradient=gradient)
    assert (made.whole_begin, made.whole_end) == whole


def test_the_sources_hold_the_same_numbers():
    text = "".join(path.read_text() for path in CSRC.iterdir())
    for name in ("BLOCK", "MOST_ITEMS_PER_THREAD"):
        assert f"constexpr int {name} = {getattr(plan, name)};" in text


@pytest.mark.parametrize(
    ("shape", "order"), [((2, 4, 5, 7), PLANAR), ((2, 2, 5, 7), CHANNELS_LAST)], ids=["classes", "images"]
)
def test_a_gradient_without_the_logits_gaps_is_not_aligned(shape, order):
    """The logits' class planes, or images, lie on multiples of 16 bytes only because rows are cut off."""
    made = plan_of(shape, arrangement=Arrangement(order, gaps=(0, 0, 3, 0)))
    assert made.layout == (plan.PLANAR if order == PLANAR else plan.CHANNELS_LAST)
    assert made.whole_end == 0


def test_images_apart_by_odd_distances_are_not_aligned():
    """Whatever the first image's address is."""
    inputs = make_case(0, (2, 2, 4, 8)).inputs()
    assert make_plan(inputs.logits, inputs.target, inputs.weight, None, None).whole_end == 8
    weight = torch.zeros(2 * 33).as_strided((2, 4, 8), (33, 8, 1))
    assert make_plan(inputs.logits, inputs.target, weight, None, None).whole_end == 0
    target = torch.zeros(2 * 34, dtype=torch.uint8).as_strided((2, 4, 8), (34, 8, 1))
    assert make_plan(inputs.logits, target, inputs.weight, None, None).whole_end == 0
    planes = torch.zeros(2 * 65 + 1).as_strided((2, 2, 4, 8), (65, 32, 8, 1))
    assert make_plan(planes, inputs.target, inputs.weight, None, None).layout == plan.STRIDED
    pixels = torch.zeros(2 * 66).as_strided((2, 2, 4, 8), (66, 1, 16, 2))
    assert make_plan(pixels, inputs.target, inputs.weight, None, None).layout == plan.STRIDED
    assert make_plan(inputs.logits, inputs.target, inputs.weight, None, planes).whole_end == 0


def test_the_order_depends_on_the_number_of_items_alone():
    for items in (0, 1, 255, 256, 257, 10**5, 2**20, 2**21 + 1, 2**33 + 5):
        per_thread, chunks = plan._chunks(items)
        assert 1 <= per_thread <= plan.MOST_ITEMS_PER_THREAD
        assert (chunks - 1) * per_thread * plan.BLOCK < max(items, 1) <= max(chunks, 1) * per_thread * plan.BLOCK
    assert plan._chunks(0)[1] == 0
    assert plan._chunks(2**21)[0] > 1


@pytest.mark.parametrize("layout", [plan.PLANAR, plan.CHANNELS_LAST])
@pytest.mark.parametrize("element", [2, 4])
@pytest.mark.parametrize("classes", range(2, 17))
def test_packs_fill_whole_accesses_and_fit_into_registers(layout, element, classes):
    access = plan.access_bytes(layout, classes, element)
    pixels = plan.pixels_per_pack(layout, classes, element, access)
    assert pixels * classes <= plan.VALUES_IN_REGISTERS
    assert (pixels * element if layout == plan.PLANAR else pixels * classes * element) % access == 0
    wider = plan.pixels_per_pack(layout, classes, element, 16)
    assert access == 16 or wider * classes > plan.VALUES_IN_REGISTERS


def test_more_elements_than_32_bits_count():
    with torch.device("meta"):
        logits = torch.empty(1200, 2, 1024, 1024)
        target = torch.empty(1200, 1024, 1024, dtype=torch.uint8)
    made = make_plan(logits, target, None, None, None)
    assert logits.numel() > 2**31
    assert made.items * made.pixels == target.numel()
    assert made.items_per_thread == plan.MOST_ITEMS_PER_THREAD
