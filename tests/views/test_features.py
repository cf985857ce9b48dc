"""Feature maps have the sizes of the geometry; the measured receptive field is the calculated one."""

import numpy as np
import pytest
import torch
from torch import nn

from unet.config import ModelConfig
from unet.errors import GeometryError
from unet.geometry import layer_sizes, output_size, receptive_field, skip_misalignment
from unet.model import centre_crop
from unet.networks import build
from unet.views.features import feature_maps, input_gradient, set_identity_weights


def network(depth, variant="figure1", odd=False, channels=2):
    return build(ModelConfig(variant, channels, depth, dropout=0.5, allow_odd_pooling=odd), 1, 2, seed=0)


def positive(depth, odd=False):
    """A network in which nothing cancels and no ReLU closes: every path carries gradient."""
    model = network(depth, odd=odd)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                module.weight.fill_(1 / module.weight[0].numel())
                module.bias.fill_(0.1)
    return model


@pytest.mark.parametrize("variant", ["figure1", "released"])
@pytest.mark.parametrize(("depth", "px", "odd"), [(5, 188, False), (3, 60, False), (2, 30, False), (5, 256, True)])
def test_names_order_and_sizes_are_those_of_the_geometry(depth, px, odd, variant):
    model = network(depth, variant, odd)
    model.train()
    image = torch.rand(2, 1, px, px)
    found = feature_maps(model, image)
    assert [(name, m.shape[-2], m.shape[-1]) for name, m in found.items()] == [
        (layer.name, layer.size, layer.size) for layer in layer_sizes(px, depth, odd)
    ]
    assert all(len(m) == 2 for m in found.values())
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())
    torch.testing.assert_close(found["output"], model.eval()(image))  # dropout was off


@torch.no_grad()
def test_maps_are_those_the_layers_compute():
    model = network(3).eval()
    image = torch.rand(1, 1, 60, 60)
    found = feature_maps(model, image)
    torch.testing.assert_close(found["down0.conv2"], model.down[0](image))
    torch.testing.assert_close(found["pool2"], nn.functional.max_pool2d(found["down1.conv2"], 2))
    torch.testing.assert_close(found["up1.upconv"], model.up[1].upconv(found["down2.conv2"]))
    skip = centre_crop(found["down0.conv2"], *found["up0.upconv"].shape[-2:])
    torch.testing.assert_close(found["up0.conv2"], model.merge[0](torch.cat([skip, found["up0.upconv"]], 1)))
    assert (found["down1.conv1"] >= 0).all()


def test_a_size_that_is_not_valid_is_refused_and_leaves_no_hooks():
    model = network(3)
    with pytest.raises(GeometryError):
        feature_maps(model, torch.rand(1, 1, 61, 61))
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize(("depth", "px", "odd"), [(2, 22, False), (3, 60, False), (4, 110, True)])
def test_the_measured_receptive_field_is_the_calculated_one(depth, px, odd):
    """Random images send the gradient through every way of the max-poolings; none leaves the calculated field."""
    model, images = positive(depth, odd), torch.rand(24, 1, px, px, generator=torch.Generator().manual_seed(0))
    side = output_size(px, depth, odd)
    for row, column in ((0, side - 1), (side // 2, side // 3)):
        seen = input_gradient(model, images, row, column) > 0
        for axis, at in ((1, row), (0, column)):
            hull = np.flatnonzero(seen.any(axis=axis))
            assert (hull[0], hull[-1]) == receptive_field(at, px, depth, odd)


def test_the_gradient_is_that_of_a_linear_network():
    conv = nn.Conv2d(1, 2, 3)
    seen = input_gradient(conv, torch.rand(3, 1, 7, 9), row=1, column=2)
    expected = np.zeros((7, 9))
    expected[1:4, 2:5] = conv.weight.detach().abs().sum(dim=(0, 1)).numpy()
    np.testing.assert_allclose(seen, expected, rtol=1e-6)
    with pytest.raises(GeometryError, match="5 x 7"):
        input_gradient(conv, torch.rand(1, 1, 7, 9), row=5, column=0)


@pytest.mark.parametrize("variant", ["figure1", "released"])
@pytest.mark.parametrize(("depth", "px"), [(5, 252), (5, 256), (3, 60)])
def test_in_a_network_that_hands_on_skips_lie_as_calculated(depth, px, variant):
    """The second way to skip_misalignment: through the layers themselves."""
    model = set_identity_weights(network(depth, variant, odd=True))
    found = feature_maps(model, torch.arange(px, dtype=torch.float32).expand(1, 1, px, px))
    for level, expected in enumerate(skip_misalignment(px, depth)):
        deep = found[f"up{level}.upconv"]
        skip = centre_crop(found[f"down{level}.conv2"], *deep.shape[-2:])
        # a max-pooling hands on the last coordinate of its window
        behind = (2 ** (depth - 1) - 2**level) / 2
        assert float((skip[:, :1] - deep[:, :1]).mean()) + behind == pytest.approx(expected)


@pytest.mark.parametrize("variant", ["figure1", "released"])
def test_a_skip_can_be_handed_on_instead(variant):
    image = torch.rand(1, 1, 60, 60)
    found = feature_maps(set_identity_weights(network(3, variant), skip_level=1), image)
    skip = centre_crop(found["down1.conv2"], *found["up1.upconv"].shape[-2:])
    torch.testing.assert_close(found["up1.conv1"][:, :1], skip[:, :1, 1:-1, 1:-1])
    torch.testing.assert_close(found["up0.conv1"][:, :1], found["up0.upconv"][:, :1, 1:-1, 1:-1])
