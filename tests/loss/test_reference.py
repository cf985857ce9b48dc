"""The reference loss against its definition in float64 NumPy, on every option."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unet.loss.reference import pixel_losses, valid_pixels, weighted_cross_entropy


def definition(logits, target, weight, valid, reduction):
    """The sum of Eq. 1 written out pixel by pixel."""
    total = weights = count = 0.0
    for n, y, x in np.ndindex(target.shape):
        if target[n, y, x] == 255 or not valid[n, y, x]:
            continue
        scores = logits[n, :, y, x]
        log_p = scores[target[n, y, x]] - scores.max() - np.log(np.exp(scores - scores.max()).sum())
        total -= weight[n, y, x] * log_p
        weights += weight[n, y, x]
        count += 1
    return total / {"sum": 1.0, "mean": max(count, 1.0), "weighted_mean": weights or 1.0}[reduction]


def case(seed, classes, shape, ignored=0.2):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(shape[0], classes, *shape[1:])) * 3
    target = rng.integers(0, classes, shape).astype(np.uint8)
    target[rng.random(shape) < ignored] = 255
    return logits, target, rng.random(shape) * 4, rng.random(shape) < 0.8


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 7),
    st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 5)),
    st.sampled_from(["mean", "weighted_mean", "sum"]),
)
def test_the_definition(seed, classes, shape, reduction):
    logits, target, weight, valid = case(seed, classes, shape)
    result = weighted_cross_entropy(
        torch.from_numpy(logits),
        torch.from_numpy(target),
        torch.from_numpy(weight),
        torch.from_numpy(valid),
        reduction=reduction,
    )
    np.testing.assert_allclose(result.loss.item(), definition(logits, target, weight, valid, reduction), rtol=1e-12)
    assert result.confusion.sum() == (valid & (target != 255)).sum()


def test_the_definition_can_fail():
    logits, target, weight, valid = case(0, 3, (1, 4, 4))
    right = definition(logits, target, weight, valid, "mean")
    assert definition(logits, target, weight, np.ones_like(valid), "mean") != pytest.approx(right, rel=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "weighted_mean", "sum"])
def test_the_gradient_is_that_of_finite_differences(reduction):
    logits, target, weight, valid = (torch.from_numpy(a) for a in case(1, 3, (2, 3, 3)))
    logits.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: weighted_cross_entropy(x, target, weight, valid, reduction=reduction).loss, logits
    )


def test_masked_pixels_carry_no_loss_and_no_gradient_whatever_stands_there():
    logits, target, weight, valid = (torch.from_numpy(a) for a in case(2, 3, (1, 6, 6)))
    logits.requires_grad_()
    expected = weighted_cross_entropy(logits, target, weight, valid)
    (gradient,) = torch.autograd.grad(expected.loss, logits)
    masked = ~valid_pixels(target, valid)
    assert masked.any()
    assert not gradient[masked.unsqueeze(1).expand_as(gradient)].any()
    spoiled = logits.detach().clone()
    spoiled[masked.unsqueeze(1).expand_as(spoiled)] = float("nan")
    spoiled.requires_grad_()
    heavy = torch.where(masked, torch.full_like(weight, float("inf")), weight)
    actual = weighted_cross_entropy(spoiled, target, heavy, valid)
    (spoiled_gradient,) = torch.autograd.grad(actual.loss, spoiled)
    torch.testing.assert_close(actual.loss, expected.loss, rtol=0, atol=0)
    torch.testing.assert_close(spoiled_gradient, gradient, rtol=0, atol=0)


@pytest.mark.parametrize("reduction", ["mean", "weighted_mean", "sum"])
def test_nothing_valid_is_zero_without_nan(reduction):
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    target = torch.full((1, 4, 4), 255, dtype=torch.uint8)
    loss = weighted_cross_entropy(logits, target, torch.ones(1, 4, 4), reduction=reduction).loss
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_without_weights_it_is_torchs_own():
    logits, target, _, _ = (torch.from_numpy(a) for a in case(3, 4, (2, 5, 7)))
    expected = torch.nn.functional.cross_entropy(logits, target.long(), ignore_index=255)
    torch.testing.assert_close(weighted_cross_entropy(logits, target).loss, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(dtype):
    logits, target, weight, valid = (torch.from_numpy(a) for a in case(4, 3, (1, 8, 8)))
    half = logits.to(dtype)
    loss = weighted_cross_entropy(half, target, weight.float(), valid).loss
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, weighted_cross_entropy(half.float(), target, weight.float(), valid).loss)


def test_extreme_logits_do_not_overflow():
    logits = torch.tensor([1e4, -1e4]).view(1, 2, 1, 1)
    assert weighted_cross_entropy(logits, torch.zeros(1, 1, 1, dtype=torch.uint8)).loss == 0
    assert weighted_cross_entropy(logits, torch.ones(1, 1, 1, dtype=torch.uint8)).loss == 2e4


def test_confusion_counts():
    logits = torch.tensor([[3.0, 1.0, 1.0, 0.0], [1.0, 2.0, 5.0, 0.0]]).view(1, 2, 2, 2)
    target = torch.tensor([0, 0, 1, 255], dtype=torch.uint8).view(1, 2, 2)
    assert weighted_cross_entropy(logits, target).confusion.tolist() == [[1, 1], [0, 1]]


def test_the_first_largest_score_is_predicted_and_nan_is_the_largest():
    nan, inf = float("nan"), float("inf")
    scores = torch.tensor([*itertools.product((0.0, 1.0, inf, -inf, nan), repeat=3)])
    logits = scores.t().reshape(1, 3, 5, 25)
    predicted = [next((i for i, s in enumerate(row) if s != s), row.index(max(row))) for row in scores.tolist()]
    wanted = [predicted.count(c) for c in range(3)]
    confusion = weighted_cross_entropy(logits, torch.zeros(1, 5, 25, dtype=torch.uint8)).confusion
    assert confusion.tolist() == [wanted, [0, 0, 0], [0, 0, 0]]


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="weighted_mean"):
        weighted_cross_entropy(torch.zeros(1, 2, 1, 1), torch.zeros(1, 1, 1, dtype=torch.uint8), reduction="max")


def test_unreduced_losses_have_the_shape_of_the_target():
    target = torch.zeros(2, 3, 4, dtype=torch.uint8)
    assert pixel_losses(torch.zeros(2, 5, 3, 4), target, target == 0).shape == (2, 3, 4)
