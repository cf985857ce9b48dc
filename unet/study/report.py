"""The README of a study and profile, made from the evidence alone: verdicts, figure, tables, costs."""

from __future__ import annotations

from pathlib import Path

from unet.study import choice, compare, evidence, sections, text
from unet.study.choice import Runs
from unet.study.compare import Finding
from unet.study.design import Arm, Comparison, Study, folds
from unet.study.evidence import Evidence

FIGURE = "figure.png"
README = "README.md"

PROFILES = {
    "full": "The paper's network (64 channels, five levels), 4000 updates: the size at which the questions were asked.",
    "full-plain": "The size of `full` without variation of gray values (for Python without albumentations).",
    "reduced": "The paper's geometry (five levels, 508 px -> 324 px, 252 px -> 68 px) with a quarter of the channels, "
    "a quarter of the pixels per update and a fifth of the updates, for two CPU cores. With its constant rate it ends "
    "before training does: what an arm looks like here says how soon it began to learn.",
    "reduced-fp32": "The size of `reduced` in fp32 on every machine, for processors without bf16.",
    "decide-em": "The size at which questions about EM are decided: four levels, 16 channels, tiles of 252 px, 2400 "
    "updates of Adam with a rate that falls to a fiftieth, by when the scores hardly change; a longer schedule may "
    "reach others.",
    "decide-cells": "The size at which questions about large tiles and cells are decided: five levels, 16 channels, "
    "tiles of 508 px, 1200 updates of Adam with a rate that falls to a fiftieth: a short training, whose verdicts "
    "hold for this length.",
    "membranes": "What came nearest to the paper's table on EM: four levels, 32 channels, tiles of 316 px, 3000 "
    "updates, averaged weights.",
    "cells": "What came nearest to the paper's table of cells: three classes, five levels, tiles of 508 px, 3000 or "
    "3500 updates, averaged weights, seeds and watershed.",
    "quick": "The two-minute size; for a first look only.",
    "smoke": "Synthetic images and a network of a few thousand weights: shows that the study runs, and nothing else.",
}


def make(study: Study, profile: str, folder: Path) -> str:
    """The README's text for the evidence below `folder`; the same text for the same evidence."""
    runs = choice.by_key(evidence.load_all(folder))
    found = compare.findings(study, profile, runs)
    parts = [
        f"# {study.title}: profile `{profile}`",
        "<!-- made from the runs in this folder by `unet study`; do not edit -->",
        study.question,
        _size(study, profile),
        _counts(study, profile, runs),
        "## Verdict",
        verdicts(study, profile, found),
        f"![curves and scores of all runs]({FIGURE})" if runs else "",
        _caption(study, runs),
        *(_data_part(study, profile, data, runs) for data in study.data),
        _comparisons(study, found),
        _unlike(study, profile, runs),
        sections.choices(study, profile, runs),
        sections.noise(study, runs),
        sections.costs(runs),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _size(study: Study, profile: str) -> str:
    """What runs of a profile are; on a folder of one's own none of them is synthetic."""
    said = PROFILES.get(profile, "")
    return said.replace("Synthetic images", "Images of your own") if set(study.data) == {"folder"} else said


def verdicts(study: Study, profile: str, found: list[Finding]) -> str:
    """Where the verdicts stand, or that there are none; then the effects in plain words."""
    if not found:
        return "No comparison has a pair of runs yet."
    lines = [_effect(study, comparison, found) for comparison in study.comparisons]
    planned = study.plan is not None and profile in study.plan.seeds
    told = (
        "The verdicts of the plan stand on the [page of the study](../README.md). "
        if planned
        else "No plan was made for runs of this size, so that nothing is decided by them. "
    )
    told += "The effects below are exploratory: p is not corrected for their number."
    return "\n".join([told, "", *lines]).strip()


def _effect(study: Study, comparison: Comparison, found: list[Finding]) -> str:
    """One comparison: what was seen where."""
    own = [f for f in found if f.comparison == comparison]
    if not own:
        return f"- **{_versus(study, comparison)}**: no pair of runs yet."
    said = []
    for finding in own:
        where = f"{text.data_name(finding.data)}, {text.score_name(finding.score)}"
        size = text.number(finding.mean, finding.score, sign=True)
        p = text.p_value(finding.t)
        pairs = f"{len(finding.differences)} pairs, p {p if p.startswith('<') else f'= {p}'}"
        said.append(f"{where}: {size} ({pairs})")
    return f"- **{_versus(study, comparison)}**: " + "; ".join(said) + "."


def _versus(study: Study, comparison: Comparison) -> str:
    return f"{study.arm(comparison.arm).what} against {study.arm(comparison.reference).what}"


def _caption(study: Study, runs: Runs) -> str:
    """What the figure's curves do not say of themselves."""
    said = []
    if any(arm.best_of for arm in study.arms):
        said.append("Where the best rate of an optimizer is one of the other arms, its curves lie upon that arm's.")
    if len({run.config.weight for run in runs.values()}) > 1:
        said.append("Arms with other weights minimise other losses: their training losses cannot be compared.")
    if any(run.config.data.target == "cell-border" for run in runs.values()):
        said.append(
            "IoU is the mean over the classes that occur in label or prediction; borders between cells are one of them "
            "in some runs and not in others: foreground IoU and SEG compare runs."
        )
    return " ".join(said) if runs else ""


def _counts(study: Study, profile: str, runs: Runs) -> str:
    ended = len(runs)
    diverged = sum(run.diverged for run in runs.values())
    seeds = compare.seeds_of(runs)
    collapsed = sum(run.collapsed for run in runs.values())
    note = f", {diverged} of them diverged" if diverged else ""
    note += f", {collapsed} collapsed (the same prediction everywhere)" if collapsed else ""
    folder = f"experiments/{study.name.replace('-', '_')}.py"
    if runs and all(run.config.data.split == "all" for run in runs.values()):
        measured = (
            "Trained on all labelled frames, none held out; the scores of the challenge's test slices stand on the "
            "[page of the study](../README.md)."
        )
    else:
        measured = (
            "Scores are measured on held-out training images (the test labels of the Cell Tracking Challenge are not "
            "public, those of EM decide nothing), stitched to full size, in eval mode, from the last weights; IoU also "
            "as the median of the last five evaluations."
        )
    made = f"{text.counted(ended, 'run')}, up to {text.counted(seeds, 'seed')} per arm{note}."
    return f"{made} {measured} Command: `python {folder} --profile {profile} --seeds {max(1, seeds)}`."


_DET = "DET is over the held-out frames that have reference masks; the challenge scores every frame of a sequence."


def _data_part(study: Study, profile: str, data: str, runs: Runs) -> str:
    """The table of one data set: arms by scores, mean ± standard deviation over the seeds."""
    arms = [arm for arm in study.arms if data in study.data_of(arm)]
    by_arm = {arm.name: compare.arm_runs(study, profile, arm, data, runs) for arm in arms}
    present = {name for own in by_arm.values() for run in own.values() for name in run.values}
    columns = [score for score in text.columns(data) if score in present]
    if not columns:
        return ""
    rows = []
    for arm in arms:
        own = by_arm[arm.name]
        if own:
            diverged, collapsed = (sum(getattr(r, kind) for r in own.values()) for kind in ("diverged", "collapsed"))
            cells = [_cell(arm, own, score) for score in columns]
            ends = [
                "-" if arm.weights_of else _spikes(own),
                *(str(n) if n else "-" for n in (diverged, collapsed)),
                _time(own),
            ]
            rows.append([arm.what, _tiles(own), f"{len(own)}", *cells, *ends])
    head = [
        "arm",
        "tiles per update",
        "runs",
        *map(text.score_name, columns),
        "loss spikes per run",
        "diverged",
        "collapsed",
        "min per run",
    ]
    note = _DET if "det" in columns else ""
    parts = [f"## {text.data_name(data)}", text.table(head, rows), note, _by_fold(arms, by_arm, columns)]
    return "\n\n".join(part for part in parts if part)


def _cell(arm: Arm, runs: dict[int, Evidence], score: str) -> str:
    """mean ± standard deviation, where the arm is judged by this score."""
    return text.spread(compare.summarise(runs, score) if arm.score(score) == score else None, score)


def _tiles(runs: dict[int, Evidence]) -> str:
    """What an update is made of: 4 x 508 px."""
    config = next(iter(runs.values())).config
    return f"{config.train.batch * config.train.accumulate} x {config.tile.input_px} px"


def _spikes(runs: dict[int, Evidence]) -> str:
    found = compare.summarise(runs, "spikes")
    return "-" if found is None else f"{found.mean:.1f}"


def _time(runs: dict[int, Evidence]) -> str:
    seconds = [run.record["seconds"] for run in runs.values()]
    return f"{sum(seconds) / len(seconds) / 60:.1f}"


def _by_fold(arms: list[Arm], by_arm: dict[str, dict[int, Evidence]], columns: list[str]) -> str:
    """The challenge's score by what was held out, because the parts differ more than the seeds."""
    score = next((s for s in ("seg", "v_rand", "mean_iou_last5") if s in columns), None)
    held_out = sorted({run.config.data.fold for own in by_arm.values() for run in own.values()})
    if score is None or len(held_out) < 2:
        return ""
    rows = []
    for arm in arms:
        cells = []
        for fold in held_out:
            own = {seed: run for seed, run in by_arm[arm.name].items() if run.config.data.fold == fold}
            cells.append(_cell(arm, own, score))
        if by_arm[arm.name]:
            rows.append([arm.what, *cells])
    total = max(folds(run.config) for own in by_arm.values() for run in own.values())
    head = ["arm", *(f"part {fold + 1} of {total}" for fold in held_out)]
    return f"{text.score_name(score)} by the part held out:\n\n{text.table(head, rows)}"


def _comparisons(study: Study, found: list[Finding]) -> str:
    """All comparisons with their tests."""
    if not found:
        return ""
    rows = [
        [
            study.arm(f.comparison.arm).what,
            study.arm(f.comparison.reference).what,
            text.data_name(f.data),
            text.score_name(f.score),
            str(len(f.differences)),
            text.number(f.mean, f.score, sign=True),
            f"{text.number(f.interval.low, f.score, sign=True)} .. {text.number(f.interval.high, f.score, sign=True)}",
            text.p_value(f.t),
            f"{text.p_value(f.flip.p)} (>= {text.p_value(f.flip.smallest_p)})",
            text.p_value(f.block),
            f"{f.improvement:.2f}",
        ]
        for f in found
    ]
    head = ["arm", "against", "data", "score", "pairs", "difference", "95 % interval", "p (paired t)",
            "p (sign flips)", "p (block model)", "P(better)"]  # fmt: skip
    note = (
        "Differences are arm minus against, seed by seed (same initial weights, held-out frames and tiles, except "
        "where the arm itself changes the network, the split or the sizes), with Student's interval. No p is corrected "
        "for the number of comparisons: what is exploratory suggests, and decides nothing. The t test assumes normal "
        "differences; the sign-flip test does not, but cannot go below the p in brackets with so few pairs; the block "
        "model (arm + seed) takes its error from all arms. P(better) compares every run of the arm with every run of "
        "the other. A diverged run, or a prediction that is empty at its best threshold, counts as the worst score "
        "there is (of loss spikes a diverged run has no count); diverged runs are left out of the means above."
    )
    return f"## Comparisons\n\n{text.table(head, rows)}\n\n{note}"


def _unlike(study: Study, profile: str, runs: Runs) -> str:
    """How many pairs are not compared, and how many of two states of the code are, if any."""
    precisions, commits = (compare.pairs_unlike(study, profile, runs, entry) for entry in ("precision", "commit"))
    why = "because the two were trained in different precision, which would be taken for a difference between the arms"
    said = [f"Pairs of runs left out {why}: {precisions}."] if precisions else []
    if commits:
        said.append(f"Pairs of runs that two commits of this repository trained (runs.csv names them): {commits}.")
    return " ".join(said)
