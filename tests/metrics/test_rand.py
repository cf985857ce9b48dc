"""Rand error, border thinning, V_rand and V_info: by hand, against the slow definitions, under transformations."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from skimage.metrics import adapted_rand_error

from tests.metrics import oracles
from tests.metrics.strategies import pairs, random_pair
from unet.metrics.rand import rand_error, thin, v_info, v_rand, v_scores
from unet.metrics.sweep import THRESHOLDS

LN2 = math.log(2)


def regions_of(*rows):
    """Thinned regions of a mask written as rows of 0 and 1."""
    regions, count = thin(np.array(rows, np.bool_))
    return regions.tolist(), count


def test_rand_error_of_a_merger_by_hand():
    # two cells of two pixels, one proposal region: n = 2, 2; tp = 4 + 4, tp + fp = 4^2, tp + fn = 4 + 4
    # p = 1/2, r = 1, F = 2/3. Unordered pairs: tp = 1 + 1, tp + fp = 6, tp + fn = 2: p = 1/3, F = 1/2
    label, proposal = np.array([[1, 1, 0, 1, 1]]), np.ones((1, 5), np.float32)
    assert rand_error(label, proposal).value == pytest.approx(1 / 3, abs=1e-15)
    assert rand_error(label, proposal, pairs="n(n-1)/2").value == pytest.approx(1 / 2, abs=1e-15)


def test_v_info_of_the_same_partition_in_another_order_is_one():
    # three cells of 4, 4 and 3 x 2 pixels, in a proposal that numbers them otherwise; rounding once gave 1 + 2e-16
    proposal = np.zeros((12, 6), np.float32)
    proposal[:, [0, 2, 4, 5]] = 1
    label = np.zeros((12, 6), np.uint8)
    label[8:12, 0] = label[0:4, 2] = label[6:9, 4:6] = 1
    assert v_info(label, proposal).value == 1.0


def test_background_pixels_of_the_proposal_are_singletons():
    # one cell of 5; the proposal has regions of 1 and 2 pixels and two background pixels:
    # tp = 1 + 4 + 2, tp + fp = the same, tp + fn = 25: p = 1, r = 7/25, F = 14/32
    # unordered: tp = 0 + 1, tp + fp = 1, tp + fn = 10: F = 2/11
    label, proposal = np.ones((1, 5)), np.array([[1, 0, 0, 1, 1]], np.float32)
    assert rand_error(label, proposal).value == pytest.approx(1 - 14 / 32, abs=1e-15)
    assert rand_error(label, proposal, pairs="n(n-1)/2").value == pytest.approx(1 - 2 / 11, abs=1e-15)


def test_only_pixels_inside_label_cells_count():
    # the proposal's region has 5 pixels, 2 of them inside the cell; outside nothing counts
    label, proposal = np.array([[0, 1, 1, 0, 0]]), np.ones((1, 5), np.float32)
    assert rand_error(label, proposal).value == 0


def test_a_region_connected_outside_the_cells_is_one_region():
    # the two ends of the proposal meet only in the second row, over the label's membrane
    label = np.array([[1, 0, 1], [0, 0, 0]])
    proposal = np.array([[1, 0, 1], [1, 1, 1]], np.float32)
    assert rand_error(label, proposal).value == pytest.approx(
        1 - 2 * (2 / 4) / (1 + 2 / 4)
    )  # tp 2, tp + fp 4, tp + fn 2


def test_corners_do_not_connect():
    label = np.array([[1, 0], [0, 1]])  # two cells of one pixel
    assert rand_error(label, label == 1).value == 0
    assert rand_error(label, np.ones((2, 2), np.float32)).value == pytest.approx(1 / 3)  # tp 2, tp + fp 4, tp + fn 2


def test_counts_are_pooled_over_slices_not_averaged():
    # slice 1 merges two cells of one pixel (tp 2, tp + fp 4, tp + fn 2), slice 2 is right (tp 9, 9, 9):
    # p = 11/13, r = 1, F = 22/24; the mean of F would be (2/3 + 1) / 2
    label = np.array([[[1, 0, 1]], [[1, 1, 1]]])
    error = rand_error(label, np.ones((2, 1, 3), np.float32))
    assert error.value == pytest.approx(2 / 24, abs=1e-15)


def test_it_is_not_scikit_images_adapted_rand_error():
    # scikit-image joins the proposal's two background pixels to a region: 1 + 1 pairs of 10: r = 2/10, F = 1/3;
    # as singletons they make no pair: r = 1/10, F = 2/11
    label, proposal = np.ones((1, 5), np.uint8), np.array([[1, 0, 0, 1, 1]], np.float32)
    theirs, *_ = adapted_rand_error(label, np.array([[1, 0, 0, 2, 2]]))
    assert theirs == pytest.approx(1 - 1 / 3)
    assert rand_error(label, proposal, pairs="n(n-1)/2").value == pytest.approx(1 - 2 / 11)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_scikit_images_where_the_proposal_has_no_background(seed):
    # without background the two definitions coincide; the sweep's values at every threshold are then equal
    rng = np.random.default_rng(seed)
    label = rng.random((20, 20)) < 0.6
    theirs, *_ = adapted_rand_error(oracle_ids(label), np.ones((20, 20), int))
    ours = rand_error(label, np.ones((20, 20), np.float32), pairs="n(n-1)/2")
    assert ours.values == pytest.approx([theirs] * 11)


def oracle_ids(mask):
    ids = np.zeros(mask.shape, int)
    for p, number in oracles.pieces(oracles.pixels_of(mask)).items():
        ids[p] = number
    return ids


def test_thinning_of_rows_by_hand():
    # col 1 and col 3 touch basins and take their labels; col 2 then has 1 on its left and 2 on its right: a line
    assert regions_of([1, 0, 0, 0, 1]) == ([[1, 1, 0, 2, 2]], 2)
    # col 2 is reached first (by col 1), takes 1; col 3 (reached by col 4) has 1 on its left, 2 on its right: a line
    assert regions_of([1, 0, 0, 0, 0, 1]) == ([[1, 1, 1, 0, 2, 2]], 2)
    assert regions_of([1, 0, 1]) == ([[1, 0, 2]], 2)
    assert regions_of([1, 0, 0]) == ([[1, 1, 1]], 1)
    assert regions_of([1, 1]) == ([[1, 1]], 1)
    assert regions_of([0, 0], [0, 0]) == ([[1, 1], [1, 1]], 1)  # nothing to grow from: one region
    assert regions_of([1]) == ([[1]], 1)
    assert regions_of([0]) == ([[1]], 1)


def test_thinning_starts_column_by_column():
    # 1 0    (0,1) and (1,0) touch both basins. Column first: (1,0) is settled first, looks up (label 1, takes it), then
    # 0 1    right (label 2): line. (0,1): left 1, down 2: line.
    assert regions_of([1, 0], [0, 1]) == ([[1, 0], [0, 2]], 2)


def test_v_rand_and_v_info_by_hand():
    # label cells 0-1 and 3-4; proposal regions 0 and 2-4; column 1 becomes a line. Over the four cell pixels the
    # regions are 1, line, 2, 2: tp = 1 + 4 + 1 = tp + fp, tp + fn = 4 + 4: p = 1, r = 3/4, F = 6/7.
    # H_label = ln 2, H_proposal = ln 2 / 2 + 2 ln 4 / 4 = 1.5 ln 2, the proposal refines the label: I = ln 2
    label, proposal = np.array([[1, 1, 0, 1, 1]]), np.array([[1, 0, 1, 1, 1]], np.float32)
    rand, info = v_scores(label, proposal)
    assert rand.value == pytest.approx(6 / 7, abs=1e-15)
    assert info.value == pytest.approx(2 * LN2 / (2.5 * LN2), abs=1e-15)
    assert (v_rand(label, proposal), v_info(label, proposal)) == (rand, info)


def test_thick_membranes_cost_nothing_after_thinning():
    label = np.array([[1, 1, 1, 1, 0, 1, 1, 1, 1]])
    thick = np.array([[1, 1, 0, 0, 0, 0, 0, 1, 1]], np.float32)
    # columns 2, 3 grow to 1 and 5, 6 to 2, column 4 becomes the line
    assert [s.value for s in v_scores(label, thick)] == pytest.approx([1, 1], abs=1e-15)
    # not thinned: tp = 4 + 4 + 4 singletons = tp + fp, tp + fn = 32
    assert rand_error(label, thick).value == pytest.approx(1 - 24 / 44, abs=1e-15)


def test_mean_over_slices_then_maximum_over_thresholds():
    # slice 1 is perfect above .4 only (below, the merger gives 2/3), slice 2 above .6 only; both at .7
    label = np.array([[[1, 0, 1]], [[1, 0, 1]]])
    proposal = np.array([[[1, 0.45, 1]], [[1, 0.65, 1]]], np.float32)
    rand = v_rand(label, proposal)
    expected = [2 / 3] * 5 + [(1 + 2 / 3) / 2] * 2 + [1.0] * 4
    np.testing.assert_allclose(rand.values, expected, atol=1e-15)
    assert (rand.value, rand.threshold) == (1.0, THRESHOLDS[7])


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (3, 5)])
def test_degenerate_slices(shape):
    cell, membrane = np.ones(shape), np.zeros(shape)
    found, nothing = cell.astype(np.float32), membrane.astype(np.float32)
    n = cell.size
    assert rand_error(cell, found).value == 0
    assert rand_error(membrane, found).value == 0  # no cell pixel to compare
    assert rand_error(membrane, nothing).value == 0
    assert rand_error(cell, nothing).value == pytest.approx(1 - 2 / (n + 1))  # p = 1, r = n / n^2
    rand, info = v_scores(cell, nothing)
    assert (rand.value, info.value) == (1.0, 0.0)  # the whole slice is one region; no entropy
    assert rand.empty
    assert info.empty
    assert v_info(cell, found).value == 0.0
    assert not v_rand(cell, found).empty


def test_unknown_pairs_are_refused():
    with pytest.raises(ValueError, match="pairs is 'n'"):
        rand_error(np.ones((2, 2)), np.ones((2, 2)), pairs="n")


def test_stacks_of_different_length_are_refused():
    for score in (rand_error, v_rand, v_info):
        with pytest.raises(ValueError, match="3 slices but proposal 2"):
            score(np.ones((3, 4, 4)), np.ones((2, 4, 4), np.float32))


def definition_at(cells, proposal, t):
    """(F, F of unordered pairs, thinned F, thinned information) of one slice by the slow definitions."""
    ids = oracles.pieces(oracles.pixels_of(cells))
    mask = proposal.astype(np.float64) > t
    plain = oracles.clusters(ids, oracles.pieces(oracles.pixels_of(mask)))
    thinned = oracles.clusters(ids, oracles.thinned(mask))
    counts = oracles.squares(plain), oracles.unordered(plain), oracles.squares(thinned)
    return *(oracles.f_of(*c) for c in counts), oracles.information(thinned)


@settings(deadline=None, max_examples=60)
@given(pairs())
def test_every_threshold_agrees_with_the_definition(pair):
    cells, proposal = pair
    expected = np.array([definition_at(cells, proposal, t) for t in THRESHOLDS]).T
    rand, info = v_scores(cells, proposal)
    np.testing.assert_allclose(rand_error(cells, proposal).values, 1 - expected[0], atol=1e-12)
    np.testing.assert_allclose(rand_error(cells, proposal, pairs="n(n-1)/2").values, 1 - expected[1], atol=1e-12)
    np.testing.assert_allclose(rand.values, expected[2], atol=1e-12)
    np.testing.assert_allclose(info.values, expected[3], atol=1e-12)


@settings(deadline=None, max_examples=100)
@given(pairs(largest=14))
def test_thinning_agrees_with_the_definition(pair):
    mask = pair[0]
    assert same_partition(mask, oracles.thinned(mask))


def same_partition(mask, expected):
    regions, _ = thin(mask)
    height, width = mask.shape
    matches = {(int(regions[p]), expected[p]) for p in oracles.columns_first(height, width)}
    numbers = [m for m in matches if m != (0, 0)]
    return len(dict(numbers)) == len({b for _, b in numbers}) == len(numbers) and all(a and b for a, b in numbers)


@pytest.mark.parametrize(
    "mutant",
    [
        {"scan": oracles.rows_first},
        {"last_first": True},
        {"lines_are_settled": True},
    ],
    ids=lambda m: next(iter(m)),
)
def test_the_comparison_notices_another_rule(mutant):
    masks = [random_pair(seed, (24, 24), cell_share=0.05)[0] for seed in range(20)]
    assert all(same_partition(mask, oracles.thinned(mask)) for mask in masks)
    assert not all(same_partition(mask, oracles.thinned(mask, **mutant)) for mask in masks)


def test_the_comparison_notices_background_taken_as_one_region():
    cells, proposal = random_pair(1, (12, 12))
    ids, regions = (oracles.pieces(oracles.pixels_of(m)) for m in (cells, proposal > 0.5))
    right, wrong = (
        oracles.f_of(*oracles.squares(oracles.clusters(ids, regions, background_is_one=one))) for one in (False, True)
    )
    assert 1 - rand_error(cells, proposal).values[5] == pytest.approx(right)
    assert right != pytest.approx(wrong, abs=1e-3)


@settings(deadline=None, max_examples=40)
@given(pairs())
def test_what_may_not_change_the_scores(pair):
    cells, proposal = pair
    plain, (rand, info) = rand_error(cells, proposal), v_scores(cells, proposal)
    assert rand_error(cells, cells).value == 0
    assert v_rand(cells, cells).value == 1
    assert rand_error(cells * np.uint8(255), proposal) == plain
    assert v_scores(cells * 255, proposal) == (rand, info)
    # Components and overlaps know no direction, so the Rand error survives turning; a border adds no cell pixel.
    for turned in (
        (cells.T, proposal.T),
        (cells[::-1, ::-1], proposal[::-1, ::-1]),
        (np.pad(cells, 2), np.pad(proposal, 2)),
    ):
        assert rand_error(*turned).values == pytest.approx(plain.values, abs=1e-12)
    stacked = np.stack([cells] * 3), np.stack([proposal] * 3)
    assert rand_error(*stacked).values == pytest.approx(plain.values, abs=1e-12)
    assert v_rand(*stacked).values == pytest.approx(rand.values, abs=1e-12)
    assert 0 <= plain.value <= 1
    assert 0 <= info.value <= 1 + 1e-12


def test_thinned_scores_do_depend_on_the_direction_of_the_scan():
    # Not a defect: the watershed's queue is part of the definition. Stacks must be scored as they were recorded.
    differing = 0
    for seed in range(20):
        cells, proposal = random_pair(seed, (16, 16), 0.6, 0.2)
        differing += v_rand(cells, proposal).values != pytest.approx(v_rand(cells.T, proposal.T).values, abs=1e-9)
    assert differing > 0
