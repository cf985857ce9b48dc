"""The tidy tables of all results: a row per run (runs.csv) and a row per comparison (comparisons.csv).

Whoever has the two needs nothing else to compute any comparison again: a row of comparisons.csv names study, profile,
data set, arms, score and seeds, and runs.csv has the runs (an arm that is the best of others stands in `stands_for`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unet.config import PROFILES
from unet.files import write_text
from unet.metrics.table import SCORES
from unet.study import choice, compare, decide, evidence
from unet.study.compare import Finding
from unet.study.decide import Decision
from unet.study.design import TUNING, Comparison, Study
from unet.study.evidence import Evidence
from unet.study.stats import equivalence_test

RUNS, COMPARISONS = "runs.csv", "comparisons.csv"
DIGITS = 12
Row = dict[str, Any]

FACTS = ("study", "profile", "arm", "stands_for", "data", "fold", "seed", "tuning", "primary", "collapsed", "diverged",
         "minutes", "same_run_as", "precision", "device", "commit", "config")  # fmt: skip
TESTS = ("study", "profile", "data", "score", "arm", "reference", "kind", "seeds", "pairs", "effect", "low", "high",
         "p", "p_sign_flips", "p_block_model", "p_better", "verdict", "look", "level", "margin", "p_equal",
         "failed", "runs", "smallest_effect", "pairs_needed", "reason")  # fmt: skip


def profiles_of(study: Study, results: Path) -> list[str]:
    """The profiles of which a study has results."""
    folder = results / study.name
    return [name for name in sorted(PROFILES) if (folder / name).is_dir()]


def run_rows(study: Study, profile: str, found: Iterable[Evidence]) -> list[Row]:
    """A row per run of a study and size."""
    runs = choice.by_key(found)
    stands = choice.stands_for(study, profile, runs)
    primary = {p.data: p.score for p in reversed(study.plan.order) if p.profile == profile} if study.plan else {}
    return [run_row(run, stands.get(key, ()), primary.get(run.data, "")) for key, run in runs.items()]


def run_row(run: Evidence, stands_for: Iterable[str] = (), primary: str = "") -> Row:
    """What a run is, what it cost, all its scores, and the one that is its primary end point, where there is a plan."""
    return {
        "study": run.record["study"], "profile": run.record["profile"], "arm": run.arm,
        "stands_for": " ".join(stands_for), "data": run.data, "fold": run.config.data.fold, "seed": run.seed,
        "tuning": int(run.seed >= TUNING), "primary": run.values.get(primary, ""), "collapsed": int(run.collapsed),
        "diverged": int(run.diverged), "minutes": round(run.record["seconds"] / 60, 2),
        "same_run_as": run.record.get("same_run_as", ""), "precision": run.environment.get("precision", ""),
        "device": run.environment["device"], "commit": run.environment.get("commit") or "",
        "config": run.config_hash,
    } | run.values  # fmt: skip


def comparison_rows(study: Study, found: Mapping[str, choice.Runs]) -> list[Row]:
    """A row per comparison, those of the plan first; found: runs by profile."""
    rows = []
    decided = decide.decisions(study, found) if study.plan is not None else []
    taken = set()
    for made in decided:
        point = made.point
        taken.add((point.profile, point.data, point.score, point.arm, point.reference))
        rows.append(_primary(study, made, found.get(point.profile, {})))
    for profile, runs in found.items():
        for f in compare.findings(study, profile, runs):
            if (profile, f.data, f.score, f.comparison.arm, f.comparison.reference) not in taken:
                rows.append(_tested(study, profile, f) | {"kind": "exploratory"})
    return rows


def details(study: Study, made: Decision, runs: choice.Runs) -> Finding | None:
    """All tests of the pairs that a decision rests on; None where there are none."""
    point = made.point
    comparison = Comparison(point.arm, point.reference)
    ours, theirs = (
        compare.arm_runs(study, point.profile, study.arm(name), point.data, runs)
        for name in (point.arm, point.reference)
    )
    pairs = {s: p for s, p in compare.paired(ours, theirs, point.score).items() if s in made.seeds}
    if not made.differences:
        return None
    return compare.finding(study, point.profile, comparison, point.data, point.score, pairs, runs)


def _primary(study: Study, made: Decision, runs: choice.Runs) -> Row:
    point, found = made.point, details(study, made, runs)
    tested = _tested(study, point.profile, found) if found is not None else {
        "study": study.name, "profile": point.profile, "data": point.data, "score": point.score, "arm": point.arm,
        "reference": point.reference,
    }  # fmt: skip
    assert study.plan is not None
    looks = study.plan.looks
    final = looks[-1].p * (made.level / looks[made.look - 1].p if made.level > 0 else 1)  # its level at the last look
    told: Row = {"kind": "primary", "verdict": made.verdict, "look": made.look or "", "level": made.level,
                 "margin": point.margin, "failed": made.failed, "runs": made.runs, "reason": made.reason}  # fmt: skip
    if made.std > 0:
        told |= {
            "p_equal": equivalence_test(made.differences, point.margin),
            "smallest_effect": made.detectable(made.level or final),
            "pairs_needed": made.needed(final) or "",
        }
    return tested | told


def _tested(study: Study, profile: str, f: Finding) -> Row:
    return {
        "study": study.name, "profile": profile, "data": f.data, "score": f.score, "arm": f.comparison.arm,
        "reference": f.comparison.reference, "seeds": " ".join(map(str, f.seeds)), "pairs": len(f.differences),
        "effect": f.mean, "low": f.interval.low, "high": f.interval.high, "p": f.t, "p_sign_flips": f.flip.p,
        "p_block_model": f.block, "p_better": f.improvement,
    }  # fmt: skip


def write(studies: Iterable[Study], results: Path) -> None:
    """Write both tables of all results anew, where there are any."""
    runs: list[Row] = []
    comparisons: list[Row] = []
    for study in studies:
        by_profile = {
            profile: evidence.load_all(results / study.name / profile) for profile in profiles_of(study, results)
        }
        by_profile = {profile: found for profile, found in by_profile.items() if found}
        for profile, found in by_profile.items():
            runs += run_rows(study, profile, found)
        if by_profile:
            comparisons += comparison_rows(study, {p: choice.by_key(found) for p, found in by_profile.items()})
    if not runs:
        return
    write_text(results / RUNS, runs_text(runs))
    write_text(results / COMPARISONS, text_of(TESTS, comparisons))


def runs_text(rows: list[Row]) -> str:
    """runs.csv: what runs are, then their scores."""
    known = dict.fromkeys(key for row in rows for key in row)
    scores = [name for name, score in SCORES.items() if name in known and score.higher is not None]
    scores += sorted(known.keys() - {*FACTS, *scores})
    return text_of([*FACTS, *scores], rows)


def text_of(columns: Iterable[str], rows: Iterable[Row]) -> str:
    """A CSV text; numbers with twelve digits, empty where there is none."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if value != value else f"{value:.{DIGITS}g}"
