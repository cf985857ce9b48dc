// How pixels are dealt out to threads, and how their data are read and written.
//
// An item is a pack of pixels that one thread handles at once. Its logits are read and written in accesses of 128 bits:
//   PLANAR         N x C x H x W, each class plane of an image without gaps: a pack is one access to each plane
//   CHANNELS_LAST  N x H x W x C in memory: a pack is the fewest pixels that fill whole accesses
//   STRIDED        anything else: single pixels, neighbouring threads take neighbouring pixels
// (of 64 bits where a pack would hold more values than there are registers: unet/loss/plan.py decides.)
// Packs start on multiples of an access's size. A run of pixels that does not, or does not end on one, has a first or last pack
// of which only pixels begin..end-1 exist: its head or tail, read and written value by value.
#pragma once

#include "numbers.cuh"
#include "params.cuh"

enum Layout { PLANAR = 0, CHANNELS_LAST = 1, STRIDED = 2 };

constexpr int BLOCK = 256;  // threads; part of the order of summation
constexpr int IGNORED = -1;
constexpr int OUTSIDE = -2;  // a valid pixel whose target is no class

__device__ constexpr int common_divisor(int a, int b) { return b ? common_divisor(b, a % b) : a; }

// What the compiler knows of a kernel. C is 0 for a number of classes that only the run knows (then STRIDED).
// ACCESS: bytes read or written at once.
template <class LOGIT, class TARGET, int C, int LAYOUT, int ACCESS>
struct Kind {
    using Logit = LOGIT;
    using Target = TARGET;
    static constexpr int classes = C;
    static constexpr int layout = LAYOUT;
    static constexpr int bytes = static_cast<int>(sizeof(LOGIT));
    static constexpr int elements = ACCESS / bytes;  // in one access
    static constexpr int pixels = LAYOUT == PLANAR ? elements
        : LAYOUT == CHANNELS_LAST ? ACCESS / common_divisor(ACCESS, C * bytes) : 1;
    static constexpr int accesses = pixels * C / elements;
    static_assert(C > 0 || LAYOUT == STRIDED, "packs need a known number of classes");
    static_assert(LAYOUT != STRIDED || ACCESS == bytes, "single pixels are read value by value");
};

// Where an item lies.
struct Place {
    long long image, row, column;  // of its first pixel; in a run `column` counts from the run's start, `row` is 0
    int begin, end;                // the pixels of the pack that exist
};

// 64-bit division takes four times as long; it is kept for tensors that need it.
__device__ inline long long divide(long long a, long long b) {
    if (((a | b) >> 32) == 0) return static_cast<unsigned>(a) / static_cast<unsigned>(b);
    return a / b;
}

template <class K>
__device__ inline Place place_of(const Params& p, long long item) {
    if constexpr (K::layout == STRIDED) {
        const long long line = divide(item, p.columns);
        const long long image = divide(line, p.rows);
        return {image, line - image * p.rows, item - line * p.columns, 0, 1};
    } else {
        const long long image = divide(item, p.items_per_run);
        const long long first = (item - image * p.items_per_run) * K::pixels - p.phase;
        const long long left = p.run_length - first;
        return {image, 0, first, first < 0 ? static_cast<int>(-first) : 0,
                left < K::pixels ? static_cast<int>(left) : K::pixels};
    }
}

// Offset of the pack's first pixel in an array without classes, and in one with them (class 0).
__device__ inline long long pixel_offset(const Place& at, const long long (&stride)[3]) {
    return at.image * stride[0] + at.row * stride[1] + at.column * stride[2];
}
__device__ inline long long pixel_offset(const Place& at, const long long (&stride)[4]) {
    return at.image * stride[0] + at.row * stride[2] + at.column * stride[3];
}

template <class K>
struct Logits {
    using Access = Pack<typename K::Logit, K::elements>;
    Access access[K::accesses];

    // Index of a value among those of the pack, in the order of the accesses.
    static __device__ constexpr int index(int pixel, int c) {
        return K::layout == CHANNELS_LAST ? pixel * K::classes + c : c * K::pixels + pixel;
    }
    __device__ float get(int pixel, int c) const {
        return to_float(access[index(pixel, c) / K::elements].value[index(pixel, c) % K::elements]);
    }
    __device__ void set(int pixel, int c, float x) {
        from_float(x, access[index(pixel, c) / K::elements].value[index(pixel, c) % K::elements]);
    }

    // Elements between access j and the first.
    static __device__ long long step(int j, const long long (&stride)[4]) {
        return K::layout == CHANNELS_LAST ? static_cast<long long>(j) * K::elements : j * stride[1];
    }
    // Elements between a value and the start of the pack.
    static __device__ long long step(int pixel, int c, const long long (&stride)[4]) {
        return pixel * stride[3] + c * stride[1];
    }

    __device__ void load(const Params& p, const Place& at) {
        const auto* from = static_cast<const typename K::Logit*>(p.logits) + pixel_offset(at, p.logits_stride);
        if (at.begin == 0 && at.end == K::pixels) {
#pragma unroll
            for (int j = 0; j < K::accesses; ++j)
                access[j] = *reinterpret_cast<const Access*>(from + step(j, p.logits_stride));
            return;
        }
#pragma unroll
        for (int pixel = 0; pixel < K::pixels; ++pixel)
#pragma unroll
            for (int c = 0; c < K::classes; ++c)
                if (pixel >= at.begin && pixel < at.end)
                    access[index(pixel, c) / K::elements].value[index(pixel, c) % K::elements] =
                        from[step(pixel, c, p.logits_stride)];
    }

    __device__ void store(const Params& p, const Place& at) const {
        auto* to = static_cast<typename K::Logit*>(p.gradient) + pixel_offset(at, p.gradient_stride);
        if (K::layout == STRIDED || (at.begin == 0 && at.end == K::pixels && (p.flags & GRADIENT_ALIGNED))) {
#pragma unroll
            for (int j = 0; j < K::accesses; ++j)
                *reinterpret_cast<Access*>(to + step(j, p.gradient_stride)) = access[j];
            return;
        }
#pragma unroll
        for (int pixel = 0; pixel < K::pixels; ++pixel)
#pragma unroll
            for (int c = 0; c < K::classes; ++c)
                if (pixel >= at.begin && pixel < at.end)
                    to[step(pixel, c, p.gradient_stride)] =
                        access[index(pixel, c) / K::elements].value[index(pixel, c) % K::elements];
    }
};

// The class of each pixel of a pack, or IGNORED or OUTSIDE.
template <class K>
__device__ inline void load_targets(const Params& p, const Place& at, int classes, int (&to)[K::pixels]) {
    typename K::Target targets[K::pixels];
    load_run(static_cast<const typename K::Target*>(p.target) + pixel_offset(at, p.target_stride),
             p.flags & TARGET_ALIGNED, at.begin, at.end, typename K::Target(0), targets);
    unsigned char valid[K::pixels];
    if (p.valid)
        load_run(p.valid + pixel_offset(at, p.valid_stride), p.flags & VALID_ALIGNED, at.begin, at.end,
                 static_cast<unsigned char>(0), valid);
#pragma unroll
    for (int i = 0; i < K::pixels; ++i) {
        const long long target = static_cast<long long>(targets[i]);
        const bool carries = i >= at.begin && i < at.end && target != p.ignore_index && (!p.valid || valid[i]);
        to[i] = !carries ? IGNORED : (target >= 0 && target < classes ? static_cast<int>(target) : OUTSIDE);
    }
}

template <class K>
__device__ inline void load_weights(const Params& p, const Place& at, float (&to)[K::pixels]) {
    if (p.weight) {
        load_run(p.weight + pixel_offset(at, p.weight_stride), p.flags & WEIGHT_ALIGNED, at.begin, at.end, 0.0f, to);
        return;
    }
#pragma unroll
    for (int i = 0; i < K::pixels; ++i) to[i] = 1.0f;
}
