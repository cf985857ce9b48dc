"""What became of reference objects, by hand: every case is a row of pixels, 0 background."""

import numpy as np
import pytest

from unet.metrics.outcomes import Outcomes, outcomes


def row(text):
    """A frame of one row: a digit is an object, a dot background."""
    return np.array([[0 if c == "." else int(c) for c in text]])


def counted(reference, result, unknown=None):
    ignore = None if unknown is None else [np.array([[c == "?" for c in unknown]])]
    return outcomes([row(reference)], [row(result)], ignore)


@pytest.mark.parametrize(
    ("reference", "result", "expected"),
    [
        ("1111.22", "7777.88", Outcomes(2, 0, 0, 0, 0)),
        ("1111.22", "777..8.", Outcomes(1, 1, 0, 0, 1)),  # half of the second is not more than half
        ("1111.22", "777....", Outcomes(1, 1, 0, 0, 0)),
        ("1111.22", "7777777", Outcomes(0, 0, 2, 0, 0)),
        ("1111222", "7777722", Outcomes(2, 0, 0, 0, 0)),  # a third of the second goes to the first: no merger
        ("1111.22", "7788.99", Outcomes(1, 0, 0, 1, 0)),  # in halves, which match nothing: split, not spurious
        ("1111.22", "7778.99", Outcomes(1, 0, 0, 1, 0)),  # one part matches: still split
        ("1111....", "777888..", Outcomes(1, 0, 0, 0, 1)),  # the second lies outside with more than half: spurious
        ("111...", "777.88", Outcomes(1, 0, 0, 0, 1)),
        ("......", "777.88", Outcomes(0, 0, 0, 0, 2)),
        ("111.22", "......", Outcomes(0, 2, 0, 0, 0)),
        ("......", "......", Outcomes(0, 0, 0, 0, 0)),
        ("1111222", "7788888", Outcomes(1, 1, 0, 0, 1)),  # half of the first is not more than half, the rest no piece
        ("1111111122", "7777788877", Outcomes(0, 0, 2, 0, 0)),  # merged goes before split; 8 is a piece all the same
    ],
)
def test_outcomes_by_hand(reference, result, expected):
    assert counted(reference, result) == expected


def test_a_piece_holds_a_tenth():
    ten, nine = "1" * 10, "7" * 9
    assert counted(ten, nine + "8") == Outcomes(0, 0, 0, 1, 0)
    assert counted("1" * 11, "7" * 10 + "8") == Outcomes(1, 0, 0, 0, 1)  # a crumb


def test_unknown_pixels_excuse_what_is_found_there():
    assert counted("111....", "777.888") == Outcomes(1, 0, 0, 0, 1)
    assert counted("111....", "777.888", ".....??") == Outcomes(1, 0, 0, 0, 0)
    assert counted("111....", "777.888", "......?") == Outcomes(1, 0, 0, 0, 1)  # a third of it is not enough
    assert counted("111.222", "777....", "....???") == Outcomes(1, 0, 0, 0, 0)  # nothing was to be found there
    assert counted("1111.22", "77.....", "??.....") == Outcomes(0, 2, 0, 0, 0)


def test_frames_are_pooled_and_labels_are_their_own():
    frames = [row("11.22"), row("1.2.3")], [row("33.33"), row("9.8..")]
    assert outcomes(*frames) == Outcomes(2, 1, 2, 0, 0)
    assert outcomes([], []) == Outcomes(0, 0, 0, 0, 0)


def test_every_reference_object_has_one_outcome():
    rng = np.random.default_rng(3)
    for _ in range(50):
        reference, result = (np.kron(rng.integers(0, 6, (5, 6)), np.ones((3, 2), int)) for _ in range(2))
        result = np.where(rng.random(result.shape) < 0.6, reference, result)
        counts = outcomes([reference], [result])
        assert sum(counts[:4]) == len(np.unique(reference[reference > 0]))
        assert counts.spurious <= len(np.unique(result[result > 0]))


def test_masks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="score the same frames"):
        outcomes([row("1")], [])
    with pytest.raises(ValueError, match="ignore is int64"):
        outcomes([row("1")], [row("1")], [row("0")])
