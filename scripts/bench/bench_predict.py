"""Prediction of one large image: time, the network's share of it, and peak memory against the image's size.

    python scripts/bench/bench_predict.py [--nets small full] [--side N] [--rounds N] [--threads N] [--csv FILE]
    python scripts/bench/bench_predict.py --memory [--sides 4096 8192 16384]

Rivals compute the same output windows on the same grid with the same network, so that results can be compared: MONAI's
sliding_window_inference (its predictor cuts the unpadded network's context out of the mirrored image) and the loop
that one would write first. Ours goes from file to file, everything `unet predict` does behind reading the weights.
Target: the network takes 95 % of the time; peak memory from 4096^2 to 16384^2 within 20 %.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from measure import RESULTS, append_rows, flags, here, in_turns, table
from numpy.typing import NDArray

from unet.config import ModelConfig, PredictConfig, from_dict, to_dict
from unet.data.stack import Normalisation
from unet.device import allow_tf32, choose
from unet.files import append_csv
from unet.model import parameters
from unet.networks import build
from unet.prediction.files import predict_file
from unet.prediction.job import Settings, make_task
from unet.prediction.overlap import Network, predict_image
from unet.prediction.tile_plan import plan
from unet.runs.checkpoint import save_weights

PACKAGES = ("torch", "numpy", "tifffile", "monai")
NETS = {"full": ModelConfig(), "small": ModelConfig(base_channels=16), "tiny": ModelConfig(base_channels=4, depth=4)}
OURS = "file to file (ours)"
TILE = 508
FIXED = Normalisation()
Image = NDArray[np.uint8]
Maps = NDArray[np.float32]


class Stopwatch:
    """Adds up the time that a network's forward pass takes."""

    def __init__(self, network: Network) -> None:
        self.seconds = 0.0
        self._forward = network.model.forward
        network.model.forward = self._timed

    def _timed(self, images: torch.Tensor) -> torch.Tensor:
        start = time.perf_counter()
        result: torch.Tensor = self._forward(images)
        if result.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - start
        return result


def network_of(model: ModelConfig, precision: str) -> Network:
    hardware = choose(from_dict({"train": {"precision": precision}}))
    allow_tf32(False)
    module = build(model, 1, 2, seed=0).to(hardware.device).eval()
    return Network(module, hardware.device, hardware.precision, hardware.channels_last, model.depth)


def write_image(path: Path, side: int) -> None:
    """A cloudy 8-bit image, written without holding it in memory."""
    pixels = tifffile.memmap(path, shape=(side, side), dtype=np.uint8, photometric="minisblack")
    rng = np.random.default_rng(0)
    for y in range(0, side, 512):
        pixels[y : y + 512] = rng.integers(0, 256, (min(512, side - y), side), np.uint8)
        pixels.flush()


def by_monai(network: Network, image: Image) -> Maps:
    """MONAI's sliding window over the output pixels; the predictor is told where it stands."""
    from monai.inferers import SlidingWindowInferer

    height, width = image.shape
    tiles = plan(height, width, network.depth, TILE)
    side = tiles.output_px[0] // tiles.step_px * tiles.step_px
    margin, beyond = tiles.margin, TILE
    padded = torch.from_numpy(np.pad(image, (margin, beyond), mode="reflect").astype(np.float32) / 255)[None, None]

    def predictor(_: torch.Tensor, where: list[tuple[slice, ...]]) -> torch.Tensor:
        starts = [(s[-2].start, s[-1].start) for s in where]
        windows = [padded[0, :, y : y + TILE, x : x + TILE] for y, x in starts]
        return network.logits(torch.stack(windows).numpy())[:, :, :side, :side]

    inferer = SlidingWindowInferer((side, side), sw_batch_size=1, overlap=0, mode="constant", with_coord=True)
    whole = torch.from_numpy(image.astype(np.float32) / 255)[None, None]
    with torch.inference_mode():
        result: Maps = torch.softmax(inferer(whole, predictor), dim=1)[0, 1].cpu().numpy()
    return result


def by_plain_loop(network: Network, image: Image) -> Maps:
    """Mirror the whole image, cut windows, softmax of each, write into an array."""
    tiles = plan(image.shape[0], image.shape[1], network.depth, TILE)
    padded = np.pad(image.astype(np.float32) / 255, (tiles.margin, TILE), mode="reflect")
    result = np.zeros(image.shape, np.float32)
    for y in tiles.rows():
        for x in tiles.columns():
            window = padded[y : y + TILE, x : x + TILE]
            box = tiles.block(y, x)
            part = torch.softmax(network.logits(window[None, None]), dim=1)[0, 1].cpu().numpy()
            result[y : y + box.height, x : x + box.width] = part[: box.height, : box.width]
    return result


def time_net(name: str, folder: Path, arguments: argparse.Namespace) -> None:
    network = network_of(NETS[name], arguments.precision)
    write_image(folder / "in.tif", arguments.side)
    image = tifffile.imread(folder / "in.tif")
    settings = Settings(FIXED, 1, 2, ("0" * 64,), how=PredictConfig(tile_px=TILE))
    task = make_task(network, folder / "in.tif", folder / "out.tif", settings)

    def ours(_: int) -> Maps:
        predict_file(network, task, settings, overwrite=True)
        return np.empty(0, np.float32)

    watch = Stopwatch(network)
    shares: dict[str, list[float]] = {}

    def shared(rival: str, call: Callable[[int], Maps]) -> Callable[[int], Maps]:
        def timed(i: int) -> Maps:
            watch.seconds, start = 0.0, time.perf_counter()
            result = call(i)
            shares.setdefault(rival, []).append(time.perf_counter() - start - watch.seconds)
            return result

        return timed

    calls: dict[str, Callable[[int], Maps]] = {
        OURS: ours,
        "in memory (ours)": lambda _: predict_image(network, FIXED(image[None]), 2, PredictConfig(tile_px=TILE))[1],
        "MONAI sliding_window_inference": lambda _: by_monai(network, image),
        "plain loop, whole image mirrored": lambda _: by_plain_loop(network, image),
    }
    rivals = {rival: shared(rival, call) for rival, call in calls.items()}
    timings = in_turns(rivals, arguments.rounds, 0.0)
    reference = by_plain_loop(network, image)
    results = {r: tifffile.imread(folder / "out.tif") if r == OURS else call(0) for r, call in calls.items()}
    errors = {rival: float(np.abs(result - reference).max()) for rival, result in results.items()}
    case = (
        f"{name} net, {parameters(network.model) / 1e6:.2f} M parameters, {network.precision}, "
        f"{arguments.side} x {arguments.side} px, tiles of {TILE} px, {torch.get_num_threads()} threads"
    )
    print(table(case, timings, OURS, errors))
    print(f"{'':44}{'of the time in the network: p20':>36}{'p50':>9}{'p80':>9} %")
    outside = {}
    for rival, timing in timings.items():
        rest = np.array(shares[rival][1:])  # the first call was not counted
        share = np.percentile(100 * (1 - rest / timing.seconds), (20, 50, 80))
        print(f"{rival:44}{share[0]:36.1f}{share[1]:9.1f}{share[2]:9.1f}")
        outside[rival] = dataclasses.replace(timing, seconds=rest, per_second=1 / rest.min())
    append_rows(arguments.csv, "prediction", case, timings, PACKAGES, errors)
    append_rows(arguments.csv, "prediction: time outside the network", case, outside, PACKAGES)
    print(f"rows added to {arguments.csv}\n")


MEMORY_COLUMNS = ("date", "side_px", "peak_bytes", "net", "symmetries", "device", "torch", "commit")
MEASURED = """import re, resource, sys
from unet.cli import main
code = main(sys.argv[2:])
try:
    peak = int(re.search("VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
except FileNotFoundError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
open(sys.argv[1], "w").write(str(peak))
sys.exit(code)
"""


def peak_memory(arguments: list[str], scratch: Path) -> int:
    """Peak resident memory, files it has mapped included, of a process that runs the `unet` command; bytes.

    Linux's ru_maxrss is of no use: it begins with what the process that starts another one holds itself.
    """
    if subprocess.run([sys.executable, "-c", MEASURED, str(scratch), *arguments], stdout=subprocess.DEVNULL).returncode:
        raise SystemExit(f"unet {' '.join(arguments)} failed")
    return int(scratch.read_text())


def measure_memory(folder: Path, arguments: argparse.Namespace) -> None:
    """Peak memory of `unet predict` for growing images (a 4-channel net), input and output on disk."""
    model = NETS["tiny"]
    described: dict[str, Any] = {"model": to_dict(model), "channels": 1, "class_names": ["a", "b"], "tile_px": 0}
    meaning = dataclasses.asdict(Normalisation("percentile", low=0.1, high=99.9))
    save_weights(folder / "w.safetensors", build(model, 1, 2, 0).state_dict(), described | {"normalisation": meaning})
    peaks = {}
    for side in arguments.sides:
        write_image(folder / "in.tif", side)
        words = ["predict", str(folder / "w.safetensors"), str(folder / "in.tif"), "--out", str(folder / "out.tif")]
        options = ["--tile-px", str(arguments.tile_px), "--symmetries", str(arguments.symmetries), "--overwrite"]
        start = time.perf_counter()
        peaks[side] = peak_memory([*words, *options], folder / "peak.txt")
        size = sum((folder / name).stat().st_size for name in ("in.tif", "out.tif"))
        first = peaks[arguments.sides[0]]
        print(
            f"{side:6} x {side:<6} files {size / 2**20:8.0f} MiB   peak {peaks[side] / 2**20:7.1f} MiB   "
            f"{100 * (peaks[side] / first - 1):+5.1f} %   {time.perf_counter() - start:7.1f} s",
            flush=True,
        )
        (folder / "in.tif").unlink()
        (folder / "out.tif").unlink()
    common = {"net": "4 channels, 4 levels", "symmetries": arguments.symmetries}
    common |= {name: value for name, value in here(torch.device("cpu")).items() if name in MEMORY_COLUMNS}
    rows = [common | {"side_px": side, "peak_bytes": peak} for side, peak in peaks.items()]
    append_csv(arguments.memory_csv, MEMORY_COLUMNS, rows)
    print(f"rows added to {arguments.memory_csv}")


def main() -> None:
    parser = flags(__doc__, "predict.csv", rounds=2)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=["small", "full"])
    parser.add_argument("--side", type=int, default=2048, help="of the square image, in pixels; a multiple of 16")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--folder", type=Path, default=None, help="for the files, on the disk that is measured")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--memory-csv", type=Path, default=RESULTS / "predict-memory.csv")
    parser.add_argument("--sides", type=int, nargs="+", default=[4096, 8192, 16384])
    parser.add_argument("--tile-px", type=int, default=0, help="for --memory")
    parser.add_argument("--symmetries", type=int, choices=(1, 8), default=1, help="for --memory")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if arguments.memory:
            measure_memory(Path(folder), arguments)
            return
        for name in arguments.nets:
            time_net(name, Path(folder), arguments)


if __name__ == "__main__":
    main()
