"""The report of a study and profile: what its README says, curves to look into, every run by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from unet.datasets import SYNTHETIC
from unet.errors import RunError
from unet.report import chart, markdown
from unet.report.chart import Dots, Line
from unet.report.markup import Markup, code, details, element, note, section, table
from unet.report.page import badge, document, fact_tiles, headline
from unet.runs.folder import CONFIG, RECORD
from unet.study import choice, claims, compare, evidence, text
from unet.study import report as study_report
from unet.study.choice import Runs
from unet.study.design import Arm, Study
from unet.study.evidence import Evidence
from unet.study.figure import Series, drawn, evaluation_curve, final_score, mean_band, training_curve
from unet.study.paper import TARGETS
from unet.terminal import format_seconds

REPORT = "report.html"


def make(study: Study, profile: str, folder: Path, out: Path, runs_folder: Path) -> str:
    """The page about the evidence below `folder` as one HTML text; links are relative to `out`.

    runs_folder: where the runs were trained, for links to their own reports. RunError without any run.
    """
    found = evidence.load_all(folder)
    if not found:
        raise RunError(
            f"{folder}: holds no ended run; run the study first: unet study {study.name} --profile {profile}"
        )
    runs = choice.by_key(found)
    _, above, parts = markdown.sections(study_report.make(study, profile, folder))
    sections = [section(heading, *content) for heading, content in parts]
    verdict = next((i for i, (heading, _) in enumerate(parts) if heading == "Verdict"), -1) + 1
    sections[verdict:verdict] = [_curves(study, profile, runs), *_paper(study, profile, runs)]
    sections.append(_runs(study, found, out, runs_folder))
    header = headline(
        "Study", study.title, badge(f"profile {profile}", "open"), fact_tiles(_facts(study, runs)), *above[:1]
    )
    about = section("About", *above[1:])
    return document(
        f"{study.title} ({profile}): U-Net study", header, [*sections[:verdict], about, *sections[verdict:]]
    )


def _facts(study: Study, runs: Runs) -> list[tuple[str, str, str]]:
    diverged = sum(run.diverged for run in runs.values())
    own = sum(run.record["seconds"] for run in runs.values() if "same_run_as" not in run.record)
    return [
        ("runs", str(len(runs)), f"{diverged} diverged" if diverged else "none diverged"),
        ("arms", str(len({arm for arm, _, _ in runs})), f"of {len(study.arms)}"),
        ("seeds", str(compare.seeds_of(runs)), "at most, per arm and data set"),
        ("collapsed", str(sum(run.collapsed for run in runs.values())), "the same prediction everywhere"),
        ("time", format_seconds(own), "of all runs together"),
    ]


def _paper(study: Study, profile: str, runs: Runs) -> list[Markup]:
    """The paper's numbers beside the arms, where the images are real."""
    present = {data for _, data, _ in runs}
    goals = [target for target in TARGETS if target.data in present]
    if not goals or any(run.config.data.name.startswith(SYNTHETIC) for run in runs.values()):
        return []
    arms = [
        arm.name for arm in study.arms if not arm.grid and any(_of(study, profile, arm, d, runs) for d in study.data)
    ]
    listed = claims.target_table(goals, study, arms, profile, runs)
    told = note(
        "Mean ± standard deviation over the runs that did not diverge. The last column says how the protocols differ."
    )
    return [section("Beside the paper", told, *markdown.blocks(listed))]


def _of(study: Study, profile: str, arm: Arm, data: str, runs: Runs) -> dict[int, Evidence]:
    return compare.arm_runs(study, profile, arm, data, runs) if data in study.data_of(arm) else {}


def _curves(study: Study, profile: str, runs: Runs) -> Markup:
    """Per data set: training loss, held-out IoU, the challenge's score of every run."""
    shown = [arm for arm in study.arms if not arm.grid]
    blocks: list[Markup] = [
        note("Thick: mean over the seeds, band: ± one standard deviation, within the runs; thin: every run.")
    ]
    for data in study.data:
        own = [
            (shown.index(arm), replace(arm, what=what), runs_of)
            for arm, what, runs_of in drawn(study, profile, data, shown, runs)
        ]
        if not own:
            continue
        score = final_score(study, data, runs)
        groups = []
        for i, arm, found in own:
            values = compare.values(found, score)
            groups.append(Dots(arm.what, list(values.values()), [found[seed].path.name for seed in values], i))
        training = [
            line for i, arm, found in own for line in _lines(arm, i, [training_curve(r) for r in found.values()])
        ]
        held_out = [
            line for i, arm, found in own for line in _lines(arm, i, [evaluation_curve(r) for r in found.values()])
        ]
        charts = [
            chart.lines("Training loss", training),
            chart.lines("Held-out mean IoU", held_out, log=False),
            chart.dots(f"{text.score_name(score)} of every run", groups, note="The bar is the mean of an arm."),
        ]
        blocks += [element("h3", text.data_name(data)), element("div", *charts, class_="grid-of-charts")]
    return section("Curves", *blocks)


def _lines(arm: Arm, colour: int, series: Sequence[Series]) -> list[Line]:
    """Every run thin and their mean with its band; a run alone, or runs without a common mean, as they are."""
    known = [(list(map(float, x)), list(map(float, y))) for x, y in series if x.size]
    found = mean_band([(x, y) for x, y in series if x.size])
    if found is None:
        return [Line(arm.what, x, y, colour) for x, y in known]
    x, mean, sides = found
    band = None if sides is None else (list(map(float, sides[0])), list(map(float, sides[1])))
    thin = [Line(arm.what, *points, colour, faint=True) for points in known] if band is not None else []
    return [*thin, Line(arm.what, list(map(float, x)), list(map(float, mean)), colour, band)]


def _runs(study: Study, found: list[Evidence], out: Path, runs_folder: Path) -> Markup:
    """Every run by name, with links to its record and, where it was made, to its own report."""
    rows, commands = [], []
    for run in found:
        told = ", ".join(
            f"{text.score_name(s)} {text.number(run.values[s], s)}"
            for s in text.columns(run.data)[:2]
            if s in run.values and not run.diverged
        )
        own = runs_folder / run.path.name / REPORT
        links = [_link(name, run.path / name, out) for name in (CONFIG, RECORD)]
        links += [_link("report", own, out)] if own.is_file() else []
        minutes = "0.0" if "same_run_as" in run.record else f"{run.record['seconds'] / 60:.1f}"
        state = badge("diverged", "bad") if run.diverged else badge("ended", "good")
        shown: list[Markup] = []
        for link in links:
            shown += [link, Markup(" ")]
        name = element("a", run.path.name, href=_relative(run.path, out) + "/", id=f"run-{run.path.name}")
        arm, part = (
            study.arm(run.arm).what if run.arm in {a.name for a in study.arms} else run.arm,
            run.config.data.fold,
        )
        rows.append([name, arm, text.data_name(run.data), str(run.seed), str(part + 1), state, told, minutes,
                     element("span", *shown)])  # fmt: skip
        commands.append(f"# {run.path.name}\n{run.record.get('command', 'not recorded')}")
    head = ["run", "arm", "data", "seed", "part held out", "state", "scores", "min", "files"]
    listed = details("the command of every run", code("\n".join(commands)))
    return section("Runs", table(head, rows), listed)


def _link(name: str, path: Path, out: Path) -> Markup:
    return element("a", name, href=_relative(path, out))


def _relative(path: Path, out: Path) -> str:
    """The address of a file as seen from the page."""
    return quote(Path(os.path.relpath(path.resolve(), out.resolve().parent)).as_posix())
