"""Training tiles: pure functions of (seed, index), uniform over frames and windows, exact against mirrored crops."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from tests.tiles.test_deform import CUBIC, LINEAR, NEAREST, reference_coordinates, reference_sample
from unet.config import AugmentConfig, Config, ModelConfig, TileConfig, WeightConfig
from unet.data.stack import IGNORE, Frame, Normalisation, Stack
from unet.errors import ConfigError, DataError, GeometryError
from unet.geometry import mirror_indices
from unet.tiles.source import Tile, TileSource
from unet.tiles.weightmap import weight_map

PLAIN = AugmentConfig(rotation_deg=0, flips=False, elastic_std_px=0, gray=())
DEFORMED = AugmentConfig(elastic_std_px=4, gray=())


def make_stack(*shapes: tuple[int, int], channels: int = 1, ignore: bool = False, seed: int = 0) -> Stack:
    """Frames of noise with two classes in blocks of 4 x 4 pixels."""
    rng = np.random.default_rng(seed)
    frames = []
    for index, (height, width) in enumerate(shapes):
        coarse = rng.integers(0, 2, (-(-height // 4), -(-width // 4)), np.uint8)
        label = np.kron(coarse, np.ones((4, 4), np.uint8))[:height, :width]
        if ignore:
            label = np.where(rng.random((height, width)) < 0.2, IGNORE, label).astype(np.uint8)
        image = rng.random((channels, height, width), np.float32)
        frames.append(Frame(f"f{index}", "s", image, label))
    return Stack("noise", tuple(frames), ("a", "b"), Normalisation(), "test")


def config(augment: AugmentConfig = PLAIN, input_px: int = 60, depth: int = 3, **weight: Any) -> Config:
    """A network of 3 levels: 60 px in, 20 px out, 20 px of context."""
    return Config(
        tile=TileConfig(input_px), augment=augment, model=ModelConfig(depth=depth), weight=WeightConfig(**weight)
    )


def digest(source: TileSource, indices: list[int]) -> dict[int, str]:
    result = {}
    for i in indices:
        tile = source[i]
        parts = [tile.image, tile.target, tile.weight, np.array([tile.frame, *tile.origin])]
        result[i] = hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest()
    return result


PURITY = config(AugmentConfig(gray=("RandomBrightnessContrast(p=0.5)", "GaussNoise(p=0.5)")), input_px=252, depth=5)
INDICES = [0, 1, 2, 3, 4, 1000, 2**40]


def test_a_tile_does_not_depend_on_the_order_of_calls() -> None:
    stack = make_stack((200, 220), (190, 240))
    forward = digest(TileSource(stack, PURITY, 7), INDICES)
    source = TileSource(stack, PURITY, 7)
    assert digest(source, INDICES[::-1]) == forward
    assert digest(source, [3, 3]) == {3: forward[3]}
    assert len(set(forward.values())) == len(INDICES)
    assert digest(pickle.loads(pickle.dumps(source)), INDICES) == forward
    assert set(digest(TileSource(stack, PURITY, 8), INDICES).values()).isdisjoint(forward.values())


@pytest.mark.parametrize("threads", ["1", "4"])
def test_a_tile_is_the_same_in_another_process(threads: str) -> None:
    """Whatever the number of threads of the linear algebra library and of OpenCV."""
    code = (
        "import cv2; from tests.tiles.test_source import *;"
        f"cv2.setNumThreads({threads});"
        "print(digest(TileSource(make_stack((200, 220), (190, 240)), PURITY, 7), INDICES))"
    )
    environment = os.environ | {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == str(digest(TileSource(make_stack((200, 220), (190, 240)), PURITY, 7), INDICES))


def test_albumentations_is_not_imported_without_gray_transforms() -> None:
    code = (
        "import sys; from tests.tiles.test_source import *; TileSource(make_stack((70, 70)), config(), 0)[0];"
        "assert 'albumentations' not in sys.modules and 'torch' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_switching_one_augmentation_leaves_the_other_draws_alone() -> None:
    stack = make_stack((200, 220), (190, 240))
    full = AugmentConfig()
    base = TileSource(stack, config(full), 3)
    for changed in (
        replace(full, rotation_deg=0),
        replace(full, flips=False),
        replace(full, elastic_std_px=0),
        replace(full, elastic_grid=5),
        replace(full, gray=()),
        replace(full, zoom=1.5),
        replace(full, interpolation="linear"),
    ):
        other = TileSource(stack, config(changed), 3)
        for i in range(20):
            a, b = base.draw(i), other.draw(i)
            assert (a.frame, a.origin, a.gray_key) == (b.frame, b.origin, b.gray_key)
            assert b.deformation.zoom == 1 or changed.zoom == 1.5
            assert changed.rotation_deg == 0 or a.deformation.angle_rad == b.deformation.angle_rad
            flips = (b.deformation.flip_y, b.deformation.flip_x)
            assert not changed.flips or (a.deformation.flip_y, a.deformation.flip_x) == flips
            if changed.elastic_std_px and changed.elastic_grid == 3:
                np.testing.assert_array_equal(a.deformation.displacements_2GG, b.deformation.displacements_2GG)


def test_frames_and_windows_are_uniform_corners_included() -> None:
    stack = make_stack((26, 25), (26, 25), (26, 25))
    source = TileSource(stack, config(), 0)
    draws = [source.draw(i) for i in range(9000)]
    assert source.output_px == 20
    counts = np.zeros((3, 7, 6))
    for d in draws:
        counts[d.frame][d.origin] += 1  # raises when an origin lies outside
    assert counts.min() > 0
    assert stats.chisquare(counts.reshape(-1)).pvalue > 1e-3
    assert stats.chisquare(counts[..., :-1].reshape(-1), np.full(105, counts[..., :-1].sum() / 105)).pvalue > 1e-3
    skewed = counts.copy()
    skewed[0] *= 1.3  # the test would notice a frame drawn 30 % too often
    assert stats.chisquare(skewed.reshape(-1)).pvalue < 1e-3


def test_every_pixel_is_a_target_of_some_window() -> None:
    """Without deformation, by writing the frame's own pixel numbers into the image."""
    height, width = 24, 25
    numbers = np.arange(height * width, dtype=np.float32).reshape(1, height, width)
    frame = Frame("f", "s", numbers, np.zeros((height, width), np.uint8))
    stack = Stack("numbers", (frame,), ("a", "b"), Normalisation("minmax"), "test")
    source = TileSource(stack, config(), 0)
    seen: set[float] = set()
    for i in range(300):
        inner = source[i].image[0, source.margin : -source.margin, source.margin : -source.margin]
        seen.update(inner.reshape(-1).tolist())
    assert seen == set(range(height * width))


@pytest.mark.parametrize("shape", [(70, 90), (20, 20), (21, 60), (60, 9), (7, 9), (1, 40), (40, 1), (1, 1), (3, 200)])
@pytest.mark.parametrize("channels", [1, 3, 6])
def test_without_augmentation_a_tile_is_the_mirrored_crop(shape: tuple[int, int], channels: int) -> None:
    stack = make_stack(shape, channels=channels)
    source = TileSource(stack, config(), 1)
    frame = stack.frames[0]
    assert frame.label is not None
    weights = weight_map(frame.label, None, WeightConfig())
    for i in range(12):
        tile = source[i]
        for length, origin in zip(shape, tile.origin, strict=True):
            assert min(0, length - 20) <= origin <= max(0, length - 20)
        rows, columns = (mirror_indices(o - 20, o + 40, s) for o, s in zip(tile.origin, shape, strict=True))
        np.testing.assert_array_equal(tile.image, frame.image[:, rows[:, None], columns])
        inner = rows[20:40, None], columns[20:40]
        np.testing.assert_array_equal(tile.target, frame.label[inner])
        np.testing.assert_array_equal(tile.weight, weights[inner])


def expected_tile(source: TileSource, stack: Stack, i: int, shift: float = 0) -> tuple[Tile, dict[str, Any]]:
    """The same tile in float64 from its draw; `shift` moves the label's map by pixels, to be caught."""
    draw = source.draw(i)
    frame = stack.frames[draw.frame]
    assert frame.label is not None
    y, x = reference_coordinates(draw.deformation, source.input_px)
    inner = (slice(source.margin, source.margin + source.output_px),) * 2
    image = np.stack([reference_sample(c, y, x, CUBIC) for c in frame.image])
    target = reference_sample(frame.label, y[inner] + shift, x[inner], NEAREST)
    weight = reference_sample(source.weight_map(draw.frame), y[inner], x[inner], LINEAR)
    distance = [np.abs(v - np.floor(v) - 0.5) for v in (y[inner], x[inner])]
    return source[i], {"image": image, "target": target, "weight": weight, "clear": np.minimum(*distance) > 1e-3}


@pytest.mark.parametrize("shape", [(70, 90), (20, 31), (7, 9), (1, 40), (300, 290)])
def test_deformed_tiles_equal_the_float64_reference(shape: tuple[int, int]) -> None:
    stack = make_stack(shape, shape, channels=2)
    source = TileSource(stack, config(DEFORMED), 5)
    for i in range(6):
        tile, expected = expected_tile(source, stack, i)
        np.testing.assert_allclose(tile.image, expected["image"], atol=5e-4)
        np.testing.assert_allclose(tile.weight, expected["weight"], atol=2e-3)
        clear = expected["clear"]
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(tile.target[clear], expected["target"][clear])


def test_a_label_shifted_against_the_image_is_noticed() -> None:
    stack = make_stack((70, 90))
    source = TileSource(stack, config(DEFORMED), 5)
    for i in range(6):
        tile, expected = expected_tile(source, stack, i, shift=0.5)
        assert (tile.target != expected["target"])[expected["clear"]].mean() > 0.01


def test_image_label_and_weight_stay_on_top_of_each_other() -> None:
    """With an image that IS its label, the interpolated image agrees with the target wherever it is decided."""
    stack = make_stack((200, 220))
    frame = stack.frames[0]
    assert frame.label is not None
    stack = replace(stack, frames=(replace(frame, image=frame.label[None].astype(np.float32)),))
    augment = replace(DEFORMED, interpolation="linear", elastic_std_px=10)
    source = TileSource(stack, config(augment, input_px=252, depth=5), 2)
    for i in range(5):
        tile = source[i]
        image = tile.image[0, 92:-92, 92:-92]
        decided = np.abs(image - 0.5) > 0.45
        assert decided.mean() > 0.3
        np.testing.assert_array_equal(tile.target[decided], np.rint(image[decided]))
        assert (np.rint(np.roll(image, 1, axis=1)) != tile.target)[decided].any()


def test_targets_hold_only_values_of_the_label_and_ignored_pixels_weigh_nothing() -> None:
    stack = make_stack((90, 80), ignore=True)
    frame = stack.frames[0]
    assert frame.label is not None
    label = np.where(frame.label == 1, 7, frame.label).astype(np.uint8)  # an interpolated label would show 1..6
    names = tuple("abcdefgh")
    stack = replace(stack, frames=(replace(frame, label=label),), class_names=names)
    source = TileSource(stack, config(AugmentConfig(gray=())), 0)
    ignored = 0
    for i in range(20):
        tile = source[i]
        assert set(np.unique(tile.target)) <= {0, 7, IGNORE}
        mask = tile.target == IGNORE
        assert not tile.weight[mask].any()
        assert np.isfinite(tile.weight).all()
        assert tile.weight.min() >= 0
        ignored += int(mask.sum())
    assert ignored > 0


def test_without_balance_and_border_the_weights_are_one() -> None:
    stack = make_stack((90, 80), ignore=True)
    source = TileSource(stack, config(AugmentConfig(gray=()), balance="none", w0=0.0), 0)
    for i in range(5):
        tile = source[i]
        np.testing.assert_array_equal(tile.weight, (tile.target != IGNORE).astype(np.float32))
    np.testing.assert_array_equal(source.weight_map(0), stack.frames[0].label != IGNORE)


def test_statistics_of_the_deformation() -> None:
    source = TileSource(make_stack((200, 220)), config(AugmentConfig(rotation_deg=40, gray=())), 0)
    draws = [source.draw(i).deformation for i in range(3000)]
    displacements = np.stack([d.displacements_2GG for d in draws])
    np.testing.assert_allclose(displacements.std(), 10, atol=0.15)  # 54,000 numbers: standard error 0.03
    np.testing.assert_allclose(displacements.mean(axis=0), 0, atol=0.8)
    assert stats.kstest(displacements.reshape(-1) / 10, "norm").pvalue > 1e-3
    angles = np.degrees([d.angle_rad for d in draws])
    assert stats.kstest(angles, "uniform", (-40, 80)).pvalue > 1e-3
    for flips in ([d.flip_y for d in draws], [d.flip_x for d in draws]):
        assert stats.binomtest(sum(flips), 3000).pvalue > 1e-3
    assert stats.binomtest(sum(d.flip_y != d.flip_x for d in draws), 3000).pvalue > 1e-3
    assert stats.kstest(displacements.reshape(-1) / 10.5, "norm").pvalue < 1e-3  # 5 % off would be noticed


def test_zoom_is_log_uniform_and_magnifies() -> None:
    augment = replace(PLAIN, zoom=1.6)
    source = TileSource(make_stack((200, 220), (200, 220)), config(augment), 0)
    zooms = np.array([source.draw(i).deformation.zoom for i in range(3000)])
    others = np.array([[d.frame, *d.origin] for d in map(source.draw, range(3000))])
    assert np.abs(np.corrcoef(np.log(zooms), others.T)[0, 1:]).max() < 0.1  # standard error 0.02
    assert stats.kstest(np.log(zooms), "uniform", (-np.log(1.6), 2 * np.log(1.6))).pvalue > 1e-3
    largest = int(zooms.argmax())
    spread = np.ptp(source.coordinates(largest).x_HW)  # 60 px show fewer pixels of the image
    np.testing.assert_allclose(spread, 59 / zooms[largest], rtol=1e-5)


def test_class_weights_are_numbers_by_class() -> None:
    stack = make_stack((90, 80), ignore=True)
    source = TileSource(stack, config(PLAIN, classes=(1.0, 10.0), w0=0.0), 0)
    label = stack.frames[0].label
    assert label is not None
    np.testing.assert_array_equal(source.weight_map(0), np.select([label == 0, label == 1], [1.0, 10.0], 0.0))
    with pytest.raises(ConfigError, match=r"weight.classes: 3 numbers for 2 classes \(a, b\)"):
        TileSource(stack, config(PLAIN, classes=(1.0, 1.0, 10.0)), 0)


def test_the_sampled_field_has_the_grid_s_standard_deviation() -> None:
    """At the grid points, corners of the tile included, the displacement is the drawn one: 10 px."""
    augment = AugmentConfig(rotation_deg=0, flips=False, gray=())
    source = TileSource(make_stack((200, 220)), config(augment, input_px=61 + 31, depth=3), 0)
    side = source.input_px
    found = []
    for i in range(800):
        coordinates, draw = source.coordinates(i), source.draw(i)
        top = draw.origin[0] - source.margin
        corner = coordinates.y_HW[[0, 0, -1, -1], [0, -1, 0, -1]] + coordinates.top
        found.append(corner - (top + np.array([0, 0, side - 1, side - 1])))
    np.testing.assert_allclose(np.std(found), 10, atol=0.6)


def test_odd_pooling_and_refused_sizes() -> None:
    with pytest.raises(GeometryError, match="use 508 or 524"):
        config(input_px=512, depth=5)
    blog = Config(tile=TileConfig(256), model=ModelConfig(allow_odd_pooling=True), augment=PLAIN)
    source = TileSource(make_stack((150, 160)), blog, 0)
    assert (source.output_px, source.margin) == (68, 94)
    tile = source[0]
    assert tile.image.shape == (1, 256, 256)
    assert tile.target.shape == tile.weight.shape == (68, 68)
    assert (tile.image.dtype, tile.target.dtype, tile.weight.dtype) == (np.float32, np.uint8, np.float32)


def test_only_labelled_frames_are_drawn() -> None:
    stack = make_stack((40, 40), (50, 45), (44, 60))
    frames = (stack.frames[0], replace(stack.frames[1], label=None), stack.frames[2])
    source = TileSource(replace(stack, frames=frames), config(), 0)
    assert {source.draw(i).frame for i in range(60)} == {0, 2}
    assert {source[i].frame for i in range(20)} == {0, 2}
    with pytest.raises(DataError, match="frame 1 has no label"):
        source.weight_map(1)
    with pytest.raises(DataError, match="none of the 1 images to train on has a label"):
        TileSource(replace(stack, frames=frames[1:2]), config(), 0)


def test_tile_indices() -> None:
    source = TileSource(make_stack((40, 40)), config(), 2**63 - 1)
    assert source[np.int64(3)].origin == source[3].origin  # type: ignore[call-overload]
    with pytest.raises(IndexError, match="there is no tile -1"):
        source[-1]


def test_float_images_outside_zero_to_one_survive() -> None:
    stack = make_stack((90, 80))
    raw: NDArray[np.float32] = stack.frames[0].image * 4000 - 700
    stack = replace(stack, frames=(replace(stack.frames[0], image=raw),))
    plain = TileSource(stack, config(PLAIN), 0)
    gray = TileSource(stack, config(replace(PLAIN, gray=("RandomBrightnessContrast(p=1.0)",))), 0)
    changes = []
    for i in range(10):
        a, b = plain[i].image, gray[i].image
        assert b.max() - b.min() > 2000
        assert np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1] > 0.97
        changes.append(np.abs(a - b).mean() / 4000)
    assert 0.01 < np.mean(changes) < 0.3


def test_gray_values_vary_from_tile_to_tile() -> None:
    stack = make_stack((90, 80))
    flat = replace(stack, frames=(replace(stack.frames[0], image=np.full((1, 90, 80), 0.5, np.float32)),))
    source = TileSource(flat, config(replace(PLAIN, gray=("RandomBrightnessContrast(p=1.0)",))), 0)
    assert len({float(source[i].image.mean()) for i in range(20)}) == 20


def test_weight_maps_are_kept_in_the_cache(tmp_path: Path) -> None:
    stack = make_stack((40, 40), (50, 45))
    first = TileSource(stack, config(), 0, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    again = TileSource(stack, config(), 0, tmp_path)
    np.testing.assert_array_equal(first.weight_map(1), again.weight_map(1))


def test_arrays_of_unusual_layout() -> None:
    """Transposed and strided images, labels of a wider type: the same tiles as from contiguous copies."""
    stack = make_stack((60, 80), channels=2)
    frame = stack.frames[0]
    assert frame.label is not None
    hwc = np.ascontiguousarray(frame.image.transpose(1, 2, 0))
    odd = replace(frame, image=hwc.transpose(2, 0, 1), label=frame.label[::-1][::-1].astype(np.int64))
    a = TileSource(stack, config(DEFORMED), 0)
    b = TileSource(replace(stack, frames=(odd,)), config(DEFORMED), 0)
    assert digest(a, [0, 1, 2]) == digest(b, [0, 1, 2])
