// How pixels are dealt out to threads, and where their data lie.
//
// An item is a pack of pixels that one thread handles at once. Its logits are read and written in accesses of 128 bits:
//   PLANAR         N x C x H x W, each class plane of an image without gaps: a pack is one access to each plane
//   CHANNELS_LAST  N x H x W x C in memory: a pack is the fewest pixels that fill whole accesses
//   STRIDED        anything else: single pixels, neighbouring threads take neighbouring pixels
// (of 64 bits where a pack would hold more values than there are registers: unet/loss/plan.py decides.)
// Packs start on multiples of an access's size. A run of pixels that does not, or does not end on one, has a first or
// last pack of which only some pixels exist; these are handled one by one, as those of STRIDED tensors are.
#pragma once

#include "numbers.cuh"
#include "params.cuh"

enum Layout { PLANAR = 0, CHANNELS_LAST = 1, STRIDED = 2 };

constexpr int BLOCK = 256;  // threads; part of the order of summation

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

// Where a pixel lies; in a run `column` counts from the run's start and `row` is 0.
struct Place {
    long long image, row, column;
};

// Offset of a pixel in an array without classes, and in one with them (class 0).
__device__ inline long long pixel_offset(const Place& at, const long long (&stride)[3]) {
    return at.image * stride[0] + at.row * stride[1] + at.column * stride[2];
}
__device__ inline long long pixel_offset(const Place& at, const long long (&stride)[4]) {
    return at.image * stride[0] + at.row * stride[2] + at.column * stride[3];
}

// 64-bit division takes four times as long as that of 32 bits; it is kept for tensors that need it.
__device__ inline long long divide(long long a, long long b) {
    if (a < b) return 0;
    if (((a | b) >> 32) == 0) return static_cast<unsigned>(a) / static_cast<unsigned>(b);
    return a / b;
}

// The packs of a thread, BLOCK items apart. The addresses of a run's arrays are looked up where a new run begins.
template <class K>
struct Packs {
    using Access = Pack<unsigned, K::elements * K::bytes / 4>;
    static constexpr int words = K::pixels * K::classes * K::bytes / 4;  // of logits
    static constexpr int logits_step = K::layout == CHANNELS_LAST ? K::pixels * K::classes : K::pixels;

    long long image, pack;
    // Of the pack, which may begin before the run does.
    const typename K::Logit* logits;
    typename K::Logit* gradient;
    const typename K::Target* target;
    const float* weight;
    const unsigned char* valid;

    // To an item, of which `ahead` are left for the thread.
    __device__ void go_to(const Params& p, long long item) {
        image = divide(item, p.items_per_run), pack = item - image * p.items_per_run;
        const long long pixel = pack * K::pixels - p.phase;
        const long long value = pack * logits_step - p.phase * (K::layout == CHANNELS_LAST ? K::classes : 1);
        logits = static_cast<const typename K::Logit*>(p.logits) + (image * p.logits_stride[0] + value);
        gradient = static_cast<typename K::Logit*>(p.gradient) + (image * p.gradient_stride[0] + value);
        target = static_cast<const typename K::Target*>(p.target) + (image * p.target_stride[0] + pixel);
        weight = p.weight + (image * p.weight_stride[0] + pixel);
        valid = p.valid + (image * p.valid_stride[0] + pixel);
    }

    // How many of the next `left` packs, from this one on, are whole before one is not.
    __device__ int whole(const Params& p, int left) const {
        if (pack < p.whole_begin || pack >= p.whole_end) return 0;
        const long long behind = p.whole_end - 1 - pack;
        return behind >= static_cast<long long>(left) * BLOCK ? left : static_cast<int>(behind) / BLOCK + 1;
    }

    // Logits between access j of a pack and its first.
    static __device__ long long access(int j, const long long (&stride)[4]) {
        return K::layout == CHANNELS_LAST ? static_cast<long long>(j) * K::elements : j * stride[1];
    }
    // Index of a value among those of the pack, in the order of the accesses.
    static __device__ constexpr int index(int pixel, int c) {
        return K::layout == CHANNELS_LAST ? pixel * K::classes + c : c * K::pixels + pixel;
    }

    // The logits of the pack i packs of the thread ahead.
    __device__ void load(const Params& p, int i, unsigned (&to)[words]) const {
#pragma unroll
        for (int j = 0; j < K::accesses; ++j) {
            const auto* from = logits + access(j, p.logits_stride) + i * (BLOCK * logits_step);
            const Access loaded = *reinterpret_cast<const Access*>(from);
#pragma unroll
            for (int k = 0; k < words / K::accesses; ++k) to[j * (words / K::accesses) + k] = loaded.value[k];
        }
    }
    __device__ void store(const Params& p, int i, const float (&from)[K::pixels * K::classes]) const {
        unsigned stored[words];
#pragma unroll
        for (int k = 0; k < words; ++k) {
            const int value = k * (4 / K::bytes);
            stored[k] = packed<typename K::Logit>(from[value], from[value + (K::bytes == 4 ? 0 : 1)]);
        }
#pragma unroll
        for (int j = 0; j < K::accesses; ++j) {
            auto* to = gradient + access(j, p.gradient_stride) + i * (BLOCK * logits_step);
            store_words<words / K::accesses>(to, stored + j * (words / K::accesses));
        }
    }
};
