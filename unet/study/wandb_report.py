"""A study as a W&B report: its question, verdicts, the table they rest on, plots of its runs, and links to them.

The text is that of the study's page, made from the stored evidence; the plots are drawn by W&B from the runs that
`unet study NAME --sync` sends.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unet.study import choice, compare, evidence, report, sync, tables, verdicts
from unet.study.design import Study
from unet.study.evidence import Evidence

LONGEST_TITLE = 128  # that W&B takes


def make(study: Study, results: Path, panels: Sequence[Any], entity: str, project: str, site: str) -> Any:
    """The report (a wandb_workspaces Report), not saved. panels: of the study's runs; site: W&B's address."""
    import wandb_workspaces.reports.v2 as wr

    runs = {name: evidence.load_all(results / study.name / name) for name in tables.profiles_of(study, results)}
    runs = {profile: found for profile, found in runs.items() if found}
    drawn = wr.PanelGrid(
        runsets=[wr.Runset(name=study.name, filters=f"Config('study') == '{study.name}'",
                           groupby=["group", "config.data.name"])],
        panels=list(panels),
    )  # fmt: skip
    place = f"{site}/{entity}/{project}/runs"
    linked = [
        wr.H2(profile, collapsed_blocks=[wr.MarkdownBlock(_links(study, profile, found, place))])
        for profile, found in runs.items()
    ]
    blocks = [
        wr.H1("Question"),
        wr.P(study.question),
        wr.H1("Verdicts"),
        wr.MarkdownBlock("\n\n".join(_verdicts(study, runs))),
        wr.H1("Runs"),
        drawn,
        wr.P(f"Each run as `unet study {study.name} --profile PROFILE --sync` sends it:"),
        *linked,
    ]
    title = f"{study.name}: {study.title}"[:LONGEST_TITLE]
    return wr.Report(entity=entity, project=project, title=title, description=study.question, blocks=blocks,
                     width="fluid")  # fmt: skip


def _verdicts(study: Study, runs: dict[str, list[Evidence]]) -> list[str]:
    """Markdown: sentences and their table by the plan, or, where there is none, the effects of each profile."""
    by_key = {profile: choice.by_key(found) for profile, found in runs.items()}
    if study.plan is not None:
        planned = {profile: by_key.get(profile, {}) for profile in study.plan.seeds}
        made = verdicts.decided(study, planned)
        return ["\n".join(verdicts.sentence(study, d) for d, _ in made), verdicts.table(study, made)]
    told = [
        f"**{profile}**: {report.verdicts(study, profile, compare.findings(study, profile, found))}"
        for profile, found in by_key.items()
    ]
    return told or ["No run has ended yet."]


def _links(study: Study, profile: str, runs: Sequence[Evidence], place: str) -> str:
    """Markdown: a line per run."""
    return "\n".join(f"- [{run.path.name}]({place}/{sync.run_id(study.name, profile, run)})" for run in runs)
