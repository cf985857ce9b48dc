"""What stays of a run in the repository: configuration, environment, curves, scores, and what made them.

    experiments/results/<study>/<profile>/<arm>-<data>-seed<N>/
        config.yaml        the resolved configuration
        environment.json   versions, device, precision, commit; no path of the machine
        metrics.jsonl      losses and held-out scores by update, six digits (blog_formula_of_mean_iou, of older runs:
                           the formula of `blog_iou` of the mean IoU, which was not the blog's)
        scores.json        the scores (none when nothing was held out); or failure.json, when training diverged
        record.json        arm, seed, time taken, the command that makes the run again
        gradient_noise.json   where it was measured

The last file to be written is scores.json (or failure.json), so that a folder that has it is whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from unet.config import Config, load_yaml, to_yaml
from unet.errors import RunError, one_line
from unet.files import sweep, write_json, write_text
from unet.runs.folder import CONFIG, METRICS, TIMING, RunFolder
from unet.study import curves
from unet.study.matrix import Job, difference, identity, without_dashboard

ENVIRONMENT, SCORES, FAILURE, RECORD, NOISE = (
    "environment.json", "scores.json", "failure.json", "record.json", "gradient_noise.json",
)  # fmt: skip
WEIGHTS = "weights.safetensors"  # in the run folder only
ATTEMPTS = "attempts.jsonl"  # in the run folder: a row per attempt of the worker, with its duration
DIGITS = 6
UNSCORED = {"frames": [], "scores": {}, "thresholds": {}, "by_frame": {}, "notes": ["no frames were held out"]}

HIGHER_IS_BETTER = {
    "mean_iou_last5": True, "mean_iou": True, "pixel_accuracy": True, "blog_iou": True, "seg": True, "det": True,
    "seg_components": True, "objects_found": True,
    "foreground_iou": True, "ap": True, "ap_50": True, "ap_75": True, "pq": True, "v_rand": True, "v_info": True,
    "pq_segmentation": True, "pq_recognition": True,
    "pixel_error": False, "misclassification": False, "rand_error": False, "rand_error_before_2015": False,
    "warping_error": False, "warping_error_classic": False,
    "loss": False, "loss_last5": False, "spikes": False, "train_loss": False,
    "det_splits": False, "det_false_negatives": False, "det_false_positives": False,
    "objects_missed": False, "objects_merged": False, "objects_split": False, "objects_spurious": False,
}  # fmt: skip
_WITHOUT_WORST = (  # no worst value that a diverged run could stand for
    "loss", "loss_last5", "spikes", "train_loss", "det_splits", "det_false_negatives", "det_false_positives",
    "objects_missed", "objects_merged", "objects_split", "objects_spurious",
)  # fmt: skip


def higher_is_better(score: str) -> bool | None:
    """Whether more of a score is better; None where it is not known or neither (the number of objects)."""
    return HIGHER_IS_BETTER.get(score, True if score.startswith(("iou_", "dice_", "precision_", "recall_")) else None)


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
        return _read_object(self.path / ENVIRONMENT, {"device": str, "processor": str, "packages": dict})

    @cached_property
    def record(self) -> dict[str, Any]:
        """Arm, seed, time taken, command."""
        return _read_record(self.path)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        rows = RunFolder(self.path).rows(METRICS)
        for row in rows:
            series = [row[key] for key in ("loss", "loss_max", "mean_iou") if row.get(key) is not None]
            if not isinstance(row.get("part"), str) or not all(map(_is_number, [row.get("update"), *series])):
                raise RunError(f"{self.path / METRICS}: damaged (a row is no row of numbers); restore it")
            if row["part"] == "train" and (row.get("loss") is None or row.get("loss_max") is None):
                raise RunError(f"{self.path / METRICS}: damaged (a row of training has no loss); restore it")
        return rows

    @property
    def diverged(self) -> bool:
        """True when training ended in a loss that was not finite or exploded."""
        return (self.path / FAILURE).is_file()

    @property
    def collapsed(self) -> bool:
        """True when the run predicts the same class everywhere (see unet.scoring.collapsed)."""
        return not self.diverged and self.stored.get("collapsed") is True

    @cached_property
    def stored(self) -> dict[str, Any]:
        """What scores.json holds."""
        return _read_object(self.path / SCORES, {"scores": dict})

    @cached_property
    def noise(self) -> dict[str, Any] | None:
        """The gradient noise measured at this run's weights, if it was."""
        if not (self.path / NOISE).is_file():
            return None
        found = _read_object(self.path / NOISE, {})
        for values in found.values():
            if not isinstance(values, dict) or not all(_is_number(values.get(key)) for key in _NOISE_KEYS):
                raise RunError(f"{self.path / NOISE}: damaged (not the gradient noise of arms); delete it")
        return found

    @cached_property
    def values(self) -> dict[str, float]:
        """Everything the run is judged by, by name.

        The scores of scores.json (last weights), `mean_iou_last5` and `loss_last5` (medians of the last five
        evaluations), `train_loss` (last tenth of training), `spikes`. A diverged run counts as the worst there is (0,
        or 1 for an error) and has no loss and no spikes: the leap that ended it is in no row. A score that its notes
        call empty (no cell at the best threshold, which an error of warping takes for perfect) is left out.
        """
        if self.diverged:
            return {k: 0.0 if better else 1.0 for k, better in HIGHER_IS_BETTER.items() if k not in _WITHOUT_WORST}
        found: dict[str, float] = {"spikes": float(curves.spikes(self.rows))}
        stored = self.stored
        if not all(value is None or _is_number(value) for value in stored["scores"].values()):
            raise RunError(f"{self.path / SCORES}: damaged (a score is no number); restore it")
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
    notes = stored.get("notes")
    return {match.group(1) for note in notes or () if isinstance(note, str) and (match := _EMPTY.match(note))}


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
    """True when a run folder holds the end of a run: its scores (weights where none was held out), or a divergence."""
    if (run / SCORES).is_file() or (run / FAILURE).is_file():
        return True
    return (run / WEIGHTS).is_file() and RunFolder(run).held_nothing_out


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
    kept = UNSCORED if last == SCORES and not (run / SCORES).is_file() else _read_json(run / last)
    write_json(target / last, without_paths(kept))


def adopt(twin: Path, job: Job, target: Path) -> None:
    """Copy the evidence of the same run out of another study, saying so."""
    record = _read_record(twin)
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
        seconds += row["seconds_per_update"] * max(0, row["update"] - last) + row.get("evaluation_s", 0.0)
        last = row["update"]
    return seconds


def load_all(folder: Path) -> list[Evidence]:
    """All whole runs below a folder results/<study>/<profile>, in the order of their names."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [load(path) for path in paths if path.is_dir() and is_whole(path)]


def load(path: Path) -> Evidence:
    """The evidence in one folder."""
    record = _read_record(path)
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
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read ({one_line(error)}); delete its folder to run it again") from None


def _read_object(path: Path, expected: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """A JSON object with these keys, of these types; else RunError."""
    value = _read_json(path)
    wrong = [
        key for key, kind in expected.items() if not (isinstance(value, dict) and isinstance(value.get(key), kind))
    ]
    if wrong or not isinstance(value, dict):
        raise RunError(f"{path}: damaged ({', '.join(wrong) or 'no JSON object'}); delete its folder to run it again")
    return value


def _read_record(folder: Path) -> dict[str, Any]:
    record = _read_object(folder / RECORD, {"study": str, "profile": str, "arm": str, "data": str, "seed": int})
    if not _is_number(record.get("seconds")):
        raise RunError(f"{folder / RECORD}: damaged (seconds); delete its folder to run it again")
    return record


def _is_number(value: Any) -> bool:
    """A number (or, as JSON has it for what is not finite, NaN or an infinity) that fits a float."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**62
    return isinstance(value, float)


_NOISE_KEYS = ("input_pixels", "loss_pixels", "signal", "variance", "variance_per_pixel")
