"""What stays of a run in the repository: configuration, environment, curves, scores, and what made them.

    experiments/results/<study>/<profile>/<arm>-<data>-seed<N>/
        config.yaml        the resolved configuration
        environment.json   versions, device, precision, commit; no path of the machine
        metrics.jsonl      losses and held-out scores by update, six digits
        scores.json        the scores; or failure.json, when training diverged
        record.json        arm, seed, time taken, the command that makes the run again
        gradient_noise.json   where it was measured

The last file to be written is scores.json (or failure.json), so that a folder that has it is whole.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, cast

from unet.config import Config, load_yaml, to_yaml
from unet.errors import RunError, one_line
from unet.files import sweep, write_json, write_text
from unet.runs.folder import CONFIG, METRICS, TIMING, RunFolder
from unet.study import curves
from unet.study.matrix import Job, difference, identity, without_dashboard

ENVIRONMENT, SCORES, FAILURE, RECORD, NOISE = (
    "environment.json", "scores.json", "failure.json", "record.json", "gradient_noise.json",
)  # fmt: skip
ATTEMPTS = "attempts.jsonl"  # in the run folder: a row per attempt of the worker, with its duration
DIGITS = 6

HIGHER_IS_BETTER = {
    "mean_iou_last5": True, "mean_iou": True, "pixel_accuracy": True, "blog_iou": True, "seg": True, "det": True,
    "foreground_iou": True, "ap": True, "ap_50": True, "ap_75": True, "pq": True, "v_rand": True, "v_info": True,
    "pixel_error": False, "misclassification": False, "rand_error": False, "warping_error": False,
    "loss": False, "loss_last5": False, "spikes": False, "train_loss": False,
}  # fmt: skip
_WITHOUT_WORST = ("loss", "loss_last5", "spikes", "train_loss")  # no worst value that a diverged run could stand for


@dataclass(frozen=True)
class Evidence:
    """One run's folder of evidence."""

    path: Path
    arm: str
    data: str
    seed: int

    @cached_property
    def config(self) -> Config:
        """The resolved configuration."""
        return config_of(self.path)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, device, precision, commit."""
        return cast("dict[str, Any]", _read_json(self.path / ENVIRONMENT))

    @cached_property
    def record(self) -> dict[str, Any]:
        """Arm, seed, time taken, command."""
        return cast("dict[str, Any]", _read_json(self.path / RECORD))

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        return RunFolder(self.path).rows(METRICS)

    @property
    def diverged(self) -> bool:
        """True when training ended in a loss that was not finite or exploded."""
        return (self.path / FAILURE).is_file()

    @cached_property
    def noise(self) -> dict[str, Any] | None:
        """The gradient noise measured at this run's weights, if it was."""
        return _read_json(self.path / NOISE) if (self.path / NOISE).is_file() else None

    @cached_property
    def values(self) -> dict[str, float]:
        """Everything the run is judged by, by name.

        The scores of scores.json (last weights), `mean_iou_last5` and `loss_last5` (medians of the last five
        evaluations), `train_loss` (last tenth of training), `spikes`. A diverged run counts as the worst there is (0,
        or 1 for an error) and has no loss. A score that its notes call empty (no cell at the best threshold, which an
        error of warping takes for perfect) is left out.
        """
        found: dict[str, float] = {"spikes": float(curves.spikes(self.rows))}
        if self.diverged:
            worst = {k: 0.0 if better else 1.0 for k, better in HIGHER_IS_BETTER.items() if k not in _WITHOUT_WORST}
            return found | worst
        stored = _read_json(self.path / SCORES)
        empty = empty_scores(stored)
        scores = {name: value for name, value in stored["scores"].items() if name not in empty}
        found |= {name: float(value) for name, value in scores.items() if value is not None}
        for key in ("mean_iou", "loss"):
            median = curves.last_median(self.rows, key)
            if median is not None:
                found[f"{key}_last5"] = median
        found["train_loss"] = curves.final_training_loss(self.rows)
        return found


def empty_scores(stored: dict[str, Any]) -> set[str]:
    """Scores of a scores.json whose notes say that the prediction is empty at their best threshold."""
    return {match.group(1) for note in stored.get("notes", []) if (match := _EMPTY.match(note))}


def config_of(folder: Path) -> Config:
    """The configuration in a folder of a run or of evidence; read once as long as the file is the same."""
    file = folder / CONFIG
    return _config_of(file, file.stat().st_mtime_ns if file.is_file() else 0)


@lru_cache(maxsize=4096)
def _config_of(file: Path, _: int) -> Config:
    return load_yaml(file)


def is_whole(path: Path) -> bool:
    """True when a folder of evidence was written to its end."""
    return (path / SCORES).is_file() or (path / FAILURE).is_file()


def has_ended(run: Path) -> bool:
    """True when a run folder holds the end of a run: its scores, or the record of its divergence."""
    return (run / SCORES).is_file() or (run / FAILURE).is_file()


def check_same(folder: Path, job: Job) -> None:
    """RunError when a folder of that name was made with another configuration than the arm has now."""
    changed = difference(job.config, config_of(folder))
    if changed:
        raise RunError(
            f"{folder} was made with another {', '.join(changed)}; delete it to run the arm as it is now, or give the "
            "arm another name"
        )


def collect(run: Path, job: Job, target: Path) -> None:
    """Copy the evidence of an ended run into `target`."""
    config = without_dashboard(RunFolder.open_existing(run).config)
    environment = without_paths(_read_json(run / ENVIRONMENT))
    environment.pop("command", None)  # of the worker; the user's command stands in the record
    record = {
        "study": job.study,
        "profile": job.profile,
        "arm": job.arm,
        "data": job.data,
        "seed": job.seed,
        "seconds": round(seconds_taken(run), 1),
        "command": command(job),
    }
    sweep(target)
    write_text(target / CONFIG, to_yaml(config))
    write_json(target / ENVIRONMENT, environment)
    write_json(target / RECORD, record)
    write_text(target / METRICS, "".join(_short(row) + "\n" for row in RunFolder(run).rows(METRICS)))
    last = FAILURE if (run / FAILURE).is_file() else SCORES
    write_json(target / last, without_paths(_read_json(run / last)))


def adopt(twin: Path, job: Job, target: Path) -> None:
    """Copy the evidence of the same run out of another study, saying so."""
    record = _read_json(twin / RECORD)
    origin = f"{record['study']}/{record['profile']}/{twin.name}"
    record |= {"study": job.study, "arm": job.arm, "command": command(job), "same_run_as": origin}
    sweep(target)
    write_json(target / RECORD, record)
    last = FAILURE if (twin / FAILURE).is_file() else SCORES
    for name in (CONFIG, ENVIRONMENT, METRICS, last):
        write_text(target / name, (twin / name).read_text(encoding="utf-8"))


def command(job: Job) -> str:
    """The command that makes a run again from its evidence, from the repository's root."""
    folder = f"experiments/results/{job.study}/{job.profile}/{job.name}"
    return f"unet train --config-file {folder}/{CONFIG} --run runs/{job.name}"


def seconds_taken(run: Path) -> float:
    """Seconds a run took, all attempts that ended in order together; of killed ones what their timing rows tell."""
    folder = RunFolder(run)
    attempts = sum(row["seconds"] for row in folder.rows(ATTEMPTS))
    return float(attempts or _timed(folder))


def _timed(folder: RunFolder) -> float:
    last = 0
    seconds = 0.0
    for row in folder.rows(TIMING):
        seconds += row["seconds_per_update"] * max(0, row["update"] - last)
        last = row["update"]
    return seconds


def load_all(folder: Path) -> list[Evidence]:
    """All whole runs below a folder results/<study>/<profile>, in the order of their names."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [load(path) for path in paths if path.is_dir() and is_whole(path)]


def load(path: Path) -> Evidence:
    """The evidence in one folder."""
    record = _read_json(path / RECORD)
    return Evidence(path, record["arm"], record["data"], record["seed"])


def twins(results: Path, profile: str) -> dict[str, Path]:
    """Whole evidence of every study of a profile, by the identity of its run; adopted copies are left out."""
    found: dict[str, Path] = {}
    for path in sorted(results.glob(f"*/{profile}/*/{RECORD}")):
        if is_whole(path.parent) and "same_run_as" not in _read_json(path):
            found.setdefault(identity(config_of(path.parent)), path.parent)
    return found


_EMPTY = re.compile(r"(\w+): \d+ slices have no cell at its best threshold")
_PATH = re.compile(r"(?<![\w.:/-])(?:/[\w.@+-]+){2,}/?")


def without_paths(value: Any) -> Any:
    """The same plain values with absolute paths cut down to their last part."""
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    if isinstance(value, str):
        return _PATH.sub(lambda match: Path(match.group()).name, value)
    return value


def _short(row: dict[str, Any]) -> str:
    return json.dumps({k: float(f"{v:.{DIGITS}g}") if isinstance(v, float) else v for k, v in row.items()})


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({one_line(error)}); delete its folder to run it again") from None
