"""Large minibatches: how far does the linear scaling rule carry a U-Net?

Question
    Goyal et al. 2017 (arXiv 1706.02677) train ResNet-50 with minibatches of 8192 images as well as with 256, when the
    learning rate is multiplied by k with the minibatch and grows to that in a gradual warm-up. Where does the rule end
    for a U-Net on EM membranes, whose reference batch is one tile?

What was reported
    Paper (Goyal): no loss of accuracy up to 8k images, a rise beyond; no scaling and the square-root rule are worse;
    a constant warm-up is not enough for the largest minibatch; momentum must be corrected where the rate is within the
    velocity; the weight decay stays as it is.

Arms (16 channels; k batches of one tile accumulated to an update and 1 / k of the updates, so that every arm sees the
same tiles: 2400 of 252 px on EM, 1200 of 508 px on PhC-U373)
    | arm             | rate                        | warm-up                                      |
    | m90-k1          | 1e-2, momentum 0.9          | from 0 over 100 updates, as in the profile    |
    | m90-linear-kN   | N x 1e-2                    | gradual, from 1e-2, over 1 / 18 of the updates |
    | m90-none-kN     | 1e-2                        | the same                                     |
    | m90-sqrt-kN     | sqrt(N) x 1e-2              | gradual, from 1e-2                           |
    | m90-constant-kN | N x 1e-2                    | constant at 1e-2                             |
    | m90-sudden-kN   | N x 1e-2                    | none                                         |
    | m99-...         | 1e-3, momentum 0.99         | the same step of a weight in the long run    |
    | m90-decay-...   | weight decay 1e-4, as it is at k = 8, and multiplied by k                  |
    | m90-k1-low, -high | a third and three times the reference rate: where that stands            |
    1 / 18 of the updates are Goyal's 5 of 90 epochs. The cosine to 0.02 of the rate stands for their three steps.
    Momentum correction needs no run: torch's SGD has the rate outside the velocity, which is equal to the corrected
    form (tests/training/test_optim.py).

Plan
    mean IoU on EM, 6 seeds, margin 0.01, in this order: no scaling against linear scaling at k = 8, linear scaling at
    k = 8 against k = 1, the same at k = 32 (shares of alpha 0.4, 0.3, 0.3); plans/large-minibatch.yaml. The reference
    rates are taken before any run, not tuned: the arms -low and -high show what that is worth. PhC-U373 (5 seeds) was
    added before its first run and is exploratory: the same reference rates, nothing tested.

Command
    unet study large-minibatch --profile decide-em --jobs 2
    unet study large-minibatch --profile decide-cells --jobs 2 --only m90-k1 --only m90-linear-k8 --only m90-linear-k32

Run time
    See `unet study large-minibatch --status`. All arms see the same tiles: a run takes as long as one of the weight
    map's (about 3 min on a quiet core); 28 arms of 6 seeds about 8 core-hours.

Expected
    Equal to k = 1 up to k = 8; at 32, with 75 updates, 0.02 to 0.10 below it by IoU. No scaling is below linear
    scaling from k = 8 on. No difference between momenta, nor by the weight decay.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unet.cli import main
from unet.config import Config
from unet.study import evidence, text
from unet.study.design import Arm, Changes, Comparison, Study
from unet.study.plan import EndPoint, Plan
from unet.views.figure import png_figure

FACTORS = (2, 4, 8, 16, 32)
RATES = {"m90": (0.9, 1e-2), "m99": (0.99, 1e-3)}
FIGURE = "error.png"
WARM_UP = 5 / 90  # of training, Goyal's 5 epochs


def sgd(
    kind: str, k: int, rule: str = "linear", shape: str = "gradual", decay: float = 0.0
) -> Callable[[Config], Changes]:
    """SGD with k tiles accumulated to an update, at a rate by a rule."""
    momentum, rate = RATES[kind]
    factor = {"linear": k, "sqrt": math.sqrt(k), "none": 1.0}[rule]

    def changes(base: Config) -> Changes:
        settings = base.train
        updates = max(1, settings.updates // k)
        warm_up = round(WARM_UP * updates) if shape != "sudden" else 0
        optim = {"name": "sgd", "lr": rate * factor, "momentum": momentum, "weight_decay": decay}
        if k > 1:
            optim |= {"warmup_updates": warm_up, "warmup_from": 1 / factor if warm_up else 0.0}
            optim |= {"warmup_shape": "constant"} if shape == "constant" else {}
        train = {"accumulate": k, "updates": updates, "eval_every": max(1, settings.eval_every // k)}
        return {"optim": optim, "train": train | {"checkpoint_every": max(1, settings.checkpoint_every // k)}}

    return changes


def reference(kind: str, times: float = 1.0) -> Callable[[Config], Changes]:
    """One tile an update, at a multiple of the reference rate."""
    momentum, rate = RATES[kind]
    return lambda _: {"optim": {"name": "sgd", "lr": rate * times, "momentum": momentum}}


def arms() -> tuple[Arm, ...]:
    """All arms; see the table above."""
    found = [Arm(f"{kind}-k1", f"momentum {RATES[kind][0]}, one tile", reference(kind)) for kind in RATES]
    found += [
        Arm(f"{kind}-linear-k{k}", f"momentum {RATES[kind][0]}, {k} tiles, rate x {k}", sgd(kind, k))
        for kind in RATES
        for k in FACTORS
    ]
    found += [Arm(f"m90-none-k{k}", f"{k} tiles, rate as it was", sgd("m90", k, "none")) for k in FACTORS]
    for k in (8, 32):
        found += [
            Arm(f"m90-sqrt-k{k}", f"{k} tiles, rate x sqrt({k})", sgd("m90", k, "sqrt")),
            Arm(f"m90-constant-k{k}", f"{k} tiles, constant warm-up", sgd("m90", k, shape="constant")),
            Arm(f"m90-sudden-k{k}", f"{k} tiles, no warm-up", sgd("m90", k, shape="sudden")),
        ]
    found += [
        Arm("m90-k1-low", "one tile, a third of the rate", reference("m90", 1 / 3)),
        Arm("m90-k1-high", "one tile, three times the rate", reference("m90", 3)),
        Arm("m90-decay-k1", "one tile, weight decay 1e-4", sgd("m90", 1, decay=1e-4)),
        Arm("m90-decay-k8", "8 tiles, weight decay 1e-4", sgd("m90", 8, decay=1e-4)),
        Arm("m90-decay-scaled-k8", "8 tiles, weight decay 8e-4", sgd("m90", 8, decay=8e-4)),
    ]
    return tuple(found)


Errors = dict[str, list[float]]
"""Held-out errors, 1 - mean IoU, of the runs of each arm."""


def by_batch(study: Study, results: Path) -> str:
    """Held-out error against batch size, the figure 1 of Goyal et al. for a U-Net: a section of the study's page."""
    rows = [
        [text.data_name(data), arm.name, str(len(own)), f"{sum(own) / len(own):.4f}", f"{max(own) - min(own):.4f}"]
        for data, errors in errors_of(study, results).items()
        for arm in study.arms
        if (own := errors.get(arm.name))
    ]
    head = ["data", "arm", "runs", "error", "largest - smallest"]
    said = "Held-out error (1 - mean IoU): mean of the runs (1 of a diverged one), in the figure their range."
    title = "## Held-out error against the number of tiles in an update"
    return f"{title}\n\n![]({FIGURE})\n\n{said}\n\n{text.table(head, rows)}" if rows else ""


def errors_of(study: Study, results: Path) -> dict[str, Errors]:
    """By data set, from the evidence that is there."""
    found: dict[str, Errors] = {}
    for run in (run for size in PLAN.seeds for run in evidence.load_all(results / study.name / size)):
        if (iou := run.values.get("mean_iou")) is not None:
            found.setdefault(run.data, {}).setdefault(run.arm, []).append(1 - iou)
    return found


def draw(study: Study, results: Path) -> None:
    """The figure of `by_batch`, a panel for each data set."""
    found = errors_of(study, results)
    with png_figure(results / study.name / FIGURE, (6 * len(found), 4), dpi=120) as figure:
        for axes, (data, errors) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
            _panel(axes, errors)
            axes.set(title=text.data_name(data), xscale="log", xlabel="tiles in an update")
            axes.set(ylabel="held-out error (1 - mean IoU)")
            axes.set_xticks([1, *FACTORS], [str(k) for k in (1, *FACTORS)])
            axes.legend()


def _panel(axes: Any, errors: Errors) -> None:
    """Mean and range of the runs of each rule against the size of the batch."""
    for label, kind, rule in (("linear, momentum 0.9", "m90", "linear"), ("linear, momentum 0.99", "m99", "linear"),
                              ("no scaling, momentum 0.9", "m90", "none")):  # fmt: skip
        names = {1: f"{kind}-k1"} | {k: f"{kind}-{rule}-k{k}" for k in FACTORS}
        points = {k: errors[name] for k, name in names.items() if name in errors}
        means = [sum(own) / len(own) for own in points.values()]
        spans = [[mean - min(own) for mean, own in zip(means, points.values(), strict=True)],
                 [max(own) - mean for mean, own in zip(means, points.values(), strict=True)]]  # fmt: skip
        if points:
            axes.errorbar(list(points), means, spans, marker="o", capsize=3, label=label)


PLAN = Plan(
    order=(
        EndPoint("m90-none-k8", "m90-linear-k8", "em", "mean_iou", "decide-em", 0.01, 0.4),
        EndPoint("m90-linear-k8", "m90-k1", "em", "mean_iou", "decide-em", 0.01, 0.3),
        EndPoint("m90-linear-k32", "m90-k1", "em", "mean_iou", "decide-em", 0.01, 0.3),
    ),
    seeds={"decide-em": {"em": 6}, "decide-cells": {"phc": 5}},
)

STUDY = Study(
    name="large-minibatch",
    title="Large minibatches: linear scaling of the learning rate",
    question="How far does the linear scaling rule with gradual warm-up carry a U-Net from batches of one tile?",
    arms=arms(),
    comparisons=(
        *(Comparison(f"{kind}-linear-k{k}", f"{kind}-k1") for kind in RATES for k in FACTORS),
        *(Comparison(f"m90-none-k{k}", f"m90-linear-k{k}") for k in FACTORS),
        *(
            Comparison(f"m90-{other}-k{k}", f"m90-linear-k{k}")
            for other in ("sqrt", "constant", "sudden")
            for k in (8, 32)
        ),
        *(Comparison(f"m90-k1-{other}", "m90-k1") for other in ("low", "high")),
        Comparison("m90-decay-k8", "m90-decay-k1"),
        Comparison("m90-decay-scaled-k8", "m90-decay-k8"),
        Comparison("m99-k1", "m90-k1"),
    ),
    data=("em", "phc"),
    tested={"em": ("mean_iou", "v_rand"), "phc": ("mean_iou", "seg")},
    plan=PLAN,
    front=by_batch,
    picture=draw,
)

if __name__ == "__main__":
    sys.exit(main(["study", __file__, *sys.argv[1:]]))
