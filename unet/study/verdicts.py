"""The page of a study with a plan: its verdicts, what they rest on, and a figure of the effects.

results/<study>/README.md and verdicts.png, made from the evidence of all profiles that the plan names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet.metrics.table import higher_is_better
from unet.study import choice, decide, evidence, frozen, tables, text
from unet.study.compare import Finding
from unet.study.decide import Decision
from unet.study.design import Study
from unet.views.figure import png_figure

README, FIGURE = "README.md", "verdicts.png"
COLOURS = {"better": "tab:green", "worse": "tab:red", "equal": "tab:blue"}


def load(study: Study, results: Path) -> dict[str, choice.Runs]:
    """What is known of a study, by the profiles of its plan."""
    assert study.plan is not None
    return {name: choice.by_key(evidence.load_all(results / study.name / name)) for name in study.plan.seeds}


def decided(study: Study, runs_of: Mapping[str, choice.Runs]) -> list[tuple[Decision, Finding | None]]:
    """Every end point of the plan: its verdict, and all tests that it rests on; None where there is no pair."""
    return [(d, tables.details(study, d, runs_of.get(d.point.profile, {}))) for d in decide.decisions(study, runs_of)]


def make(study: Study, results: Path) -> str:
    """The README's text; the same text for the same evidence."""
    runs_of = load(study, results)
    made = decided(study, runs_of)
    parts = [
        f"# {study.title}",
        "<!-- made from the runs below this folder by `unet study`; do not edit -->",
        study.question,
        "## Verdicts",
        "\n".join(sentence(study, d) for d, _ in made),
        f"![effects with their intervals]({FIGURE})" if any(f for _, f in made) else "",
        table(study, made),
        study.front(study, results) if study.front is not None else "",
        _plan(study, results / study.name),
        "Tables of all arms, exploratory comparisons and curves: "
        + ", ".join(f"[{name}]({name}/README.md)" for name, runs in runs_of.items() if runs)
        if any(runs_of.values())
        else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def sentence(study: Study, made: Decision) -> str:
    """A verdict in plain words."""
    point = made.point
    arms = f"{study.arm(point.arm).what} against {study.arm(point.reference).what}"
    where = f"{text.data_name(point.data)}, {text.score_name(point.score)}"
    size = text.number(made.mean, point.score, sign=True)
    said = {
        "better": f"better by {size}" + (", less than the margin" if made.within else ""),
        "worse": f"worse by {size}" + (", less than the margin" if made.within else ""),
        "equal": f"equal within {point.margin:g} ({size})",
    }.get(made.verdict, made.reason or f"{size} is neither a difference nor equality within {point.margin:g}")
    return f"- {where}: {arms}: **{made.verdict}**: {said}{_settling(made)}."


def _settling(made: Decision) -> str:
    """What an open comparison would need."""
    if made.verdict != "open" or not made.std > 0 or made.level <= 0:
        return ""
    n = made.needed(made.level)
    return f"; {n or 'more than 10,000'} pairs would settle it with a chance of 80 %, were the truth what was seen"


def table(study: Study, made: list[tuple[Decision, Finding | None]]) -> str:
    """The end points in their order, with everything that their verdicts rest on."""
    head = ["", "data", "score", "arm", "against", "effect", "95 % interval", "pairs", "p (paired t)", "p (sign flips)",
            "p (block model)", "level", "p (equal)", "margin", "look", "collapsed or diverged", "smallest effect",
            "verdict"]  # fmt: skip
    rows = [[str(i), *_row(study, decision, found)] for i, (decision, found) in enumerate(made, start=1)]
    note = (
        "Effect: arm minus reference, seed by seed. The verdict is the plan's: p of the paired t test below the level "
        "of the look (better or worse), else p of two one-sided tests below it (equal within the margin). Sign flips "
        "and the model of arm and seed over all arms are shown beside it and decide nothing. Smallest effect: what as "
        "many pairs find at this level with a chance of 80 %. Runs that collapsed (the same prediction everywhere) or "
        "diverged stay in the test with the score they have, the worst there is for a diverged one. Folds share "
        "training frames, so p holds for these images and not for others."
    )
    return f"{text.table(head, rows)}\n\n{note}"


def _row(study: Study, made: Decision, found: Finding | None) -> list[str]:
    point = made.point
    start = [text.data_name(point.data), text.score_name(point.score), study.arm(point.arm).what,
             study.arm(point.reference).what]  # fmt: skip
    if found is None:
        return [*start, *["-"] * 12, made.verdict]

    def number(value: float) -> str:
        return text.number(value, point.score, sign=True)

    smallest = made.detectable(made.level) if made.level > 0 else math.nan
    return [*start, number(made.mean), f"{number(found.interval.low)} .. {number(found.interval.high)}",
            str(len(made.differences)), *(text.p_value(p) for p in (made.p, found.flip.p, found.block)),
            f"{made.level:.2g}", text.p_value(made.p_equal), f"{point.margin:g}", str(made.look),
            f"{made.failed} of {made.runs}", text.number(smallest, point.score), made.verdict]  # fmt: skip


def _plan(study: Study, folder: Path) -> str:
    """What was planned, and the commit at which."""
    plan = study.plan
    assert plan is not None
    noted = frozen.noted_plan(folder)
    looks = ", ".join(f"{look.share:.0%} of the seeds with p < {look.p:g}" for look in plan.looks)
    seeds = "; ".join(
        f"{name}: " + ", ".join(f"{text.data_name(data)} {n}" for data, n in sets.items())
        for name, sets in plan.seeds.items()
    )
    made = ", ".join(
        f"{size}: commit {note['commit'][:10]} of {note['date'][:10]}" for size, note in noted.items() if note["date"]
    )
    remarks = "".join(f" {size}: {note['remark']}" for size, note in noted.items() if "remark" in note)
    return (
        f"## Plan\n\nMade {'' if remarks else 'before the runs '}([plan](../../{frozen.FOLDER}/{study.name}.yaml), "
        f"{made or 'not noted'}). "
        f"Alpha {plan.alpha:g} for the question, spent on the end points in the order of the table (shares "
        f"{', '.join(f'{share:g}' for share in plan.shares)}; what one has passes on when it is found different). "
        f"Looks: {looks}; a verdict keeps the look at which it fell. Seeds: {seeds}. When more than "
        f"{plan.most_collapsed:.0%} of a comparison's runs collapsed or diverged, it is stopped. Everything else in "
        f"these results is exploratory.{remarks}"
    )


def draw(study: Study, results: Path, path: Path) -> bool:
    """Write the figure: every end point's effect in units of its margin, with interval; False without any pair."""
    made = decided(study, load(study, results))
    known = [(d, f) for d, f in made if f is not None]
    if not known:
        return False
    with png_figure(path, (9, 1.2 + 0.45 * len(known)), dpi=110) as drawing:
        forest(drawing.subplots(), study, known)
        drawing.suptitle(study.title, fontsize=10)
    return True


def forest(axis: Any, study: Study, known: list[tuple[Decision, Finding]]) -> None:
    """Effects and intervals, one line each, in units of the margin and so that right is better."""
    labels = []
    for place, (d, f) in enumerate(known):
        unit = d.point.margin if higher_is_better(d.point.score) else -d.point.margin
        colour = COLOURS.get(d.verdict, "0.5")
        axis.plot([f.interval.low / unit, f.interval.high / unit], [place, place], color=colour, linewidth=2)
        axis.plot([x / unit for x in d.differences], [place] * len(d.differences), "|", color=colour, alpha=0.6)
        axis.plot(d.mean / unit, place, "o", color=colour)
        arms = f"{study.arm(d.point.arm).what} - {study.arm(d.point.reference).what}"
        labels.append(f"{text.data_name(d.point.data)} {text.score_name(d.point.score)}: {d.verdict}\n{arms}")
    axis.axvline(0, color="black", linewidth=0.8)
    axis.axvspan(-1, 1, color="0.92", zorder=0)
    axis.set_yticks(range(len(labels)), labels, fontsize=7)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.set_xlabel("effect in margins of equality (gray: equal), better to the right; ticks: pairs", fontsize=8)
