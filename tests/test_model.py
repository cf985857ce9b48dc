"""The network: parameters, sizes, initial weights, skips, dropout."""

import math
import sys
import types
from dataclasses import replace
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from unet.config import ModelConfig
from unet.errors import GeometryError
from unet.geometry import output_size
from unet.model import UpConv, centre_crop, dropout_rates, parameters, upconv_as_matmul
from unet.networks import build, network
from unet.networks import variant as variant_of


@pytest.mark.parametrize(("variant", "expected"), [("figure1", 31_030_658), ("released", 31_100_354)])
def test_parameters_of_the_paper_size_network(variant, expected):
    with torch.device("meta"):
        assert parameters(network(ModelConfig(variant=variant))) == expected


def test_figure_1_has_23_convolutions():
    with torch.device("meta"):
        model = network(ModelConfig())
    assert sum(isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)) for m in model.modules()) == 23


@pytest.mark.parametrize("variant", ["figure1", "released"])
@pytest.mark.parametrize(("depth", "channels", "classes"), [(2, 1, 2), (3, 3, 5), (5, 4, 1)])
def test_output_sizes_of_any_depth_channels_and_classes(variant, depth, channels, classes):
    config = ModelConfig(variant=variant, base_channels=2, depth=depth)
    model = build(config, channels, classes, seed=0)
    sides = {2: (20, 24), 3: (44, 52), 5: (188, 204)}[depth]
    with torch.no_grad():
        logits = model(torch.zeros(2, channels, *sides))
    assert logits.shape == (2, classes, output_size(sides[0], depth), output_size(sides[1], depth))


def test_an_invalid_size_is_refused_and_taken_when_allowed():
    with pytest.raises(GeometryError, match="nearest|use"):
        build(ModelConfig(base_channels=1), 1, 2, 0)(torch.zeros(1, 1, 256, 256))
    loose = build(ModelConfig(base_channels=1, allow_odd_pooling=True), 1, 2, 0)
    assert loose(torch.zeros(1, 1, 256, 256)).shape == (1, 2, 68, 68)


def test_initial_weights_are_gaussian_with_the_papers_deviation():
    model = build(ModelConfig(base_channels=32, depth=3), 1, 2, seed=3)
    checked = 0
    for module in model.modules():
        if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            continue
        incoming = module.in_channels * (9 if module.kernel_size == (3, 3) else 1)
        values = module.weight.detach().double().numpy().ravel()
        if values.size < 2000:
            continue
        expected = math.sqrt(2 / incoming)
        assert abs(values.std() / expected - 1) < 5 / math.sqrt(2 * values.size)
        assert abs(values.mean()) < 5 * expected / math.sqrt(values.size)
        kurtosis = ((values / values.std()) ** 4).mean()
        assert abs(kurtosis - 3) < 6 * math.sqrt(24 / values.size)  # a uniform distribution has 1.8
        assert not module.bias.detach().any()
        checked += 1
    assert checked >= 8


@pytest.mark.parametrize(
    ("variant", "deviations"),  # sqrt(2 / N) for up-convolutions 64 -> 32 and 128 -> 64 (the last one keeps its 64)
    [("figure1", [math.sqrt(2 / 64), math.sqrt(2 / 128)]), ("released", [math.sqrt(2 / 256), math.sqrt(2 / 256)])],
)
def test_initial_weights_of_the_upconvolutions_follow_the_variant(variant, deviations):
    """Caffe divides the number of weights by the input channels: N = 4 x output channels, whatever comes in."""
    model = build(ModelConfig(variant=variant, base_channels=32, depth=3), 1, 2, seed=1)
    weights = [level.upconv.weight.detach().double() for level in model.up]
    assert [tuple(w.shape[:2]) for w in weights] == [(64, 64 if variant == "released" else 32), (128, 64)]
    for values, expected in zip(weights, deviations, strict=True):
        assert abs(float(values.std()) / expected - 1) < 5 / math.sqrt(2 * values.numel())
    first = model.down[0][0].weight.detach().double()  # convolutions are as in the drawing
    assert abs(float(first.std()) / math.sqrt(2 / 9) - 1) < 5 / math.sqrt(2 * first.numel())


def test_the_seed_alone_decides_the_initial_weights():
    torch.manual_seed(1)
    first = build(ModelConfig(base_channels=2, depth=2), 1, 2, seed=5).state_dict()
    torch.rand(7)
    second = build(ModelConfig(base_channels=2, depth=2), 1, 2, seed=5).state_dict()
    other = build(ModelConfig(base_channels=2, depth=2), 1, 2, seed=6).state_dict()
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_building_does_not_touch_the_global_generator():
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    build(ModelConfig(base_channels=2, depth=2), 1, 2, seed=5)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_the_crop_is_central():
    image = torch.arange(49.0).view(1, 1, 7, 7)
    assert centre_crop(image, 3, 3)[0, 0].tolist() == [[16, 17, 18], [23, 24, 25], [30, 31, 32]]
    assert centre_crop(image, 4, 7).shape == (1, 1, 4, 7)
    assert centre_crop(image, 4, 7)[0, 0, 0, 0] == 7  # an odd rest: one row above, two below
    with pytest.raises(GeometryError):
        centre_crop(image, 9, 3)


def test_the_gradient_of_a_crop_is_zero_outside_and_keeps_channels_last():
    image = torch.randn(2, 3, 9, 8).to(memory_format=torch.channels_last).requires_grad_()
    gradients: list[torch.Tensor] = []
    skip = image * 1  # a gradient on the way: that of a leaf takes the leaf's own layout
    skip.register_hook(gradients.append)
    crop = centre_crop(skip, 4, 5)
    crop.backward(torch.ones_like(crop))
    expected = torch.zeros(2, 3, 9, 8)
    expected[..., 2:6, 1:6] = 1
    assert torch.equal(gradients[0], expected)
    assert gradients[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("variant", "upsampled_at"), [("figure1", slice(3, 5)), ("released", slice(0, 2))])
def test_order_of_the_concatenation_and_relu_after_the_upconvolution(variant, upsampled_at):
    block = UpConv(4, 2, variant_of(ModelConfig(variant=variant)))
    deep, skip = -torch.rand(1, 4, 3, 3), torch.full((1, 3, 10, 10), 7.0)
    nn.init.constant_(block.upconv.weight, 1.0)
    nn.init.zeros_(block.upconv.bias)
    merged = block(deep, skip)
    assert merged.shape == (1, 5, 6, 6)
    expected = torch.nn.functional.conv_transpose2d(deep, block.upconv.weight, stride=2)
    if variant == "released":
        expected = expected.relu()
    torch.testing.assert_close(merged[:, upsampled_at], expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("with_bias", [True, False])
def test_the_upconvolution_is_a_matrix_product(dtype, tolerance, layout, with_bias):
    torch.manual_seed(0)
    deep = torch.randn(2, 6, 3, 5, dtype=dtype).to(memory_format=layout).requires_grad_()
    weight = torch.randn(6, 4, 2, 2, dtype=dtype).to(memory_format=layout).requires_grad_()
    bias = torch.randn(4, dtype=dtype, requires_grad=True) if with_bias else None
    inputs = [t for t in (deep, weight, bias) if t is not None]
    found, expected = upconv_as_matmul(deep, weight, bias), functional.conv_transpose2d(deep, weight, bias, stride=2)
    assert found.shape == (2, 4, 6, 10)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    upstream = torch.randn_like(expected)
    gradients = (torch.autograd.grad(result, inputs, upstream) for result in (found, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_training_in_bf16_rounds_no_worse_than_the_convolution():
    """The output and all gradients, by both ways, against float64."""
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(32, 16, 2, stride=2)
    deep = torch.randn(1, 32, 12, 12).bfloat16().requires_grad_()
    inputs, upstream = [deep, layer.weight, layer.bias], torch.randn(1, 16, 24, 24).bfloat16()

    def convolution(deep, weight, bias):
        return functional.conv_transpose2d(deep, weight, bias, stride=2)

    def made(way):
        with torch.autocast("cpu", torch.bfloat16):
            upsampled = way(*inputs)
        assert upsampled.dtype == torch.bfloat16
        return [upsampled, *torch.autograd.grad(upsampled, inputs, upstream)]

    exact = convolution(*(tensor.double() for tensor in inputs))
    exact = [exact, *torch.autograd.grad(exact, inputs, upstream.double())]
    for ours, theirs, right in zip(made(upconv_as_matmul), made(convolution), exact, strict=True):
        assert (ours - right).abs().max() <= 1.5 * (theirs - right).abs().max()


def test_prediction_keeps_the_bits_of_the_convolution():
    block = UpConv(8, 4, variant_of(ModelConfig()))
    deep, skip = torch.randn(1, 8, 5, 4), torch.randn(1, 4, 10, 8)
    with torch.inference_mode():
        merged = block(deep, skip)
    assert torch.equal(merged[:, 4:], functional.conv_transpose2d(deep, block.upconv.weight, block.upconv.bias, 2))


@pytest.mark.parametrize(
    ("variant", "place", "rates"),
    [
        ("figure1", "variant", [0, 0, 0, 0, 0.3]),
        ("released", "variant", [0, 0, 0, 0.3, 0.3]),
        ("released", "bottleneck", [0, 0, 0, 0, 0.3]),
        ("figure1", "last-two", [0, 0, 0, 0.3, 0.3]),
        ("released", "none", [0, 0, 0, 0, 0]),
    ],
)
def test_places_of_dropout(variant, place, rates):
    config = ModelConfig(variant=variant, dropout=0.3, dropout_at=place)
    assert dropout_rates(config, variant_of(config)) == rates


def test_every_name_of_a_network_has_its_file():
    names = get_args(get_type_hints(ModelConfig)["variant"])
    assert {"figure1", "released"} <= set(names)
    for name in names:
        with torch.device("meta"):
            made = network(ModelConfig(variant=name, base_channels=2, depth=3), in_channels=2, classes=4)
        assert made(torch.zeros(1, 2, 64, 64, device="meta")).shape == (1, 4, output_size(64, 3), output_size(64, 3))


def test_a_file_may_bring_a_module_of_its_own(monkeypatch):
    """A network that is not the common assembly: what its file calls `network` is built, from the seed."""
    file = types.ModuleType("unet.networks.shallow")
    file.VARIANT = variant_of(ModelConfig())
    file.network = lambda config, in_channels, classes: nn.Conv2d(in_channels, classes, config.depth)
    monkeypatch.setitem(sys.modules, "unet.networks.shallow", file)
    config = replace(ModelConfig(), variant="shallow", depth=3)
    first, again, other = (build(config, 2, 3, seed) for seed in (1, 1, 2))
    assert first.weight.shape == (3, 2, 3, 3)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)


def test_dropout_acts_in_training_only_and_reaches_the_skip_in_the_released_network():
    config = ModelConfig(variant="released", base_channels=2, depth=2, dropout=0.5)
    model = build(config, 1, 2, 0)
    seen = []
    model.up[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[1]))
    image = torch.rand(1, 1, 36, 36)
    model.eval()
    torch.testing.assert_close(model(image), model(image), rtol=0, atol=0)
    model.train()
    model(image)
    zeros_eval, zeros_train = ((s == 0).float().mean() for s in (seen[0], seen[-1]))
    assert zeros_train > zeros_eval + 0.2


def test_one_output_pixel_sees_its_context_and_the_output_sees_all_of_the_input():
    """With pooling by averages and positive weights every path is open, and the gradient shows what is seen."""
    model = build(ModelConfig(base_channels=1, dropout_at="none"), 1, 1, 0).double()
    model.pool = nn.AvgPool2d(2)
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)

    def rows_seen(row: slice) -> tuple[int, int]:
        image = torch.ones(1, 1, 252, 252, dtype=torch.float64, requires_grad=True)
        model(image)[0, 0, row].sum().backward()
        rows = np.flatnonzero(image.grad[0, 0].abs().sum(dim=1).numpy())
        return int(rows[0]), int(rows[-1])

    assert rows_seen(slice(None)) == (0, 251)
    first, last = rows_seen(slice(0, 1))
    assert first == 0
    assert last <= 2 * 92 + 15  # the context to either side, and the rest of the pooling window it falls into
    assert rows_seen(slice(16, 17)) == (first + 16, last + 16)  # the output repeats with the stride
