"""Sections of a study's page: what was tuned, the noise of gradients, hours and versions."""

from __future__ import annotations

from dataclasses import replace

from unet.study import choice, text
from unet.study.choice import Runs
from unet.study.design import TUNING, Study
from unet.study.evidence import Evidence


def choices(study: Study, profile: str, runs: Runs) -> str:
    """Which arm of a grid stands for the best, and the training losses that decided."""
    rows = []
    tuning = sorted({seed for _, _, seed in runs if seed >= TUNING})
    for arm in (arm for arm in study.arms if arm.best_of):
        for data in study.data_of(arm):
            for seed in tuning:
                decided = [runs[key] for n in arm.best_of if (key := (n, data, seed)) in runs]
                name = choice.chosen(study, profile, arm, data, seed - TUNING, runs)
                if name is not None and len(decided) == len(arm.best_of):
                    losses = [f"{run.values['train_loss']:.4f}" if not run.diverged else "diverged" for run in decided]
                    edge = " (edge of its grid)" if _at_edge(name, decided) else ""
                    whats = ", ".join(f"{study.arm(n).name} {v}" for n, v in zip(arm.best_of, losses, strict=True))
                    part = str(decided[0].config.data.fold + 1)
                    rows.append([arm.what, text.data_name(data), part, name + edge, whats])
    if not rows:
        return ""
    head = ["arm", "data", "part held out", "chosen", "training loss over the last tenth of the updates"]
    note = f"On seeds of their own (from {TUNING}), with a quarter of the updates."
    return f"## What was chosen on the training part\n\n{text.table(head, rows)}\n\n{note}"


def _at_edge(name: str, tried: list[Evidence]) -> bool:
    """Whether the chosen run has the smallest or the largest rate of those that differ from it in the rate alone."""
    chosen = next(run.config.optim for run in tried if run.arm == name)
    rates = [run.config.optim.lr for run in tried if replace(run.config.optim, lr=chosen.lr) == chosen]
    return len(rates) > 1 and chosen.lr in (min(rates), max(rates))


def noise(study: Study, runs: Runs) -> str:
    """Gradient noise by arm, relative to the first arm, averaged over the seeds."""
    rows = []
    for data in study.data:
        measured = [run.noise for (_, d, _), run in runs.items() if d == data and run.noise is not None]
        for arm in study.noise:
            own = [m[arm] for m in measured if arm in m]
            base = [m[study.noise[0]] for m in measured if arm in m]
            if not own:
                continue

            def mean(key: str, of: list[dict[str, float]]) -> float:
                return sum(m[key] for m in of) / len(of)

            ratio = sum(o["variance"] / b["variance"] for o, b in zip(own, base, strict=True)) / len(own)
            per_pixel = [o["variance_per_pixel"] / b["variance_per_pixel"] for o, b in zip(own, base, strict=True)]
            rows.append([text.data_name(data), study.arm(arm).what, str(len(own)), f"{mean('input_pixels', own):,.0f}",
                         f"{mean('loss_pixels', own):,.0f}", f"{mean('signal', own):.3g}",
                         f"{mean('variance', own):.3g}", f"{ratio:.2f}",
                         f"{sum(per_pixel) / len(own):.2f}"])  # fmt: skip
    if not rows:
        return ""
    head = ["data", "arm", "runs", "input pixels", "loss pixels", "signal", "variance", "variance, relative",
            "variance x loss pixels, relative"]  # fmt: skip
    note = (
        "Variance of the gradient over batches at the trained weights of the first arm (dropout off, fp32, tiles it "
        "was not trained on; definitions in unet/training/gradient_noise.py). If every loss pixel were worth the "
        "same, the last column would be 1."
    )
    return f"## Gradient noise\n\n{text.table(head, rows)}\n\n{note}"


def costs(runs: Runs) -> str:
    """Hours, devices, versions."""
    if not runs:
        return ""
    spent: dict[str, float] = {}
    for run in runs.values():
        if "same_run_as" not in run.record:
            machine = run.environment["device"]
            machine = run.environment["processor"] if machine == "cpu" else machine
            spent[machine] = spent.get(machine, 0.0) + run.record["seconds"]
    adopted = sum("same_run_as" in run.record for run in runs.values())
    times = "; ".join(f"{text.hours(seconds)} on {machine}" for machine, seconds in sorted(spent.items()))
    environments = [run.environment for run in runs.values()]

    def all_of(key: str) -> str:
        return ", ".join(sorted({str(e.get(key)) for e in environments}))

    torch = ", ".join(sorted({str(e["packages"].get("torch")) for e in environments}))
    shared = f"{adopted} runs are the same runs as in other studies and were not trained again. " if adopted else ""
    return (
        f"## Cost and versions\n\n{times or 'nothing was trained for this study alone'} (process time by the clock, "
        f"scoring included). {shared}Precision {all_of('precision')}; torch {torch}; commits {_commits(environments)}. "
        f"Every run's folder holds its configuration and the command that makes it again (`record.json`)."
    )


def _commits(environments: list[dict[str, object]]) -> str:
    found = sorted({str(e.get("commit") or "unknown") for e in environments})
    return ", ".join(c[:10] + ("+changes" if c.endswith("+changes") else "") for c in found)
