"""Loss in some windows of a tile: how many pixels, where, and that nothing else of the tile changes."""

import numpy as np
import pytest

from tests.tiles.test_source import config, make_stack
from unet.config import Config, ModelConfig, TileConfig, WeightConfig
from unet.errors import ConfigError
from unet.study.settings import loss_pixels
from unet.tiles.source import TileSource
from unet.tiles.windows import check_windows, draw_windows, inside

STACK = make_stack((64, 70), (50, 90), ignore=True)


def windowed(count, side, **weight):
    made = config(**weight)
    return Config(tile=TileConfig(60, count, side), augment=made.augment, model=made.model, weight=made.weight)


def test_only_the_windows_carry_loss_and_the_rest_of_the_tile_is_the_same():
    whole, some = TileSource(STACK, config(), 3), TileSource(STACK, windowed(3, 4), 3)
    for i in range(50):
        a, b = whole[i], some[i]
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.target, b.target)
        windows = some.draw(i).windows
        assert len(windows) == 3
        mask = inside(windows, 4, 20)
        assert mask.sum() == 3 * 16  # they do not overlap
        assert np.array_equal(b.weight, a.weight * mask)
        assert some.draw(i).windows == windows


def test_windows_are_uniform_and_differ_from_tile_to_tile():
    source = TileSource(STACK, windowed(1, 4), 0)
    corners = np.array([source.draw(i).windows[0] for i in range(3000)])
    assert corners.min() == 0
    assert corners.max() == 16
    assert corners.mean(axis=0) == pytest.approx([8, 8], abs=0.4)
    assert abs(np.corrcoef(corners.T)[0, 1]) < 0.06


def test_windows_may_touch_but_not_overlap():
    rng = np.random.default_rng(0)
    pairs = {draw_windows(rng, 2, 1, 4) for _ in range(4000)}
    assert len(pairs) == 16 * 15  # every two of 16 pixels, neighbours among them


def test_the_weight_map_is_kept_within_the_windows():
    whole, some = (TileSource(STACK, made, 1) for made in (config(w0=5.0), windowed(2, 5, w0=5.0)))
    mask = inside(some.draw(7).windows, 5, 20)
    assert np.array_equal(some[7].weight, whole[7].weight * mask)
    assert some[7].weight.max() > 0


def test_four_windows_of_68_px_are_as_many_loss_pixels_as_four_tiles_of_252():
    four = Config(tile=TileConfig(508, 4, 68), model=ModelConfig(depth=5), weight=WeightConfig())
    assert loss_pixels(four) == 4 * 4 * 68**2  # a batch of four
    check_windows(4, 68, 324)
    rng = np.random.default_rng(0)
    assert {int(inside(draw_windows(rng, 4, 68, 324), 68, 324).sum()) for _ in range(100)} == {4 * 68**2}


@pytest.mark.parametrize(("count", "side"), [(1, 21), (40, 4), (2, 20)])
def test_windows_that_may_find_no_room_are_refused(count, side):
    with pytest.raises(ConfigError, match="may not find room in an output of 20 px"):
        TileSource(STACK, windowed(count, side), 0)
