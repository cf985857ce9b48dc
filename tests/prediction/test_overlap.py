"""Overlap-tile prediction: the stitched result is the whole-image result, whatever the tile size."""

import math

import numpy as np
import pytest
import torch

from unet.config import ModelConfig, PredictConfig
from unet.errors import GeometryError
from unet.geometry import nearest_valid, output_size, shrinkage
from unet.networks import build
from unet.prediction.overlap import (
    Network,
    predict_image,
    predict_into,
    read_mirrored,
)
from unet.prediction.symmetry import members, symmetries
from unet.prediction.tile_plan import plan

DEPTH = 4  # context 44 px, stride 8


@pytest.fixture(scope="module")
def network():
    model = build(ModelConfig(base_channels=4, depth=DEPTH), 2, 3, seed=1)
    return Network(model, torch.device("cpu"), channels_last=False, depth=DEPTH)


def image_of(height, width, seed=0):
    return np.random.default_rng(seed).random((2, height, width), dtype=np.float32)


def whole(network, image):
    """Probabilities from ONE pass over the whole mirrored image: what stitching is held against."""
    height, width = image.shape[1:]
    margin = shrinkage(network.depth) // 2
    sides = [nearest_valid(side + 2 * margin, network.depth)[-1] for side in (height, width)]
    window = read_mirrored(image, -margin, -margin, *sides)
    return torch.softmax(network.logits(window[None])[0, :, :height, :width], dim=0).numpy()


@pytest.mark.parametrize("tile_px", [0, 100, 140, 252])
@pytest.mark.parametrize("size", [(101, 203), (37, 64), (1, 300), (130, 9), (96, 96)])
def test_stitched_is_one_pass_over_the_whole_image(network, size, tile_px):
    image = image_of(*size)
    stitched = predict_image(network, image, 3, PredictConfig(tile_px=tile_px))
    np.testing.assert_allclose(stitched, whole(network, image), rtol=0, atol=1e-5)


def test_batches_of_tiles_change_nothing(network):
    image = image_of(150, 170)
    one = predict_image(network, image, 3, PredictConfig(tile_px=140))
    np.testing.assert_allclose(
        predict_image(network, image, 3, PredictConfig(tile_px=140, batch=5)), one, rtol=0, atol=1e-5
    )


def test_tiles_off_the_stride_would_show(network):
    """The test above can fail: windows that start between multiples of the stride give another result."""
    image = image_of(120, 120)
    margin, px = 44, 108
    shifted = read_mirrored(image, 3 - margin, 3 - margin, px, px)
    inside = network.probabilities(shifted[None])[0]
    reference = whole(network, image)[:, 3 : 3 + inside.shape[1], 3 : 3 + inside.shape[2]]
    assert np.abs(inside - reference).max() > 1e-3


def test_the_papers_depth(network):
    del network
    model = build(ModelConfig(base_channels=2), 1, 2, seed=1)
    deep = Network(model, torch.device("cpu"), channels_last=True)
    image = np.random.default_rng(0).random((1, 83, 210), dtype=np.float32)
    reference = whole(deep, image)
    for tile_px in (220, 252):
        np.testing.assert_allclose(
            predict_image(deep, image, 2, PredictConfig(tile_px=tile_px)), reference, rtol=0, atol=1e-5
        )


def test_eval_mode_inside_and_training_mode_restored(network):
    network.model.train()
    image = image_of(60, 60)
    first = predict_image(network, image, 3)
    np.testing.assert_array_equal(first, predict_image(network, image, 3))
    assert all(module.training for module in network.model.modules())
    network.model.eval()
    for module in network.model.dropout:  # whatever part of it is in training mode
        module.train()
    np.testing.assert_array_equal(first, predict_image(network, image, 3))
    assert [m.training for m in network.model.modules()].count(True) == len(network.model.dropout)
    network.model.eval()


def test_windows_are_read_without_touching_the_rest():
    class Watched:
        shape = (1, 1000, 1000)

        def __getitem__(self, key):
            _, rows, columns = key
            self.read = (rows.stop - rows.start, columns.stop - columns.start)
            return np.zeros((1, *self.read))

    watched = Watched()
    assert read_mirrored(watched, -30, 500, 80, 60).shape == (1, 80, 60)
    assert watched.read == (50, 60)


def test_a_mirrored_window_is_numpys_reflection():
    image = image_of(20, 30)
    expected = np.pad(image, ((0, 0), (45, 45), (45, 45)), mode="reflect")
    np.testing.assert_array_equal(read_mirrored(image, -45, -45, 110, 120), expected)


def test_first_row_skips_rows_that_are_done(network):
    image = image_of(200, 60)
    full = predict_image(network, image, 3, PredictConfig(tile_px=140))
    rows = plan(200, 60, DEPTH, 140).rows()
    out = np.zeros_like(full)
    predict_into(network, image, out, PredictConfig(tile_px=140), first_row=2)
    assert not out[:, : rows[2]].any()
    np.testing.assert_allclose(out[:, rows[2] :], full[:, rows[2] :], rtol=0, atol=1e-5)


def test_symmetries_are_eight_different_ones_and_undone():
    image = image_of(5, 7)
    turned = [turn(image) for turn, _ in symmetries(8)]
    assert len({t.tobytes() + bytes(t.shape) for t in turned}) == 8
    for turn, undo in symmetries(8):
        np.testing.assert_array_equal(undo(turn(image)), image)
    with pytest.raises(ValueError, match="symmetries"):
        list(symmetries(7))


def test_rotations_average_makes_the_result_equivariant(network):
    image = image_of(64, 64)
    turned = predict_image(network, np.rot90(image, axes=(1, 2)).copy(), 3, PredictConfig(symmetries=8))
    straight = predict_image(network, image, 3, PredictConfig(symmetries=8))
    np.testing.assert_allclose(np.rot90(straight, axes=(1, 2)), turned, rtol=0, atol=1e-5)
    single = predict_image(network, image, 3)
    assert np.abs(single - straight).max() > 1e-4


def turned_whole(network, image, count=8):
    """The average over the symmetries, each from one pass over the whole turned image: what tiles are held against."""
    parts = [undo(whole(network, np.ascontiguousarray(turn(image)))) for turn, undo in symmetries(count)]
    return np.mean(parts, axis=0, dtype=np.float64)


@pytest.mark.parametrize(
    ("size", "tile_px"),
    [((101, 203), 0), ((101, 203), 140), ((37, 34), 100), ((1, 150), 108), ((130, 9), 108), ((96, 96), 140)],
)
def test_rotations_tile_by_tile_are_the_turned_whole_images(network, size, tile_px):
    image = image_of(*size)
    found = predict_image(network, image, 3, PredictConfig(tile_px=tile_px, symmetries=8))
    np.testing.assert_allclose(found, turned_whole(network, image), rtol=0, atol=1e-5)


def test_turning_each_window_by_itself_would_show(network):
    """Without the grid of the turned image, the average is another one: the test above can fail."""
    image = image_of(101, 203)
    tiles = plan(101, 203, DEPTH, 140)
    total = np.zeros((3, 101, 203))
    for y in tiles.rows():
        for x in tiles.columns():
            window = read_mirrored(image, y - tiles.margin, x - tiles.margin, 140, 140)
            box, parts = tiles.block(y, x), []
            for turn, undo in symmetries(8):
                part = undo(network.probabilities(np.ascontiguousarray(turn(window))[None])[0])
                parts.append(part[:, : box.height, : box.width])
            total[:, y : y + box.height, x : x + box.width] = np.mean(parts, axis=0)
    assert np.abs(total - turned_whole(network, image)).max() > 1e-3


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_rows_are_told_when_their_tiles_are_written(network, batch):
    image = image_of(200, 150)
    out = np.full((3, 200, 150), np.nan, np.float32)
    seen = []

    def on_row(rows):
        bottom = ends[rows - 1]
        assert np.isfinite(out[:, :bottom]).all()
        seen.append(rows)

    tiles = plan(200, 150, DEPTH, 140, symmetries=8)
    ends = [tiles.block(y, 0).y + tiles.block(y, 0).height for y in tiles.rows()]
    predict_into(network, image, out, PredictConfig(tile_px=140, batch=batch, symmetries=8), on_row=on_row)
    assert seen == list(range(1, len(ends) + 1))
    seen.clear()
    predict_into(network, image, out, PredictConfig(tile_px=140, batch=batch, symmetries=8), first_row=2, on_row=on_row)
    assert seen == list(range(3, len(ends) + 1))


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_no_more_room_than_a_turned_grid_needs_is_left_to_a_window(depth):
    """A window begins up to one pixel less than the stride of the grid before its block."""
    output = output_size(380, depth)
    advance = output - (2 ** (depth - 1) - 1)
    assert plan(2 * advance, advance, depth, 380, symmetries=8).rows() == [0, advance]
    assert len(plan(2 * advance + 1, advance, depth, 380, symmetries=8).rows()) == 3


def test_rotations_read_memory_maps_by_windows(network, tmp_path):
    raw = np.memmap(tmp_path / "a", np.uint8, "w+", shape=(2, 90, 120))
    raw[:] = np.random.default_rng(3).integers(0, 256, raw.shape)
    out = np.memmap(tmp_path / "b", np.float32, "w+", shape=(3, 90, 120))
    largest = []

    def prepare(window):
        largest.append(window.shape[1:])
        return window.astype(np.float32) / 255

    predict_into(network, raw, out, PredictConfig(tile_px=108, symmetries=8), prepare=prepare)
    assert set(largest) == {(108, 108)}
    image = np.asarray(raw, np.float32) / 255
    np.testing.assert_allclose(out, predict_image(network, image, 3, PredictConfig(symmetries=8)), rtol=0, atol=1e-5)


def test_an_error_while_reading_ahead_is_raised(network):
    def prepare(_):
        raise RuntimeError("unreadable")

    with pytest.raises(RuntimeError, match="unreadable"):
        predict_into(network, image_of(50, 50), np.empty((3, 50, 50), np.float32), prepare=prepare)


def test_blocks_cover_every_pixel_and_lie_inside_their_windows():
    for height, width, count in [(500, 333, 1), (500, 333, 8), (64, 1000, 8), (1, 1, 8), (324, 325, 8)]:
        tiles = plan(height, width, 5, 508, symmetries=count)
        covered = np.zeros((height, width), int)
        for y in tiles.rows():
            for x in tiles.columns():
                box = tiles.block(y, x)
                covered[y : y + box.height, x : x + box.width] += 1
                for symmetry in members(count):
                    inside = symmetry.box(box, height, width)
                    assert inside.y % 16 + inside.height <= tiles.output_px[0]
                    assert inside.x % 16 + inside.width <= tiles.output_px[1]
        assert covered.min() == 1


def test_automatic_tiles_save_work_and_respect_the_limit():
    assert plan(512, 512, 5).input_px == (700, 700)  # one tile instead of four
    assert plan(520, 696, 5).input_px == (716, 892)  # one tile, no larger than the frame asks for
    assert plan(520, 696, 5, symmetries=8).input_px == (716, 892)
    assert max(plan(5000, 4000, 5).input_px) <= 1020
    assert max(plan(3, 3, 5).input_px) <= 204


@pytest.mark.parametrize(("height", "width"), [(520, 696), (512, 512), (1000, 3000), (37, 5000)])
@pytest.mark.parametrize("count", [1, 8])
def test_no_square_computes_less_than_the_automatic_tiles(height, width, count):
    def work(tiles):
        return len(tiles.rows()) * len(tiles.columns()) * math.prod(tiles.input_px)

    squares = [plan(height, width, 5, px, symmetries=count) for px in range(204, 1021, 16)]
    assert work(plan(height, width, 5, symmetries=count)) <= min(map(work, squares))


def test_rectangular_windows_of_one_shape_go_through_the_network_together(network):
    shapes = []

    class Counting:
        depth, allow_odd_pooling = DEPTH, False

        def probabilities(self, batch):
            shapes.append(batch.shape)
            return network.probabilities(batch)

    image = image_of(101, 203)
    found = predict_image(Counting(), image, 3, PredictConfig(batch=3, symmetries=8))
    np.testing.assert_allclose(found, turned_whole(network, image), rtol=0, atol=1e-5)
    high, wide = plan(101, 203, DEPTH, symmetries=8).input_px
    assert high < wide
    assert shapes == [(n, 2, *sides) for sides in ((high, wide), (wide, high)) for n in (3, 1)]


def test_an_invalid_tile_is_refused():
    with pytest.raises(GeometryError, match="508 or 524"):
        plan(512, 512, 5, 512)


@pytest.mark.parametrize(("top", "left"), [(-10, 3), (22, 3), (3, -9), (3, 31), (-30, 60), (2, 4)])
def test_a_window_wholly_beyond_the_border_is_mirrored(top, left):
    image = image_of(20, 30)
    padded = np.pad(image, ((0, 0), (60, 60), (60, 60)), mode="reflect")
    expected = padded[:, top + 60 : top + 65, left + 60 : left + 66]
    np.testing.assert_array_equal(read_mirrored(image, top, left, 5, 6), expected)
