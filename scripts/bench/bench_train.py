"""Time of one training step (forward, loss, backward, optimizer) in the ways a run can compute it.

    python scripts/bench/bench_train.py                    the three tile sizes of the studies, as the device allows
    python scripts/bench/bench_train.py --cases 508x4 --seconds 5

Rivals, slowest first: fp32 as the blog post ran it (fp32 arithmetic, NCHW), the same in channels_last, TF32, bf16
autocast, bf16 compiled, bf16 compiled with CUDA graphs. Prints a table with TFLOP/s and appends a row per rival to the
CSV file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from measure import append_rows, flags, in_turns, table
from torch.utils.flop_counter import FlopCounterMode

from unet.config import LossConfig, ModelConfig, OptimConfig
from unet.device import allow_tf32, keep_freed_memory
from unet.geometry import output_size
from unet.loss.dispatch import LossFunction, choose_loss
from unet.networks import build
from unet.training.optim import make_optimizer

CASES = ("508x4", "252x16", "572x1")
BF16, GRAPHS = "bf16, channels_last", "bf16, channels_last, compiled, CUDA graphs"


@dataclass(frozen=True)
class Way:
    """How a step is computed; `mode`: of torch.compile, None: eager."""

    layout: torch.memory_format = torch.channels_last
    tf32: bool = False
    bf16: bool = False
    mode: str | None = None
    gpu_only: bool = False


WAYS = {
    "fp32, NCHW (the blog's)": Way(layout=torch.contiguous_format),
    "fp32, channels_last": Way(),
    "TF32, channels_last": Way(tf32=True, gpu_only=True),
    BF16: Way(bf16=True),
    "bf16, channels_last, compiled": Way(bf16=True, mode="default"),
    GRAPHS: Way(bf16=True, mode="reduce-overhead", gpu_only=True),
}


def step_function(
    way: Way, tile_px: int, batch: int, base_channels: int, loss: LossFunction, device: torch.device
) -> Callable[[int], None]:
    """A function that makes one update of a network on a random batch."""
    layout = way.layout
    model = build(ModelConfig(base_channels=base_channels), 1, 2, 0).to(device, memory_format=layout)  # type: ignore[call-overload]
    optimizer = make_optimizer(OptimConfig(), model)
    generator = torch.Generator().manual_seed(0)
    side = output_size(tile_px)
    image = torch.rand(batch, 1, tile_px, tile_px, generator=generator).to(device, memory_format=layout)
    target = torch.randint(0, 2, (batch, side, side), generator=generator, dtype=torch.uint8).to(device)
    weight = torch.rand(batch, side, side, generator=generator).to(device)
    forward = model if way.mode is None else torch.compile(model, mode=way.mode)

    def step(_: int) -> None:
        allow_tf32(way.tf32)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=way.bf16):
            logits = forward(image)
        loss(logits, target, weight).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


def flops_of_a_step(tile_px: int, batch: int, base_channels: int) -> int:
    """Floating-point operations of forward and backward, counted without computing anything."""
    with torch.device("meta"):
        model = build(ModelConfig(base_channels=base_channels), 1, 2, 0).to("meta")
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(batch, 1, tile_px, tile_px)).sum().backward()
    return int(counter.get_total_flops())


def main() -> None:
    """Command line."""
    parser = flags(__doc__, "train.csv", seconds=2.0)
    parser.add_argument("--cases", nargs="+", default=list(CASES), help="tile side x batch")
    parser.add_argument("--base-channels", type=int, default=64)
    parser.add_argument("--eager", action="store_true", help="leave the compiled rivals out")
    arguments = parser.parse_args()
    keep_freed_memory()  # as in a run
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        print("no CUDA device: CPU paths only, without CUDA graphs")
    loss = choose_loss(LossConfig(), device)
    if loss.message:
        print(loss.message)
    ways = {name: way for name, way in WAYS.items() if device.type == "cuda" or not way.gpu_only}
    if arguments.eager:
        ways = {name: way for name, way in ways.items() if way.mode is None}
    torch.backends.cudnn.benchmark = True
    for case in arguments.cases:
        torch.compiler.reset()  # a second tile size would be compiled for all sizes, which training never meets
        tile_px, batch = (int(number) for number in case.split("x"))
        rivals = {
            name: step_function(way, tile_px, batch, arguments.base_channels, loss.function, device)
            for name, way in ways.items()
        }
        timings = in_turns(rivals, arguments.rounds, arguments.seconds)
        flops = flops_of_a_step(tile_px, batch, arguments.base_channels)
        made = f"{case}, {arguments.base_channels} channels, {loss.name} loss, {flops / 1e9:.4g} GFLOP a step"
        print(table(made, timings, GRAPHS if GRAPHS in timings else BF16))
        for name, timing in timings.items():
            print(f"  {flops / 1e12 / (timing.percentiles_ms()[1] / 1e3):8.3g} TFLOP/s  {name}")
        append_rows(arguments.csv, "training step", made, timings, ("torch",))


if __name__ == "__main__":
    main()
