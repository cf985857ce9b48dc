"""What stays of a run in the repository: configuration, environment, curves, scores, and what made them.

    experiments/results/<study>/<profile>/<arm>-<data>-seed<N>/
        config.yaml        the resolved configuration
        environment.json   versions, device, precision, commit; no path of the machine
        split.json         names of the training and of the held-out frames
        metrics.jsonl      losses and held-out scores by update, six digits (blog_formula_of_mean_iou, of older runs:
                           the formula of `blog_iou` of the mean IoU, which was not the blog's)
        scores.json        the scores (none when nothing was held out); or failure.json, when training diverged
        record.json        arm, seed, time taken, the command that makes the run again
        gradient_noise.json   where it was measured

The last file to be written is scores.json (or failure.json), so that a folder that has it is whole. Runs that have
ended are packed into two files beside the folders (unet.study.store); they are read as if they were folders.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from unet.config import Config, from_dict, load_yaml, parse_yaml
from unet.errors import RunError, one_line
from unet.metrics.table import WORST
from unet.runs.folder import CONFIG, ENVIRONMENT, FAILURE, METRICS, NOISE, RECORD, SCORES, SPLIT, WEIGHTS, RunFolder
from unet.study import curves, store
from unet.study.design import Job, difference, identity

DIGITS = 6
_PART = {file: part for part, file in store.PARTS.items()}


@dataclass(frozen=True)
class Evidence:
    """One run's evidence: a folder, or what was packed of one that had this path."""

    path: Path
    arm: str
    data: str
    seed: int
    packed: Mapping[str, Any] | None = None

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return (self.path / name).is_file() if self.packed is None else _PART.get(name) in self.packed

    def _read(self, name: str, expected: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
        """The JSON object in a file, with these keys, of these types; else RunError."""
        value = read_json(self.path / name) if self.packed is None else self.packed.get(_PART[name])
        return _checked(self.path / name, value, expected)

    @cached_property
    def config(self) -> Config:
        """The resolved configuration."""
        return config_of(self.path) if self.packed is None else from_dict(self.packed["config"])

    @property
    def config_hash(self) -> str:
        """Of the configuration as it was written, so that keys which came later do not change it."""
        values = parse_yaml((self.path / CONFIG).read_text("utf-8")) if self.packed is None else self.packed["config"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, device, precision, commit."""
        return self._read(ENVIRONMENT, {"device": str, "processor": str, "packages": dict})

    @cached_property
    def record(self) -> dict[str, Any]:
        """Arm, seed, time taken, command."""
        return _checked_record(self.path, self._read(RECORD, {}))

    @cached_property
    def split(self) -> dict[str, Any]:
        """Names of the training and of the held-out frames; empty for runs that did not keep them."""
        return self._read(SPLIT, {}) if self.has(SPLIT) else {}

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        if self.packed is not None:
            return store.curves(self.path.parent, self.path.name)
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
        return self.has(FAILURE)

    @property
    def failure(self) -> dict[str, Any]:
        """What failure.json holds."""
        return self._read(FAILURE, {})

    @cached_property
    def stored(self) -> dict[str, Any]:
        """What scores.json holds."""
        return self._read(SCORES, {"scores": dict})

    @property
    def collapsed(self) -> bool:
        """True when the run predicts the same everywhere (see unet.evaluation.frames.collapsed)."""
        return not self.diverged and self.stored.get("collapsed") is True

    @cached_property
    def noise(self) -> dict[str, Any] | None:
        """The gradient noise measured at this run's weights, if it was."""
        if not self.has(NOISE):
            return None
        found = self._read(NOISE, {})
        for values in found.values():
            if not isinstance(values, dict) or not all(_is_number(values.get(key)) for key in _NOISE_KEYS):
                raise RunError(f"{self.path / NOISE}: damaged (not the gradient noise of arms); delete it")
        return found

    @cached_property
    def values(self) -> dict[str, float]:
        """Everything the run is judged by, by name.

        The scores of scores.json (last weights) and those of its curves (`unet.study.curves.scores`). A diverged run
        counts as the worst there is (0, or 1 for an error) and has no loss and no spikes: the leap that ended it is in
        no row. So does a score that its notes call empty (no cell at the best threshold, which an error of warping
        takes for perfect).
        """
        if self.diverged:
            return dict(WORST)
        found = self.packed["of_curves"] if self.packed and "of_curves" in self.packed else curves.scores(self.rows)
        if not all(value is None or _is_number(value) for value in self.stored["scores"].values()):
            raise RunError(f"{self.path / SCORES}: damaged (a score is no number); restore it")
        known = {name: float(value) for name, value in self.stored["scores"].items() if value is not None}
        return {**known, **{name: WORST[name] for name in empty_scores(self.stored) if name in WORST}, **found}


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
    return is_whole(run) or ((run / WEIGHTS).is_file() and RunFolder(run).held_nothing_out)


def check_same(folder: Path, config: Config, job: Job) -> None:
    """RunError when a run of that name was made with another configuration than the arm has now."""
    changed = difference(job.config, config)
    if changed:
        raise RunError(
            f"{folder} was made with another {', '.join(changed)}; delete it to run the arm as it is now, or give the "
            "arm another name"
        )


def load_all(folder: Path) -> list[Evidence]:
    """All whole runs below a folder results/<study>/<profile>, in the order of their names.

    RunError where a folder differs from the packed run of its name (where packing was killed, they are the same).
    """
    found = {run.path.name: run for run in _packed(folder)}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and is_whole(path):
            run = load(path)
            packed = found.setdefault(path.name, run)
            if packed is not run and (packed.config_hash, packed.values) != (run.config_hash, run.values):
                raise RunError(f"{path}: differs from the run of that name in {store.RUNS}; keep one of the two")
    return [found[name] for name in sorted(found)]


def load(path: Path) -> Evidence:
    """The evidence in one folder, or of a packed run that had it."""
    packed = store.lines(path.parent).get(path.name) if not path.is_dir() else None
    record = _checked_record(path, packed["record"] if packed else read_json(path / RECORD))
    return Evidence(path, record["arm"], record["data"], record["seed"], packed)


def find(path: Path) -> Evidence | None:
    """The evidence of this path, None where there is none or where it is not whole."""
    return load(path) if is_whole(path) or store.holds(path) else None


def _packed(folder: Path) -> tuple[Evidence, ...]:
    file = folder / store.RUNS
    return _packed_runs(folder, file.stat().st_mtime_ns) if file.is_file() else ()


@lru_cache(maxsize=64)
def _packed_runs(folder: Path, _: int) -> tuple[Evidence, ...]:
    made = []
    for name, line in store.lines(folder).items():
        record = _checked_record(folder / name, line["record"])
        made.append(Evidence(folder / name, record["arm"], record["data"], record["seed"], line))
    return tuple(made)


def pack(folder: Path) -> int:
    """Move all whole runs below a folder into its two files; returns how many."""
    runs = [load(run.path) for run in load_all(folder) if is_whole(run.path)]
    store.pack(folder, {run.path.name: {} if run.diverged else curves.scores(run.rows) for run in runs})
    return len(runs)


def twins(results: Path, profile: str) -> dict[str, Evidence]:
    """Whole evidence of every study of a profile, by the identity of its run; adopted copies are left out."""
    return {identity(run.config): run for run in reversed(list(_originals(results, profile)))}


def _originals(results: Path, profile: str) -> Iterator[Evidence]:
    for folder in sorted(results.glob(f"*/{profile}")):
        yield from (run for run in load_all(folder) if "same_run_as" not in run.record)


def read_json(path: Path) -> Any:
    """Content of a JSON file of evidence; RunError when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read ({one_line(error)}); delete its folder to run it again") from None


def _checked(path: Path, value: Any, expected: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    wrong = [
        key for key, kind in expected.items() if not (isinstance(value, dict) and isinstance(value.get(key), kind))
    ]
    if wrong or not isinstance(value, dict):
        raise RunError(f"{path}: damaged ({', '.join(wrong) or 'no JSON object'}); delete its folder to run it again")
    return value


def _checked_record(folder: Path, value: Any) -> dict[str, Any]:
    expected: dict[str, type | tuple[type, ...]] = {"study": str, "profile": str, "arm": str, "data": str, "seed": int}
    record = _checked(folder / RECORD, value, expected)
    if not _is_number(record.get("seconds")):
        raise RunError(f"{folder / RECORD}: damaged (seconds); delete its folder to run it again")
    return record


def _is_number(value: Any) -> bool:
    """A number (or, as JSON has it for what is not finite, NaN or an infinity) that fits a float."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**62
    return isinstance(value, float)


_EMPTY = re.compile(r"(\w+): \d+ slices have no cell at its best threshold")
_NOISE_KEYS = ("input_pixels", "loss_pixels", "signal", "variance", "variance_per_pixel")
