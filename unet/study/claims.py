"""Claims of the paper and of the blog, each with the comparison that tests it; numbers of the paper beside ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unet.datasets import PAPER
from unet.errors import ConfigError
from unet.metrics.table import higher_is_better
from unet.study import choice, compare, decide, evidence, tables, text, verdicts
from unet.study.compare import Finding
from unet.study.decide import Decision
from unet.study.design import Comparison, Study

SIZES = ("full", "full-plain")  # profiles whose runs may stand beside the paper's numbers
Answer = Literal["holds", "does not hold", "open", "not tested"]


@dataclass(frozen=True)
class Claim:
    """Something that was said, as a comparison of two arms.

    expects: what the comparison should show on `scores` if the claim is true; "same" means: equal within the margin of
    the study's plan.
    """

    source: str
    says: str
    study: str
    arm: str
    reference: str
    expects: Literal["better", "worse", "same"]
    scores: tuple[str, ...]
    data: tuple[str, ...] = PAPER


@dataclass(frozen=True)
class Target:
    """A number of the paper and how ours is measured differently."""

    data: str
    score: str
    paper: float
    difference: str


def answer(claim: Claim, made: Decision) -> Answer:
    """What a verdict says about a claim; a difference that is surely less than the margin counts as none for "same"."""
    if made.verdict == "not tested":
        return "not tested"
    if made.verdict in ("open", "stopped", "waiting"):
        return "open"
    same = made.verdict == "equal" or made.within
    if claim.expects == "same":
        return "holds" if same else "does not hold"
    return "holds" if made.verdict == claim.expects else "does not hold"


def claims_table(claims: Iterable[Claim], studies: Mapping[str, Study], results: Path) -> str:
    """What was said, with the verdicts of the plans and, without a verdict, what exploratory comparisons show."""
    known: dict[str, tuple[list[Decision], dict[str, list[Finding]]]] = {}
    rows = []
    for claim in claims:
        if claim.study not in known:
            known[claim.study] = _known(studies[claim.study], results)
        rows += _row(claim, *known[claim.study])
    head = ["source", "claim", "evidence", "verdict"]
    return text.table(head, rows) if rows else "No study that a claim rests on has results yet."


def _known(study: Study, results: Path) -> tuple[list[Decision], dict[str, list[Finding]]]:
    runs_of = {
        p: choice.by_key(evidence.load_all(results / study.name / p)) for p in tables.profiles_of(study, results)
    }
    decided = decide.decisions(study, runs_of) if study.plan is not None and any(runs_of.values()) else []
    return decided, {p: compare.findings(study, p, runs) for p, runs in runs_of.items() if runs}


def _row(claim: Claim, decided: list[Decision], found: Mapping[str, list[Finding]]) -> list[list[str]]:
    """The claim's row, none without any evidence."""
    said, answers = [], set()
    comparison = Comparison(claim.arm, claim.reference)
    primary = [
        d
        for d in decided
        if (d.point.arm, d.point.reference) == (claim.arm, claim.reference)
        and d.point.data in claim.data
        and d.point.score in claim.scores
    ]
    for made in primary:
        answers.add(answer(claim, made))
        verdict = f"**{_place(made.point.data, made.point.score)}: {made.verdict}**"
        size = text.number(made.mean, made.point.score, sign=True)
        p = f"{len(made.differences)} pairs, p {text.p_value(made.p)}, look {made.look}"
        said.append(f"{verdict} ({size}, {p})" if made.differences else verdict)
    taken = {(d.point.profile, d.point.data, d.point.score) for d in primary if d.verdict != "not tested"}
    for profile, findings in found.items():
        for f in findings:
            bears = f.comparison == comparison and f.data in claim.data and f.score in claim.scores
            if bears and (profile, f.data, f.score) not in taken:
                ends = [text.number(end, f.score, sign=True) for end in (f.interval.low, f.interval.high)]
                interval = " .. ".join(ends) if len(f.differences) > 1 else "one pair"
                said.append(
                    f"{_place(f.data, f.score)}, {profile}: {text.number(f.mean, f.score, sign=True)} ({interval})"
                )
    if not said:
        return []
    verdict = (
        answers.pop() if len(answers) == 1 else "mixed: " + ", ".join(sorted(answers)) if answers else "exploratory"
    )
    link = f"[{claim.study}](results/{claim.study}/README.md)"
    return [[claim.source, claim.says, f"{link}: " + "; ".join(said), f"**{verdict}**"]]


def _place(data: str, score: str) -> str:
    return f"{text.data_name(data)} {text.score_name(score)}"


def questions(studies: Iterable[Study], results: Path) -> str:
    """Every question that a plan decides: the answer in a sentence and the numbers it rests on."""
    rows = []
    for study in (study for study in studies if study.plan is not None):
        runs_of = verdicts.load(study, results)
        if not any(runs_of.values()):
            continue
        for made in decide.decisions(study, runs_of):
            found = tables.details(study, made, runs_of.get(made.point.profile, {}))
            score = made.point.score
            effect = "-" if found is None else (
                f"{text.number(found.mean, score, sign=True)} ({text.number(found.interval.low, score, sign=True)} .. "
                f"{text.number(found.interval.high, score, sign=True)})"
            )  # fmt: skip
            rows.append([f"[{study.title}](results/{study.name}/README.md)",
                         verdicts.sentence(study, made).removeprefix("- "), effect,
                         str(len(made.differences) or "-"), text.p_value(made.p), str(made.look or "-")])  # fmt: skip
    head = ["question", "answer", "effect (95 % interval)", "pairs", "p", "look"]
    return text.table(head, rows) if rows else "No study with a plan has results yet."


def targets(goals: Iterable[Target], study: Study, arms: Iterable[str], results: Path) -> str:
    """The paper's numbers beside ours, a table per profile."""
    goals, names = list(goals), list(arms)
    parts = []
    for profile in SIZES:
        runs = choice.by_key(evidence.load_all(results / study.name / profile))
        if not runs:
            continue
        parts.append(f"### Profile `{profile}`\n\n{target_table(goals, study, names, profile, runs)}")
    return "\n\n".join(parts) or "The baselines have no results yet."


def target_table(goals: Iterable[Target], study: Study, arms: Iterable[str], profile: str, runs: choice.Runs) -> str:
    """The paper's numbers beside those of some arms of a study (a Markdown table)."""
    names = list(arms)
    rows = []
    for goal in goals:
        cells = []
        for name in names:
            own = compare.arm_runs(study, profile, study.arm(name), goal.data, runs)
            cells.append(_reached(goal, own))
        paper = text.number(goal.paper, goal.score)
        rows.append([text.data_name(goal.data), text.score_name(goal.score), paper, *cells, goal.difference])
    head = ["data", "score", "paper", *(study.arm(name).what for name in names), "difference in protocol"]
    return text.table(head, rows)


def _reached(goal: Target, runs: dict[int, evidence.Evidence]) -> str:
    """Mean and spread of a score over the runs that ended, how many there are, and whether they reach the goal."""
    found = compare.summarise(runs, goal.score)
    if found is None:
        return text.spread(found, goal.score)
    diverged = sum(run.diverged for run in runs.values())
    count = f"{found.n} of {len(runs)} runs, {diverged} diverged" if diverged else f"{found.n} runs"
    higher = higher_is_better(goal.score)
    above = not diverged and (found.mean > goal.paper if higher else found.mean < goal.paper)
    return f"{text.spread(found, goal.score)} ({count})" + (", reached" if above else "")


def fill(page: str, parts: Mapping[str, str]) -> str:
    """A page with the generated parts between its marks replaced; ConfigError when a mark is missing."""
    for name, content in parts.items():
        begin, end = f"<!-- generated: {name} -->", f"<!-- end of {name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.S)
        if len(pattern.findall(page)) != 1:
            raise ConfigError(f"the page needs exactly one part between {begin!r} and {end!r}")
        page = pattern.sub(lambda _, b=begin, c=content, e=end: f"{b}\n\n{c}\n\n{e}", page)  # type: ignore[misc]
    return page
