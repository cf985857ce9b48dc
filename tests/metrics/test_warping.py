"""Warping error: every kind of mistake by hand, the slow definition, and what may (not) change it."""

import numpy as np
import pytest
from hypothesis import given, settings

from tests.metrics import oracles
from tests.metrics.strategies import pairs, random_pair
from unet.metrics.sweep import THRESHOLDS
from unet.metrics.warping import RADIUS, Mistake, mistakes, warp, warping_error, warping_errors


def grid(text):
    return np.array([[c == "#" for c in line] for line in text.split()])


@pytest.mark.parametrize(
    ("label", "proposal", "expected"),
    [
        # The bridge joins two cells: round it are cell 1, cell 2 and background.
        ("#.# #.# #.#", "#.# ### #.#", {(1, 1): Mistake.MERGE}),
        # No pixel of the filled line is simple; each has both cells and background round it.
        ("#.# #.# #.#", "### ### ###", {(1, 1): Mistake.MERGE, (0, 1): Mistake.MERGE, (2, 1): Mistake.MERGE}),
        # From the top the line can be cut twice; the last pixel holds both halves together.
        ("### ### ###", "#.# #.# #.#", {(2, 1): Mistake.SPLIT}),
        ("... .#. ...", "... ... ...", {(1, 1): Mistake.OBJECT_DELETION}),
        ("... ... ...", "... .#. ...", {(1, 1): Mistake.OBJECT_ADDITION}),
        ("### ### ###", "### #.# ###", {(1, 1): Mistake.HOLE_ADDITION}),
        ("### #.# ###", "### ### ###", {(1, 1): Mistake.HOLE_DELETION}),
        # Closing an open ring makes a hole; opening a closed one removes it, and leaves the rest in one piece.
        ("### #.# #.#", "### #.# ###", {(2, 1): Mistake.HOLE_ADDITION}),
        ("### #.# ###", "### #.# #.#", {(2, 1): Mistake.HOLE_DELETION}),
        # Bending alone: nothing is left.
        ("##.. ##.. ....", ".... .##. .##.", {}),
    ],
)
def test_mistakes_by_hand(label, proposal, expected):
    found = mistakes(grid(label), grid(proposal), 0.5)
    assert {(int(y), int(x)): Mistake(found[y, x]) for y, x in zip(*np.nonzero(found), strict=True)} == expected


def test_a_cell_at_the_corner_is_a_third_component():
    # (1, 1) is all that is left of a cell that has another one at its corner: round it 0 and 1; of the two black pixels
    # between three cells, each has 0 and two cells round it
    label, proposal = grid("#.. .#. ..."), grid("#.. ... ...")
    assert mistakes(label, proposal, 0.5)[1, 1] == Mistake.HOLE_DELETION  # two ids, white, and nothing falls apart
    label, proposal = grid("#.# .#. ..."), grid("#.# ... ...")
    assert mistakes(label, proposal, 0.5)[1, 1] == Mistake.SPLIT  # three ids, white


def test_error_and_classic_error_by_hand():
    # one merger and one missed cell (no topological merger or split) on 36 pixels
    label = grid("#.#... #.#... #.#... ...... ...... .....#")
    proposal = np.where(label, 0.95, 0.0).astype(np.float32)
    proposal[1, 1], proposal[5, 5] = 0.92, 0.0
    error, classic = warping_errors(label, proposal)
    assert error.values == (1 / 36,) * 10
    assert classic.values == (2 / 36,) * 10
    assert (error.value, error.threshold, error.empty) == (1 / 36, 0.0, False)
    assert warping_error(label, proposal) == error
    assert error.thresholds == THRESHOLDS[:10]


def test_the_best_threshold_is_found():
    label = grid("#.# #.# #.#")
    proposal = np.where(label, 0.95, 0.0).astype(np.float32)
    proposal[1, 1] = 0.45  # a bridge up to t = 0.4
    error = warping_error(label, proposal)
    assert error.values == pytest.approx((1 / 9,) * 5 + (0.0,) * 5)
    assert (error.value, error.threshold) == (0.0, 0.5)


def test_slices_share_the_threshold():
    label = np.stack([grid("#.# #.# #.#"), grid("### ### ###")])
    proposal = np.where(label, 0.95, 0.0).astype(np.float32)
    proposal[0, 1, 1] = 0.75  # merges up to t = 0.7
    proposal[1, :, 1] = 0.35  # splits from t = 0.4 on
    error = warping_error(label, proposal)
    assert error.values == pytest.approx((1 / 18,) * 4 + (2 / 18,) * 4 + (1 / 18,) * 2)


def test_a_split_shows_in_its_window_only():
    # cutting a ring of 60 x 60 pixels once: within 41 x 41 pixels two ends remain, in the whole image they are joined
    label = np.zeros((64, 64), np.bool_)
    label[2:62, 2:62] = True
    label[3:61, 3:61] = False
    proposal = label.copy()
    proposal[2, 32] = False
    assert mistakes(label, proposal, 0.5)[2, 32] == Mistake.SPLIT
    assert mistakes(label, proposal, 0.5, radius=60)[2, 32] == Mistake.HOLE_DELETION
    assert mistakes(label, proposal, 0.5, radius=65)[2, 32] == Mistake.HOLE_DELETION


@pytest.mark.parametrize(("far", "expected"), [(20, Mistake.HOLE_DELETION), (21, Mistake.SPLIT)])
@pytest.mark.parametrize("turns", range(4))
def test_the_window_reaches_20_pixels(far, expected, turns):
    # a ring, cut in its upper side and joined again in its lower one, `far` pixels below the cut
    assert RADIUS == 20
    label = np.zeros((64, 64), np.bool_)
    label[30 : 31 + far, 20:41] = True
    label[31 : 30 + far, 21:40] = False
    proposal = label.copy()
    proposal[30, 30] = False
    label, proposal = np.rot90(label, turns), np.rot90(proposal, turns)
    found = mistakes(label, proposal, 0.5)
    assert [Mistake(kind) for kind in found[found > 0]] == [expected]
    assert found[label & ~proposal].all()
    assert warping_error(label, proposal).value == (1 / 64**2 if expected == Mistake.SPLIT else 0)


@pytest.mark.parametrize(("height", "expected"), [(19, Mistake.HOLE_DELETION), (21, Mistake.SPLIT)])
@pytest.mark.parametrize("turns", range(2))
def test_a_slice_with_a_side_shorter_than_the_radius_is_its_own_window(height, expected, turns):
    # a ring that is joined 30 px to the left and to the right of its cut
    label = np.zeros((height, 70), np.bool_)
    label[2:8, 5:66] = True
    label[3:7, 6:65] = False
    proposal = label.copy()
    proposal[2, 35] = False
    found = mistakes(np.rot90(label, turns), np.rot90(proposal, turns), 0.5)
    assert [Mistake(kind) for kind in found[found > 0]] == [expected]


def test_an_empty_proposal_is_flagged():
    label = np.pad(np.ones((3, 3), np.uint8), 1)
    error, classic = warping_errors(label, np.zeros((5, 5), np.float32))
    assert error.value == 0  # by the definition: the cell shrinks to one pixel, an object deletion
    assert classic.value == 1 / 25
    assert error.empty
    assert error.empty_slices == 1
    assert not warping_error(label, label.astype(np.float32)).empty


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (3, 5), (30, 2)])
def test_degenerate_slices(shape):
    full, none = np.ones(shape, np.bool_), np.zeros(shape, np.bool_)
    for same in (full, none):
        assert [s.value for s in warping_errors(same, same)] == [0, 0]
    error, classic = warping_errors(full, none)
    assert (error.value, classic.value) == (0, 1 / full.size)  # shrinks to one pixel
    error, classic = warping_errors(none, full)
    assert error.value == 0  # nothing is simple: an object cannot grow from nothing
    assert classic.value == 1.0


def test_8_bit_proposals_are_probabilities():
    label = grid("#.# #.# #.#")
    proposal = np.where(label, 250, 0).astype(np.uint8)
    proposal[1, 1] = 115  # 0.451
    assert warping_error(label, proposal).values == pytest.approx((1 / 9,) * 5 + (0.0,) * 5)


def test_warping_towards_itself_changes_nothing():
    cells, _ = random_pair(3, (20, 20))
    bent, left = warp(cells, cells.astype(np.float32), 0.5)
    np.testing.assert_array_equal(bent, cells)
    assert left.size == 0


def test_stacks_of_different_length_are_refused():
    with pytest.raises(ValueError, match="3 slices but proposal 2"):
        warping_error(np.ones((3, 4, 4)), np.ones((2, 4, 4), np.float32))


def by_definition(cells, proposal, t, radius=20, **mutant):
    """Warped label and map of mistakes by the slow definition."""
    bent, left = oracles.warped(cells, proposal, t, **mutant)
    expected = np.zeros(cells.shape, np.uint8)
    for p, name in oracles.kinds(bent, left, radius).items():
        expected[p] = Mistake[name.upper().replace(" ", "_")]
    return bent, expected


def agrees(cells, proposal, t, radius=20, **mutant):
    bent, expected = by_definition(cells, proposal, t, radius, **mutant)
    same = np.array_equal(warp(cells, proposal, t)[0], bent)
    return same and np.array_equal(mistakes(cells, proposal, t), expected)


@settings(deadline=None, max_examples=100)
@given(pairs(largest=12))
def test_it_agrees_with_the_definition(pair):
    for t in (THRESHOLDS[0], THRESHOLDS[3], THRESHOLDS[7]):
        assert agrees(*pair, t)
    narrow = mistakes(*pair, THRESHOLDS[5], radius=2)
    np.testing.assert_array_equal(narrow, by_definition(*pair, THRESHOLDS[5], radius=2)[1])


@settings(deadline=None, max_examples=30)
@given(pairs(largest=9))
def test_the_error_is_counted_from_the_definition(pair):
    cells, proposal = pair
    counted = []
    for t in THRESHOLDS[:10]:
        names = list(oracles.kinds(*oracles.warped(cells, proposal, t)).values())
        counted.append((sum(n in ("merge", "split") for n in names) / cells.size, len(names) / cells.size))
    error, classic = warping_errors(cells, proposal)
    np.testing.assert_allclose(np.transpose([error.values, classic.values]), counted, atol=1e-12)
    assert error.value == min(error.values)
    assert error.value <= classic.value + 1e-12


@pytest.mark.parametrize(
    "mutant",
    [{"scan": oracles.rows_first}, {"near_first": True}, {"one_pass": True}, {"radius": 1}],
    ids=lambda m: next(iter(m)),
)
def test_the_comparison_notices_another_rule(mutant):
    cases = [random_pair(seed, (14, 14), 0.7, 0.3) for seed in range(30)]
    assert all(agrees(*case, THRESHOLDS[4]) for case in cases)
    assert not all(agrees(*case, THRESHOLDS[4], **mutant) for case in cases)


@settings(deadline=None, max_examples=40)
@given(pairs())
def test_what_may_not_change_the_error(pair):
    cells, proposal = pair
    plain = warping_errors(cells, proposal)
    assert warping_errors(cells, cells)[1].value == 0
    assert warping_errors(cells * np.uint8(255), proposal) == plain
    assert warping_errors(np.stack([cells] * 2), np.stack([proposal] * 2))[0].values == pytest.approx(plain[0].values)
    if min(cells.shape) > 1:  # a slice of one row has nothing but cell round the end of a cut; a border adds background
        wider = np.pad(cells, 2), np.pad(proposal, 2)
        mistaken = np.array([plain[0].values, plain[1].values]) * cells.size
        np.testing.assert_allclose(np.array([s.values for s in warping_errors(*wider)]) * wider[0].size, mistaken)


@pytest.mark.parametrize("turn", [np.transpose, np.flipud, np.fliplr])
def test_turning_does_change_it(turn):
    # Not a defect: the order of the flips is part of the definition. Stacks must be scored as they were recorded.
    cases = [random_pair(seed, (12, 12), 0.7, 0.3) for seed in range(20)]
    assert any(warping_error(*case) != warping_error(*map(turn, case)) for case in cases)
