"""`unet study`: run what is missing of a study, redraw its tables and figure.

Parsed with the standard library alone, so that studies run on machines where only the arithmetic is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from unet.config import PROFILES, Config
from unet.errors import ConfigError, nearest
from unet.study import choice, compare, evidence, frozen, registry, status
from unet.study.design import SYNTHETIC_PROFILES, TUNING, Job, Study
from unet.study.ledger import Ledger, Options
from unet.study.runner import Runner
from unet.terminal import Terminal, format_seconds

MARKS = {"done": "#", "diverged": "x", "begun": "~", "missing": "."}


class _Parser(argparse.ArgumentParser):
    """Mistakes are errors of one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see unet study --help)")


def parser() -> argparse.ArgumentParser:
    """The flags of `unet study`."""
    made = _Parser("unet study", description="Run what is missing of a study, then redraw its tables and figure.")
    made.add_argument("study", nargs="?", default="", help="name of a study (none: list them), or claims")
    made.add_argument("--profile", default="", help=f"size: {', '.join(PROFILES)} (default: the first of the plan)")
    made.add_argument(
        "--seeds", type=int, help="runs per arm and data set: seeds 0, 1, ... (default: the plan's, else 3)"
    )
    made.add_argument("--only", action="append", default=[], metavar="ARM", help="this arm only (may be repeated)")
    made.add_argument("--decide", action="store_true", help="only what the plan's next verdicts wait for")
    made.add_argument("--data", action="append", default=[], metavar="SET", help="this data set only (repeatable)")
    made.add_argument(
        "--jobs", type=int, default=1, help="runs at a time, each on its share of cores and a GPU in turn"
    )
    made.add_argument(
        "--launcher", choices=("local", "submitit"), default="local", help="submitit: a SLURM job per run"
    )
    made.add_argument("--submit", action="append", default=[], metavar="KEY=VALUE", help="parameter of submitit's jobs")
    made.add_argument("--minutes", type=float, default=0, help="stop in good order after so long; 0: when done")
    made.add_argument("--dry-run", action="store_true", help="print what is done and what is left; run nothing")
    made.add_argument(
        "--status", action="store_true", help="runs done and left, hours left; of all studies without a name"
    )
    made.add_argument("--freeze", action="store_true", help="write the study's plan, to be committed before its runs")
    made.add_argument("--pack", action="store_true", help="put the evidence of ended runs into two files, then redraw")
    made.add_argument("--sync", action="store_true", help="send the stored evidence to W&B, as runs; train nothing")
    made.add_argument("--report", action="store_true", help="redraw tables and figure only")
    made.add_argument("--runs", default="runs/studies", help="folder of the run folders (default: runs/studies)")
    made.add_argument("--results", default="", help="folder of the evidence (default: results/ beside the page)")
    made.add_argument("--quiet", action="store_true", help="print results only")
    return made


def main(argv: list[str]) -> int:
    """Returns 0 when everything asked for is done, 1 when runs failed or time was over, 130 / 143 when stopped."""
    flags = parser().parse_args(argv)
    terminal = Terminal(flags.quiet)
    if flags.status:
        studies = _studies(flags.study)
        terminal.result("\n".join(status.told(studies, _asked_status(flags, studies), flags.results)))
        return 0
    if not flags.study:
        terminal.result("\n".join(_list()))
        return 0
    if flags.study == "claims" or Path(flags.study).name == registry.CLAIMS:
        folder = Path(flags.study).parent if flags.study != "claims" else registry.home()
        terminal.result(str(registry.write_claims(folder, Path(flags.results or folder / "results"))))
        return 0
    path = registry.find(flags.study)
    study = registry.study_of(path)
    if flags.freeze:
        frozen.freeze(study, frozen.file_of(path, study))
        terminal.result(f"{frozen.file_of(path, study)}: commit it before the first run")
        return 0
    options = _options(flags, study, path)
    if flags.dry_run:
        terminal.result("\n".join(matrix(study, options)))
        return 0
    if flags.sync:
        from unet.study import sync

        found = evidence.load_all(options.results / study.name / options.profile)
        sent = sync.send(study.name, options.profile, found, options.runs / "sync", terminal.say)
        terminal.result(f"{sent} of {len(found)} runs sent to W&B, the others are there already")
        return 0
    if flags.pack:
        folder = options.results / study.name / options.profile
        terminal.say(f"{folder}: {evidence.pack(folder)} runs packed")
    return (
        _report(study, options, path, terminal) if flags.report or flags.pack else _run(study, options, path, terminal)
    )


def _run(study: Study, options: Options, path: Path, terminal: Terminal) -> int:
    from unet.signals import Interrupted

    _follow_plan(study, options, path)
    runner = Runner(study, options, terminal)
    _check_packages(runner.ledger.wanted(), options.profile)
    _tell_precision(runner.ledger, terminal)
    code = 0
    try:
        done = runner.run()
        code = 0 if done else 1
    except Interrupted as interruption:
        terminal.say(f"unet: {interruption}; the same command goes on")
        code = interruption.exit_code
    _report(study, options, path, terminal)
    for name, reason in runner.failed.items():
        terminal.say(f"failed: {name}: {reason}")
    return code


def _follow_plan(study: Study, options: Options, path: Path) -> None:
    """ConfigError when a planned study has no committed plan or deviates from it; its commit is noted."""
    if study.plan is not None and options.profile in study.plan.seeds:
        frozen.check(study, frozen.file_of(path, study), options.results / study.name)
        frozen.note(frozen.file_of(path, study), options.results / study.name, options.profile)


def _report(study: Study, options: Options, path: Path, terminal: Terminal) -> int:
    try:
        with terminal.task("statistics, tables and figure"):
            written = registry.write_report(study, options.profile, options.results, frozen.file_of(path, study))
    except ImportError as error:
        terminal.say(f"no tables and figure here ({error}); redraw them where matplotlib is installed, with --report")
        return 0
    if written is None:
        terminal.say(f"{study.name} has no results with profile {options.profile} yet")
        return 0
    own = path.parent / "results"
    if options.results.resolve() == own.resolve() and (path.parent / registry.CLAIMS).is_file():
        registry.write_claims(path.parent, own)
    terminal.result(str(written))
    return 0


def _asked_status(flags: argparse.Namespace, studies: list[tuple[Path, Study]]) -> Options:
    """The part whose status is asked for: of one study what would be run, of all of them everything."""
    if flags.study:
        [(path, study)] = studies
        return replace(_options(flags, study, path), profile=flags.profile, seeds=flags.seeds or 0)
    if flags.only or flags.data or flags.seeds:
        raise ConfigError(
            "--only, --data and --seeds choose a part of one study; name it, such as unet study trap --status"
        )
    return Options(flags.profile, 0, Path(flags.runs), Path(), decide=flags.decide, at_once=flags.jobs)


def _options(flags: argparse.Namespace, study: Study, path: Path) -> Options:
    planned = study.plan.seeds if study.plan is not None else {}
    profile = flags.profile or next(iter(planned), "reduced")
    if profile not in PROFILES:
        raise ConfigError(f"profile {profile!r} is unknown{nearest(profile, PROFILES)}")
    if (flags.seeds is not None and flags.seeds < 1) or flags.jobs < 1 or flags.minutes < 0:
        raise ConfigError("--seeds and --jobs count from 1, --minutes from 0")
    most = max(planned[profile].values()) if profile in planned else 0
    seeds = flags.seeds or most or 3
    if most and seeds > most:
        raise ConfigError(f"--seeds {seeds}: the plan of {study.name} has {most} at {profile}, and no others count")
    if seeds > TUNING:
        raise ConfigError(f"--seeds {seeds}: seeds from {TUNING} on are those that settings are chosen on")
    if flags.decide and profile not in planned:
        raise ConfigError(f"--decide: {study.name} has no plan at {profile}")
    only = tuple(study.arm(name).name for name in flags.only)
    for name in flags.data:
        if name not in study.data:
            raise ConfigError(f"--data {name}: not in this study{nearest(name, study.data)} ({', '.join(study.data)})")
    runs = Path(flags.runs)
    # Results on synthetic images are no evidence; they stay beside the runs, which are not committed.
    results = runs / "results" if profile in SYNTHETIC_PROFILES else path.parent / "results"
    return Options(
        profile=profile,
        seeds=seeds,
        runs=runs,
        results=Path(flags.results) if flags.results else results,
        only=only,
        data=tuple(flags.data),
        decide=flags.decide,
        at_once=flags.jobs,
        launcher=flags.launcher,
        submit=tuple(flags.submit),
        minutes=flags.minutes,
    )


def _check_packages(wanted: list[Job], profile: str) -> None:
    """ConfigError, before anything runs, when arms vary gray values and the package for it is missing."""
    if importlib.util.find_spec("albumentations") is not None:
        return
    for job in wanted:
        if job.config.augment.gray:
            raise ConfigError(
                f"arm {job.arm} varies gray values (augment.gray) and albumentations is not installed; install it, or "
                f"use a profile without (--profile full-plain), whose results stand apart from those of {profile}"
            )


def _tell_precision(ledger: Ledger, terminal: Terminal) -> None:
    """Say, before hours are spent, which runs would stand alone because of this processor."""
    known = ledger.known()
    waiting: dict[str, list[Job]] = {}
    for job in ledger.wanted():
        if (job.arm, job.data, job.seed) not in known and ledger.state(job) == "missing":
            waiting.setdefault(_precision(job.config), []).append(job)
    for precision, own in waiting.items():
        if alone := compare.without_partner(ledger.study, own, known, precision):
            terminal.say(
                f"{alone} runs will be left out of comparisons: here they are trained in {precision}, those they are "
                "compared with were not; --profile reduced-fp32 is the small size in one precision on every machine"
            )


def _precision(config: Config) -> str:
    """What a run is trained in here; torch is loaded only where the processor decides."""
    if config.train.precision != "auto":
        return config.train.precision
    from unet.device import choose

    return choose(config).precision


def matrix(study: Study, options: Options) -> list[str]:
    """Lines that show what is done and what is left."""
    ledger = Ledger(study, options)
    wanted = ledger.wanted()
    states = {job.name: ledger.state(job) for job in wanted}
    counts = {state: sum(s == state for s in states.values()) for state in MARKS}
    told = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
    lines = [f"{study.name}, profile {options.profile}, seeds 0..{options.seeds - 1}: {len(wanted)} runs ({told})"]
    width = max(len(arm.name) for arm in study.arms)
    sets = [data for data in study.data if not options.data or data in options.data]
    lines.append(f"  {'':<{width}}  " + "  ".join(f"{data:<{max(options.seeds, len(data))}}" for data in sets))
    by_key = {(job.arm, job.data, job.seed): job for job in wanted}
    for arm in study.arms:
        cells = []
        for data in sets:
            own = [by_key.get((arm.name, data, seed)) for seed in range(options.seeds)]
            marks = "".join(" " if job is None else MARKS[states[job.name]] for job in own)
            cells.append(f"{marks:<{max(options.seeds, len(data))}}")
        if any(cell.strip() for cell in cells):
            lines.append(f"  {arm.name:<{width}}  " + "  ".join(cells))
    lines.append("  " + "  ".join(f"{mark} {state}" for state, mark in MARKS.items()))
    return [*lines, *_left(ledger, [job for job in wanted if states[job.name] in ("begun", "missing")])]


def _left(ledger: Ledger, open_jobs: list[Job]) -> list[str]:
    options, runs = ledger.options, choice.by_key(ledger.evidence())
    open_choices = choice.undecided(ledger.study, options.profile, options.seeds, runs)
    asked = ledger.asked()
    waiting = sum(asked(arm, job.data, job.seed) for arm, job in open_choices)
    lines = [f"and up to {waiting} runs at rates that are not chosen yet"] if waiting else []
    if not open_jobs:
        return [*lines, "nothing is left to run"]
    seconds = ledger.seconds_left(open_jobs)
    if seconds is None:
        return [*lines, "time left: not known before a run of this profile has ended"]
    measured = sum(run.record["seconds"] > 0 for run in ledger.evidence())
    return [*lines, f"time left: {format_seconds(seconds)} (from {measured} ended runs, {options.at_once} at a time)"]


def _studies(name: str) -> list[tuple[Path, Study]]:
    """The named study, or all that the pages define."""
    return [(path, registry.study_of(path)) for path in ([registry.find(name)] if name else registry.study_pages())]


def _list() -> list[str]:
    lines = []
    for path in registry.study_pages():
        study = registry.study_of(path)
        lines.append(f"{study.name:<16} {study.title}")
    return lines or ["no studies beside this package: name a page's file"]
