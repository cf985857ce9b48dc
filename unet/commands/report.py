"""`unet report [RUN|STUDY]`: one HTML file about a run or a study, which opens without a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from unet.commands.parse import parse
from unet.config import PROFILES
from unet.errors import ConfigError, RunError, nearest
from unet.runs.folder import CONFIG
from unet.terminal import Terminal

RUNS = Path("runs")
FILE = "report.html"


@dataclass(frozen=True)
class Arguments:
    """Flags of `unet report`."""

    what: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[RUN|STUDY]")] = ""
    """A run's folder (or its name below runs/), a study's name, page or folder of results; default: the newest run."""
    profile: str = ""
    """Of a study: the size whose results are shown; default: the only one that has results."""
    results: str = ""
    """Folder of the evidence of studies; default: results/ beside the study's page."""
    runs: str = "runs/studies"
    """Folder of the studies' run folders, for links to their reports."""
    data_folder: Annotated[str, tyro.conf.arg(name="data.folder")] = ""
    """Where the images of a run lie by now, if they have moved; the run remembers it."""
    out: str = ""
    """File to write; default: report.html in the run's folder, or in the study's folder of results."""
    quiet: bool = False
    """Print the path of the file only."""


def main(argv: list[str]) -> int:
    """Write the page and print its path."""
    arguments = parse(Arguments, argv, "unet report", "One self-contained HTML page about a run or a study.")
    terminal = Terminal(arguments.quiet)
    run = find_run(arguments.what)
    if arguments.data_folder:
        from unet.training.continuing import data_moved

        if run is None:
            raise ConfigError(f"--data.folder is for runs; {arguments.what} is a study")
        data_moved(run, arguments.data_folder, terminal)
    terminal.result(str(_of_study(arguments, terminal) if run is None else _of_run(run, arguments, terminal)))
    return 0


def find_run(what: str) -> Path | None:
    """The folder of the run that is meant; None when it is a study that is meant."""
    if not what:
        from unet.report.run import newest

        return newest(RUNS)
    candidates = (Path(what), RUNS / what)
    return next((path for path in candidates if (path / CONFIG).is_file()), None)


def _of_run(run: Path, arguments: Arguments, terminal: Terminal) -> Path:
    if arguments.profile:
        raise ConfigError(f"--profile is for studies; {run} is a run")
    from unet.report import page, run_page
    from unet.report.run import read

    out = Path(arguments.out) if arguments.out else run / FILE
    page.check(out)
    text = run_page.make(read(run), terminal)
    return page.write(out, text)


def _of_study(arguments: Arguments, terminal: Terminal) -> Path:
    from unet.report import page, study_page
    from unet.study import registry

    name, profile, results = arguments.what, arguments.profile, arguments.results
    folder = Path(name)
    if folder.is_dir():  # .../results/STUDY/PROFILE, or .../results/STUDY
        if folder.name in PROFILES:
            folder, profile = folder.resolve().parent, profile or folder.name
        name, results = folder.resolve().name, results or str(folder.resolve().parent)
    try:
        file = registry.find(name)
    except ConfigError as error:
        known = sorted(path.parent.name for path in RUNS.glob(f"*/{CONFIG}"))
        raise RunError(f"{arguments.what!r} is no run ({RUNS}/){nearest(arguments.what, known)}; {error}") from None
    study = registry.study_of(file)
    home = (Path(results) if results else file.parent / "results") / study.name
    profile = profile or _only_profile(home, study.name)
    if profile not in PROFILES:
        raise ConfigError(f"profile {profile!r} is unknown{nearest(profile, PROFILES)}")
    out = Path(arguments.out) if arguments.out else home / profile / FILE
    page.check(out)
    with terminal.task(f"statistics and figures of {study.name}"):
        text = study_page.make(study, profile, home / profile, out, Path(arguments.runs) / study.name / profile)
    return page.write(out, text)


def _only_profile(home: Path, study: str) -> str:
    found = [profile for profile in PROFILES if (home / profile).is_dir()]
    if not found:
        raise RunError(f"{home}: no results; run the study first: unet study {study}")
    if len(found) > 1:
        raise ConfigError(f"{study} has results of several profiles; choose one with --profile {'|'.join(found)}")
    return found[0]
