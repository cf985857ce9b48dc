"""The contact sheet: written for every kind of stack, and showing what it says."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiles.test_source import PLAIN, config, make_stack
from unet.config import AugmentConfig
from unet.data.stack import Stack
from unet.errors import RunError
from unet.views.preview import IGNORE_COLOUR, contact_sheet


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        assert opened.format == "PNG"
        return np.asarray(opened.convert("RGB"))


def share(image: np.ndarray, colour: tuple[float, ...]) -> float:
    """Share of the pixels that have about this colour."""
    return float((np.abs(image / 255 - np.array(colour)).max(axis=-1) < 0.02).mean())


@pytest.mark.parametrize(
    "stack",
    [
        make_stack((90, 80)),
        make_stack((90, 80), channels=3, ignore=True),
        make_stack((40, 200), (30, 30), (9, 60), channels=5),
        make_stack((1, 1)),
    ],
    ids=["one frame", "colour with ignored pixels", "five channels, three shapes", "one pixel"],
)
def test_a_sheet_of_any_stack(stack: Stack, tmp_path: Path) -> None:
    path = tmp_path / "sub" / "sheet.png"
    contact_sheet(stack, config(AugmentConfig(elastic_std_px=3)), path)
    image = picture(path)
    assert min(image.shape[:2]) > 600
    assert image.std() > 20
    assert [p.name for p in path.parent.iterdir()] == ["sheet.png"]


def test_names_may_hold_any_characters(tmp_path: Path) -> None:
    stack = make_stack((90, 80))
    odd = replace(stack, name="$x$", frames=tuple(replace(f, name="a$_$0\t\\frac{") for f in stack.frames))
    contact_sheet(odd, config(PLAIN), tmp_path / "odd.png")
    assert picture(tmp_path / "odd.png").std() > 20


def test_output_window_grid_and_ignored_pixels_are_drawn(tmp_path: Path) -> None:
    plain, ignored = tmp_path / "plain.png", tmp_path / "ignored.png"
    contact_sheet(make_stack((90, 80)), config(PLAIN), plain)
    contact_sheet(make_stack((90, 80), ignore=True), config(PLAIN), ignored)
    red, _, blue = picture(plain).astype(int)[..., :3].transpose(2, 0, 1)[:, :, : 1240 // 4]  # first column of panels
    assert (red - blue > 60).mean() > 0.0005  # output window, image border
    assert (blue - red > 60).mean() > 0.0005  # grid
    assert share(picture(plain), IGNORE_COLOUR) == 0
    assert share(picture(ignored), IGNORE_COLOUR) > 0.01


def test_frames_without_labels_are_shown_as_images_alone(tmp_path: Path) -> None:
    stack = make_stack((90, 80), (90, 80))
    bare = replace(stack, frames=tuple(replace(f, label=None) for f in stack.frames))
    contact_sheet(bare, config(PLAIN), tmp_path / "bare.png")
    contact_sheet(stack, config(PLAIN), tmp_path / "full.png")
    assert picture(tmp_path / "bare.png").shape[0] < picture(tmp_path / "full.png").shape[0]


def test_a_sheet_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("not a folder")
    with pytest.raises(RunError):
        contact_sheet(make_stack((40, 40)), config(PLAIN), tmp_path / "occupied" / "sheet.png")


def test_matplotlib_is_imported_only_to_draw_and_pyplot_never(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import unet.views.preview; assert 'matplotlib' not in sys.modules;"
        "from tests.tiles.test_source import *;"
        f"unet.views.preview.contact_sheet(make_stack((40, 40)), config(), Path({str(tmp_path / 'sheet.png')!r}));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
