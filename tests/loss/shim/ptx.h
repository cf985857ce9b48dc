// What one instruction of PTX does, as C++: the operations that tests/loss/shim/ptx.py translates into. Registers have
// the types of their declarations (float, double, unsigned integers, bool); an instruction reads and writes them as its
// own type.
#pragma once

#include <fenv.h>

#include "shim.h"

namespace ptx {

typedef uint8_t u8;
typedef uint16_t u16, b16;
typedef uint32_t u32, b32;
typedef uint64_t u64, b64;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef float f32;
typedef double f64;

template <class A, class B>
constexpr bool bits_alone = sizeof(A) == sizeof(B) && (A(0.5) != 0) != (B(0.5) != 0);  // one floating, one not

// A value as another type: between numbers and bits of one size the bits, between integers the lowest.
template <class T, class S>
T as(S value) {
    if constexpr (bits_alone<T, S>) {
        T result;
        memcpy(&result, &value, sizeof result);
        return result;
    } else {
        return static_cast<T>(value);
    }
}
template <class D, class V>
void set(D& to, V value) {
    to = as<D>(value);
}

// Arithmetic modulo 2^n, as the instructions have it.
template <class T> T add(T a, T b) { return T(u64(a) + u64(b)); }
template <> inline f32 add(f32 a, f32 b) { return a + b; }
template <> inline f64 add(f64 a, f64 b) { return a + b; }
template <class T> T sub(T a, T b) { return T(u64(a) - u64(b)); }
template <> inline f32 sub(f32 a, f32 b) { return a - b; }
template <class T> T mul_lo(T a, T b) { return T(u64(a) * u64(b)); }
template <class T> T mad_lo(T a, T b, T c) { return T(u64(a) * u64(b) + u64(c)); }
template <class T> auto mul_wide(T a, T b) {
    if constexpr (T(-1) < T(0)) return s64(a) * s64(b);
    else return u64(a) * u64(b);
}
template <class T> T neg(T a) { return T(-a); }
template <class T> T div(T a, T b) { return a / b; }
template <class T> T rem(T a, T b) { return a % b; }
template <class T> T max(T a, T b) { return a > b ? a : b; }
template <class T> T min(T a, T b) { return a < b ? a : b; }
template <> inline f32 max(f32 a, f32 b) { return fmaxf(a, b); }
template <> inline f32 min(f32 a, f32 b) { return fminf(a, b); }
template <class T> T shl(T a, u32 by) { return by < 8 * sizeof(T) ? T(a << by) : T(0); }
template <class T> T shr(T a, u32 by) { return T(a >> (by < 8 * sizeof(T) ? by : 8 * sizeof(T) - 1)); }
template <> inline u32 shr(u32 a, u32 by) { return by < 32 ? a >> by : 0; }
template <> inline u64 shr(u64 a, u32 by) { return by < 64 ? a >> by : 0; }

template <class T> T rounded(int mode, T (*compute)(T, T, T), T a, T b, T c) {
    const int before = fegetround();
    fesetround(mode);
    volatile T x = a, y = b, z = c;
    volatile T result = compute(x, y, z);
    fesetround(before);
    return result;
}
inline f32 add_rz(f32 a, f32 b) { return rounded<f32>(FE_TOWARDZERO, [](f32 x, f32 y, f32) { return x + y; }, a, b, 0); }
inline f32 fma_rm(f32 a, f32 b, f32 c) { return rounded<f32>(FE_DOWNWARD, [](f32 x, f32 y, f32 z) { return fmaf(x, y, z); }, a, b, c); }
inline f32 flushed(f32 x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }
inline f32 ex2(f32 x) { return flushed(exp2f(flushed(x))); }
inline f32 rcp(f32 x) { return flushed(1 / flushed(x)); }
inline f32 saturated(f32 x) { return x > 0 ? (x < 1 ? x : 1) : 0; }  // 0 for NaN

inline u16 bfloat(f32 x) {
    const u32 bits = as<u32>(x);
    return x != x ? 0x7fff : u16((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline f32 from_bfloat(u16 x) { return as<f32>(u32(x) << 16); }

// COUNT values in one access; misaligned ones are found where accesses are watched.
template <class T, int COUNT>
struct alignas(COUNT * sizeof(T)) Vector {
    T value[COUNT];
};
template <class T, int COUNT>
Vector<T, COUNT> load(u64 from) { return *reinterpret_cast<const Vector<T, COUNT>*>(from); }
template <class T, int COUNT>
void store(u64 to, Vector<T, COUNT> values) { *reinterpret_cast<Vector<T, COUNT>*>(to) = values; }
template <class T>
T atomic_add(u64 at, T value) { return atomicAdd(reinterpret_cast<T*>(at), value); }

}  // namespace ptx
