"""Claims of the paper and of the blog, each with the comparison that tests it; numbers of the paper beside ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unet.errors import ConfigError
from unet.stats import CLAIM_LEVEL, equivalence_test, holm, minimum_effect_test
from unet.study import choice, compare, evidence, text
from unet.study.compare import Finding
from unet.study.evidence import HIGHER_IS_BETTER
from unet.study.matrix import Comparison, Study

SIZES = ("full", "full-plain", "reduced", "reduced-fp32")  # profiles whose results are evidence
Answer = Literal["holds", "does not hold", "open"]


@dataclass(frozen=True)
class Claim:
    """Something that was said, as a comparison of two arms.

    expects: what the comparison should show on `scores` if the claim is true; "same" means: equal within `margin`.
    """

    source: str
    says: str
    study: str
    arm: str
    reference: str
    expects: Literal["better", "worse", "same"]
    scores: tuple[str, ...]
    data: tuple[str, ...] = ("em", "phc", "hela")
    margin: float = 0.01


@dataclass(frozen=True)
class Target:
    """A number of the paper and how ours is measured differently."""

    data: str
    score: str
    paper: float
    difference: str


def answers(claim: Claim, found: list[Finding]) -> list[tuple[Finding, Answer, float]]:
    """The findings that bear on a claim, what each says, and the p it is said with.

    better / worse take the verdict of the study's table. same holds by an equivalence test and is refuted by a
    minimum-effect test, each with p < 0.01, corrected (Holm) for the findings of this claim, from three pairs on that
    are not all alike.
    """
    comparison = Comparison(claim.arm, claim.reference)
    own = [f for f in found if f.comparison == comparison and f.data in claim.data and f.score in claim.scores]
    if claim.expects == "same":
        return _of_equality(own, claim.margin)
    result: list[tuple[Finding, Answer, float]] = []
    for finding in own:
        answer: Answer = "open"
        if finding.verdict != "open":
            answer = "holds" if finding.verdict == claim.expects else "does not hold"
        result.append((finding, answer, finding.p))
    return result


def _of_equality(own: list[Finding], margin: float) -> list[tuple[Finding, Answer, float]]:
    same = holm([equivalence_test(f.differences, margin).p for f in own])
    other = holm([minimum_effect_test(f.differences, margin).p for f in own])
    result: list[tuple[Finding, Answer, float]] = []
    for finding, p_same, p_other in zip(own, same, other, strict=True):
        answer: Answer = "open"
        if finding.enough:
            answer = "holds" if p_same < CLAIM_LEVEL else "does not hold" if p_other < CLAIM_LEVEL else "open"
        result.append((finding, answer, p_other if answer == "does not hold" else p_same))
    return result


def tables(claims: Iterable[Claim], studies: Mapping[str, Study], results: Path) -> str:
    """A table per profile that has results; profiles never share one."""
    claims = list(claims)
    parts = []
    for profile in SIZES:
        rows = [row for claim in claims for row in _row(claim, studies, results, profile)]
        if rows:
            head = ["source", "claim", "evidence", "verdict"]
            parts.append(f"### Profile `{profile}`\n\n{text.table(head, rows)}")
    return "\n\n".join(parts) or "No study that a claim rests on has results yet."


def _row(claim: Claim, studies: Mapping[str, Study], results: Path, profile: str) -> list[list[str]]:
    study = studies[claim.study]
    folder = results / study.name / profile
    runs = choice.by_key(evidence.load_all(folder))
    found = answers(claim, compare.findings(study, profile, runs))
    if not found:
        return []
    said = [
        f"{text.data_name(f.data)} {text.score_name(f.score)}: {text.number(f.mean, f.score, sign=True)} "
        f"({len(f.differences)} pairs, p {text.p_value(p)}): {answer}"
        for f, answer, p in found
    ]
    every = {answer for _, answer, _ in found}
    verdict = every.pop() if len(every) == 1 else "mixed: " + ", ".join(sorted(every))
    link = f"[{study.name}](results/{study.name}/{profile}/README.md)"
    return [[claim.source, claim.says, f"{link}: " + "; ".join(said), f"**{verdict}**"]]


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
    higher = HIGHER_IS_BETTER[goal.score]
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
