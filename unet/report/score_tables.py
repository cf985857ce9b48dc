"""The scores on a run's page: of the held-out frames, of each of them, and of the EM challenge's test slices."""

from __future__ import annotations

from typing import Any

from unet.datasets import DATA_SETS
from unet.metrics.table import higher_is_better, on_page
from unet.report import reliability
from unet.report.markup import Markup, element, note, section, table
from unet.report.opening import sentence
from unet.report.page import fact_tiles
from unet.report.run import Run
from unet.study import text
from unet.study.claims import Target
from unet.study.evidence import empty_scores
from unet.study.paper import TARGETS
from unet.terminal import format_seconds

PROTOCOL = "Measured on held-out training images{why}, stitched to full size, in eval mode, from the last weights."


def facts(run: Run) -> list[tuple[str, str, str]]:
    """The four most telling scores, and what they took: name, value, remark."""
    scores = run.scores.get("scores", {})
    empty = empty_scores(dict(run.scores))
    found: list[tuple[str, str, str]] = []
    for name in [n for n in on_page(scores) if scores[n] is not None and n not in empty][:4]:
        found.append((text.score_name(name), text.number(scores[name], name), "held out"))
    total = run.config.train.updates
    found.append(("updates", f"{run.update:,}", f"of {total:,}" if run.update != total else ""))
    if run.seconds:
        found.append(("time", format_seconds(run.seconds), "by the clock"))
    if "parameters" in run.environment:
        found.append(("weights", f"{run.environment['parameters']:,}", f"{run.config.model.variant} network"))
    return found


def held_out(run: Run) -> Markup:
    """The scores of the held-out frames, beside the paper's and those of a constant prediction."""
    scores = run.scores.get("scores", {})
    if not scores:
        none = {"nothing held out": "None: every labelled frame was trained on."}.get(run.state, "There are none yet.")
        return section("Scores", note(none))
    thresholds, empty = run.scores.get("thresholds", {}), empty_scores(dict(run.scores))
    paper = {} if run.synthetic else {t.score: t for t in TARGETS if t.data == run.config.data.name}
    constant = run.scores.get("constant", {})
    rows = []
    for name in sorted(scores, key=lambda n: (n not in paper, list(scores).index(n))):
        value, target = scores[name], paper.get(name)
        shown = "-" if value is None else text.number(float(value), name) + (" †" if name in empty else "")
        row: list[Any] = [text.score_name(name), shown]
        if paper:
            row += ["-", "-"] if target is None else [text.number(target.paper, name), _gap(value, target.paper, name)]
        if constant:
            row.insert(2, text.number(constant[name], name) if name in constant else "-")
        rows.append([*row, "-" if name not in thresholds else f"{thresholds[name]:.1f}", _direction(name)])
    beside = [*(["constant prediction"] if constant else []), *(["paper", "ours - paper"] if paper else [])]
    head = ["score", "ours, held out", *beside, "threshold", "better is"]
    notes = [note(str(text_of)) for text_of in run.scores.get("notes", [])]
    if empty:
        notes.append(note("† No cell is left at the best threshold of this score in some frames; do not trust it."))
    frames = len(run.scores.get("frames", []))
    protocol = PROTOCOL.format(why=f" ({DATA_SETS[run.config.data.name].test})" if paper else "")
    count = f"{frames} frame{'s' * (frames != 1)}"
    told = f"{protocol} {count}; rotations averaged: {run.scores.get('symmetries', run.scores.get('rotations', 1))}."
    plot = reliability.plot(dict(run.scores))
    figure = element("div", plot, class_="grid-of-charts") if plot else None
    tiles = fact_tiles(facts(run)) if sentence(run.scores) else None
    return section("Scores", tiles, note(told), table(head, rows), *_protocols(list(paper.values())), *notes, figure)


def _protocols(targets: list[Target]) -> list[Markup]:
    """How each number of the paper was measured differently; equal differences together."""
    if not targets:
        return []
    by_difference: dict[str, list[str]] = {}
    for target in targets:
        by_difference.setdefault(target.difference, []).append(text.score_name(target.score))
    items = [element("li", element("b", ", ".join(names)), f": {told}.") for told, names in by_difference.items()]
    return [note("The paper's numbers and ours were not measured alike:"), element("ul", *items, class_="note")]


def _gap(value: float | None, paper: float, name: str) -> str:
    if value is None:
        return "-"
    reached = value > paper if higher_is_better(name) else value < paper
    return text.number(value - paper, name, sign=True) + (" (reached)" if reached else "")


def _direction(name: str) -> str:
    higher = higher_is_better(name)
    return "" if higher is None else "higher" if higher else "lower"


def by_frame(run: Run) -> Markup | None:
    """The scores of every frame."""
    values_of = run.scores.get("by_frame")
    if not isinstance(values_of, dict) or not values_of:
        return None
    from unet.evaluation.scoring import quality

    columns = on_page({name for values in values_of.values() for name, value in values.items() if value is not None})
    rows = []
    for name in sorted(values_of, key=lambda n: quality(values_of[n])):
        values = [values_of[name].get(column) for column in columns]
        rows.append([name, *("-" if v is None else text.number(v, c) for v, c in zip(values, columns, strict=True))])
    told = note("Worst first. A click on a heading sorts.")
    return section("Frame by frame", told, table(["frame", *map(text.score_name, columns)], rows), name="frames")


def test_slices(run: Run) -> Markup | None:
    """The scores of the challenge's test slices beside what others reached, where `unet evaluate --test` was run."""
    if not run.test:
        return None
    from unet.evaluation.leaderboard import table_notes, table_rows

    head, *rows = table_rows(dict(run.test))
    told = (
        "The challenge's test slices, scored like for like with its table. Labels: "
        f"{run.test['labels']['note']}. They decided nothing."
    )
    notes = [note(line) for line in table_notes(dict(run.test))]
    return section("Test slices", note(told), table(head, rows), *notes, name="test-slices")
