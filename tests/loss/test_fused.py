"""The loss as torch's operators: their plain implementation everywhere, and the kernels behind them, run on the CPU."""

import warnings

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

from tests.loss.shim.cases import CHANNELS_LAST, Arrangement, expected, make_case
from tests.loss.shim.host import compiler
from tests.loss.shim.launcher import ShimLauncher, product
from unet.loss import fused, launch, reference
from unet.loss.fused import weighted_cross_entropy

MODES = ("recompute", "one_pass", "auto")
REDUCTIONS = ("mean", "weighted_mean", "sum")
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C++ compiler")


@pytest.fixture
def kernels(monkeypatch):
    """The operators call the kernels for tensors on the CPU too; the fixture is what launches them."""
    launcher = ShimLauncher(product())
    monkeypatch.setattr(fused, "_has_kernels", launch.supported)
    monkeypatch.setattr(fused, "_launcher", lambda logits: launcher)  # noqa: ARG005
    return launcher


@pytest.fixture(params=["plain", pytest.param("kernels", marks=needs_compiler)])
def operators(request):
    """Both implementations of the operators in turn; yields the launcher of the kernels or None."""
    return request.getfixturevalue("kernels") if request.param == "kernels" else None


def arguments(case):
    return case.logits.detach().clone().requires_grad_(), case.target, case.weight, case.valid


def options(case):
    return {"reduction": case.reduction, "ignore_index": case.ignore_index}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("upstream", [1.0, -2.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_loss_and_gradient_are_the_references(mode, reduction, upstream, dtype, operators):
    case = make_case(1, (2, 2, 6, 8), dtype, reduction=reduction, upstream=upstream)
    logits, *rest = arguments(case)
    result = weighted_cross_entropy(logits, *rest, **options(case), mode=mode)
    assert result.loss.dtype == torch.float32
    (result.loss * upstream).backward()
    wanted = expected(case)
    torch.testing.assert_close(result.confusion, wanted.confusion, rtol=0, atol=0)
    torch.testing.assert_close(result.loss.double(), wanted.loss, rtol=2e-6, atol=1e-8)
    close = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(logits.grad.double(), wanted.gradient, rtol=close, atol=1e-6)
    assert logits.grad.dtype == dtype


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("upstream", [None, 1.0, -2.5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_loss_and_gradient_at_once_are_those_of_autograd(mode, reduction, upstream, dtype, operators):
    case = make_case(3, (2, 3, 6, 8), dtype, reduction=reduction)
    logits, *rest = arguments(case)
    wanted = weighted_cross_entropy(logits, *rest, **options(case), mode=mode)
    scale = None if upstream is None else torch.tensor(upstream)
    (gradient,) = torch.autograd.grad(wanted.loss, logits, None if scale is None else scale.to(wanted.loss.dtype))
    found = fused.differentiated(logits, *rest, scale, **options(case), mode=mode)
    torch.testing.assert_close(found, (wanted.loss.detach(), wanted.confusion, gradient), rtol=0, atol=0)
    assert not any(part.requires_grad for part in found)


@needs_compiler
@pytest.mark.parametrize(
    ("mode", "scale", "launches"), [("recompute", None, 2), ("one_pass", None, 1), ("one_pass", 2.0, 2)]
)
def test_loss_and_gradient_at_once_take_no_launch_too_many(mode, scale, launches, kernels, monkeypatch):
    case, started = make_case(3, (2, 2, 6, 8)), []
    launched = kernels.launch
    monkeypatch.setattr(kernels, "launch", lambda *words: (started.append(words[1]), launched(*words)))
    logits, *rest = arguments(case)
    fused.differentiated(logits, *rest, None if scale is None else torch.tensor(scale), mode=mode)
    assert len(started) == (1 if mode == "one_pass" and scale is None else 2)


@pytest.mark.parametrize("mode", MODES)
def test_the_gradient_can_be_asked_for_twice(mode, operators):
    case = make_case(2, (1, 2, 6, 8))
    logits, *rest = arguments(case)
    loss = weighted_cross_entropy(logits, *rest, mode=mode).loss
    (scaled,) = torch.autograd.grad(loss, logits, torch.tensor(3.0), retain_graph=True)
    kept = scaled.clone()
    (plain,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (again,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(scaled, kept, rtol=0, atol=0)
    torch.testing.assert_close(plain * 3, scaled)
    torch.testing.assert_close(plain, again, rtol=0, atol=0)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_accumulate(mode, operators):
    case = make_case(2, (1, 2, 6, 8))
    logits, *rest = arguments(case)
    for _ in range(2):
        weighted_cross_entropy(logits, *rest, mode=mode).loss.backward()
    torch.testing.assert_close(logits.grad.double(), 2 * expected(case).gradient, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("mode", MODES)
def test_there_is_no_second_derivative_and_it_says_so(mode, operators):
    case = make_case(2, (1, 2, 6, 8))
    logits, *rest = arguments(case)
    (gradient,) = torch.autograd.grad(weighted_cross_entropy(logits, *rest, mode=mode).loss, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivative"):
        gradient.sum().backward()


def test_weights_that_ask_for_a_gradient_get_it():
    case = make_case(2, (1, 2, 6, 8))
    logits, target, weight, valid = arguments(case)
    weight = weight.clone().requires_grad_()
    weighted_cross_entropy(logits, target, weight, valid).loss.backward()
    assert weight.grad.any()


@needs_compiler
def test_without_gradient_only_the_forward_kernels_run(kernels):
    case = make_case(2, (1, 2, 6, 8))
    with torch.no_grad():
        weighted_cross_entropy(*arguments(case), mode="one_pass")
    weighted_cross_entropy(case.logits, case.target, mode="one_pass")
    assert kernels.launched == ["forward_pass", "finish"] * 2


@needs_compiler
@pytest.mark.parametrize("mode", ["recompute", "one_pass"])
def test_memory_formats_and_slices(mode, kernels):
    for arrangement in (Arrangement(CHANNELS_LAST), Arrangement(gaps=(0, 0, 2, 3)), Arrangement(offsets=(1, 0, 0, 0))):
        case = make_case(3, (2, 2, 6, 8), arrangement=arrangement, reduction="weighted_mean")
        logits = case.logits.detach().requires_grad_()
        result = weighted_cross_entropy(logits, case.target, case.weight, case.valid, **options(case), mode=mode)
        (gradient,) = torch.autograd.grad(result.loss, logits)
        assert gradient.stride() == torch.empty_like(case.logits).stride()
        torch.testing.assert_close(gradient.double(), expected(case).gradient, rtol=2e-6, atol=1e-8)


@needs_compiler
def test_float64_is_computed_by_the_reference(kernels):
    case = make_case(2, (1, 2, 6, 8), torch.float64)
    for mode in MODES:
        logits, *rest = arguments(case)
        result = weighted_cross_entropy(logits, *rest, mode=mode)
        (result.loss * 2).backward()
        assert result.loss.dtype == torch.float64
        torch.testing.assert_close(logits.grad, 2 * expected(case).gradient, rtol=1e-12, atol=1e-15)
    assert kernels.launched == []


@pytest.mark.parametrize("mode", MODES)
def test_gradcheck(mode):
    case = make_case(2, (1, 3, 3, 4), torch.float64, torch.int64, reduction="weighted_mean")
    logits, *rest = arguments(case)
    assert torch.autograd.gradcheck(lambda x: weighted_cross_entropy(x, *rest, **options(case), mode=mode).loss, logits)


def operator_arguments(dtype, arrangement, weights):
    case = make_case(4, (2, 3, 4, 5), dtype, torch.int64, arrangement, weights=weights)
    common = (case.logits.contiguous() if arrangement is None else case.logits, case.target, case.weight, case.valid)
    scalars = torch.tensor(2.0, dtype=torch.float32), torch.tensor(7.0, dtype=torch.float32)
    leaf = common[0].detach().requires_grad_()
    return {
        "cross_entropy": (leaf, *common[1:], "mean", 255),
        "cross_entropy_gradient": (*scalars, *common, 255),
    }


OPERATORS = ("cross_entropy", "cross_entropy_gradient")


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("arrangement", [None, Arrangement(CHANNELS_LAST)], ids=["planar", "channels_last"])
def test_opcheck(name, dtype, weights, arrangement, operators):
    torch.library.opcheck(
        getattr(torch.ops.unet, name).default,
        operator_arguments(dtype, arrangement, weights)[name],
        atol=1e-6,
        rtol=1e-5,
    )


def test_shapes_and_types_without_data():
    with torch.device("meta"):
        logits = torch.empty(2, 5, 6, 7, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
        target = torch.empty(2, 6, 7, dtype=torch.uint8)
    loss, confusion, denominator = torch.ops.unet.cross_entropy(logits, target, None, None, "sum", 255)
    gradient = torch.ops.unet.cross_entropy_gradient(loss, denominator, logits, target, None, None, 255)
    assert (loss.shape, loss.dtype, denominator.dtype) == ((), torch.float32, torch.float32)
    assert (confusion.shape, confusion.dtype) == ((5, 5), torch.int64)
    assert (gradient.shape, gradient.stride(), gradient.dtype) == (logits.shape, logits.stride(), logits.dtype)


@pytest.mark.parametrize("mode", MODES)
def test_it_compiles_without_a_break(mode, operators):
    case = make_case(5, (2, 2, 4, 8), reduction="weighted_mean")

    @torch.compile(backend="aot_eager", fullgraph=True)
    def scaled(x, t, w, v):
        result = weighted_cross_entropy(x * 2, t, w, v, reduction="weighted_mean", mode=mode)
        return result.loss * 3, result.confusion

    logits, *rest = arguments(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, at its first compilation
        loss, confusion = scaled(logits, *rest)
        loss.backward()
    wanted = expected(case.but(logits=case.logits * 2))
    torch.testing.assert_close(loss.double(), wanted.loss * 3, rtol=2e-6, atol=1e-8)
    torch.testing.assert_close(confusion, wanted.confusion, rtol=0, atol=0)
    torch.testing.assert_close(logits.grad.double(), wanted.gradient * 6, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("mode", MODES)
def test_autocast(mode, operators):
    case = make_case(6, (1, 2, 6, 8), torch.bfloat16)
    results = []
    for enabled in (False, True):
        logits, *rest = arguments(case)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = weighted_cross_entropy(logits, *rest, mode=mode).loss
        loss.backward()
        results.append((loss.detach(), logits.grad))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert results[0][0].dtype == torch.float32


@needs_compiler
def test_deterministic_mode_costs_no_filling(kernels, monkeypatch):
    """Torch would fill every new tensor first; the kernels write all of it anyhow."""
    seen = []
    true_empty = torch.empty

    def empty(*args, **kwargs):
        seen.append(torch.utils.deterministic.fill_uninitialized_memory)
        return true_empty(*args, **kwargs)

    monkeypatch.setattr(torch, "empty", empty)
    torch.use_deterministic_algorithms(True)
    try:
        case = make_case(6, (1, 2, 6, 8))
        logits, *rest = arguments(case)
        weighted_cross_entropy(logits, *rest, mode="one_pass").loss.backward()
        assert seen
        assert not any(seen)
        assert torch.utils.deterministic.fill_uninitialized_memory
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(logits.grad.double(), expected(case).gradient, rtol=2e-6, atol=1e-8)


def test_the_gradients_memory_is_given_away():
    """After the backward computation the loss no longer holds the gradient, even where the graph is kept."""
    case = make_case(6, (1, 2, 6, 8))
    logits, *rest = arguments(case)
    loss = weighted_cross_entropy(logits, *rest, mode="one_pass").loss
    assert loss.grad_fn.gradient is not None
    loss.backward(retain_graph=True)
    assert loss.grad_fn.gradient is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_NHW": torch.zeros(1, 6, 9, dtype=torch.uint8)}, "N x H x W"),
        ({"target_NHW": torch.zeros(1, 6, 8)}, "integers"),
        ({"logits_NCHW": torch.zeros(1, 2, 6, 8, dtype=torch.int64)}, "floating"),
        ({"logits_NCHW": torch.zeros(2, 6, 8)}, "N x C x H x W"),
        ({"weight_NHW": torch.zeros(1, 6, 8, device="meta")}, "meta"),
        *(
            ({name: torch.ones(shape)}, rf"{name.split('_')[0]} must be N x H x W as the target, \(1, 6, 8\)")
            for name in ("weight_NHW", "valid_NHW")
            for shape in ((1, 1, 6, 8), (6, 8), (8,), (), (1, 6, 7), (2, 6, 8), (1, 8, 6))
        ),
    ],
)
@pytest.mark.parametrize(
    "loss",
    [weighted_cross_entropy, fused.differentiated, reference.weighted_cross_entropy, reference.weighted_loss],
)
def test_tensors_that_do_not_belong_together(change, message, loss, operators):
    arguments = {"logits_NCHW": torch.zeros(1, 2, 6, 8), "target_NHW": torch.zeros(1, 6, 8, dtype=torch.uint8)} | change
    with pytest.raises((ValueError, RuntimeError, NotImplementedError), match=message):
        loss(**arguments)


def derivative_along(logits, direction, *rest):
    """Of the reference, by autograd."""
    logits = logits.detach().clone().requires_grad_()
    loss = reference.weighted_cross_entropy(logits, *rest).loss
    (gradient,) = torch.autograd.grad(loss, logits)
    return loss.detach(), (gradient * direction).sum(), gradient


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own, at its first jvp
@pytest.mark.parametrize("mode", MODES)
def test_the_transforms_of_torch_func(mode, operators):
    """Gradients, derivatives along a direction and batches of losses are those of the reference."""
    case = make_case(2, (2, 2, 6, 8))
    logits, *rest = arguments(case)
    logits, direction = logits.detach(), torch.ones_like(logits).cumsum(-1)
    value, slope, gradient = derivative_along(logits, direction, *rest)

    def loss(x):
        return weighted_cross_entropy(x, *rest, mode=mode).loss

    torch.testing.assert_close(torch.func.grad(loss)(logits), gradient)
    torch.testing.assert_close(torch.func.jvp(loss, (logits,), (direction,)), (value, slope))
    torch.testing.assert_close(torch.func.vmap(loss)(torch.stack([logits, logits])), torch.stack([value, value]))
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(loss(forward_ad.make_dual(logits, direction)))
        torch.testing.assert_close((dual.primal, dual.tangent), (value, slope))
        assert not forward_ad.unpack_dual(loss(logits)).tangent


@needs_compiler
def test_what_watches_operators_sees_them(kernels):
    """Modes and subclasses of tensors get the operators; without them the kernels are started directly."""
    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    case = make_case(2, (1, 2, 6, 8))
    for mode in MODES:
        logits, *rest = arguments(case)
        with Watch():
            weighted_cross_entropy(logits, *rest, mode=mode).loss.backward()
        torch.testing.assert_close(logits.grad.double(), expected(case).gradient, rtol=2e-6, atol=1e-7)
    assert {"unet.cross_entropy.default", "unet.cross_entropy_gradient.default"} <= set(seen)


def test_one_pass_is_taken_where_it_pays(monkeypatch):
    monkeypatch.setattr(fused, "ONE_PASS_BYTES", 64)

    class Logits:
        is_cuda, dtype, count = True, torch.float32, 16

        def numel(self):
            return self.count

        def element_size(self):
            return 4

    logits = Logits()
    assert fused._takes_one_pass(logits, "auto")
    assert not fused._takes_one_pass(logits, "recompute")
    for name, value in (("count", 15), ("dtype", torch.float16), ("is_cuda", False)):
        other = Logits()
        setattr(other, name, value)
        assert not fused._takes_one_pass(other, "auto")
        assert fused._takes_one_pass(other, "one_pass")


def test_plain_gradients_are_autograds():
    """reference.pixel_gradients is the formula of what autograd finds through the reference."""
    for dtype, reduction in ((torch.float64, "mean"), (torch.float32, "weighted_mean"), (torch.float64, "sum")):
        case = make_case(7, (2, 4, 3, 5), dtype, torch.int64, reduction=reduction, upstream=1.7)
        wanted = expected(case)
        valid = reference.valid_pixels(case.target, case.valid)
        scale = case.upstream / wanted.denominator
        actual = reference.pixel_gradients(case.logits, case.target, case.weight, valid, scale)
        torch.testing.assert_close(actual.double(), wanted.gradient, rtol=1e-6, atol=1e-9)


@needs_compiler
def test_out_of_range_ignore_index_of_bytes(kernels):
    """Torch compares a byte with -1 as with 255; so do the kernels."""
    case = make_case(8, (1, 2, 4, 8))
    result = launch.forward(kernels, case.but(ignore_index=-1).inputs(), "mean")
    torch.testing.assert_close(result.loss.double(), expected(case).loss, rtol=1e-6, atol=0)
