// The sums of many vectors, step by step from the obvious to the fast; and the sum of two arrays, element by element.
// README.md says what each step should bring and why. The building blocks are those of the loss (unet/loss/csrc).
#include "numbers.cuh"
#include "reduce.cuh"

struct Vectors {
    const float* values;  // vectors x length, without gaps, on a multiple of 16 bytes
    float* sums;          // one per vector
    long long vectors;
    int length;           // a multiple of 4 for the steps that read 128 bits
    int unused;
};

struct Arrays {
    const Bfloat* a;
    const Bfloat* b;
    Bfloat* sum;
    long long count;      // a multiple of 8 for the packed kernel
};

constexpr int TILE = 2048, MANY_THREADS = 1024, THREADS = 256;

// 1. One block per vector, one atomic addition per element; `sums` must begin with zeros. The order is left to chance.
__global__ void __launch_bounds__(THREADS) atomic_per_element(const __grid_constant__ Vectors p) {
    const float* values = p.values + blockIdx.x * static_cast<long long>(p.length);
    for (int i = threadIdx.x; i < p.length; i += THREADS) atomicAdd(&p.sums[blockIdx.x], values[i]);
}

// 2. The vector in shared memory, halved until one value is left.
__global__ void __launch_bounds__(MANY_THREADS) tree_in_shared_memory(const __grid_constant__ Vectors p) {
    __shared__ float tile[TILE];
    static_assert(TILE == 2 * MANY_THREADS, "two values per thread");
    const float* values = p.values + blockIdx.x * static_cast<long long>(p.length);
    float sum = 0.0f;
    for (int start = 0; start < p.length; start += TILE) {
        for (int i = threadIdx.x; i < TILE; i += MANY_THREADS) tile[i] = start + i < p.length ? values[start + i] : 0.0f;
        // no barrier: at the first level every thread adds the two values that it has brought itself
        for (int half = TILE / 2; half > 0; half /= 2) {
            if (threadIdx.x < half) tile[threadIdx.x] += tile[threadIdx.x + half];
            __syncthreads();
        }
        sum += tile[0];
        __syncthreads();
    }
    if (threadIdx.x == 0) p.sums[blockIdx.x] = sum;
}

// 3. Every thread first adds its share in a register; the tree begins with one value per thread.
__global__ void __launch_bounds__(THREADS) first_pass_in_registers(const __grid_constant__ Vectors p) {
    __shared__ float partial[THREADS];
    const float* values = p.values + blockIdx.x * static_cast<long long>(p.length);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < p.length; i += THREADS) sum += values[i];
    partial[threadIdx.x] = sum;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) p.sums[blockIdx.x] = partial[0];
}

// 4. The last 32 values are added by one warp, which exchanges registers: no shared memory, no barrier.
__global__ void __launch_bounds__(THREADS) warp_shuffles(const __grid_constant__ Vectors p) {
    __shared__ float partial[THREADS];
    const float* values = p.values + blockIdx.x * static_cast<long long>(p.length);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < p.length; i += THREADS) sum += values[i];
    partial[threadIdx.x] = sum;
    __syncthreads();
    for (int half = THREADS / 2; half >= WARP; half /= 2) {
        if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x >= WARP) return;
    sum = warp_sum(partial[threadIdx.x]);
    if (threadIdx.x == 0) p.sums[blockIdx.x] = sum;
}

__device__ inline float sum_of(const Pack<float, 4>& pack) {
    return (pack.value[0] + pack.value[1]) + (pack.value[2] + pack.value[3]);
}

// 5. Loads of 128 bits; each warp adds by shuffles, then the eight warps do: two barriers instead of nine.
__global__ void __launch_bounds__(THREADS) loads_of_128_bits(const __grid_constant__ Vectors p) {
    __shared__ float partial[THREADS / WARP];
    const auto* packs = reinterpret_cast<const Pack<float, 4>*>(p.values + blockIdx.x * static_cast<long long>(p.length));
    float sum = 0.0f;
#pragma unroll 4
    for (int i = threadIdx.x; i < p.length / 4; i += THREADS) sum += sum_of(packs[i]);
    sum = block_sum<THREADS>(sum, partial);
    if (threadIdx.x == 0) p.sums[blockIdx.x] = sum;
}

// 6. A warp per vector: no shared memory, no barrier, and every lane has AT_ONCE independent loads under way.
__global__ void __launch_bounds__(THREADS) warp_per_vector(const __grid_constant__ Vectors p) {
    constexpr int AT_ONCE = 8;
    const int lane = threadIdx.x % WARP;
    const long long warps = static_cast<long long>(gridDim.x) * (THREADS / WARP);
    for (long long v = blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP; v < p.vectors; v += warps) {
        const auto* packs = reinterpret_cast<const Pack<float, 4>*>(p.values + v * p.length);
        const int count = p.length / 4;
        float sum = 0.0f;
        int i = lane;
        for (; i + (AT_ONCE - 1) * WARP < count; i += AT_ONCE * WARP) {
            Pack<float, 4> loaded[AT_ONCE];
#pragma unroll
            for (int k = 0; k < AT_ONCE; ++k) loaded[k] = packs[i + k * WARP];
#pragma unroll
            for (int k = 0; k < AT_ONCE; ++k) sum += sum_of(loaded[k]);
        }
        for (; i < count; i += WARP) sum += sum_of(packs[i]);
        sum = warp_sum(sum);
        if (lane == 0) p.sums[v] = sum;
    }
}

// The bandwidth that reading alone reaches: everything is read, combined so that nothing can be left out, and forgotten.
__global__ void __launch_bounds__(THREADS) read_everything(const __grid_constant__ Vectors p) {
    constexpr int AT_ONCE = 8;
    const auto* packs = reinterpret_cast<const Pack<unsigned, 4>*>(p.values);
    const long long count = p.vectors * p.length / 4, step = static_cast<long long>(gridDim.x) * THREADS;
    unsigned mixed = 0;
    long long i = blockIdx.x * static_cast<long long>(THREADS) + threadIdx.x;
    for (; i + (AT_ONCE - 1) * step < count; i += AT_ONCE * step) {
        Pack<unsigned, 4> loaded[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) loaded[k] = packs[i + k * step];
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k)
            mixed ^= loaded[k].value[0] ^ loaded[k].value[1] ^ loaded[k].value[2] ^ loaded[k].value[3];
    }
    for (; i < count; i += step) mixed ^= packs[i].value[0] ^ packs[i].value[1] ^ packs[i].value[2] ^ packs[i].value[3];
    if (mixed == 0x5eed5eedu) p.sums[0] = 1.0f;  // practically never
}

// Element by element, one value per thread.
__global__ void __launch_bounds__(THREADS) add_scalar(const __grid_constant__ Arrays p) {
    const long long i = blockIdx.x * static_cast<long long>(THREADS) + threadIdx.x;
    if (i < p.count) from_float(to_float(p.a[i]) + to_float(p.b[i]), p.sum[i]);
}

// Element by element, eight values per thread in accesses of 128 bits.
__global__ void __launch_bounds__(THREADS) add_packed(const __grid_constant__ Arrays p) {
    const long long i = blockIdx.x * static_cast<long long>(THREADS) + threadIdx.x;
    if (i >= p.count / 8) return;
    const Pack<Bfloat, 8> a = reinterpret_cast<const Pack<Bfloat, 8>*>(p.a)[i];
    const Pack<Bfloat, 8> b = reinterpret_cast<const Pack<Bfloat, 8>*>(p.b)[i];
    Pack<Bfloat, 8> sum;
#pragma unroll
    for (int k = 0; k < 8; ++k) from_float(to_float(a.value[k]) + to_float(b.value[k]), sum.value[k]);
    reinterpret_cast<Pack<Bfloat, 8>*>(p.sum)[i] = sum;
}
