"""Every size of the paper's Figure 1, and the arithmetic it follows from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet.errors import GeometryError
from unet.geometry import (
    context,
    input_for_output,
    is_valid,
    layer_sizes,
    mirror_indices,
    nearest_valid,
    output_size,
    receptive_field,
    shrinkage,
    skip_misalignment,
    smallest_valid,
    tile_origins,
    valid_sizes,
)

FIGURE_1 = {
    "input": 572,
    "down0.conv1": 570, "down0.conv2": 568,
    "pool1": 284, "down1.conv1": 282, "down1.conv2": 280,
    "pool2": 140, "down2.conv1": 138, "down2.conv2": 136,
    "pool3": 68, "down3.conv1": 66, "down3.conv2": 64,
    "pool4": 32, "down4.conv1": 30, "down4.conv2": 28,
    "up3.upconv": 56, "up3.conv1": 54, "up3.conv2": 52,
    "up2.upconv": 104, "up2.conv1": 102, "up2.conv2": 100,
    "up1.upconv": 200, "up1.conv1": 198, "up1.conv2": 196,
    "up0.upconv": 392, "up0.conv1": 390, "up0.conv2": 388,
    "output": 388,
}  # fmt: skip


def test_every_feature_map_of_figure_1():
    assert {layer.name: layer.size for layer in layer_sizes(572)} == FIGURE_1


@pytest.mark.parametrize(("tile", "output"), [(188, 4), (252, 68), (508, 324), (572, 388)])
def test_outputs_named_in_the_literature(tile, output):
    assert output_size(tile) == output
    assert input_for_output(output) == tile


def test_context_and_shrinkage():
    assert (context(), shrinkage(), shrinkage(4)) == (92, 184, 88)
    assert output_size(252, depth=4) == 164


@pytest.mark.parametrize("depth", [2, 3, 4, 5, 6])
def test_valid_sizes_are_those_the_layers_accept(depth):
    def accepted(px):
        try:
            layer_sizes(px, depth)
        except GeometryError:
            return False
        return True

    by_layers = [px for px in range(1, 600) if accepted(px)]
    assert valid_sizes(1, 599, depth) == by_layers
    assert [px for px in range(1, 600) if is_valid(px, depth)] == by_layers
    assert smallest_valid(depth) == by_layers[0]


@pytest.mark.parametrize(("px", "message"), [(512, "508 or 524"), (256, "252 or 268"), (100, "188"), (-5, "188")])
def test_refusal_names_the_nearest_valid_sizes(px, message):
    with pytest.raises(GeometryError, match=message):
        layer_sizes(px)


def test_nearest_valid_of_a_valid_size_is_itself():
    assert nearest_valid(508) == (508,)


@pytest.mark.parametrize(("px", "output"), [(512, 324), (256, 68)])
def test_the_blogs_tiles_are_taken_when_asked_for(px, output):
    assert output_size(px, allow_odd_pooling=True) == output


@pytest.mark.parametrize("px", [188, 252, 508, 572])
def test_aligned_tiles_have_aligned_skips(px):
    assert skip_misalignment(px) == [0, 0, 0, 0]


@pytest.mark.parametrize("px", [256, 512])
def test_the_blogs_tiles_are_two_pixels_out_of_line(px):
    assert skip_misalignment(px) == [2, 2, 0, 0]


@given(st.integers(-400, 400), st.integers(0, 300), st.integers(2, 40))
def test_mirroring_is_numpys_reflection(start, length, size):
    """numpy.pad(mode="reflect") is the independent oracle, as often as the window needs."""
    line = np.arange(size)
    padded = np.pad(line, 800, mode="reflect")
    np.testing.assert_array_equal(line[mirror_indices(start, start + length, size)], padded[800 + start :][:length])


def test_mirroring_a_single_pixel_repeats_it():
    assert mirror_indices(-3, 4, 1).tolist() == [0] * 7


def test_mirroring_nothing_is_an_error():
    with pytest.raises(GeometryError):
        mirror_indices(0, 3, 0)


@given(st.integers(1, 3000), st.integers(0, 60), st.integers(2, 6))
def test_windows_cover_everything_on_the_grid(length, extra, depth):
    step = 2 ** (depth - 1)
    output = step + extra
    origins = tile_origins(length, output, step)
    covered = np.zeros(length, dtype=bool)
    for origin in origins:
        assert origin % step == 0
        covered[origin : origin + output] = True
    assert covered.all()
    assert origins == sorted(set(origins))
    assert origins[-1] < length


def test_windows_smaller_than_the_stride_are_refused():
    with pytest.raises(GeometryError, match="stride"):
        tile_origins(100, 4, 16)


def test_the_receptive_field_of_figure_1_and_of_the_smallest_tile():
    assert receptive_field(0, 188) == (0, 187)  # the smallest valid tile is what its first output pixel sees
    assert receptive_field(193, 572) == (192, 379)
    assert receptive_field(15, 572) == (0, 203)  # behind the last pixel of a pooling window: 16 px more


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_receptive_fields_repeat_with_the_stride_and_cover_the_tile(depth):
    px = nearest_valid(300, depth)[0]
    fields = [receptive_field(at, px, depth) for at in range(output_size(px, depth))]
    step = 2 ** (depth - 1)
    assert all((b[0] - a[0], b[1] - a[1]) == (step, step) for a, b in zip(fields, fields[step:], strict=False))
    assert fields[0][0] == 0
    assert fields[-1][1] == px - 1
    for at, (first, last) in enumerate(fields):
        assert first <= at + context(depth) <= last  # the pixel that it stands for is in the middle


@pytest.mark.parametrize("at", [-1, 324])
def test_a_receptive_field_outside_the_output_is_refused(at):
    with pytest.raises(GeometryError, match=r"0\.\.323"):
        receptive_field(at, 508)
