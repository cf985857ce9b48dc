"""The pages in `experiments/`: finding them, reading their studies, writing what is made from their results.

Pages are Python, and reading one runs it. A name means a page of the repository that this package lies in, never one of
the folder that happens to be the current one; another page is named by its path.
"""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet.errors import ConfigError, nearest
from unet.files import write_text
from unet.study import claims, evidence, figure, frozen, tables, verdicts
from unet.study import report as study_report
from unet.study.design import Study

NAME = "experiments"
CLAIMS = "claims.py"


def home() -> Path:
    """The folder of the repository's pages, relative where the repository is the current folder."""
    folder = Path(__file__).resolve().parents[2] / NAME
    return Path(NAME) if folder.parent == Path.cwd() else folder


def find(name: str) -> Path:
    """The page of a study, named as `tile-vs-batch`, `tile_vs_batch` or by its file."""
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise ConfigError(f"{name}: no such file; name a page of {NAME}/")
        return path
    path = home() / f"{name.replace('-', '_')}.py"
    if not path.is_file():
        known = [p.stem.replace("_", "-") for p in study_pages()]
        hint = nearest(name, known) or f" (there are {', '.join(known)})" if known else "; name its page by its path"
        here = Path(NAME) / path.name
        if here.is_file():  # of another folder: it is not run for its name alone
            hint = f"; for the one of the current folder name its page, {here}"
        raise ConfigError(f"there is no study {name!r}{hint}")
    return path


def study_pages(folder: Path | None = None) -> list[Path]:
    """The pages of a folder (default: of the repository) that define a study."""
    return [p for p in sorted((folder or home()).glob("*.py")) if "STUDY = Study(" in p.read_text(encoding="utf-8")]


def read(path: Path) -> dict[str, Any]:
    """What a page defines."""
    return runpy.run_path(str(path), run_name="page")


def study_of(path: Path) -> Study:
    """The study that a page defines; ConfigError when it has none."""
    study = read(path).get("STUDY")
    if not isinstance(study, Study):
        raise ConfigError(f"{path}: defines no STUDY; name a page of {NAME}/ such as tile-vs-batch")
    return study


def write_report(study: Study, profile: str, results: Path, plan_file: Path) -> Path | None:
    """Make the README and the figure of a study and profile anew, and the study's own; None when it has no runs.

    ConfigError when the study deviates from its frozen plan.
    """
    folder = results / study.name / profile
    planned = study.plan is not None and profile in study.plan.seeds
    if planned and evidence.load_all(folder):
        frozen.check(study, plan_file, results / study.name)
    if not figure.draw(study, profile, folder, folder / study_report.FIGURE):
        return None
    write_text(folder / study_report.README, study_report.make(study, profile, folder))
    own = verdicts.make if planned else study.front if study.plan is None else None
    if own is not None:
        if study.picture is not None:
            study.picture(study, results)
        write_text(results / study.name / verdicts.README, own(study, results))
    if not planned:
        return folder / study_report.README
    verdicts.draw(study, results, results / study.name / verdicts.FIGURE)
    return results / study.name / verdicts.README


def followed(folder: Path, results: Path) -> dict[str, Study]:
    """The studies of a folder of pages, by name; ConfigError when one that has runs deviates from its frozen plan."""
    studies = {}
    for path in study_pages(folder):
        study = study_of(path)
        studies[study.name] = study
        if study.plan is not None and any(verdicts.load(study, results).values()):
            frozen.check(study, frozen.file_of(path, study), results / study.name)
    return studies


def claims_page(folder: Path, results: Path) -> str:
    """The text of experiments/README.md with its generated parts made anew."""
    return _claims_page(folder, results, followed(folder, results))


def _claims_page(folder: Path, results: Path, studies: Mapping[str, Study]) -> str:
    defined = read(folder / CLAIMS)
    parts = {
        "questions": claims.questions(studies.values(), results),
        "targets": claims.targets(defined["TARGETS"], studies["baselines"], defined["ARMS"], results),
        "claims": claims.claims_table(defined["CLAIMS"], studies, results),
    }
    return claims.fill((folder / "README.md").read_text(encoding="utf-8"), parts)


def write_claims(folder: Path, results: Path) -> Path:
    """Write the tidy tables of all results and the generated parts of experiments/README.md."""
    studies = followed(folder, results)
    tables.write(studies.values(), results)
    path = folder / "README.md"
    write_text(path, _claims_page(folder, results, studies))
    return path
