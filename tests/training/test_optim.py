"""Learning-rate schedules by hand-computed values; optimizers as configured."""

import pytest
import torch
from torch import nn

from unet.config import OptimConfig
from unet.errors import ConfigError
from unet.training.optim import learning_rate, make_optimizer, weight_average


def rates(config, updates=10):
    return [learning_rate(config, u, updates) for u in range(updates)]


def test_constant_with_gradual_warm_up():
    assert rates(OptimConfig(lr=0.8, warmup_updates=4)) == pytest.approx([0.2, 0.4, 0.6, 0.8] + [0.8] * 6)


def test_cosine_begins_at_the_rate_and_ends_at_its_factor():
    found = rates(OptimConfig(lr=2.0, schedule="cosine", final_factor=0.1), 11)
    assert found[0] == pytest.approx(2.0)
    assert found[5] == pytest.approx(1.1)  # half way: the mean of 2 and 0.2
    assert found[10] == pytest.approx(0.2)
    assert found == sorted(found, reverse=True)


def test_cosine_after_warm_up():
    found = rates(OptimConfig(lr=1.0, schedule="cosine", warmup_updates=2), 5)
    assert found == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0])


def test_steps():
    found = rates(OptimConfig(lr=1.0, schedule="step", step_updates=3, step_factor=0.5), 7)
    assert found == pytest.approx([1, 1, 1, 0.5, 0.5, 0.5, 0.25])
    after = rates(OptimConfig(lr=1.0, schedule="step", step_updates=3, step_factor=0.5, warmup_updates=2), 9)
    assert after == pytest.approx([0.5, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25])  # steps are counted from the warm-up's end


def test_a_single_update_is_no_division_by_zero():
    assert rates(OptimConfig(lr=1.0, schedule="cosine"), 1) == [1.0]


@pytest.mark.parametrize(
    ("name", "expected"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_names(name, expected):
    config = OptimConfig(name=name, lr=0.5, momentum=0.7, betas=(0.8, 0.95), weight_decay=0.1)
    optimizer = make_optimizer(config, nn.Linear(2, 2))
    assert type(optimizer) is expected
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.1)
    assert group["momentum"] == 0.7 if name == "sgd" else group["betas"] == (0.8, 0.95)


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_adam_takes_the_faster_way_of_a_cpu_to_the_same_weights(name, kind):
    torch.manual_seed(0)
    ours, plain = nn.Linear(3, 2), nn.Linear(3, 2)
    plain.load_state_dict(ours.state_dict())
    config = OptimConfig(name=name, lr=0.1, weight_decay=0.01)
    optimizers = [
        make_optimizer(config, ours),
        kind(plain.parameters(), 0.1, config.betas, weight_decay=0.01, foreach=False),
    ]
    assert optimizers[0].param_groups[0]["fused"]
    for _ in range(5):
        for parameter, other in zip(ours.parameters(), plain.parameters(), strict=True):
            parameter.grad = torch.randn_like(parameter)
            other.grad = parameter.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for parameter, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, rtol=1e-6, atol=1e-6)


def test_elsewhere_no_optimizer_is_fused():
    with torch.device("meta"):
        layer = nn.Linear(2, 2)
    assert not any(make_optimizer(OptimConfig(name=n), layer).param_groups[0]["fused"] for n in ("sgd", "adam"))


def test_momentum_is_the_papers():
    """Two updates of SGD with momentum 0.99 on a constant gradient of 1: steps of lr and of 1.99 lr."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    optimizer = make_optimizer(OptimConfig(lr=0.1), layer)
    for _ in range(2):
        layer.weight.grad = torch.ones(1, 1)
        optimizer.step()
    assert layer.weight.item() == pytest.approx(-0.1 - 0.199)


def test_the_average_is_the_exponential_one_of_the_weights_so_far():
    """d = 0.9 over the weights 1, 2, 4: (0.81 * 1 + 0.9 * 2 + 4) / (0.81 + 0.9 + 1); the initial 100 has no part."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 100)
    average = weight_average(OptimConfig(average=0.9), layer)
    found = []
    for value in (1.0, 2.0, 4.0):
        nn.init.constant_(layer.weight, value)
        average.update_parameters(layer)
        found.append(average.module.weight.item())
    assert found == pytest.approx([1, (0.9 + 2) / 1.9, (0.81 + 1.8 + 4) / 2.71])
    assert not average.module.weight.requires_grad
    assert weight_average(OptimConfig(), layer) is None


def test_warm_up_from_the_rate_of_the_small_batch():
    """Goyal et al. 2017, section 2.2: from eta to k eta, step by step or at once."""
    gradual = OptimConfig(lr=0.8, warmup_updates=4, warmup_from=0.25)
    assert rates(gradual, 6) == pytest.approx([0.2, 0.35, 0.5, 0.65, 0.8, 0.8])
    constant = OptimConfig(lr=0.8, warmup_updates=3, warmup_from=0.25, warmup_shape="constant")
    assert rates(constant, 5) == pytest.approx([0.2, 0.2, 0.2, 0.8, 0.8])
    with pytest.raises(ConfigError, match="warmup_from"):
        OptimConfig(warmup_updates=3, warmup_shape="constant")


def momentum_of(form, rates_, gradients, momentum=0.9):
    """Weights by SGD with the rate outside the velocity (Goyal's Eq. 9), within it (Eq. 10), and corrected for that."""
    weight = velocity = 0.0
    for before, rate, gradient in zip([rates_[0], *rates_], rates_, gradients, strict=False):
        if form == "outside":
            velocity = momentum * velocity + gradient
            weight -= rate * velocity
        else:
            factor = rate / before if form == "corrected" else 1.0
            velocity = momentum * factor * velocity + rate * gradient
            weight -= velocity
    return weight


def test_torch_s_momentum_needs_no_correction():
    """Remark 2 of Goyal et al. 2017: where the rate changes, the form with the rate in the velocity needs a factor; the
    other, which is torch's, is equal to the corrected one."""
    changing, gradients = [0.1, 0.2, 0.4, 0.8, 0.8, 0.1], [1.0, -0.5, 2.0, 0.3, -1.0, 0.7]
    weight = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
    layer = torch.nn.Module()
    layer.weight = weight
    optimizer = make_optimizer(OptimConfig(name="sgd", momentum=0.9), layer)
    for rate, gradient in zip(changing, gradients, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    found = float(weight.detach())
    assert found == pytest.approx(momentum_of("outside", changing, gradients), rel=1e-12)
    assert found == pytest.approx(momentum_of("corrected", changing, gradients), rel=1e-12)
    assert abs(found - momentum_of("within", changing, gradients)) > 0.1
