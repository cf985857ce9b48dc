"""What the fused loss is held to that only a GPU can show: streams, graphs, compilation, tensors beyond 32 bits."""

from __future__ import annotations

import itertools
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
from loss_checks import (
    DTYPES,
    LAYOUTS,
    MODES,
    Case,
    Result,
    assert_same_bits,
    every_number_of_classes,
    held_to,
    make_case,
    run,
)
from torch import Tensor

from unet.config import from_dict
from unet.geometry import output_size
from unet.loss import reference
from unet.loss.dispatch import choose_loss
from unet.loss.fused import Mode, weighted_cross_entropy
from unet.networks import build
from unet.tiles.shared_batches import Batch
from unet.training.graphs import GraphedStep
from unet.training.optim import make_optimizer
from unet.training.step import EagerStep, Step

OPERATORS = ("cross_entropy", "cross_entropy_gradient")


def new_stream(device: torch.device) -> torch.cuda.Stream:
    """A stream of the device."""
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return stream


def the_size_that_matters(device: torch.device, shape: tuple[int, int, int, int] = (64, 2, 388, 388)) -> str:
    """The batch for which "auto" takes one pass: loss, counts and gradient against float64, both ways to the same
    bits."""
    worst = 0.0
    for dtype, layout in itertools.product((torch.float32, torch.bfloat16), ("contiguous", "channels_last")):
        case = make_case(device, shape, dtype, layout=layout, reduction="weighted_mean").but(valid=None)
        results = {mode: run(case, mode) for mode in MODES}
        assert_same_bits(*results.values())
        for mode in MODES:
            worst = held_to(case, mode, worst)
        counted = int(results["one_pass"].confusion.sum())
        assert counted == int((case.target != reference.IGNORE_INDEX).sum()), "pixels are not all counted"
    return f"{shape[0]} x {shape[2]}^2, at most {worst:.2f} of torch's error"


def same_bits_on_every_stream(device: torch.device) -> str:
    """Several streams at once, and another thread, whose first call of the driver it is."""
    case = make_case(device, (3, 2, 100, 84), reduction="weighted_mean")
    for mode in MODES:
        first = run(case, mode)
        results: list[Result] = []

        def once_more(mode: Mode = mode, results: list[Result] = results) -> None:
            results.append(run(case, mode))

        for _ in range(4):
            stream = new_stream(device)
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                once_more()
        thread = threading.Thread(target=once_more)
        thread.start()
        thread.join()
        torch.cuda.synchronize(device)
        assert len(results) == 5
        for result in results:
            assert_same_bits(result, first)
    return "4 streams, another thread"


def nothing_waits_for_the_device(device: torch.device) -> str:
    """No call synchronizes: torch raises if one of its own does, and graphs (below) if one of ours does."""
    case = make_case(device)
    upstream = torch.full((), 0.5, device=device)
    for mode in MODES:
        run(case, mode)
        with warnings.catch_warnings():
            # torch says so when the mode is first set, after it has set it
            warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
            try:
                torch.cuda.set_sync_debug_mode("error")
                logits = case.logits.detach().requires_grad_()
                loss = weighted_cross_entropy(logits, case.target, case.weight, case.valid, mode=mode).loss
                torch.autograd.grad(loss, logits, upstream)
            finally:
                torch.cuda.set_sync_debug_mode("default")
    return "none"


def graphs(device: torch.device) -> str:
    """Captured once, replayed with other inputs."""
    for dtype, mode in itertools.product(DTYPES, MODES):
        case = make_case(device, dtype=dtype)
        logits = case.logits.detach().clone().requires_grad_()
        target = case.target.clone()

        def step(logits: Tensor = logits, target: Tensor = target, case: Case = case, mode: Mode = mode) -> Result:
            result = weighted_cross_entropy(logits, target, case.weight, case.valid, mode=mode)
            (gradient,) = torch.autograd.grad(result.loss, logits)
            return Result(result.loss.detach(), result.confusion, gradient)

        side = new_stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = step()
        for seed in (1, 2):
            other = make_case(device, dtype=dtype, seed=seed)
            with torch.no_grad():
                logits.copy_(other.logits)
            target.copy_(other.target)
            graph.replay()
            torch.cuda.synchronize(device)
            assert_same_bits(captured, run(other.but(weight=case.weight, valid=case.valid), mode))
    return "captured, replayed with other inputs"


def training_steps_as_graphs(device: torch.device) -> str:
    """Updates of a small network with dropout: the step replayed as one graph ends in the eager step's weights."""
    config = from_dict({"model": {"base_channels": 8, "depth": 3, "dropout": 0.5}})
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(6, 2, 1, 92, 92, generator=generator).to(device)
    side = output_size(92, 3)
    target = torch.randint(0, 2, (6, 2, side, side), generator=generator, dtype=torch.uint8).to(device)
    weight = torch.rand(6, 2, side, side, generator=generator).to(device)
    for name, pooled in itertools.product(("adam", "sgd"), (False, True)):
        ends = []
        for graphs_too in (False, True):
            model = build(config.model, 1, 2, 0).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            optimizer = make_optimizer(replace(config.optim, name=name), model)  # type: ignore[arg-type]
            step: Step = EagerStep(model, choose_loss(config.loss, device), config.loss, pooled=pooled, bf16=True)
            if graphs_too:
                step = GraphedStep(step, model.parameters(), required=True, say=print)
            for update in range(6):
                torch.manual_seed(update)
                optimizer.zero_grad(set_to_none=not step.keeps_gradients)
                step(Batch(image[update], target[update], weight[update]))
                optimizer.step()
            ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        torch.testing.assert_close(ends[1], ends[0], rtol=1e-4, atol=1e-5)
    return "Adam and SGD, alone and pooled, with dropout"


def compilation(device: torch.device) -> str:
    """torch.compile without a break, static and dynamic shapes."""
    for dynamic in (False, True):
        torch.compiler.reset()
        compiled = torch.compile(
            lambda x, t, w, v: weighted_cross_entropy(x * 2, t, w, v).loss, fullgraph=True, dynamic=dynamic
        )
        for size in ((36, 44), (40, 52)):
            case = make_case(device, (2, 2, *size))
            doubled = case.but(logits=case.logits * 2)
            logits = case.logits.detach().requires_grad_()
            loss = compiled(logits, case.target, case.weight, case.valid)
            (gradient,) = torch.autograd.grad(loss, logits)
            wanted = run(doubled, "recompute")
            torch.testing.assert_close(loss.detach(), wanted.loss, rtol=0, atol=0)
            torch.testing.assert_close(gradient, wanted.gradient * 2, rtol=0, atol=0)
    return "whole graph, static and dynamic shapes"


def operators(device: torch.device) -> str:
    """torch.library.opcheck on every operator."""
    for dtype, layout in itertools.product(DTYPES[::2], ("contiguous", "channels_last")):
        case = make_case(device, (2, 3, 8, 12), dtype, torch.int64, layout)
        common = (case.logits, case.target, case.weight, case.valid)
        scalars = (torch.tensor(2.0, device=device), torch.tensor(7.0, device=device))
        arguments = (
            (case.logits.detach().requires_grad_(), *common[1:], "mean", 255),
            (*scalars, *common, 255),
        )
        for name, values in zip(OPERATORS, arguments, strict=True):
            torch.library.opcheck(getattr(torch.ops.unet, name).default, values)
    return ", ".join(OPERATORS)


def autocast_and_deterministic_mode(device: torch.device) -> str:
    """Nothing changes under autocast, nor where torch refuses what is not deterministic."""
    for dtype, mode in itertools.product(DTYPES, MODES):
        case = make_case(device, dtype=dtype)
        wanted = run(case, mode)
        with torch.autocast("cuda", torch.bfloat16):
            assert_same_bits(run(case, mode), wanted)
        torch.use_deterministic_algorithms(True)
        try:
            assert_same_bits(run(case, mode), wanted)
        finally:
            torch.use_deterministic_algorithms(False)
    return "same bits"


def more_than_32_bits_count(device: torch.device) -> str:
    """More than 2^31 logits, against sums over parts."""
    free, _ = torch.cuda.mem_get_info(device)
    if free < 24 << 30:
        return f"left out: {free >> 30} GiB are free, 24 are needed"
    images, rows, columns = 1040, 1024, 1024
    torch.manual_seed(0)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        logits = torch.empty(images, 2, rows, columns, dtype=torch.bfloat16, device=device, memory_format=layout)
        for first in range(0, images, 40):
            logits[first : first + 40].normal_()
        assert logits.numel() > 2**31
        target = torch.randint(0, 2, (images, rows, columns), dtype=torch.uint8, device=device)
        logits.requires_grad_()
        result = weighted_cross_entropy(logits, target, mode="recompute")
        (gradient,) = torch.autograd.grad(result.loss, logits)
        total, counts = torch.zeros((), dtype=torch.float64, device=device), torch.zeros_like(result.confusion)
        for first in range(0, images, 40):
            part = slice(first, first + 40)
            x = logits.detach()[part]
            sums = reference.weighted_cross_entropy(x, target[part], reduction="sum")
            total += sums.loss.double()
            counts += sums.confusion
            if first in (0, images // 2 // 40 * 40, images - 40):
                scale = torch.tensor(1.0 / target.numel(), device=device)
                valid = torch.ones_like(target[part], dtype=torch.bool)
                wanted = reference.pixel_gradients(x, target[part], None, valid, scale).to(torch.bfloat16)
                torch.testing.assert_close(gradient[part], wanted, rtol=1e-2, atol=1e-12)
        assert torch.equal(result.confusion, counts)
        torch.testing.assert_close(result.loss.double(), total / target.numel(), rtol=2e-6, atol=0)
        found.append(logits.numel())
        del logits, gradient, result
        torch.cuda.empty_cache()
    return f"{found[0]:,} logits, both layouts"


def several_devices(device: torch.device) -> str:
    """Every GPU of the machine, while another is the current one."""
    count = torch.cuda.device_count()
    if count < 2:
        return "left out: one GPU"
    wanted = run(make_case(device), "one_pass")
    for index in range(count):
        other = torch.device("cuda", index)
        result = run(make_case(other), "one_pass")
        assert_same_bits(Result(*(t.to(device) for t in (result.loss, result.confusion, result.gradient))), wanted)
    return f"{count} GPUs"


def small_for_the_sanitizer(device: torch.device) -> str:
    """A few launches of every kind of kernel, for compute-sanitizer, which slows all down."""
    for layout, dtype, classes in itertools.product(LAYOUTS, DTYPES, (2, 5, 18)):
        for mode in MODES:
            case = make_case(device, (2, classes, 21, 20), dtype, layout=layout)
            held_to(case, mode)
    return "ran"


def quiet(check: Callable[[torch.device], str]) -> Callable[[torch.device], str]:
    """Without the warnings of torch's compiler."""

    def checked(device: torch.device) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return check(device)

    checked.__name__ = check.__name__
    return checked


GPU_CHECKS: tuple[Callable[[torch.device], str], ...] = (
    the_size_that_matters,
    same_bits_on_every_stream,
    nothing_waits_for_the_device,
    graphs,
    training_steps_as_graphs,
    quiet(compilation),
    operators,
    autocast_and_deterministic_mode,
    several_devices,
    more_than_32_bits_count,
    every_number_of_classes,
)
