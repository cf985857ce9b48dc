"""Put the network of a finished run into the package: `python scripts/ship_weights.py RUN NAME`, then commit.

NAME (em, phc, hela) is what `unet predict NAME IMAGES` and `unet.load(NAME)` take. The weights become half precision;
how the run predicts and makes objects and its scores go into the file, and the model card beside the files (README.md)
is written anew from what the files say of themselves. Without arguments: the card only.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from unet.datasets import DATA_SETS
from unet.errors import RunError
from unet.evaluation.held_out import split_names
from unet.files import write_text
from unet.metrics.table import label
from unet.prediction.shipped import FOLDER, shipped
from unet.runs.checkpoint import load_weights, read_metadata, save_weights
from unet.runs.folder import SCORES, TEST_SCORES, WEIGHTS, RunFolder
from unet.study.text import table

SHOWN = ("seg", "pixel_error", "rand_error", "warping_error", "v_rand", "v_info")
PURPOSE = {
    "em": "membranes in serial-section electron micrographs, 4 x 4 nm a pixel",
    "phc": "single cells in phase contrast, 0.65 um a pixel",
    "hela": "touching cells in differential interference contrast, 0.19 um a pixel",
}
INTRODUCTION = """# The networks that come with the package

Written by `python scripts/ship_weights.py` from what the files say of themselves. `unet predict em IMAGES` (or `phc`,
`hela`) and `unet.load("em")` take them from here. Half precision; they predict as the scores beside them were made.
Each is one run of the page [paper](../../../experiments/results/paper/README.md), not the best of several: seed 0.

"""
LIMITS = """

Made for images like those they were trained on: same contrast, similar pixel size, objects of similar size. On others
look at the probabilities first (`unet predict --overlay`), or go on training from them: `unet train --from em
--data.folder DIR`. The scores of `em` are of the challenge's 30 test slices; those of the cells are of the sequence
that was left out (01), on its gold masks; their recipe was chosen with 01 left out, and the other way round scores less
([both](../../../experiments/results/paper/README.md)). Not for clinical use.

The weights are under the licence of this repository; the data they were trained on have terms of their own:

"""


def ship(run: Path, name: str) -> Path:
    """Write the weights of a run as the package's network `name`; returns the file. RunError when it has no scores."""
    folder = RunFolder.open_existing(run)
    config = folder.config
    weights, metadata = load_weights(run / WEIGHTS)
    scores = folder.read_json(SCORES) if (run / SCORES).is_file() else {}
    test = folder.read_json(TEST_SCORES)["protocols"]["paper"] if (run / TEST_SCORES).is_file() else {}
    found = {key: value for key, value in (test or scores).get("scores", {}).items() if key in SHOWN}
    if not found:
        raise RunError(f"{run}: holds no scores; evaluate it first")
    metadata |= {
        "data": config.data.name,
        "predict": {"symmetries": config.predict.symmetries, "average": config.predict.average},
        "record": {
            "labels": config.data.labels,
            "seed": config.train.seed,
            "updates": config.train.updates,
            "scored_on": "test slices" if test else "left-out sequence",
            "held_out": ", ".join(sorted({name.partition("/")[0] for name in split_names(folder, "held_out")})),
            "scores": found,
            "run": run.name,
        },
    }
    if scores.get("instances"):
        metadata["instances"] = scores["instances"]
    file = FOLDER / f"{name}.safetensors"
    save_weights(file, {key: tensor.to(torch.float16) for key, tensor in weights.items()}, metadata)
    return file


def card() -> str:
    """The model card of all files, as Markdown."""
    rows = [_row(name, file) for name, file in shipped().items()]
    header = ["name", "for", "network", "MB", "trained on", "scores"]
    sets = DATA_SETS
    terms = [f"- {sets[name].folder}: {sets[name].terms}; {sets[name].citation}.\n" for name in shipped()]
    return INTRODUCTION + table(header, rows) + LIMITS + "".join(terms)


def _row(name: str, file: Path) -> list[str]:
    said = read_metadata(file)
    model, record = said["model"], said["record"]
    parameters = sum(tensor.numel() for tensor in load_weights(file)[0].values())
    network = f"{model['depth']} levels, {model['base_channels']} channels, {parameters / 1e6:.1f} M parameters"
    labels = "" if said["data"] == "em" else f", {record['labels']} masks of one sequence"
    scores = ", ".join(f"{label(key)} {value:.4g}" for key, value in record["scores"].items())
    trained = f"{DATA_SETS[said['data']].folder}{labels}, {record['updates']} updates"
    return [f"`{name}`", PURPOSE.get(name, ""), network, f"{file.stat().st_size / 1e6:.1f}", trained, scores]


def main(words: list[str]) -> int:
    """Ship a network, or write the card again."""
    if len(words) == 2:
        file = ship(Path(words[0]), words[1])
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    write_text(FOLDER / "README.md", card())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
