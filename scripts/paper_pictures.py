"""The best and the worst frame of a finished run: `python scripts/paper_pictures.py RUN OUT.jpg`.

Of a run that held frames out, these (predicted anew); of one on all of EM, the challenge's test slices as
`unet evaluate RUN --test` left them.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from unet.data import isbi
from unet.data.isbi_labels import read as read_labels
from unet.data.load import find_root
from unet.datasets import DATA_SETS
from unet.errors import DataError
from unet.evaluation.frames import FramePrediction
from unet.evaluation.run import predict_held_out
from unet.evaluation.scoring import picture_rows, score
from unet.runs.folder import TEST_PROBABILITIES, TEST_SCORES
from unet.terminal import Terminal
from unet.views.worst_frames import Row, draw_rows


def held_out(run: Path) -> list[Row]:
    """Rows of the frames that a run held out and that have gold masks, worst first."""
    found = predict_held_out(run, Terminal())
    frames = [frame for frame in found.frames if frame.frame.name in found.gold]
    scores = score(frames, found.stack, found.gold, found.settings_of)
    best = {name: chosen.best for name, chosen in found.settings_of.items()}
    return picture_rows(frames, found.stack, found.gold, scores, best, len(frames))


def test_slices(run: Path) -> list[Row]:
    """Rows of the challenge's test slices, worst first."""
    root = find_root(DATA_SETS["em"], "")
    if root is None:
        raise DataError("the EM stack is not here; run `unet data fetch em`")
    stack, labels = isbi.read_test(root / DATA_SETS["em"].folder), read_labels(root).cells
    frames = []
    for frame, known, cell in zip(stack.frames, labels, tifffile.imread(run / TEST_PROBABILITIES), strict=True):
        frames.append(FramePrediction.of(replace(frame, label=known.astype(np.uint8)), np.stack([1 - cell, cell])))
    return picture_rows(frames, stack, {}, score(frames, stack, {}), most=len(frames))


def main(words: list[str]) -> int:
    """Draw the best and the worst frame of a run into a JPEG file."""
    run, out = map(Path, words)
    rows = test_slices(run) if (run / TEST_SCORES).is_file() else held_out(run)
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "rows.png"
        shown = [row._replace(legend="") for row in (rows[-1], rows[0])]
        draw_rows(picture, shown, f"best and worst frame; last column: {rows[0].legend}")
        Image.open(picture).convert("RGB").save(out, quality=85, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
