"""Faults of csrc/pixel.cuh."""

from __future__ import annotations

from tests.loss.mutants.mutant import Mutant

_PIXEL = "pixel.cuh"

FOUND_BY: dict[str, tuple[Mutant, ...]] = {
    "other_ignored_targets": (
        Mutant(
            "no maximum is subtracted, many classes", _PIXEL, "wins ? result.top - score : score - result.top", "score"
        ),
        Mutant(
            "difference of two classes with its sign", _PIXEL, "fabsf(scores[1] - scores[0])", "(scores[1] - scores[0])"
        ),
        Mutant("sum not rescaled", _PIXEL, "(result.rest + 1.0f) * term", "result.rest + 1.0f"),
        Mutant("old maximum forgotten", _PIXEL, "(result.rest + 1.0f) * term", "result.rest * term"),
        Mutant("last of equal scores predicted", _PIXEL, "!(score <= top)", "!(score < top)"),
        Mutant("target's score of the first class", _PIXEL, "if (c == target) result.target = score;", ""),
        Mutant(
            "target's score of the first class, many classes", _PIXEL, "if (c == target) result.target = score;", "", 1
        ),
        Mutant("the largest score in the rest", _PIXEL, "c == result.best ? 0.0f : result.term[c]", "result.term[c]"),
        Mutant(
            "gradient of two classes of the other class",
            _PIXEL,
            "target == s.best ? s.rest * inverse : inverse",
            "target != s.best ? s.rest * inverse : inverse",
        ),
        Mutant("both classes gain", _PIXEL, "fmaf(factor, 0.0f, -gradient)", "fmaf(factor, 0.0f, gradient)"),
        Mutant(
            "gradient of two classes swapped",
            _PIXEL,
            "write(0, target == 0 ? targets : gradient)",
            "write(0, target == 0 ? gradient : targets)",
        ),
        Mutant(
            "target's one dropped", _PIXEL, "c == target ? fmaf(factor, difference, factor - factor) : factor", "factor"
        ),
        Mutant("loss of the predicted class", _PIXEL, "target == s.best ? 0.0f : s.below", "0.0f"),
    ),
    "agrees_with_the_reference": (
        Mutant("no maximum is subtracted", _PIXEL, "expf(scores[c] - result.top)", "expf(scores[c])"),
    ),
    "digits_of_confident_pixels": (
        Mutant(
            "gradient without its digits",
            _PIXEL,
            "c == s.best ? -s.rest * inverse : fmaf(term, inverse, -1.0f)",
            "fmaf(term, inverse, -1.0f)",
        ),
        Mutant("loss without its logarithm's digits", _PIXEL, "log1pf(s.rest)", "logf(1.0f + s.rest)"),
        Mutant("loss of two classes without its digits", _PIXEL, "log1p_of_share(s.rest) +", "logf(1.0f + s.rest) +"),
    ),
    "class_offsets_beyond_32_bits": (
        Mutant("class offsets of 32 bits, many classes", _PIXEL, "    long long stride;", "    int stride;"),
    ),
    "special_values_propagate_as_in_torch": (
        Mutant("NaN is not the largest", _PIXEL, "!(score <= top) && top == top", "score > top"),
        Mutant("last NaN predicted", _PIXEL, " && top == top", ""),
        Mutant("equal infinities subtracted", _PIXEL, "score == result.top ? 0.0f : (", "("),
        Mutant(
            "infinite maximum gives a loss",
            _PIXEL,
            "doubted(expf(-result.below), fmaxf(scores[0], scores[1]))",
            "expf(-result.below)",
        ),
        Mutant("infinite minimum gives no loss", _PIXEL, "fmaxf(scores[0], scores[1])", "fminf(scores[0], scores[1])"),
        Mutant("infinite maximum gives a loss, more classes", _PIXEL, "doubted(0.0f, result.top)", "0.0f"),
        Mutant(
            "infinite maximum gives a loss, many classes", _PIXEL, "doubted(result.rest, result.top)", "result.rest"
        ),
        Mutant(
            "infinite weight gives an infinite gradient",
            _PIXEL,
            "fmaf(factor, difference, factor - factor)",
            "factor * difference",
        ),
        Mutant(
            "infinite weight gives an infinite gradient, two classes",
            _PIXEL,
            "fmaf(factor, 0.0f, -gradient)",
            "-gradient",
        ),
    ),
    "logarithms_are_accurate": (
        Mutant("logarithm without its last term", _PIXEL, "float sum = c[7];", "float sum = 0;"),
        Mutant("a coefficient's last digits", _PIXEL, "0.191536337f", "0.191536f"),
    ),
}
