from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unet.data.masks import Target, borders, separate, unannotated
from unet.data.stack import IGNORE
from unet.tiles.weightmap import border_term

EIGHT = np.ones((3, 3), int)


def two_halves(columns: int = 20) -> np.ndarray:
    mask = np.zeros((12, columns), np.int32)
    mask[2:10, 2 : columns // 2] = 7
    mask[2:10, columns // 2 : columns - 2] = 3
    return mask


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
def test_the_ridge_has_the_width_asked_for(width: int) -> None:
    mask = two_halves()
    cut = separate(mask, width)
    row = cut[5]
    assert list(row[row > 0]) == [7] * (8 - (width + 1) // 2) + [3] * (8 - width // 2)
    assert (np.flatnonzero(row == 3)[0] - np.flatnonzero(row == 7)[-1] - 1) == width
    np.testing.assert_array_equal(cut[mask == 0], 0)
    assert cut.dtype == np.int32


def test_width_zero_changes_nothing_and_the_input_is_never_written_to() -> None:
    mask = two_halves()
    before = mask.copy()
    np.testing.assert_array_equal(separate(mask, 0), mask)
    separate(mask, 4)[:] = 0
    np.testing.assert_array_equal(mask, before)
    with pytest.raises(ValueError, match="negative|0 or more"):
        separate(mask, -1)


def test_objects_that_touch_at_a_corner_only_are_parted_too() -> None:
    mask = np.zeros((10, 10), np.int32)
    mask[:5, :5], mask[5:, 5:] = 1, 2
    _, before = ndimage.label(mask > 0, EIGHT)
    _, after = ndimage.label(separate(mask, 1) > 0, EIGHT)
    assert (before, after) == (1, 2)


def test_an_object_in_several_pieces_stays_one_object() -> None:
    mask = np.zeros((8, 12), np.int32)
    mask[1:4, 1:4], mask[1:4, 8:11], mask[5:7, 1:11] = 5, 5, 9
    cut = separate(mask, 2)
    assert set(np.unique(cut)) == {0, 5, 9}
    assert ndimage.label(cut == 5)[1] == 2
    joined = np.zeros((4, 8), np.int32)
    joined[1:3] = 5
    np.testing.assert_array_equal(separate(joined, 3), joined), "an object does not part from itself"


def test_a_small_object_does_not_vanish() -> None:
    mask = np.full((15, 15), 4, np.int32)
    mask[7, 7] = 2
    cut = separate(mask, 4)
    assert cut[7, 7] == 2
    assert not (cut[5:10, 5:10] == 4).any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_no_two_objects_touch_after_the_cut(seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 4, (4, 5))
    mask = np.kron(coarse, np.ones((9, 11), int)) * 1000 + 0
    cut = separate(mask, width)
    assert set(np.unique(cut)) - {0} == set(np.unique(mask)) - {0}
    assert ((cut == mask) | (cut == 0)).all()
    for value in np.unique(cut):
        if value:
            near = ndimage.binary_dilation(cut == value, EIGHT)
            assert not ((cut != value) & (cut > 0) & near).any()


def test_the_ridge_lies_where_the_weight_map_is_high() -> None:
    """Between parted cells d1 + d2 is the ridge's width + 1; were the cells not parted there would be no background."""
    cut = separate(two_halves(40), 2)
    weight = border_term(cut, w0=10.0, sigma_px=5.0)
    ridge = weight[4:8, 19:21]
    np.testing.assert_allclose(ridge, 10 * np.exp(-(3.0**2) / 50), rtol=1e-5)
    assert ridge.min() > weight[5, :8].max()


def masks() -> tuple[np.ndarray, np.ndarray]:
    silver = np.zeros((20, 20), np.int32)
    silver[2:8, 2:8], silver[2:8, 10:16], silver[12:18, 2:8] = 1, 2, 3
    gold = np.zeros_like(silver)
    gold[1:8, 2:9] = 40
    return gold, silver


def test_silver_objects_without_gold_counterpart_are_found() -> None:
    gold, silver = masks()
    np.testing.assert_array_equal(unannotated(gold, silver), np.isin(silver, [2, 3]))


def test_a_complete_frame_has_nothing_unannotated() -> None:
    gold, silver = masks()
    gold[11:18, 1:8], gold[2:9, 10:17] = 41, 42
    assert not unannotated(gold, silver).any()


def test_gold_pixels_are_never_taken_away() -> None:
    gold, silver = masks()
    gold[:, 9:11] = 50  # a neighbour that reaches a little into an object of its own
    found = unannotated(gold, silver)
    assert found[4, 12]
    assert not found[4, 10]
    assert not (found & (gold > 0)).any()


def test_one_gold_object_may_be_drawn_as_two_by_the_silver_truth_and_the_other_way_round() -> None:
    gold, silver = np.zeros((10, 20), np.int32), np.zeros((10, 20), np.int32)
    gold[2:8, 2:18] = 1
    silver[2:8, 2:9], silver[2:8, 9:18] = 1, 2
    assert not unannotated(gold, silver).any()
    assert not unannotated(silver, gold).any()


def test_target_has_classes_and_ignored_pixels() -> None:
    masks, ignore = np.array([[0, 300], [2, 0]], np.int32), np.array([[True, False], [False, False]])
    label, cells = Target(ridge_px=0).of(masks, ignore)
    np.testing.assert_array_equal(label, np.array([[IGNORE, 1], [1, 0]], np.uint8), strict=True)
    np.testing.assert_array_equal(cells, masks, strict=True)


def test_the_border_class_lies_within_its_width_of_two_cells() -> None:
    """Cells in columns 0..3 and 6..9, 3 px: columns 3 and 6 are 3 px from the other cell, 4 and 5 nearer to both."""
    masks = np.zeros((1, 12), np.int32)
    masks[0, :4], masks[0, 6:10] = 7, 2
    target = Target("cell-border", border_px=3)
    label, cells = target.of(masks, np.arange(12)[None] == 5)
    assert target.class_names == ("background", "cell", "border")
    np.testing.assert_array_equal(label[0], [1, 1, 1, 2, 2, IGNORE, 2, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(cells, masks)


@given(st.integers(0, 2**32), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_borders_by_the_definition(seed: int, width: int) -> None:
    """Against one exact distance transform per object, over the whole image."""
    rng = np.random.default_rng(seed)
    masks = np.kron(rng.integers(0, 4, (5, 6)), np.ones((6, 5), int)).astype(np.int32) * 3
    masks[rng.random(masks.shape) < 0.3] = 0
    distances = [ndimage.distance_transform_edt(masks != i) for i in np.unique(masks[masks > 0])]
    expected = np.sum([d <= width + 0.5 for d in distances], axis=0) >= 2
    np.testing.assert_array_equal(borders(masks, width), expected)
