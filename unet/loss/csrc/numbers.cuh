// Storage types, their conversion to and from float, and accesses of up to 128 bits.
// The 16-bit types are converted by hand: the run-time compiler's package brings no cuda_fp16.h.
#pragma once

struct Half {  // IEEE binary16
    unsigned short bits;
};
struct Bfloat {  // the upper half of a binary32
    unsigned short bits;
};
template <class T>
constexpr bool is_bfloat = false;
template <>
constexpr bool is_bfloat<Bfloat> = true;

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

// Values of a pack as 32-bit words, in which they come and go; the first in the lowest bits.
template <class T>
__device__ inline float unpacked(const unsigned* words, int i) {
    if constexpr (sizeof(T) == 4)
        return __uint_as_float(words[i]);
    else if constexpr (is_bfloat<T>)
        return __uint_as_float(i % 2 ? words[i / 2] & 0xffff0000u : words[i / 2] << 16);
    else
        return to_float(T{static_cast<unsigned short>(words[i / 2] >> (16 * (i % 2)))});
}

// The word that holds `first` and, where two fit into it, `second`; both rounded by one instruction where there is one.
template <class T>
__device__ inline unsigned packed(float first, float second) {
    if constexpr (sizeof(T) == 4) {
        return __float_as_uint(first);
    } else {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
        unsigned word;  // the first operand becomes the upper half
        if constexpr (is_bfloat<T>)
            asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
        else
            asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
        return word;
#else
        T low, high;
        from_float(first, low), from_float(second, high);
        return static_cast<unsigned>(high.bits) << 16 | low.bits;
#endif
    }
}

__device__ constexpr int smaller(int a, int b) { return a < b ? a : b; }

// COUNT consecutive values, in the widest accesses; `from` is aligned to them.
template <class T, int COUNT>
__device__ inline void load_run(const T* from, T (&to)[COUNT]) {
    constexpr int wide = smaller(COUNT, 16 / static_cast<int>(sizeof(T)));
#pragma unroll
    for (int i = 0; i < COUNT; i += wide) {
        const Pack<T, wide> pack = *reinterpret_cast<const Pack<T, wide>*>(from + i);
#pragma unroll
        for (int j = 0; j < wide; ++j) to[i + j] = pack.value[j];
    }
}

// Writes COUNT words (2 or 4) in one access. By hand: the compiler does not join the stores of a pack in a loop.
template <int COUNT>
__device__ inline void store_words(void* to, const unsigned* words) {
#ifdef __CUDA_ARCH__
    if constexpr (COUNT == 4)
        asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
                     ::"l"(to), "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3]) : "memory");
    else
        asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(words[0]), "r"(words[1]) : "memory");
#else
    Pack<unsigned, COUNT> pack;
    for (int i = 0; i < COUNT; ++i) pack.value[i] = words[i];
    *static_cast<Pack<unsigned, COUNT>*>(to) = pack;
#endif
}

// COUNT bytes, four to a register. Masks: 1 everywhere unless loaded.
template <int COUNT>
struct Bytes {
    static constexpr int words = (COUNT + 3) / 4;
    unsigned word[words];

    __device__ explicit Bytes(unsigned all) {
#pragma unroll
        for (int i = 0; i < words; ++i) word[i] = all * 0x01010101u;
    }
    __device__ void load(const unsigned char* from) {
        if constexpr (COUNT >= 4)
            load_run(reinterpret_cast<const unsigned*>(from), word);
        else if constexpr (COUNT == 2)
            word[0] = *reinterpret_cast<const unsigned short*>(from);
        else
            word[0] = *from;
    }
    __device__ unsigned operator[](int i) const { return word[i / 4] >> (8 * (i % 4)) & 255; }
};
