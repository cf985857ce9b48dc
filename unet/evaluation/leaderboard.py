"""The EM challenge's 30 test slices, predicted by one network or the mean of several and scored like for like.

The labels decide nothing: no setting, no length of training, no choice of a run. Axes: N slices, K classes, H, W.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.config import PredictConfig
from unet.data import isbi
from unet.data.isbi_labels import ChallengeLabels
from unet.data.isbi_labels import read as read_labels
from unet.data.load import find_root
from unet.data.stack import Normalisation, Stack
from unet.datasets import DATA_SETS
from unet.errors import DataError, RunError
from unet.evaluation.held_out import split_names
from unet.evaluation.published_scores import EM_TEST
from unet.evaluation.run import configured_or, hardware_of
from unet.files import sha256, write_json
from unet.metrics.em import em_sweeps
from unet.metrics.sweep import THRESHOLDS
from unet.metrics.warping import RADIUS, WARPING_THRESHOLDS
from unet.prediction.ensemble import Average, Predicting
from unet.prediction.overlap import predict_image
from unet.prediction.submission import write_isbi
from unet.prediction.trained import load_ensemble, weights_file
from unet.runs.folder import TEST_PROBABILITIES, TEST_SCORES, RunFolder
from unet.runs.lock import reentrant_run_lock
from unet.terminal import Terminal

COLUMNS = {"pixel_error": 6, "rand_error": 6, "warping_error": 6, "v_rand": 5, "v_info": 5}
"""Scores of the table, and how many digits of ours it shows."""


@dataclass(frozen=True)
class Protocol:
    """One way to score the slices: which of them, and the sweep and the window of the warping error."""

    name: str
    what: str
    slices: tuple[int, ...]
    warping_thresholds: tuple[float, ...]
    warping_radius: int


PROTOCOLS = (
    Protocol("paper", "the paper's (script of 2015)", tuple(range(isbi.SLICES)), WARPING_THRESHOLDS, RADIUS),
    Protocol("archive", "the archive's (script of 2016)", tuple(range(1, isbi.SLICES, 3)), THRESHOLDS[1:10], 10),
)
"""The paper's table was made with the older script; the later takes ten slices by default (1, 4, ..., 28 from 0)."""


def evaluate_test(
    paths: Sequence[Path],
    terminal: Terminal,
    symmetries: int | None = None,
    average: Average | None = None,
    *,
    out: Path | None = None,
) -> dict[str, Any]:
    """Predict the test slices with one run, or with several as an ensemble, and score them by both protocols.

    Writes test-scores.json and test-probabilities.tif (probability of cell, N x H x W float32) into the run's folder,
    or, of several runs, into `out`; returns what test-scores.json holds. symmetries, average: as the (first) run was
    configured unless they are given.

    RunError for a run that is not of the EM stack or not finished, for runs that do not fit together, and when `out`
    has test scores; DataError when the slices or their labels are missing or damaged.
    """
    target = out or paths[0]
    if out is not None and (out / TEST_SCORES).exists():
        raise RunError(f"{out} holds test scores already; name another folder with --out")
    root, how = _root(paths), configured_or(RunFolder(paths[0]).config, symmetries, average)
    labels = read_labels(root)
    with reentrant_run_lock(paths[0]) if out is None else nullcontext():
        network, metadata = load_ensemble(paths, hardware_of)
        if metadata["class_names"] != list(isbi.CLASS_NAMES) or metadata["channels"] != 1:
            raise RunError(f"{paths[0]}: its network does not tell {' from '.join(isbi.CLASS_NAMES)} in gray images")
        normalise = Normalisation(**metadata["normalisation"])
        images = isbi.read_test(root / DATA_SETS["em"].folder, normalise=normalise)
        if labels.cells.shape != (len(images), *images.frames[0].size):
            raise DataError(f"{labels.path}: has shape {labels.cells.shape}, not that of the slices in {images.source}")
        cells = _predicted(network, images, replace(how, tile_px=metadata["tile_px"]), terminal)
        with terminal.task("scoring the test slices by both protocols"):
            saved = _record(paths, how, labels, images) | score(labels.cells, cells)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        write_isbi(target / TEST_PROBABILITIES, cells)
        write_json(target / TEST_SCORES, saved)
    return saved


def _predicted(network: Predicting, images: Stack, how: PredictConfig, terminal: Terminal) -> NDArray[np.float32]:
    """Probability of cell of every slice."""
    cells = np.empty((len(images), *images.frames[0].size), np.float32)
    with terminal.bar("predicting test slices", len(images)) as bar:
        for i, frame in enumerate(images.frames):
            cells[i] = predict_image(network, frame.image, images.classes, how)[1]
            bar.update(i + 1)
    return cells


def score(cells_NHW: NDArray[np.bool_], proposal_NHW: NDArray[np.float32]) -> dict[str, Any]:
    """Every score of the challenge by each of `PROTOCOLS`, with thresholds and notes; plain values."""
    found: dict[str, Any] = {}
    for protocol in PROTOCOLS:
        chosen = list(protocol.slices)
        sweeps = em_sweeps(
            cells_NHW[chosen],
            proposal_NHW[chosen],
            warping_radius=protocol.warping_radius,
            warping_thresholds=protocol.warping_thresholds,
        )
        found[protocol.name] = {
            "what": protocol.what,
            "slices": chosen,
            "warping_radius": protocol.warping_radius,
            "scores": {name: sweep.value for name, sweep in sweeps.items()},
            "thresholds": {name: sweep.threshold for name, sweep in sweeps.items()},
            "notes": [
                f"{name}: {sweep.empty_slices} slices have no cell at its best threshold; do not trust it"
                for name, sweep in sweeps.items()
                if sweep.empty
            ],
        }
    return {"protocols": found}


def table(saved: dict[str, Any]) -> str:
    """Ours by both protocols above the published rows, aligned; says which labels it was made with."""
    runs, turned = saved["runs"], saved["symmetries"]
    who = f"mean of {len(runs)} networks" if len(runs) > 1 else "one network"
    head = f"EM challenge, test slices: {who}, {f'{turned} symmetries' if turned > 1 else 'no symmetries'}"
    head += f" ({saved['average']} averaged); " if turned > 1 or len(runs) > 1 else "; "
    rows = table_rows(saved)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(["", row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    notes = [f"  note: {note}" for note in table_notes(saved)]
    return "\n".join([head + f"labels: {saved['labels']['note']}", *lines, *notes])


def table_rows(saved: dict[str, Any]) -> list[list[str]]:
    """The cells of that table, the first row its head."""
    rows = [["protocol or entry", "slices", *(name.replace("_", " ") for name in COLUMNS)]]
    for found in saved["protocols"].values():
        shown = [f"{found['scores'][name]:.{digits}f}" for name, digits in COLUMNS.items()]
        rows.append([f"ours, {found['what']}", str(len(found["slices"])), *shown])
    for entry in EM_TEST:
        rows.append([f"{entry.name} ({entry.table})", "", *(entry.shown(name) or "-" for name in COLUMNS)])
    return rows


def table_notes(saved: dict[str, Any]) -> list[str]:
    """What must be known of the runs and of single scores."""
    return [*saved["notes"], *(note for found in saved["protocols"].values() for note in found["notes"])]


def _root(paths: Sequence[Path]) -> Path:
    """The data root of the first run; RunError when a run is of other data, DataError when the slices are not here."""
    configs = [(path, RunFolder.open_existing(path).config.data) for path in paths]
    for path, config in configs:
        if config.name != "em":
            raise RunError(f"{path}: was trained on {config.name}; only the EM challenge has published its test labels")
    root = find_root(DATA_SETS["em"], configs[0][1].root)
    if root is None:
        raise DataError("the EM stack is not here; run `unet data fetch em`")
    return root


def _record(paths: Sequence[Path], how: PredictConfig, labels: ChallengeLabels, images: Stack) -> dict[str, Any]:
    """What test-scores.json holds beside the scores."""
    folders = [RunFolder(path) for path in paths]
    data = [str(folder.environment.get("data_source", "data that was not recorded")) for folder in folders]
    frames = [len(split_names(folder, "train")) for folder in folders]
    return {
        "data": images.source,
        "labels": {"path": str(labels.path), "origin": labels.origin, "note": labels.note},
        "runs": [str(path) for path in paths],
        "weights": [sha256(weights_file(path)) for path in paths],
        "trained_on": [f"{n} frames of {source}" for n, source in zip(frames, data, strict=True)],
        "symmetries": how.symmetries,
        "average": how.average,
        "notes": [f"{p}: trained on {d}" for p, d in zip(paths, data, strict=True) if "built-in synthetic" in d],
        "published": [{"name": e.name, "table": e.table, "scores": dict(e.scores)} for e in EM_TEST],
    }
