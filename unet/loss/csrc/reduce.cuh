// Sums over a warp and over a block in one fixed order: a butterfly over the lanes, then over the warps.
// Every lane adds the same pairs, and addition commutes, so the bits do not depend on who arrives first.
#pragma once

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// The sum over the WIDTH lanes that share lane / WIDTH; every lane of the warp must call, every lane gets it.
template <int WIDTH = WARP, class T>
__device__ inline T warp_sum(T value) {
#pragma unroll
    for (int offset = WIDTH / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(ALL_LANES, value, offset);
    return value;
}

// The sum over a block of THREADS threads; every thread must call, every thread gets it. `shared` may be used again
// at once: nobody leaves before everybody has read.
template <int THREADS, class T>
__device__ inline T block_sum(T value, T (&shared)[THREADS / WARP]) {
    constexpr int warps = THREADS / WARP;
    value = warp_sum(value);
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = value;
    __syncthreads();
    value = warp_sum<warps>(shared[threadIdx.x % warps]);
    __syncthreads();
    return value;
}

// The sum of values[0..count-1] by one block, in float64; every thread gets it. The order depends on count alone.
template <int THREADS>
__device__ inline double ordered_sum(const float* values, long long count, double (&shared)[THREADS / WARP]) {
    double sum = 0;
    for (long long i = threadIdx.x; i < count; i += THREADS) sum += values[i];
    return block_sum<THREADS>(sum, shared);
}
