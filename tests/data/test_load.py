from __future__ import annotations

import dataclasses
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet.config import DataConfig
from unet.data import load as load_module
from unet.data.load import find_root, load, name_here, references
from unet.data.published.download import DEFAULT_LIMITS, Unavailable
from unet.datasets import DATA_SETS, DataSet
from unet.errors import ConfigError, DataError


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, no UNET_DATA, and no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNET_DATA", raising=False)

    def offline(data_set: DataSet, *_args: object, **_options: object) -> Path:
        raise Unavailable(f"{data_set.folder} could not be downloaded", "offline")

    monkeypatch.setattr(load_module, "fetch", offline)
    return tmp_path


def put_em(root: Path, gray: int) -> None:
    folder = root / "ISBI-2012-EM"
    folder.mkdir(parents=True, exist_ok=True)
    volume = np.full((6, 16, 16), gray, np.uint8)
    tifffile.imwrite(folder / "train-volume.tif", volume)
    tifffile.imwrite(folder / "train-labels.tif", np.where(volume > 0, 255, 0).astype(np.uint8))


def gray_of(config: DataConfig) -> int:
    return round(float(load(config, print).frames[0].image[0, 0, 0]) * 255)


def test_the_order_of_places(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, gray in (("named", 10), ("variable", 20), ("data", 30)):
        put_em(elsewhere / name, gray)
    assert gray_of(DataConfig()) == 30
    monkeypatch.setenv("UNET_DATA", str(elsewhere / "variable"))
    assert gray_of(DataConfig()) == 20
    assert gray_of(DataConfig(root=str(elsewhere / "named"))) == 10


def test_the_name_of_what_is_here_downloads_nothing(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "fetch", lambda *_: pytest.fail("a download was tried"))
    assert [name_here(name) for name in ("em", "hela")] == ["synthetic-em", "synthetic-hela"]
    put_em(elsewhere / "data", 30)
    assert [name_here(name) for name in ("em", "hela")] == ["em", "synthetic-hela"]


def test_jpeg_copies_that_were_asked_for_are_used_and_named(elsewhere: Path) -> None:
    folder = elsewhere / "data" / "ISBI-2012-EM" / "jpeg"
    for part, stem in (("images", "train-volume"), ("labels", "train-labels")):
        (folder / part).mkdir(parents=True)
        for i in range(30):
            Image.fromarray(np.full((16, 16), 255, np.uint8)).save(folder / part / f"{stem}{i:02}.jpg")
    lines: list[str] = []
    stack = load(DataConfig(), lines.append)
    assert "lossy JPEG copies" in stack.source
    assert "lossy JPEG copies" in lines[0]
    put_em(elsewhere / "data", 30)
    assert "lossless" in load(DataConfig(), lines.append).source


def test_one_line_says_what_is_used(elsewhere: Path) -> None:
    put_em(elsewhere / "data", 30)
    lines: list[str] = []
    stack = load(DataConfig(), lines.append)
    assert lines == [f"data: {stack.source}: 6 images"]
    assert "ISBI-2012-EM" in lines[0]


@pytest.mark.parametrize("name", ["em", "phc", "hela"])
def test_offline_the_synthetic_stack_of_the_same_kind_stands_in(elsewhere: Path, name: str) -> None:
    lines: list[str] = []
    stack = load(DataConfig(name=name, seed=3), lines.append)  # type: ignore[arg-type]
    assert stack.name == f"synthetic-{name}"
    assert len(lines) == 1
    assert "offline" in lines[0]
    assert f"synthetic-{name}, seed 3" in lines[0]
    assert list(elsewhere.iterdir()) == []


def test_a_root_that_was_named_is_never_replaced(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_em(elsewhere / "data", 30)
    (elsewhere / "empty" / "ISBI-2012-EM").mkdir(parents=True)
    (elsewhere / "empty" / "ISBI-2012-EM" / "README.md").touch()
    for root in ("empty", "missing"):
        with pytest.raises(DataError, match=r"holds no ISBI-2012-EM.*unet data fetch em"):
            load(DataConfig(root=str(elsewhere / root)), print)
    monkeypatch.setenv("UNET_DATA", str(elsewhere / "typo"))
    with pytest.raises(DataError, match="no such folder"):
        load(DataConfig(), print)


def test_a_half_installed_set_is_not_read(elsewhere: Path) -> None:
    put_em(elsewhere / "data", 30)
    (elsewhere / "data" / "ISBI-2012-EM" / ".ready").mkdir()
    assert find_root(DATA_SETS["em"]) is None


def test_damage_is_an_error_not_a_reason_for_the_stand_in(elsewhere: Path) -> None:
    put_em(elsewhere / "data", 30)
    path = elsewhere / "data" / "ISBI-2012-EM" / "train-volume.tif"
    path.write_bytes(path.read_bytes()[:1200])
    with pytest.raises(DataError, match=r"train-volume\.tif"):
        load(DataConfig(), print)


def test_membranes_have_no_borders_between_numbered_cells(elsewhere: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.target: cell-border needs a number per object.* name other data"):
        load(DataConfig(name="synthetic-em", target="cell-border"), print)
    stack = load(DataConfig(name="synthetic-hela", target="cell-border"), print)
    assert stack.class_names == ("background", "cell", "border")
    assert set(np.unique(stack.frames[0].label)) == {0, 1, 2}  # type: ignore[arg-type]


def test_synthetic_stacks_by_name_with_their_truth(elsewhere: Path) -> None:
    config = DataConfig(name="synthetic-hela", ridge_px=4)
    stack = load(config, print)
    whole = references(config, stack)
    assert list(whole) == [f.name for f in stack.frames]
    assert (whole["01/t000"] > 0).sum() > (stack.frames[0].instances > 0).sum()  # type: ignore[operator]
    assert references(DataConfig(name="synthetic-em"), load(DataConfig(name="synthetic-em"), print)) == {}
    assert list(elsewhere.iterdir()) == []


def test_a_stand_in_is_scored_on_its_own_objects(elsewhere: Path) -> None:
    stack = load(DataConfig(name="phc"), print)
    assert set(references(DataConfig(name="phc"), stack)) == {f.name for f in stack.frames}
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("name", ["synthetic-em", "synthetic-phc"])
def test_normalisation_reaches_the_built_in_stacks(name: str) -> None:
    """Light microscopy fills a small part of its 8 bits: stretched by default, so that a network can learn from it."""
    default, fixed, minmax = (
        load(DataConfig(name=name, normalise=how), print)  # type: ignore[arg-type]
        for how in ("auto", "fixed", "minmax")
    )
    assert default.normalisation.kind == ("fixed" if name == "synthetic-em" else "percentile")
    assert fixed.normalisation.kind == "fixed"
    assert (minmax.frames[0].image.min(), minmax.frames[0].image.max()) == (0, 1)
    spread = {stack.normalisation.kind: stack.frames[0].image.std() for stack in (default, fixed)}
    if name == "synthetic-phc":
        assert spread["percentile"] > 2 * spread["fixed"]


@pytest.mark.parametrize("name", ["mine", "synthetic-phc", "synthetic-cells"])
def test_own_folder(elsewhere: Path, name: str) -> None:
    label = np.zeros((16, 16), np.uint16)
    label[2:8, 2:8], label[2:8, 8:14] = 5, 300
    for part, pixels in (("images", np.zeros((16, 16), np.uint8)), ("labels", label)):
        (elsewhere / name / part).mkdir(parents=True)
        Image.fromarray(pixels).save(elsewhere / name / part / "a.png")
    config = DataConfig(folder=name)
    lines: list[str] = []
    stack = load(config, lines.append)
    assert stack.name == name
    assert len(lines) == 1
    np.testing.assert_array_equal(references(config, stack)["a"], label)


def test_being_really_offline_shows_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that cannot exist, looked up for real."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNET_DATA", raising=False)
    em = DATA_SETS["em"]
    nowhere = [
        s.__class__(s.name, (("https://no-such-host.invalid/a.png", "train/image/0.png"),))
        for s in em.sources
        if not s.lossy
    ]
    away = dataclasses.replace(em, sources=tuple(nowhere))
    monkeypatch.setattr(load_module, "DATA_SETS", {"em": away})
    started = time.monotonic()
    stack = load(DataConfig(), print)
    assert time.monotonic() - started < len(nowhere) * DEFAULT_LIMITS.answer_s + 4
    assert stack.name == "synthetic-em"


def test_tests_reach_nothing_but_this_machine() -> None:
    with pytest.raises(OSError, match="the tests use no network"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "frames", "objects"), [("em", 30, 0), ("phc", 230, 34), ("hela", 168, 18)])
def test_real_sets(data_root: Path, name: str, frames: int, objects: int) -> None:
    config = DataConfig(name=name, root=str(data_root))  # type: ignore[arg-type]
    stack = load(config, print)
    assert len(stack) == frames
    assert stack.normalisation.kind == ("fixed" if name == "em" else "percentile")
    assert len(references(config, stack)) == objects


def test_a_place_that_the_system_refuses_is_one_line(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "x" * 300
    for data_set in DATA_SETS.values():
        with pytest.raises(DataError, match="cannot be read .File name too long.; check the path"):
            find_root(data_set, name)
    with pytest.raises(DataError, match="cannot be read .File name too long.; check the path"):
        load(DataConfig(folder=name), print)
    monkeypatch.setenv("UNET_DATA", name)
    with pytest.raises(DataError, match="cannot be read .File name too long.; check the path"):
        load(DataConfig(), print)
