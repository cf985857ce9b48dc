"""How well the series of losses find wrong labels: planted ones on EM, and the real ones of silver masks on DIC-HeLa.

    python scripts/label_noise.py [--seeds 5] [--out experiments/results/label-noise]

Writes runs.csv (a row per seed, data set, fault and method) and README.md. Resumable: seeds that stand in runs.csv are
not run again. A run takes about three minutes of one core.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from unet.config import Config, from_dict
from unet.data.load import load
from unet.data.stack import IGNORE, Frame, Stack
from unet.files import write_text
from unet.study.text import table
from unet.training.dynamics import LossSeries, excess, follow
from unet.training.probes import FAULTS, USUAL, area_under_curve, nearest_kinds, plant

COLUMNS = ["data", "seed", "fault", "method", "value", "images", "seconds"]
METHODS = ("last loss", "mean loss", "late excess", "nearest probes")
PROBES, HIDDEN, SIDE_PX = 6, 8, 256
SHARED: dict[str, dict[str, Any]] = {
    "tile": {"input_px": 140},
    "augment": {"elastic_std_px": 4.0, "gray": []},
    "weight": {"balance": "none", "w0": 0.0},
    "model": {"base_channels": 8, "depth": 3, "dropout": 0.0},
    "optim": {"name": "adam", "lr": 3e-3, "schedule": "cosine", "final_factor": 0.1},
    "train": {"updates": 450, "batch": 2, "eval_every": 10_000, "device": "cpu", "precision": "fp32", "threads": 1},
    "wandb": {"mode": "disabled"},
}
EVERY = 15


def configuration(data: dict[str, Any], seed: int) -> Config:
    """A small run on all images."""
    return from_dict(SHARED | {"data": data | {"split": "all"}, "train": SHARED["train"] | {"seed": seed}})


def quadrants(stack: Stack, names: frozenset[str] | None = None) -> Stack:
    """The four corners, 256 px a side, of the frames (of these names) as images of their own."""
    return replace(stack, frames=tuple(_quadrants(stack, names)))


def _quadrants(stack: Stack, names: frozenset[str] | None) -> Iterator[Frame]:
    for frame in stack.frames:
        if frame.label is not None and (names is None or frame.name in names):
            for y in (0, frame.size[0] - SIDE_PX):
                for x in (0, frame.size[1] - SIDE_PX):
                    part = slice(y, y + SIDE_PX), slice(x, x + SIDE_PX)
                    yield replace(
                        frame,
                        name=f"{frame.name}[{y},{x}]",
                        image=frame.image[:, *part].copy(),
                        label=frame.label[part].copy(),
                        instances=None if frame.instances is None else frame.instances[part].copy(),
                    )


def followed(config: Config, stack: Stack) -> LossSeries:
    """The series of a run that is not kept."""
    with tempfile.TemporaryDirectory() as folder:
        return follow(config, stack, Path(folder) / "run", EVERY)


def scores(series: LossSeries, shares: Mapping[str, Mapping[str, float]] | None, fault: str) -> dict[str, NDArray[Any]]:
    """Suspicion of every image by each method, in the order of the series; NaN for probes by the last of them."""
    late = excess(series.losses_EF)[len(series.updates) // 2 :]
    found = {
        "last loss": series.losses_EF[-1],
        "mean loss": series.losses_EF.mean(axis=0),
        "late excess": np.median(late, axis=0),
    }
    if shares is not None:
        nearest = [shares[name][fault] if name in shares else np.nan for name in series.names]
        found["nearest probes"] = np.array(nearest)
    return found


def planted(seed: int) -> Iterator[dict[str, Any]]:
    """Faults in the labels and images of EM: the area under the curve, each kind of fault against the usual images."""
    begun = time.monotonic()
    config = configuration({"name": "em"}, seed)
    stack, kinds = plant(quadrants(load(config.data, _quiet)), dict.fromkeys(FAULTS, PROBES + HIDDEN), seed)
    rng, probes = np.random.default_rng(seed + 1000), {}
    for kind in (*FAULTS, USUAL):
        names = [name for name, own in kinds.items() if own == kind]
        probes.update(dict.fromkeys(rng.permutation(names)[:PROBES].tolist(), kind))
    series = followed(config, stack)
    shares = nearest_kinds(series, probes)
    hidden = [f for f, name in enumerate(series.names) if name not in probes]
    seconds = time.monotonic() - begun
    for fault in FAULTS:
        asked = [f for f in hidden if kinds[series.names[f]] in (fault, USUAL)]
        positive = [kinds[series.names[f]] == fault for f in asked]
        for method, values in scores(series, shares, fault).items():
            value = area_under_curve(values[asked], positive)
            yield _row("em", seed, fault, method, value, len(asked), seconds)
    named = {name: max(own, key=lambda kind: own[kind]) for name, own in shares.items()}
    right = [named[series.names[f]] == kinds[series.names[f]] for f in hidden]
    yield _row("em", seed, "all kinds", "nearest probes", float(np.mean(right)), len(hidden), seconds)


def silver(seed: int) -> Iterator[dict[str, Any]]:
    """Silver masks as labels: rank correlation of an image's suspicion with its disagreement with the gold mask."""
    begun = time.monotonic()
    data = {"name": "hela", "normalise": "percentile"}
    config = configuration(data | {"labels": "silver"}, seed)
    gold = load(configuration(data, seed).data, _quiet)
    both = frozenset(frame.name for frame in gold.frames if frame.label is not None)
    stack = quadrants(load(config.data, _quiet), both)
    reference = {frame.name: frame.label for frame in quadrants(gold, both).frames}
    series = followed(config, stack)
    wrong = [_disagreement(frame, reference[frame.name]) for frame in stack.frames]
    seconds = time.monotonic() - begun
    for method, values in scores(series, None, "").items():
        value = float(spearmanr(values, wrong).statistic)
        yield _row("hela", seed, "silver mask", method, value, len(wrong), seconds)


def _disagreement(frame: Frame, reference: NDArray[np.uint8] | None) -> float:
    """Share of the pixels known to both labels on which they differ."""
    if frame.label is None or reference is None:
        return float("nan")
    known = (frame.label != IGNORE) & (reference != IGNORE)
    return float((frame.label != reference)[known].mean()) if known.any() else float("nan")


def _row(data: str, seed: int, fault: str, method: str, value: float, images: int, seconds: float) -> dict[str, Any]:
    return dict(zip(COLUMNS, (data, seed, fault, method, round(value, 4), images, round(seconds, 1)), strict=True))


def _quiet(_: str) -> None:
    pass


def page(rows: list[dict[str, Any]]) -> str:
    """The README from the rows."""
    lines = []
    for data, fault, method in dict.fromkeys((row["data"], row["fault"], row["method"]) for row in rows):
        own = [float(r["value"]) for r in rows if (r["data"], r["fault"], r["method"]) == (data, fault, method)]
        spread = f" ± {np.std(own, ddof=1):.3f}" if len(own) > 1 else ""
        what = {"em": "area under the curve", "hela": "rank correlation"}[data]
        what = "share named rightly" if fault == "all kinds" else what
        lines.append([data, fault, method, what, f"{np.mean(own):.3f}{spread}", str(len(own))])
    head = ["data", "fault", "by", "what", "mean ± standard deviation over seeds", "seeds"]
    return f"{_INTRODUCTION}\n{table(head, lines)}\n"


_INTRODUCTION = f"""# Wrong labels by their series of losses

<!-- written by scripts/label_noise.py from runs.csv -->

**EM, planted.** The 30 slices in 120 quarters of 256 px; {HIDDEN} of each kind hidden among them (another image's
label, the label 3 px off, the image out of focus), {PROBES} more of each kind, and {PROBES} usual ones, known (probes).
A network of 8 channels is trained on all of them for {SHARED["train"]["updates"]} updates; the loss of each is noted
every {EVERY}. Area under the curve: the probability that a hidden fault looks more suspicious than a usual image.

**DIC-HeLa, real.** Trained on the silver masks of the 18 frames that have gold ones; rank correlation (Spearman) of a
quarter's suspicion with the share of its pixels on which silver and gold differ.

Suspicion: the loss at the end; its mean over training; the median excess over the second half
(unet/training/dynamics.py); the share of the fault among the five nearest probes (unet/training/probes.py).
"""


def main(words: list[str]) -> int:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description="How well the series of losses find wrong labels.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("experiments/results/label-noise"))
    arguments = parser.parse_args(words)
    file = arguments.out / "runs.csv"
    rows: list[dict[str, Any]] = list(csv.DictReader(file.open())) if file.is_file() else []
    done = {(row["data"], int(row["seed"])) for row in rows}
    for seed in range(arguments.seeds):
        for data, study in (("em", planted), ("hela", silver)):
            if (data, seed) not in done:
                rows += list(study(seed))
                lines = [",".join(COLUMNS), *(",".join(str(row[column]) for column in COLUMNS) for row in rows)]
                arguments.out.mkdir(parents=True, exist_ok=True)
                write_text(file, "\n".join(lines) + "\n")
                print(f"{data}, seed {seed}: done", flush=True)
    write_text(arguments.out / "README.md", page(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
