// The mathematics of one pixel, written once for every kernel: softmax cross-entropy of its C scores and the gradient.
//
//   loss = log sum_c exp(x_c - x_t),   d loss / d x_c = softmax(x)_c - [c == t]           (t the target class)
//
// All in float32. Relative to the largest score x_b and with rest = sum over c != b of exp(x_c - x_b):
//   loss = log1p(rest) + (x_b - x_t),  softmax(x)_c = exp(x_c - x_b) / (1 + rest)
// which keeps the digits of a small loss, and of the gradient 1 - p of a confident pixel. A score that is not a number,
// or a largest score that is infinite, makes `rest` and with it loss and gradient NaN, as in torch.
//
// Every rounding is written out: a product and a sum are rounded once where fmaf stands, else twice. The compiler is
// told to join none (unet/loss/compile.py), for it would not join the same ones in every kernel and for every device.
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

template <int C>
struct Softmax {
    float top;                // the largest score; NaN counts as larger than everything
    float rest;               // sum of exp(score - top) over the other classes
    float target;             // the score of the target class
    int best;                 // the first class that has the largest score
    float below;              // of two classes: by how much the other score is smaller
    float term[C > 2 ? C : 1];  // of more, where C is known: exp(score - top) of every class
};

// Whether `score` takes the place of the largest so far: !(a <= b) rather than a > b is true for a NaN score too,
// unless the largest is one already.
__device__ inline bool larger(float score, float top) { return !(score <= top) && top == top; }

// The rest, and NaN where the largest score is infinite or NaN.
__device__ inline float doubted(float rest, float top) { return fmaf(top, 0.0f, rest); }

// log(1 + x) for 0 <= x <= 1, with a relative error of at most 1.4 units of the last place: a third of the instructions
// of log1pf, which must do for every x. The polynomial is fitted to the least largest relative error (3.3e-8).
__device__ inline float log1p_of_share(float x) {
    constexpr float c[8] = {-0.499996483f, 0.33321321f, -0.248571575f, 0.191536337f,
                            -0.137537554f, 0.0792039782f, -0.0300654508f, 0.00536473887f};
    float sum = c[7];
#pragma unroll
    for (int i = 6; i >= 0; --i) sum = fmaf(sum, x, c[i]);
    return fmaf(x * x, sum, x);
}

// 1 / x for 1 <= x <= 16 (or NaN), with an error of one unit of the last place on a GPU.
__device__ inline float reciprocal(float x) {
#ifdef __CUDA_ARCH__
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
#else
    return 1.0f / x;
#endif
}

template <int C>
__device__ inline Softmax<C> softmax(const Scores<C>& scores, int, int target) {
    Softmax<C> result;
    result.top = scores[0], result.best = 0;
    result.target = scores[0];
#pragma unroll
    for (int c = 1; c < C; ++c) {
        const float score = scores[c];
        if (c == target) result.target = score;
        const bool wins = larger(score, result.top);
        result.best = wins ? c : result.best;
        result.top = wins ? score : result.top;
    }
    if constexpr (C == 2) {
        result.below = fabsf(scores[1] - scores[0]);
        result.rest = doubted(expf(-result.below), fmaxf(scores[0], scores[1]));
    } else {
        result.rest = doubted(0.0f, result.top);
#pragma unroll
        for (int c = 0; c < C; ++c) {
            result.term[c] = expf(scores[c] - result.top);
            result.rest += c == result.best ? 0.0f : result.term[c];
        }
    }
    return result;
}

// One pass over scores in memory, each read once: the sum so far is rescaled whenever a larger score turns up.
template <class T>
__device__ inline Softmax<0> softmax(const ScoresInMemory<T>& scores, int classes, int target) {
    Softmax<0> result;
    result.top = scores[0], result.rest = 0.0f, result.target = scores[0], result.best = 0;
    for (int c = 1; c < classes; ++c) {
        const float score = scores[c];
        if (c == target) result.target = score;
        const bool wins = larger(score, result.top);
        // equal scores are not subtracted: of two infinities the difference would be NaN
        const float below = score == result.top ? 0.0f : (wins ? result.top - score : score - result.top);
        const float term = expf(below);
        result.rest = wins ? (result.rest + 1.0f) * term : result.rest + term;
        result.best = wins ? c : result.best;
        result.top = wins ? score : result.top;
    }
    result.rest = doubted(result.rest, result.top);
    return result;
}

template <int C>
__device__ inline float pixel_loss(const Softmax<C>& s, int target) {
    if constexpr (C == 2) return log1p_of_share(s.rest) + (target == s.best ? 0.0f : s.below);
    return log1pf(s.rest) + (s.top - s.target);
}

// factor * (softmax_c - [c == target]) for every class, handed to write(c, value).
// An infinite factor gives NaN for the target, as inf * p - inf does.
template <int C, class S, class WRITE>
__device__ inline void pixel_gradient(const Softmax<C>& s, const S& scores, int classes, int target, float factor,
                                      const WRITE& write) {
    const float inverse = reciprocal(1.0f + s.rest);
    if constexpr (C == 2) {  // what one class gains the other loses: p of the class that is not the target
        const float gradient = factor * (target == s.best ? s.rest * inverse : inverse);
        const float targets = fmaf(factor, 0.0f, -gradient);
        write(0, target == 0 ? targets : gradient);
        write(1, target == 0 ? gradient : targets);
    } else {
#pragma unroll
        for (int c = 0; c < (C ? C : classes); ++c) {
            float term;
            if constexpr (C > 2)
                term = s.term[c];
            else
                term = c == s.best ? 1.0f : expf(scores[c] - s.top);
            const float difference = c == s.best ? -s.rest * inverse : fmaf(term, inverse, -1.0f);
            write(c, c == target ? fmaf(factor, difference, factor - factor) : factor * (term * inverse));
        }
    }
}
