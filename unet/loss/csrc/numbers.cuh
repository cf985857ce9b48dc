// Storage types, their conversion to and from float, and accesses of up to 128 bits.
// The 16-bit types are converted by hand: the run-time compiler's package brings no cuda_fp16.h.
#pragma once

struct Half {  // IEEE binary16
    unsigned short bits;
};
struct Bfloat {  // the upper half of a binary32
    unsigned short bits;
};

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(Bfloat x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }

__device__ inline float to_float(Half x) {
#ifdef __CUDA_ARCH__
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(x.bits));
    return result;
#else
    return half_to_float(x.bits);  // the host program that runs this source brings its own
#endif
}

__device__ inline void from_float(float x, float& result) { result = x; }

// Round to nearest, ties to even; a NaN stays one (adding the rounding constant could turn it into an infinity).
__device__ inline void from_float(float x, Bfloat& result) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(x));
#else
    const unsigned bits = __float_as_uint(x);
    result.bits = x != x ? 0x7fff : static_cast<unsigned short>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
#endif
}

__device__ inline void from_float(float x, Half& result) {
#ifdef __CUDA_ARCH__
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(x));
#else
    result.bits = float_to_half(x);
#endif
}

// COUNT consecutive values that are read or written in one access; its alignment is its size (2, 4, 8 or 16 bytes).
template <class T, int COUNT>
struct alignas(COUNT * sizeof(T)) Pack {
    T value[COUNT];
};

__device__ constexpr int smaller(int a, int b) { return a < b ? a : b; }

// Values begin..end-1 of `from`, in the widest accesses when all COUNT are wanted and `aligned`; the others are `fill`.
template <class T, int COUNT>
__device__ inline void load_run(const T* from, bool aligned, int begin, int end, T fill, T (&to)[COUNT]) {
    constexpr int wide = smaller(COUNT, 16 / static_cast<int>(sizeof(T)));
    if (aligned && begin == 0 && end == COUNT) {
#pragma unroll
        for (int i = 0; i < COUNT; i += wide) {
            const Pack<T, wide> pack = *reinterpret_cast<const Pack<T, wide>*>(from + i);
#pragma unroll
            for (int j = 0; j < wide; ++j) to[i + j] = pack.value[j];
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < COUNT; ++i) to[i] = i >= begin && i < end ? from[i] : fill;
}
