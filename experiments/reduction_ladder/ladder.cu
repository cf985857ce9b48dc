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

constexpr int TILE = 2048, MANY_THREADS = 1024, THREADS = 256, AT_ONCE = 8;

// The sum of a thread's share of a vector: every THREADS-th value, with AT_ONCE loads under way before the first is
// added. Steps 4 to 6 have it in common, so that nothing but what they are named for changes between them.
__device__ inline float strided_sum(const float* values, int length) {
    float sum = 0.0f;
    int i = threadIdx.x;
#pragma unroll 1
    for (; i + (AT_ONCE - 1) * THREADS < length; i += AT_ONCE * THREADS) {
        float loaded[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) loaded[k] = values[i + k * THREADS];
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) sum += loaded[k];
    }
#pragma unroll 1
    for (; i < length; i += THREADS) sum += values[i];
    return sum;
}

// Halves `partial` until `last` values are left; all threads of the block call.
__device__ inline void fold(float* partial, int last) {
#pragma unroll 1
    for (int half = THREADS / 2; half >= last; half /= 2) {
        if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
        __syncthreads();
    }
}

// 1. One block per vector, one atomic addition per element; `sums` must begin with zeros. The order is left to chance.
__global__ void __launch_bounds__(THREADS) atomic_per_element(const __grid_constant__ Vectors p) {
    const float* values = p.values + blockIdx.x * static_cast<long long>(p.length);
#pragma unroll 1
    for (int i = threadIdx.x; i < p.length; i += THREADS) atomicAdd(&p.sums[blockIdx.x], values[i]);
}

// 2. The vector in shared memory, halved until one value is left: at the first level a thread per pair of values.
__global__ void __launch_bounds__(MANY_THREADS) tree_in_shared_memory(const __grid_constant__ Vectors p) {
    __shared__ float tile[TILE];
    static_assert(TILE == 2 * MANY_THREADS, "two values per thread");
    const float* values = p.values + blockIdx.x * static_cast<long long>(p.length);
    float sum = 0.0f;
#pragma unroll 1
    for (int start = 0; start < p.length; start += TILE) {
#pragma unroll
        for (int k = 0; k < 2; ++k) {
            const int i = threadIdx.x + k * MANY_THREADS;
            tile[i] = start + i < p.length ? values[start + i] : 0.0f;
        }
        // no barrier: at the first level every thread adds the two values that it has brought itself
#pragma unroll 1
        for (int half = TILE / 2; half > 0; half /= 2) {
            if (threadIdx.x < half) tile[threadIdx.x] += tile[threadIdx.x + half];
            __syncthreads();
        }
        sum += tile[0];
        __syncthreads();
    }
    if (threadIdx.x == 0) p.sums[blockIdx.x] = sum;
}

// 3. The same tree over fewer values: 256 threads first add up their share of the vector, each in its own place in
// shared memory, one load after the other. (The blog's strided accumulation.)
__global__ void __launch_bounds__(THREADS) strided_in_shared_memory(const __grid_constant__ Vectors p) {
    __shared__ float partial[THREADS];
    const float* values = p.values + blockIdx.x * static_cast<long long>(p.length);
    partial[threadIdx.x] = 0.0f;
#pragma unroll 1
    for (int i = threadIdx.x; i < p.length; i += THREADS) partial[threadIdx.x] += values[i];
    __syncthreads();
    fold(partial, 1);
    if (threadIdx.x == 0) p.sums[blockIdx.x] = partial[0];
}

// 4. The share is added up in a register, with eight loads under way: nothing waits for the one before.
__global__ void __launch_bounds__(THREADS) first_pass_in_registers(const __grid_constant__ Vectors p) {
    __shared__ float partial[THREADS];
    partial[threadIdx.x] = strided_sum(p.values + blockIdx.x * static_cast<long long>(p.length), p.length);
    __syncthreads();
    fold(partial, 1);
    if (threadIdx.x == 0) p.sums[blockIdx.x] = partial[0];
}

// 5. The last 32 values are added by one warp, which exchanges registers: no shared memory, no barrier.
__global__ void __launch_bounds__(THREADS) warp_shuffles(const __grid_constant__ Vectors p) {
    __shared__ float partial[THREADS];
    partial[threadIdx.x] = strided_sum(p.values + blockIdx.x * static_cast<long long>(p.length), p.length);
    __syncthreads();
    fold(partial, WARP);
    if (threadIdx.x >= WARP) return;
    const float sum = warp_sum(partial[threadIdx.x]);
    if (threadIdx.x == 0) p.sums[blockIdx.x] = sum;
}

// 6. Every warp adds by shuffles, then the eight warps do: two barriers in all.
__global__ void __launch_bounds__(THREADS) shuffles_alone(const __grid_constant__ Vectors p) {
    __shared__ float partial[THREADS / WARP];
    float sum = strided_sum(p.values + blockIdx.x * static_cast<long long>(p.length), p.length);
    sum = block_sum<THREADS>(sum, partial);
    if (threadIdx.x == 0) p.sums[blockIdx.x] = sum;
}

__device__ inline float sum_of(const Pack<float, 4>& pack) {
    return (pack.value[0] + pack.value[1]) + (pack.value[2] + pack.value[3]);
}

// 7. Loads of 128 bits: a quarter of the instructions for the same bytes.
__global__ void __launch_bounds__(THREADS) loads_of_128_bits(const __grid_constant__ Vectors p) {
    __shared__ float partial[THREADS / WARP];
    const auto* packs = reinterpret_cast<const Pack<float, 4>*>(p.values + blockIdx.x * static_cast<long long>(p.length));
    float sum = 0.0f;
    int i = threadIdx.x;
    constexpr int packs_at_once = AT_ONCE / 4;  // as many bytes under way as before
#pragma unroll 1
    for (; i + (packs_at_once - 1) * THREADS < p.length / 4; i += packs_at_once * THREADS) {
        Pack<float, 4> loaded[packs_at_once];
#pragma unroll
        for (int k = 0; k < packs_at_once; ++k) loaded[k] = packs[i + k * THREADS];
#pragma unroll
        for (int k = 0; k < packs_at_once; ++k) sum += sum_of(loaded[k]);
    }
#pragma unroll 1
    for (; i < p.length / 4; i += THREADS) sum += sum_of(packs[i]);
    sum = block_sum<THREADS>(sum, partial);
    if (threadIdx.x == 0) p.sums[blockIdx.x] = sum;
}

// 8. A warp per vector, and warps that stay: no shared memory, no barrier.
template <int PACKS>
__device__ inline void warps_that_stay(const Vectors& p) {
    const int lane = threadIdx.x % WARP;
    const long long warps = static_cast<long long>(gridDim.x) * (THREADS / WARP);
    for (long long v = blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP; v < p.vectors; v += warps) {
        const auto* packs = reinterpret_cast<const Pack<float, 4>*>(p.values + v * p.length);
        const int count = p.length / 4;
        float sum = 0.0f;
        int i = lane;
#pragma unroll 1
        for (; i + (PACKS - 1) * WARP < count; i += PACKS * WARP) {
            Pack<float, 4> loaded[PACKS];
#pragma unroll
            for (int k = 0; k < PACKS; ++k) loaded[k] = packs[i + k * WARP];
#pragma unroll
            for (int k = 0; k < PACKS; ++k) sum += sum_of(loaded[k]);
        }
#pragma unroll 1
        for (; i < count; i += WARP) sum += sum_of(packs[i]);
        sum = warp_sum(sum);
        if (lane == 0) p.sums[v] = sum;
    }
}
__global__ void __launch_bounds__(THREADS) warp_per_vector(const __grid_constant__ Vectors p) {
    warps_that_stay<AT_ONCE / 4>(p);
}

// 9. The same with four times the bytes under way.
__global__ void __launch_bounds__(THREADS) many_loads_under_way(const __grid_constant__ Vectors p) {
    warps_that_stay<AT_ONCE>(p);
}

// The bandwidth that reading alone reaches: everything is read, combined so that nothing can be left out, and forgotten.
__global__ void __launch_bounds__(THREADS) read_everything(const __grid_constant__ Vectors p) {
    const auto* packs = reinterpret_cast<const Pack<unsigned, 4>*>(p.values);
    const long long count = p.vectors * p.length / 4, step = static_cast<long long>(gridDim.x) * THREADS;
    unsigned mixed = 0;
    long long i = blockIdx.x * static_cast<long long>(THREADS) + threadIdx.x;
#pragma unroll 1
    for (; i + (AT_ONCE - 1) * step < count; i += AT_ONCE * step) {
        Pack<unsigned, 4> loaded[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) loaded[k] = packs[i + k * step];
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k)
            mixed ^= loaded[k].value[0] ^ loaded[k].value[1] ^ loaded[k].value[2] ^ loaded[k].value[3];
    }
#pragma unroll 1
    for (; i < count; i += step) mixed ^= packs[i].value[0] ^ packs[i].value[1] ^ packs[i].value[2] ^ packs[i].value[3];
    if (mixed == 0x5eed5eedu) p.sums[0] = 1.0f;  // practically never
}

// Element by element, one value per thread.
__global__ void __launch_bounds__(THREADS) add_scalar(const __grid_constant__ Arrays p) {
    const long long i = blockIdx.x * static_cast<long long>(THREADS) + threadIdx.x;
    if (i < p.count) from_float(to_float(p.a[i]) + to_float(p.b[i]), p.sum[i]);
}

// Element by element, a pair per thread, as the blog's __nv_bfloat162; added in float32, as torch does.
__global__ void __launch_bounds__(THREADS) add_pairs(const __grid_constant__ Arrays p) {
    const long long i = blockIdx.x * static_cast<long long>(THREADS) + threadIdx.x;
    if (i >= p.count / 2) return;
    const Pack<Bfloat, 2> a = reinterpret_cast<const Pack<Bfloat, 2>*>(p.a)[i];
    const Pack<Bfloat, 2> b = reinterpret_cast<const Pack<Bfloat, 2>*>(p.b)[i];
    reinterpret_cast<unsigned*>(p.sum)[i] =
        packed<Bfloat>(to_float(a.value[0]) + to_float(b.value[0]), to_float(a.value[1]) + to_float(b.value[1]));
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
