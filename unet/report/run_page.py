"""The report of one run: what stands where on the page."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

from unet.config import to_yaml
from unet.report import chart, pictures, score_tables
from unet.report.chart import Line
from unet.report.markup import Markup, code, details, element, join, note, section, table
from unet.report.opening import sentence
from unet.report.page import badge, document, fact_tiles, headline
from unet.report.pictures import LAYERS, Picture, Pictures
from unet.report.run import Run, differences
from unet.terminal import Terminal
from unet.views.mistakes import OBJECTS_LEGEND

BADGES = {
    "scored": ("finished", "good"), "diverged": ("diverged", "bad"), "unscored": ("not scored", "open"),
    "nothing held out": ("finished", "good"), "training": ("training", "open"), "scoring": ("being scored", "open"),
    "stopped": ("stopped", "bad"), "not begun": ("not begun", "open"),
}  # fmt: skip


def make(run: Run, terminal: Terminal | None = None) -> str:
    """The page about a run as one HTML text; the same text for the same files."""
    with (terminal or Terminal(quiet=True)).bar(f"pictures of {run.name}", 1) as bar:
        found = pictures.collect(run, lambda done, total: bar.update(done, total=total))
    shown = _pictures(run, found)
    parts = [
        shown if found.frames else None,
        score_tables.held_out(run),
        score_tables.test_slices(run),
        _curves(run),
        None if found.frames else shown,
        _tiles(found),
        score_tables.by_frame(run),
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
        return headline("Run", run.name, badge(words, kind), fact_tiles(score_tables.facts(run)), *warnings)
    return headline("Run", run.name, badge(words, kind), element("p", told, class_="opening"), *warnings)


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
        speed = Line("tiles per second", *_series(run.timing, "tiles_per_s"), colour=6)
        charts.append(chart.lines("Speed", [speed], from_zero=True))
        waits = Line("share of the time", *_series(run.timing, "data_wait_share"), colour=7)
        charts.append(chart.lines("Waiting for data", [waits], from_zero=True))
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
