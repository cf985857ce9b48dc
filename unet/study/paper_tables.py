"""The paper's two tables with our rows beside theirs: results/paper/README.md, made from the evidence alone.

Rows stand for the arms of experiments/paper.py. Ensembles are read from results/paper/ensembles/NAME: test-scores.json
as `unet evaluate RUN RUN ... --test --out DIR` writes it, or scores.json of `unet evaluate RUN RUN ... --ensemble`,
where NAME is ARM-DATA-SEQUENCE with the sequence that was left out, such as gold-hela-01.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from unet.evaluation.published_scores import EM_TEST
from unet.metrics.table import ON_TEST, higher_is_better
from unet.runs.folder import MEMBERS, SCORES, TEST_SCORES
from unet.study import choice, compare, evidence, text
from unet.study.choice import Runs
from unet.study.claims import Target
from unet.study.design import Study
from unet.study.evidence import Evidence
from unet.study.paper import TARGETS
from unet.study.stats import Summary, summary

ENSEMBLES = "ensembles"
MEMBRANES, CELLS = "membranes", "cells"
EM_SCORES = ("pixel_error", "rand_error", "warping_error", "v_rand", "v_info")
SEQUENCES = ("01", "02")
# The row that stands for us beside the paper, whatever the others score: of EM the five runs of `border` as one, of the
# cells single networks trained on gold masks. Named on 1 December 2026, with one of the five runs ended.
NAMED = {"em": "five-border", "phc": "gold", "hela": "gold"}
SEG_ENTRIES = (
    ("u-net (Table 2 of the paper, test sequences)", {"phc": 0.9203, "hela": 0.7756}),
    ("best ever handed in (challenge, test sequences)", {"phc": 0.931, "hela": 0.887}),
)
OBJECTS = ("objects_found", "objects_missed", "objects_merged", "objects_split", "objects_spurious")
_COST = ["runs", "parameters", "min a run"]


def page(study: Study, results: Path) -> str:
    """The page's text; the same text for the same evidence."""
    folder = results / study.name
    runs = {profile: choice.by_key(evidence.load_all(folder / profile)) for profile in (MEMBRANES, CELLS)}
    parts = [
        f"# {study.title}, with our rows",
        "<!-- made from the runs in this folder by `unet study`; do not edit -->",
        f"{study.question} The recipe, the commands and what was decided when: [paper.py](../../paper.py); how it was "
        "found: [recipe.md](../../recipe.md). Rows are means ± standard deviations over runs that differ in their "
        "seed, never the best of several.",
        "## Table 1: EM (ISBI 2012), the challenge's 30 test slices",
        _test_table(study, runs[MEMBRANES], folder),
        _labels(runs[MEMBRANES]),
        _out_of_fold(runs[MEMBRANES]),
        "## Table 2: SEG of the Cell Tracking Challenge",
        _seg_table(study, runs[CELLS], folder),
        _OTHER_SEQUENCE if runs[CELLS] else "",
        _uncommitted(runs),
        _pictures(folder),
        "## Beside the paper's numbers",
        _beside_the_paper(study, runs, folder),
        f"Every run: [{MEMBRANES}]({MEMBRANES}/README.md), [{CELLS}]({CELLS}/README.md).",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_OTHER_SEQUENCE = (
    "Ours: trained on one sequence, scored on the gold masks of the other, which was left out; the masks of the "
    "challenge's test sequences are not public. SEG, components and objects: the mean of the two sequences, each the "
    "mean of its runs; nothing where one has no run. The recipe was chosen with 01 left out (development split, "
    "another seed), so that only the column of 02 is of frames that decided nothing. SEG of components: the connected "
    "components of the cell class, without markers. Objects: of all reference objects of the frames that were left out."
)


def _arms(study: Study, data: str) -> list[str]:
    """The arms of a table, in their order; of EM those that are scored on the test slices."""
    return [arm.name for arm in study.arms if data in arm.data and arm.name != "folds"]


def _of(runs: Runs, arm: str, data: str) -> list[Evidence]:
    return [run for (name, where, _), run in runs.items() if (name, where) == (arm, data) and not run.diverged]


def _spread(runs: Sequence[Evidence], score: str) -> str:
    return text.spread(_summary(runs, score), score.removeprefix(ON_TEST))


def _summary(runs: Sequence[Evidence], score: str) -> Summary | None:
    return compare.summarise(dict(enumerate(runs)), score)


def _cost(runs: Sequence[Evidence]) -> list[str]:
    """Runs, parameters, minutes by the clock on how many cores."""
    minutes = sum(run.record["seconds"] for run in runs) / len(runs) / 60
    cores = sorted({int(run.environment.get("threads") or 0) for run in runs})
    on = f" on {' or '.join(map(str, cores))} core{'s' * (cores != [1])}" if cores[0] else ""
    parameters = {run.environment.get("parameters") for run in runs}
    size = ", ".join(f"{n / 1e6:.1f} M" for n in sorted(filter(None, parameters)))
    return [str(len(runs)), size, f"{minutes:.0f}{on}"]


def _test_table(study: Study, runs: Runs, folder: Path) -> str:
    rows = []
    for entry in EM_TEST:
        rows.append([f"{entry.name} ({entry.table})", *map(entry.shown, EM_SCORES), "", "", ""])
    for arm in _arms(study, "em"):
        if own := _of(runs, arm, "em"):
            what = f"**ours, one network** ({study.arm(arm).what})"
            rows.append([what, *(_spread(own, ON_TEST + score) for score in EM_SCORES), *_cost(own)])
            archive = [run.stored["test"]["protocols"]["archive"]["scores"] for run in own if "test" in run.stored]
            if archive:
                values = [text.spread(summary([s[score] for s in archive]), score) for score in EM_SCORES]
                rows.append(["the same by the archive's own script (10 of the slices)", *values, "", "", ""])
    for name, saved in _ensembles(folder):
        scores = saved["protocols"]["paper"]["scores"]
        what = f"**ours, {len(saved['runs'])} networks as one** ({name})"
        rows.append([what, *(text.number(scores[score], score) for score in EM_SCORES), "", "", ""])
    return text.table(["network", *map(text.score_name, EM_SCORES), *_COST], rows)


def _ensembles(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    files = sorted((folder / ENSEMBLES).glob(f"*/{TEST_SCORES}"))
    return [(file.parent.name, evidence.read_json(file)) for file in files]


def _labels(runs: Runs) -> str:
    """Which labels the test slices were scored with."""
    notes = {run.stored["test"]["labels"]["note"] for run in runs.values() if "test" in run.stored}
    if not notes:
        return ""
    return (
        f"Labels of the test slices: {'; '.join(sorted(notes))}. Their membranes are thicker than those of the "
        "training slices (0.29 of the pixels against 0.22). Each score is the best over the thresholds 0, 0.1, ..., 1, "
        "as in the challenge, so that these labels choose the threshold of each score; they decided nothing else."
    )


def _out_of_fold(runs: Runs) -> str:
    own = _of(runs, "folds", "em")
    if not own:
        return ""
    rows = []
    for fold in sorted({run.config.data.fold for run in own}):
        part = [run for run in own if run.config.data.fold == fold]
        rows.append([f"part {fold + 1}", *(_spread(part, score) for score in EM_SCORES), *_cost(part)])
    rows.append(["**all**", *(_spread(own, score) for score in EM_SCORES), *_cost(own)])
    told = "Out of fold, training slices: six left out, networks of the 24 others; parts differ more than seeds."
    return f"{told}\n\n{text.table(['left out', *map(text.score_name, EM_SCORES), *_COST], rows)}"


def _seg_table(study: Study, runs: Runs, folder: Path) -> str:
    head = [
        "network",
        "data",
        "SEG",
        "01 left out",
        "02 left out",
        "SEG of components",
        "found",
        "missed",
        "merged",
        "split",
        "spurious",
        *_COST,
    ]
    rows = []
    for data in ("phc", "hela"):
        for name, values in SEG_ENTRIES:
            rows.append([name, text.data_name(data), f"{values[data]:g}", *[""] * (len(head) - 3)])
        for arm in _arms(study, data):
            if own := _of(runs, arm, data):
                what = f"**ours** ({study.arm(arm).what})"
                parts = [_spread(part, "seg") for part in _by_sequence(own)]
                rows.append([what, *_seg_row(data, parts, partial(_balanced, own)), *_cost(own)])
            if both := _cell_ensembles(folder, arm, data):
                counts = " and ".join(dict.fromkeys(str(len(saved[MEMBERS])) for saved in both))
                parts = [text.number(saved["scores"]["seg"], "seg") for saved in both]
                found = _seg_row(data, parts, partial(_mean, both))
                rows.append([f"**ours, {counts} networks as one** ({study.arm(arm).what})", *found, "", "", ""])
    return text.table(head, rows)


def _seg_row(data: str, parts: list[str], mean: Callable[[str], float | None]) -> list[str]:
    """The cells between the network's name and its cost; `mean`: of both sequences, by score."""
    shown = ["-" if (m := mean(score)) is None else text.number(m, "seg") for score in ("seg", "seg_components")]
    counts = ["-" if (m := mean(name)) is None else f"{m:.0f}" for name in OBJECTS]
    return [text.data_name(data), shown[0], *parts, shown[1], *counts]


def _by_sequence(runs: Sequence[Evidence]) -> list[list[Evidence]]:
    return [[run for run in runs if _left_out(run) == sequence] for sequence in SEQUENCES]


def _balanced(runs: Sequence[Evidence], score: str) -> float | None:
    """The mean of both sequences, however many runs left each of them out; None when one has none."""
    means = [found.mean for part in _by_sequence(runs) if (found := _summary(part, score)) is not None]
    return fmean(means) if len(means) == len(SEQUENCES) else None


def _mean(saved: Sequence[Mapping[str, Any]], score: str) -> float:
    return fmean(one["scores"][score] for one in saved)


def _cell_ensembles(folder: Path, arm: str, data: str) -> list[dict[str, Any]]:
    """The ensembles of both sequences, or none."""
    files = [folder / ENSEMBLES / f"{arm}-{data}-{sequence}" / SCORES for sequence in SEQUENCES]
    return [evidence.read_json(file) for file in files] if all(file.is_file() for file in files) else []


def _left_out(run: Evidence) -> str:
    """The sequence that a run on cells held out: that of all frames it names."""
    return ", ".join(sorted({name.partition("/")[0] for name in run.split.get("held_out", [])}))


def _uncommitted(runs: Mapping[str, Runs]) -> str:
    """How many runs no commit describes wholly."""
    commits = [str(run.environment.get("commit")) for of_size in runs.values() for run in of_size.values()]
    changed = sum(commit.endswith("+changes") for commit in commits)
    if not changed:
        return ""
    return (
        f"{changed} of the {len(commits)} runs were made from a tree with changes that were not committed (`+changes` "
        "behind the commit in runs.csv): no commit holds exactly their code; their configurations are stored whole."
    )


def _pictures(folder: Path) -> str:
    """The best and the worst frame of a run, where scripts/paper_pictures.py has drawn them."""
    there = [data for data in ("em", "phc", "hela") if (folder / f"{data}.jpg").is_file()]
    shown = [f"{text.data_name(data)}, seed 0:\n\n![best and worst frame]({data}.jpg)" for data in there]
    return "\n\n".join(["## The best and the worst frame", *shown]) if there else ""


def _beside_the_paper(study: Study, runs: Mapping[str, Runs], folder: Path) -> str:
    """A line for each of the paper's numbers: the row that was named for it, and the nearest of the others."""
    lines = []
    for target in TARGETS:
        where = f"{text.data_name(target.data)}, {text.score_name(target.score)} {target.paper:g}"
        rows = {row.name: row for row in _rows_of(study, runs, folder, target.data, target.score)}
        named = rows.pop(NAMED[target.data], None)
        told = _told(named, target) if named else f"not run yet ({NAMED[target.data]})"
        if rows:
            nearest = (max if higher_is_better(target.score) else min)(rows.values(), key=lambda row: row.value)
            told += f"; the best of all other rows: {_told(nearest, target)}"
        lines.append(f"- {where}: {told}.")
    return "\n".join(lines)


class _Row(NamedTuple):
    """What stands beside a number of the paper: the mean of an arm, or an ensemble."""

    name: str
    what: str
    value: float


def _told(row: _Row, target: Target) -> str:
    more = higher_is_better(target.score)
    reached = row.value >= target.paper if more else row.value <= target.paper
    shown = text.number(row.value, target.score)
    return f"{'reached' if reached else 'not reached'}, {shown} ({row.what})"


def _rows_of(study: Study, runs: Mapping[str, Runs], folder: Path, data: str, score: str) -> Iterable[_Row]:
    if data == "em":
        for arm in _arms(study, "em"):
            found = _summary(_of(runs[MEMBRANES], arm, data), ON_TEST + score)
            if found is not None:
                yield _Row(arm, f"{study.arm(arm).what}, mean of {found.n}", found.mean)
        for name, saved in _ensembles(folder):
            yield _Row(name, f"ensemble {name}", saved["protocols"]["paper"]["scores"][score])
        return
    for arm in (name for name in _arms(study, data) if "gold" in name):  # as the paper, which had no others
        mean = _balanced(own := _of(runs[CELLS], arm, data), score)
        if mean is not None:
            yield _Row(arm, f"{study.arm(arm).what}, mean of both sequences, {len(own)} runs", mean)
        if both := _cell_ensembles(folder, arm, data):
            yield _Row(f"{arm} as one", f"{study.arm(arm).what}, ensembles", _mean(both, score))
