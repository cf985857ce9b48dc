// The mathematics of one pixel, written once for every kernel: softmax cross-entropy of its C scores and the gradient.
//
//   loss = log sum_c exp(x_c - x_t),   d loss / d x_c = softmax(x)_c - [c == t]           (t the target class)
//
// All in float32. Relative to the largest score x_b and with rest = sum over c != b of exp(x_c - x_b):
//   loss = log1p(rest) + (x_b - x_t),  softmax(x)_c = exp(x_c - x_b) / (1 + rest)
// which keeps the digits of a small loss, and of the gradient 1 - p of a confident pixel. A score that is not a number,
// or a largest score that is infinite, makes loss and gradient NaN, as in torch.
#pragma once

// The scores of a pixel in registers; C is known to the compiler, so that no loop over the classes remains.
template <int C>
struct Scores {
    static constexpr int known = C;
    float value[C];
    __device__ float operator[](int c) const { return value[c]; }
};

// The scores of a pixel in memory, for any number of classes; `stride` elements lie between two classes.
template <class T>
struct ScoresInMemory {
    static constexpr int known = 0;
    const T* first;
    long long stride;
    __device__ float operator[](int c) const { return to_float(first[c * stride]); }
};

struct Softmax {
    float top;     // the largest score; NaN counts as larger than everything
    float rest;    // sum of exp(score - top) over the other classes
    float target;  // the score of the target class
    int best;      // the first class that has the largest score
};

// One pass over the scores, each read once: the sum so far is rescaled whenever a larger score turns up.
template <class S>
__device__ inline Softmax softmax(const S& scores, int classes, int target) {
    Softmax result = {scores[0], 0.0f, scores[0], 0};
#pragma unroll
    for (int c = 1; c < (S::known ? S::known : classes); ++c) {
        const float score = scores[c];
        if (c == target) result.target = score;
        // !(a <= b) rather than a > b: true for a NaN score too, unless the largest is one already
        const bool larger = !(score <= result.top) && result.top == result.top;
        // equal scores are not subtracted: of two infinities the difference would be NaN
        const float below = score == result.top ? 0.0f : (larger ? result.top - score : score - result.top);
        const float term = expf(below);
        result.rest = larger ? (result.rest + 1.0f) * term : result.rest + term;
        result.best = larger ? c : result.best;
        result.top = larger ? score : result.top;
    }
    return result;
}

__device__ inline float pixel_loss(const Softmax& s) {
    return log1pf(s.rest) + (s.top - s.target) + (s.top - s.top);  // the last term: 0, or NaN for an infinite top
}

__device__ inline float inverse_total(const Softmax& s) { return __fdividef(1.0f, 1.0f + s.rest + (s.top - s.top)); }

// factor * (softmax_c - [c == target]); `score` is that of class c, `inverse` comes from inverse_total.
template <int KNOWN_CLASSES>
__device__ inline float pixel_gradient(const Softmax& s, float inverse, float factor, float score, int c, int target) {
    // of two classes the one that is not the largest has the whole rest
    const float term = c == s.best ? 1.0f : (KNOWN_CLASSES == 2 ? s.rest : expf(score - s.top));
    if (c != target) return factor * (term * inverse);
    const float difference = c == s.best ? -s.rest * inverse : term * inverse - 1.0f;
    return factor * difference + (factor - factor);  // an infinite weight gives NaN here, as inf * p - inf does
}
