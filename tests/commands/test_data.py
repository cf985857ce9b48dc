from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tifffile

from unet.cli import main
from unet.config import Config
from unet.data.stack import Stack
from unet.datasets import DATA_SETS


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNET_DATA", raising=False)
    return tmp_path


@pytest.fixture
def folder(here: Path) -> Path:
    for part in ("images", "labels"):
        (here / "mine" / part).mkdir(parents=True)
    for i in range(5):
        tifffile.imwrite(here / "mine/images" / f"a{i}.tif", np.full((20, 24), 3 * i, np.uint8))
        tifffile.imwrite(here / "mine/labels" / f"a{i}.tif", np.eye(20, 24, dtype=np.uint8))
    return here / "mine"


def fails_with(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["data", *words]) == 2
    err = capsys.readouterr().err.strip()
    assert err.startswith("unet: ")
    assert "\n" not in err
    return err


def test_mistakes_are_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'verify'" in fails_with(capsys, "verfy")
    assert "did you mean 'hela'" in fails_with(capsys, "fetch", "hella")
    assert f"fetch {'|'.join(DATA_SETS)}|all" in fails_with(capsys, "fetch")
    assert "--from-file" in fails_with(capsys, "fetch", "em", "--from-fil", "x")
    assert "only the EM stack" in fails_with(capsys, "fetch", "all", "--jpeg")
    assert "no such file" in fails_with(capsys, "fetch", "em", "--from-file", "nowhere.zip")
    assert "one data set at a time" in fails_with(capsys, "show", "em", "phc")
    assert "did you mean '--data.fold'" in fails_with(capsys, "show", "synthetic-em", "--data.fodl", "1")
    assert "unet data fetch all" in fails_with(capsys, "verify")
    assert "holds no ISBI-2012-EM" in fails_with(capsys, "show", "em", "--data.root", str(here))


def test_usage_and_catalogue(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data"]) == 0
    assert "unet data fetch" in capsys.readouterr().out
    assert main(["data", "show"]) == 0
    out = capsys.readouterr().out
    for word in ("PhC-C2DH-U373.zip", "not here (unet data fetch hela)", "10.1371/journal.pbio.1000502", "--jpeg"):
        assert word in out
    assert list(here.iterdir()) == []


def test_show_a_folder_of_ones_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", "mine", "--data.fold", "4"]) == 0
    out = capsys.readouterr().out
    assert "images:        5 of 20 x 24, 1 channel" in out
    assert "held_out:      1: a4" in out
    assert "labels read as binary" in out
    (folder / "labels/a2.tif").unlink()
    assert "images/a2.tif: no label of this name" in fails_with(capsys, "show", "mine")


def test_fetch_from_a_folder_and_verify(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files that are not the published ones never become the data set, and `verify` says what is wrong with them."""
    (here / "given").mkdir()
    volume = np.zeros((30, 8, 8), np.uint8)
    for name in ("train-volume", "train-labels", "test-volume"):
        tifffile.imwrite(here / "given" / f"{name}.tif", volume)
    assert "not the published" in fails_with(capsys, "fetch", "em", "--from-file", "given")
    (here / "data" / "ISBI-2012-EM").mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(here / "data" / "ISBI-2012-EM" / "train-volume.tif", volume)
    assert main(["data", "verify", "em"]) == 1
    out = capsys.readouterr().out
    assert "ISBI-2012-EM/train-volume.tif: truncated" in out
    assert "ISBI-2012-EM/train-labels.tif: missing" in out


@pytest.mark.real_data
def test_real_sets_are_verified_and_shown(
    data_root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNET_DATA", str(data_root))
    assert main(["data", "verify"]) == 0
    assert capsys.readouterr().out.count("every file is there and unchanged") == 3
    assert main(["data", "show", "hela"]) == 0
    assert "with ignored pixels: 01/t067, 02/t042, 02/t061" in capsys.readouterr().out


def test_preview_passes_stack_configuration_and_file(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, float, Path]] = []

    def contact_sheet(stack: Stack, config: Config, path: Path) -> None:
        asked.append((stack.name, config.weight.w0, path))

    module = types.ModuleType("unet.views.preview")
    module.contact_sheet = contact_sheet  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "unet.views.preview", module)
    assert main(["data", "preview", "mine", "--weight.w0", "3"]) == 0
    assert main(["data", "preview", "mine", "--out", "sheet.png"]) == 0
    assert asked == [("mine", 3.0, Path("mine-preview.png")), ("mine", 10.0, Path("sheet.png"))]
    assert "contact sheet: sheet.png" in capsys.readouterr().out
