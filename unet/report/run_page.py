"""The report of one run: what stands where on the page."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

from unet.config import to_yaml
from unet.datasets import DATA_SETS
from unet.metrics.table import higher_is_better, on_page
from unet.report import chart, pictures, reliability
from unet.report.chart import Line
from unet.report.markup import Markup, code, details, element, join, note, section, table
from unet.report.opening import sentence
from unet.report.page import badge, document, fact_tiles, headline
from unet.report.pictures import LAYERS, Picture, Pictures
from unet.report.run import Run, differences
from unet.study import text
from unet.study.claims import Target
from unet.study.evidence import empty_scores
from unet.study.paper import TARGETS
from unet.terminal import Terminal, format_seconds
from unet.views.mistakes import OBJECTS_LEGEND

BADGES = {
    "scored": ("finished", "good"), "diverged": ("diverged", "bad"), "unscored": ("not scored", "open"),
    "nothing held out": ("finished", "good"), "training": ("training", "open"), "scoring": ("being scored", "open"),
    "stopped": ("stopped", "bad"), "not begun": ("not begun", "open"),
}  # fmt: skip
PROTOCOL = "Measured on held-out training images{why}, stitched to full size, in eval mode, from the last weights."


def make(run: Run, terminal: Terminal | None = None) -> str:
    """The page about a run as one HTML text; the same text for the same files."""
    with (terminal or Terminal(quiet=True)).bar(f"pictures of {run.name}", 1) as bar:
        found = pictures.collect(run, lambda done, total: bar.update(done, total=total))
    shown = _pictures(run, found)
    parts = [
        shown if found.frames else None,
        _scores(run),
        _curves(run),
        None if found.frames else shown,
        _tiles(found),
        _frames(run),
        _configuration(run),
        _environment(run),
        _command(run),
    ]
    return document(f"{run.name}: U-Net run", _header(run), [part for part in parts if part])


def _header(run: Run) -> Markup:
    words, kind = BADGES[run.state]
    warnings = [note(sentence, kind="warning") for sentence in _warnings(run)]
    told = sentence(run.scores)
    if not told:
        return headline("Run", run.name, badge(words, kind), fact_tiles(_facts(run)), *warnings)
    return headline("Run", run.name, badge(words, kind), element("p", told, class_="opening"), *warnings)


def _facts(run: Run) -> list[tuple[str, str, str]]:
    scores = run.scores.get("scores", {})
    empty = empty_scores(dict(run.scores))
    facts: list[tuple[str, str, str]] = []
    for name in [n for n in on_page(scores) if scores[n] is not None and n not in empty][:4]:
        facts.append((text.score_name(name), text.number(scores[name], name), "held out"))
    total = run.config.train.updates
    facts.append(("updates", f"{run.update:,}", f"of {total:,}" if run.update != total else ""))
    if run.seconds:
        facts.append(("time", format_seconds(run.seconds), "by the clock"))
    if "parameters" in run.environment:
        facts.append(("weights", f"{run.environment['parameters']:,}", f"{run.config.model.variant} network"))
    return facts


def _warnings(run: Run) -> list[str]:
    """What a reader must know before the numbers."""
    again = shlex.quote(str(run.path))
    total = run.config.train.updates
    said = {
        "diverged": f"Training diverged, so there are no scores: {run.failure}",
        "unscored": f"The network is trained but was not scored; score it with: unet evaluate {again}",
        "nothing held out": "Every labelled frame was trained on: no held-out frame says how good the network is.",
        "training": f"Training goes on at this moment; the page shows what was written up to update {run.update:,}.",
        "scoring": "The network is trained and is being scored at this moment.",
        "stopped": f"Training stopped at update {run.update:,} of {total:,} (killed, or ended by an error); go on "
        f"with: unet train --resume --run {again}",
        "not begun": "Nothing has been recorded yet.",
    }
    found = [said[run.state]] if run.state in said else []
    if run.synthetic:
        found.append("The images are synthetic: the scores show that the system works, and nothing about real data.")
    return [*found, *run.problems]


# -- scores ----------------------------------------------------------------------------------------------------------


def _scores(run: Run) -> Markup:
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
    facts = fact_tiles(_facts(run)) if sentence(run.scores) else None
    return section("Scores", facts, note(told), table(head, rows), *_protocols(list(paper.values())), *notes, figure)


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


def _frames(run: Run) -> Markup | None:
    by_frame = run.scores.get("by_frame")
    if not isinstance(by_frame, dict) or not by_frame:
        return None
    from unet.evaluation.scoring import quality

    columns = on_page({name for values in by_frame.values() for name, value in values.items() if value is not None})
    rows = []
    for name in sorted(by_frame, key=lambda n: quality(by_frame[n])):
        values = [by_frame[name].get(column) for column in columns]
        rows.append([name, *("-" if v is None else text.number(v, c) for v, c in zip(values, columns, strict=True))])
    told = note("Worst first. A click on a heading sorts.")
    return section("Frame by frame", told, table(["frame", *map(text.score_name, columns)], rows), name="frames")


# -- curves ----------------------------------------------------------------------------------------------------------


def _curves(run: Run) -> Markup:
    if not run.rows:
        return section("Curves", note("Nothing was recorded."))
    train = [row for row in run.rows if row.get("part") == "train"]
    held_out = [row for row in run.rows if row.get("part") == "held_out"]
    charts = [
        chart.lines(
            "Training loss",
            [
                Line("mean of ten updates", *_series(train, "loss")),
                Line("largest of ten updates", *_series(train, "loss_max"), colour=5, faint=True),
            ],
            note="Weighted, on deformed tiles; thin: the largest of each ten updates.",
        ),
        chart.lines("Gradient norm", [Line("before clipping", *_series(train, "gradient_norm"), colour=4)]),
    ]
    if held_out:
        ious = [key for key in held_out[-1] if key.startswith("iou_")]
        parts = [Line(key.replace("_", " "), *_series(held_out, key), colour=2 + i) for i, key in enumerate(ious)]
        charts.insert(
            1, chart.lines("Held-out IoU", [Line("mean IoU", *_series(held_out, "mean_iou")), *parts], log=False)
        )
        loss = Line("cross-entropy", *_series(held_out, "loss"), colour=1)
        charts.insert(2, chart.lines("Held-out loss", [loss], note="Not weighted, whole frames."))
    rates = {row.get("lr") for row in train}
    if len(rates) > 1:
        charts.append(chart.lines("Learning rate", [Line("rate", *_series(train, "lr"), colour=3)]))
    if run.timing:
        charts.append(chart.lines("Speed", [Line("tiles per second", *_series(run.timing, "tiles_per_s"), colour=6)]))
        waits = Line("share of the time", *_series(run.timing, "data_wait_share"), colour=7)
        charts.append(chart.lines("Waiting for data", [waits]))
    none = "No frame was held out" if run.state == "nothing held out" else "There are no held-out evaluations (yet)"
    missing = [] if held_out else [note(f"{none}, so there are no held-out curves.")]
    return section("Curves", element("div", *charts, class_="grid-of-charts"), *missing)


def _series(rows: list[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    known = [row for row in rows if isinstance(row.get(key), (int, float))]
    return [float(row["update"]) for row in known], [float(row[key]) for row in known]


# -- pictures --------------------------------------------------------------------------------------------------------


def _pictures(run: Run, found: Pictures) -> Markup:
    if found.missing:
        stored = pictures.png_of_run(run)
        shown = None
        if stored is not None:
            shown = element("img", src=stored, alt="image, probability, label and mistakes side by side", class_="wide")
        return section("Pictures", note(found.missing), shown)
    told = note(
        "Drag across a picture: left of the line one layer, right of it another. Splits (a cell cut in two) are red, "
        "merges (two cells run into one) blue; of single objects: "
        f"{OBJECTS_LEGEND}."
    )
    named = [replace(picture, caption=f"Layer mistakes: {picture.caption}") for picture in found.frames]
    shown = element("div", *map(compare, named), class_="frames")
    return section("Pictures", told, shown, *map(note, found.notes))


def _tiles(found: Pictures) -> Markup | None:
    if not found.tiles:
        return None
    side = pictures.TILE_PX
    told = note(
        f"The tiles of at most {side} x {side} px with the highest loss (cross-entropy, mean over their known pixels), "
        "of all held-out frames. Wrong labels and odd images show up here as well."
    )
    return section("Worst tiles", told, element("div", *(compare(picture) for picture in found.tiles), class_="tiles"))


def compare(picture: Picture) -> Markup:
    """Layers of one picture side by side; the script makes one picture with a slider of them."""
    width, height = picture.size
    layers = []
    for name in LAYERS:
        if name in picture.layers:
            image = element(
                "img", src=picture.layers[name], alt=f"{name} of {picture.title}", width=width, height=height
            )
            layers.append(element("div", image, element("span", name), class_="layer", data_name=name))
    caption = element("figcaption", element("b", picture.title), " ", element("span", picture.caption))
    return element("figure", caption, element("div", *layers, class_="layers"), class_="compare")


# -- how it was made -------------------------------------------------------------------------------------------------


def _configuration(run: Run) -> Markup:
    changed = differences(run.config)
    rows = [[key, _plain(value), _plain(default)] for key, value, default in changed]
    told = f"{len(rows)} settings differ from the defaults." if rows else "Every setting is the default."
    listed = table(["setting", "here", "default"], rows, plain=True) if rows else None
    everything = details("all settings (config.yaml)", code(to_yaml(run.config)))
    return section("Configuration", note(told), listed, everything)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if value != "" else "(empty)"


def _environment(run: Run) -> Markup:
    environment = dict(run.environment)
    if not environment:
        return section("Environment", note("environment.json is not there."))
    packages = environment.pop("packages", {})
    environment.pop("command", None)
    rows = [[key.replace("_", " "), _plain(value)] for key, value in environment.items() if value is not None]
    versions = [[str(name), str(version)] for name, version in dict(packages).items() if version]
    split = [
        [part.replace("_", " "), f"{len(names)}: {', '.join(map(str, names))}" if names else "none"]
        for part, names in run.split.items()
        if isinstance(names, list)
    ]
    parts = [
        element("div", table(["what", "value"], rows, plain=True)),
        element("div", table(["package", "version"], versions, plain=True)),
    ]
    frames = details("frames", table(["part", "frames"], split)) if split else None
    return section("Environment", element("div", *parts, class_="columns"), frames)


def _command(run: Run) -> Markup:
    parts = []
    started = run.environment.get("command")
    if isinstance(started, list) and started:
        parts += [note("The run was started with:"), code(shlex.join(map(str, started)))]
    if "command" in run.record:
        parts += [note("The run is made again, from the repository's root, with:"), code(str(run.record["command"]))]
    else:
        again = ["unet", "reproduce", str(run.path), "--go"]
        parts += [note("The run is made again, and compared with this one, with:"), code(shlex.join(again))]
    if run.environment.get("commit"):
        parts.append(note("Commit: ", element("code", str(run.environment["commit"]))))
    if run.source:
        parts.append(note("Data: ", element("code", run.source)))
    return section("Command", join(parts))
