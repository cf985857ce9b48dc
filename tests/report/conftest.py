"""A small trained run on images whose names try to break out of the page, and copies of it in other states."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unet.cli import main

EVIL = "a\"'&<img src=x onerror=alert(1)>\nb"
TINY = [
    "--model.base-channels", "2", "--model.depth", "3", "--tile.input-px", "52", "--train.updates", "30",
    "--train.eval-every", "5", "--train.device", "cpu", "--train.threads", "1", "--augment.gray", "--quiet",
    "--wandb", "disabled", "--data.split", "list", "--data.scores", "membranes",
]  # fmt: skip


def blobs(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """An image of bright discs on noise and its labels (0 and 255), uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    cells = np.zeros((height, width), bool)
    for _ in range(6):
        cy, cx, r = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(8, 16)
        cells |= (y - cy) ** 2 + (x - cx) ** 2 < r * r
    image = np.clip(60 + 110 * cells + rng.normal(0, 18, cells.shape), 0, 255).astype(np.uint8)
    return image, cells.astype(np.uint8) * 255


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A finished, scored run; treat it as read only (see `run`)."""
    folder = tmp_path_factory.mktemp("report")
    names = [EVIL if i == 0 else f"cell{i}" for i in range(5)]
    for i, name in enumerate(names):
        for part, picture in zip(("images", "labels"), blobs(i, 150, 170), strict=True):
            (folder / "data" / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / "data" / part / f"{name}.png")
    run = folder / "runs" / "small"
    words = ["train", "--data.folder", str(folder / "data"), "--data.held-out", EVIL, "cell1", "--run", str(run), *TINY]
    assert main(words) == 0
    return run


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of the finished run that a test may change; the data lies where the configuration says."""
    return Path(shutil.copytree(trained, tmp_path / "runs" / "small"))
