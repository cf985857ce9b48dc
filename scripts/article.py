"""The article about this reproduction (paper/article.typ) as PDF, every result in it taken from the evidence.

    python scripts/article.py [--out paper/build] [--results experiments/results]

Writes numbers.json, the figures, a copy of the sources and article.pdf. It needs `pip install 'unet-2015[paper]'`;
without Typst everything but the PDF is written.
"""

from __future__ import annotations

import argparse
import csv
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unet import __version__
from unet.files import write_json
from unet.study import claims, evidence, paper_tables, registry, verdicts
from unet.study.design import Study
from unet.study.tables import profiles_of

ROOT = Path(__file__).resolve().parents[1]
PAPER = ROOT / "paper"
SOURCES = ("article.typ", "references.bib", "metadata.yaml")
Cell = list[list[str]]
"""Parts of a line as [style, text]; styles: plain, strong, code."""

_INLINE = re.compile(r"\*\*(.+?)\*\*|`(.+?)`|\[([^\]]*)\]\([^)]*\)")
_OPEN = ("waiting", "open", "not tested")


def cell(markdown: str) -> Cell:
    """A line of Markdown as parts; links become their text."""
    parts: Cell = []
    last = 0
    for found in _INLINE.finditer(markdown):
        parts.append(["plain", markdown[last : found.start()]])
        strong, code, link = found.groups()
        parts.append(["strong", plain(strong)] if strong else ["code", code] if code else ["plain", link])
        last = found.end()
    parts.append(["plain", markdown[last:]])
    return [part for part in parts if part[1]]


def plain(markdown: str) -> str:
    """A line of Markdown without its marks."""
    return "".join(text for _, text in cell(markdown))


def table(markdown: str) -> dict[str, Any]:
    """The first table of a Markdown text as head and rows of cells; empty where there is none."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    rows = [[cell(part.strip()) for part in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {"head": rows[0], "rows": rows[2:]} if rows else {"head": [], "rows": []}


def part(page: str, beginning: str) -> str:
    """What stands below the heading, or behind the sentence, that begins so, to the next heading."""
    _, found, rest = page.partition(beginning)
    return rest.partition("\n## ")[0] if found else ""


def numbers(results: Path, experiments: Path = ROOT / "experiments") -> dict[str, Any]:
    """All that the article says of the evidence."""
    studies = {study.name: study for study in map(registry.study_of, registry.study_pages(experiments))}
    page = paper_tables.page(studies["paper"], results)
    test, _, folds = part(page, "## Table 1").partition("Out of fold")
    beside = [line[2:] for line in part(page, "## Beside").splitlines() if line.startswith("- ")]
    said = [line.partition(": ")[2] for line in beside]  # of the row that was named beforehand
    asked = table(claims.questions(studies.values(), results))
    claimed = claims.claims_table(registry.read(experiments / registry.CLAIMS)["CLAIMS"], studies, results)
    with (results / "runs.csv").open(encoding="utf-8") as file:
        runs = list(csv.DictReader(file))
    answers = [[text for style, text in row[1] if style == "strong"] for row in asked["rows"]]
    return {
        "version": __version__,
        "evidence": {
            "runs": len(runs),
            "hours": f"{sum(float(run['minutes'] or 0) for run in runs) / 60:.1f}",
            "studies": len({run["study"] for run in runs}),
            "channels": channels(studies.values(), results),
        },
        "targets": {
            "total": len(beside),
            "reached": sum(told.startswith("reached") for told in said),
            "missed": sum(told.startswith("not reached") for told in said),
            "open": sum(told.startswith("not run yet") for told in said),
        },
        "questions": {
            "total": len(answers),
            "decided": sum(not any(word in words for word in _OPEN) for words in answers),
        },
        "tables": {
            "em": table(test), "folds": table(folds), "seg": table(part(page, "## Table 2")), "questions": asked,
            "claims": table(claimed),
        },
        "beside": [cell(line) for line in beside],
        "figures": figures(studies.values(), results),
    }  # fmt: skip


def channels(studies: Iterable[Study], results: Path) -> str:
    """At full resolution, of the smallest and of the largest network among all runs."""
    folders = [results / study.name / profile for study in studies for profile in profiles_of(study, results)]
    found = {run.config.model.base_channels for folder in folders for run in evidence.load_all(folder)}
    return " to ".join(map(str, sorted({min(found), max(found)}))) if found else "no"


def figures(studies: Any, results: Path) -> list[dict[str, str]]:
    """The figures of studies with verdicts, by the name they get beside the article."""
    found: list[Study] = [study for study in studies if (results / study.name / verdicts.FIGURE).is_file()]
    return [
        {"file": f"{study.name}.png", "source": f"{study.name}/{verdicts.FIGURE}", "caption": study.question}
        for study in found
    ]


def build(results: Path, out: Path) -> Path | None:
    """Write the article's sources, its numbers and its PDF into a folder; returns the PDF, None without Typst."""
    out.mkdir(parents=True, exist_ok=True)
    for name in SOURCES:
        shutil.copyfile(PAPER / name, out / name)
    made = numbers(results)
    for picture in made["figures"]:
        shutil.copyfile(results / picture["source"], out / picture["file"])
    write_json(out / "numbers.json", made)
    try:
        import typst
    except ImportError:
        return None
    typst.compile(out / "article.typ", output=out / "article.pdf", root=out)
    return out / "article.pdf"


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PAPER / "build")
    parser.add_argument("--results", type=Path, default=ROOT / "experiments" / "results")
    options = parser.parse_args(arguments)
    written = build(options.results, options.out)
    if written is None:
        print(f"{options.out}: no PDF, Typst is not there; pip install 'unet-2015[paper]'", file=sys.stderr)
        return 1
    print(written)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
