"""`unet evaluate`: score finished runs on their held-out frames or on the EM challenge's test slices, or any prediction
against labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from unet.commands.parse import parse
from unet.errors import ConfigError
from unet.runs.folder import PICTURE, TEST_SCORES, RunFolder
from unet.terminal import Terminal


@dataclass(frozen=True)
class Arguments:
    """Flags of `unet evaluate`."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RUN ...]")] = ()
    """Run folder; several of different folds: scored as one, into --out."""
    test: bool = False
    """Score the EM challenge's 30 test slices instead; several runs: their mean prediction, into --out."""
    ensemble: bool = False
    """Score the mean prediction of several runs that held the same frames out, into --out."""
    symmetries: int = 0
    """1, 4 (average over the flips) or 8 (over the symmetries of the square); 0: as the run was configured."""
    average: Literal["run", "probabilities", "logits"] = "run"
    """What is averaged over symmetries and networks; run: as the run was configured."""
    data_folder: Annotated[str, tyro.conf.arg(name="data.folder")] = ""
    """Where the images of a run lie by now, if they have moved; the run remembers it."""
    prediction: str = ""
    """Image file, or folder of them, with probabilities (float in 0..1, 8- or 16-bit), masks, class numbers, or, where
    the labels are instances, numbered objects."""
    labels: str = ""
    """Image file, or folder of them, with the labels of --prediction; what they were taken for is said."""
    label_kind: Annotated[Literal["auto", "binary", "classes", "instances"], tyro.conf.arg(name="data.label-kind")] = (
        "auto"
    )
    """What --labels mean, where that is not what they were taken for."""
    label_map: Annotated[tuple[str, ...], tyro.conf.arg(name="data.label-map")] = ()
    """Table of the values of --labels, as for unet train."""
    foreground: Annotated[Literal["high", "low"], tyro.conf.arg(name="data.foreground")] = "high"
    """Which of the two values of binary --labels is the foreground."""
    scores: Annotated[Literal["auto", "classes", "membranes", "objects"], tyro.conf.arg(name="data.scores")] = "auto"
    """Scores of --prediction; membranes: also those of the EM challenge (foreground = cells)."""
    partial: bool = False
    """The --labels hold some of the objects only: leave out the scores that need all of them."""
    out: str = ""
    """Folder for the results of --prediction (default: beside it, named PREDICTION-scores) or of several runs."""
    overwrite: bool = False
    """Replace the results of --prediction if there are any."""
    quiet: bool = False
    """Print the scores only."""


def main(argv: list[str]) -> int:
    """Print the table; write scores.json and the picture (and, of runs, the probabilities)."""
    description = (
        "Score a finished run (unet evaluate RUN), the folds of a cross-validation as one set "
        "(unet evaluate RUN RUN ... --out DIR), several runs as an ensemble (the same with --ensemble), one or several "
        "on the EM challenge's test slices (--test), or --prediction against --labels."
    )
    arguments = parse(Arguments, argv, "unet evaluate", description)
    terminal = Terminal(arguments.quiet)
    if bool(arguments.runs) == bool(arguments.prediction):
        raise ConfigError("name either run folders, or --prediction with --labels (see unet evaluate --help)")
    if bool(arguments.prediction) != bool(arguments.labels):
        raise ConfigError("--prediction and --labels go together")
    if arguments.runs and (flag := _of_files(arguments)):
        raise ConfigError(f"{flag} goes with --prediction and --labels; a run knows its labels")
    if arguments.symmetries not in (0, 1, 4, 8):
        raise ConfigError(f"--symmetries {arguments.symmetries}: use 1, 4 or 8")
    if arguments.ensemble and len(arguments.runs) < 2:
        raise ConfigError("--ensemble scores several runs as one; name them (unet evaluate RUN RUN ... --ensemble)")
    if arguments.test and not arguments.runs:
        raise ConfigError("--test scores runs; for a prediction of the test slices give --prediction and --labels")
    if arguments.runs and bool(arguments.out) != (len(arguments.runs) > 1):
        raise ConfigError("--out DIR goes with several runs: one run keeps its scores in its own folder")
    from unet.evaluation.run import evaluate_ensemble, evaluate_folds, evaluate_run, table
    from unet.runs.dashboard import Dashboard
    from unet.runs.final import send_scores
    from unet.runs.lock import keep_run_locks

    for run in arguments.runs if arguments.data_folder else ():
        from unet.training.continuing import data_moved

        data_moved(Path(run), arguments.data_folder, terminal)
    if arguments.test:
        return _test(arguments, terminal)
    if arguments.runs:
        paths = [Path(run) for run in arguments.runs]
        symmetries = arguments.symmetries or None
        average = None if arguments.average == "run" else arguments.average
        if len(paths) == 1:
            with keep_run_locks(), Dashboard(terminal.say, "evaluate") as dashboard:
                scores = evaluate_run(paths[0], terminal, symmetries, average)
                send_scores(dashboard, RunFolder(paths[0]), scores)
            terminal.result(table(scores))
            return 0
        scored = evaluate_ensemble if arguments.ensemble else evaluate_folds
        terminal.result(table(scored(paths, Path(arguments.out), terminal, symmetries, average)))
        terminal.result(f"picture: {Path(arguments.out) / PICTURE}")
        return 0
    return _files(arguments, terminal)


def _files(arguments: Arguments, terminal: Terminal) -> int:
    """A prediction that somebody made, and its labels."""
    from unet.config import DataConfig
    from unet.evaluation.comparison import compare
    from unet.evaluation.run import table

    prediction, labels = Path(arguments.prediction), Path(arguments.labels)
    out = Path(arguments.out) if arguments.out else prediction.with_name(f"{prediction.stem}-scores")
    said = DataConfig(
        folder=arguments.labels,
        label_kind=arguments.label_kind,
        label_map=arguments.label_map,
        foreground=arguments.foreground,
        scores=arguments.scores,
    )
    scores = compare(
        prediction, labels, out, said, partial=arguments.partial, overwrite=arguments.overwrite, terminal=terminal
    )
    terminal.result(table(scores))
    terminal.result(f"picture: {out / PICTURE}")
    return 0


def _of_files(arguments: Arguments) -> str:
    """The first flag that was given and is for --prediction only; empty: none."""
    flags = {
        "--data.label-kind": arguments.label_kind != "auto",
        "--data.label-map": bool(arguments.label_map),
        "--data.foreground": arguments.foreground != "high",
        "--data.scores": arguments.scores != "auto",
        "--partial": arguments.partial,
    }
    return next((flag for flag, given in flags.items() if given), "")


def _test(arguments: Arguments, terminal: Terminal) -> int:
    """The test slices; nothing of it goes to a dashboard, where runs are compared and chosen."""
    from unet.evaluation.leaderboard import evaluate_test, table
    from unet.runs.lock import keep_run_locks

    paths = [Path(run) for run in arguments.runs]
    out = Path(arguments.out) if arguments.out else None
    with keep_run_locks():
        symmetries, average = arguments.symmetries or None, None if arguments.average == "run" else arguments.average
        saved = evaluate_test(paths, terminal, symmetries, average, out=out)
    terminal.result(table(saved))
    terminal.result(f"scores: {(out or paths[0]) / TEST_SCORES}")
    return 0
