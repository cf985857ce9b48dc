"""The training step with the loss's own gradient does what it does by autograd."""

from functools import partial

import pytest
import torch

from unet.config import from_dict
from unet.loss import fused, reference
from unet.loss.dispatch import ChosenLoss
from unet.tiles.shared_batches import Batch
from unet.training.step import EagerStep


@pytest.mark.parametrize("reduction", ["mean", "weighted_mean", "sum"])
@pytest.mark.parametrize("pooled", [False, True])
def test_gradients_sums_and_counts(reduction, pooled):
    config = from_dict({"loss": {"reduction": reduction}}).loss
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 2, (2, 4, 4), generator=generator, dtype=torch.uint8)
    target[0, :2] = 255
    batch = Batch(torch.rand(2, 1, 4, 4, generator=generator), target, 3 * torch.rand(2, 4, 4, generator=generator))
    by_autograd = ChosenLoss(partial(reference.weighted_loss, reduction=reduction), "reference", "")
    at_once = by_autograd._replace(differentiated=partial(fused.differentiated, reduction=reduction))
    found = []
    for loss in (by_autograd, at_once):
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(1, 2, 1)
        sums = EagerStep(layer, loss, config, pooled=pooled, bf16=False)(batch)
        found.append((sums, [parameter.grad for parameter in layer.parameters()]))
        logits = layer(batch.image)
    (wanted, wanted_gradients), (sums, gradients) = found
    torch.testing.assert_close(gradients, wanted_gradients)
    torch.testing.assert_close(sums.loss, wanted.loss)
    assert not sums.loss.requires_grad
    assert (sums.divisor is None) == (wanted.divisor is None) == (not pooled or reduction == "sum")
    if sums.divisor is not None:
        assert sums.divisor == wanted.divisor
        assert sums.divisor == (24 if reduction == "mean" else batch.weight[target != 255].sum())
    assert wanted.counts is None
    assert sums.counts.tolist() == reference.weighted_cross_entropy(logits, target).confusion.tolist()
    assert sums.counts.sum() == 24
