// Weighted softmax cross-entropy of N x C x H x W logits: loss, confusion counts and gradient.
//
// The items (layout.cuh) are cut into chunks of BLOCK * items_per_thread whose size depends on the tensors' shape alone.
// A block sums a chunk in a fixed order into one partial result and takes the next chunk; `finish` adds the partial
// results in a fixed order in float64. Nothing floating is ever added atomically, so the bits of loss and gradient do
// not depend on the grid, the stream or the device's scheduling. Counts are integers, for which no order matters.
//
//   share_pass      sum of what the loss is divided by: valid pixels, or their weights; reads no logits
//   forward_pass    loss and counts
//   one_pass        loss, counts and the gradient for an upstream gradient of 1; share_pass must have run before
//   backward_pass   the gradient, from the logits anew
//   finish          one block: partial results and counts -> loss, denominator, confusion
#include "layout.cuh"
#include "pixel.cuh"
#include "reduce.cuh"

enum Pass { SHARES, FORWARD, ONE_PASS, BACKWARD };

template <class K>
struct Shared {
    static constexpr int pairs = K::classes ? K::classes * K::classes : 1;
    double ordered[BLOCK / WARP];
    float sums[BLOCK / WARP];
    unsigned confusion[pairs];
};

struct Sums {
    float losses, shares;
};

// What the sum of the losses is divided by; nothing valid, or weights of 0, make the loss 0.
__device__ inline float divisor(double shares) { return shares == 0 ? 1.0f : static_cast<float>(shares); }

// One count of the pair (target, predicted). Beyond 16 classes the table is too large for the shared memory.
template <class K>
__device__ inline void count(const Params& p, Shared<K>& shared, int target, int predicted) {
    if constexpr (K::classes > 0)
        atomicAdd(&shared.confusion[target * K::classes + predicted], 1u);
    else
        atomicAdd(&p.confusion[static_cast<long long>(target) * p.classes + predicted], 1ull);
}

// Adds one valid pixel to the sums and the counts and hands its gradient to write(c, value), class by class.
template <class K, int PASS, class S, class WRITE>
__device__ inline void pixel(const Params& p, Shared<K>& shared, const S& scores, int target, float weight, float scale,
                             Sums& sums, const WRITE& write) {
    const bool inside = target != OUTSIDE;
    const Softmax s = softmax(scores, p.classes, target);
    if (PASS == FORWARD || PASS == ONE_PASS) {
        sums.losses += inside ? weight * pixel_loss(s) : __int_as_float(0x7fffffff);
        if (inside) count<K>(p, shared, target, s.best);
    }
    if (PASS == BACKWARD || PASS == ONE_PASS) {
        const float inverse = inverse_total(s);
        const float factor = inside ? weight * scale : __int_as_float(0x7fffffff);
#pragma unroll
        for (int c = 0; c < (S::known ? S::known : p.classes); ++c)
            write(c, pixel_gradient<S::known>(s, inverse, factor, scores[c], c, target));
    }
}

template <class K, int PASS>
__device__ inline void item(const Params& p, Shared<K>& shared, const Place& at, float scale, Sums& sums) {
    int targets[K::pixels];
    float weights[K::pixels];
    load_targets<K>(p, at, p.classes, targets);
    if (PASS != SHARES || p.reduction == WEIGHTED_MEAN) load_weights<K>(p, at, weights);
    if (PASS == SHARES || PASS == FORWARD)
#pragma unroll
        for (int i = 0; i < K::pixels; ++i)
            if (targets[i] != IGNORED) sums.shares += p.reduction == WEIGHTED_MEAN ? weights[i] : 1.0f;
    if (PASS == SHARES) return;

    constexpr bool writes = PASS == BACKWARD || PASS == ONE_PASS;
    if constexpr (K::classes > 0) {
        Logits<K> logits;
        logits.load(p, at);
#pragma unroll
        for (int i = 0; i < K::pixels; ++i) {
            Scores<K::classes> scores;
#pragma unroll
            for (int c = 0; c < K::classes; ++c) scores.value[c] = logits.get(i, c);
            if (targets[i] != IGNORED)
                pixel<K, PASS>(p, shared, scores, targets[i], weights[i], scale, sums,
                               [&](int c, float gradient) { logits.set(i, c, gradient); });
            else if (writes)
#pragma unroll
                for (int c = 0; c < K::classes; ++c) logits.set(i, c, 0.0f);
        }
        if (writes) logits.store(p, at);
    } else {
        using Logit = typename K::Logit;
        const long long from = pixel_offset(at, p.logits_stride), to = pixel_offset(at, p.gradient_stride);
        const ScoresInMemory<Logit> scores = {static_cast<const Logit*>(p.logits) + from, p.logits_stride[1]};
        auto write = [&](int c, float gradient) {
            from_float(gradient, static_cast<Logit*>(p.gradient)[to + c * p.gradient_stride[1]]);
        };
        if (targets[0] != IGNORED)
            pixel<K, PASS>(p, shared, scores, targets[0], weights[0], scale, sums, write);
        else if (writes)
            for (int c = 0; c < p.classes; ++c) write(c, 0.0f);
    }
}

template <class K, int PASS>
__device__ inline void pass(const Params& p, float scale, Shared<K>& shared) {
    constexpr bool counts = (PASS == FORWARD || PASS == ONE_PASS) && K::classes > 0;
    if constexpr (counts) {
        for (int i = threadIdx.x; i < Shared<K>::pairs; i += BLOCK) shared.confusion[i] = 0;
        __syncthreads();
    }
    for (long long chunk = blockIdx.x; chunk < p.chunks; chunk += gridDim.x) {
        Sums sums = {0.0f, 0.0f};
        for (int i = 0; i < p.items_per_thread; ++i) {
            const long long index = (chunk * p.items_per_thread + i) * BLOCK + threadIdx.x;
            if (index < p.items) item<K, PASS>(p, shared, place_of<K>(p, index), scale, sums);
        }
        if constexpr (PASS == FORWARD || PASS == ONE_PASS) {
            const float losses = block_sum<BLOCK>(sums.losses, shared.sums);
            if (threadIdx.x == 0) p.partial_losses[chunk] = losses;
        }
        if constexpr (PASS == SHARES || PASS == FORWARD) {
            const float shares = block_sum<BLOCK>(sums.shares, shared.sums);
            if (threadIdx.x == 0) p.partial_shares[chunk] = shares;
        }
    }
    if constexpr (counts) {  // complete: block_sum, in every chunk, ends with a barrier
        for (int i = threadIdx.x; i < Shared<K>::pairs; i += BLOCK)
            p.block_confusions[static_cast<long long>(i) * gridDim.x + blockIdx.x] = shared.confusion[i];
    }
}

// Blocks on a multiprocessor that the compiler must make possible (0: as it likes). Left to itself it spills registers of
// large packs for some devices; told 1 it takes more of them than it needs for small packs.
template <class K>
constexpr int least_blocks = K::classes > 8 || K::pixels * K::classes > 16 ? 1 : 0;

template <class K>
__global__ void __launch_bounds__(BLOCK) share_pass(const __grid_constant__ Params p) {
    __shared__ Shared<K> shared;
    pass<K, SHARES>(p, 1.0f, shared);
}

template <class K>
__global__ void __launch_bounds__(BLOCK, least_blocks<K>) forward_pass(const __grid_constant__ Params p) {
    __shared__ Shared<K> shared;
    pass<K, FORWARD>(p, 1.0f, shared);
}

template <class K>
__global__ void __launch_bounds__(BLOCK, least_blocks<K>) one_pass(const __grid_constant__ Params p) {
    __shared__ Shared<K> shared;
    const double shares = p.reduction == SUM ? 1.0 : ordered_sum<BLOCK>(p.partial_shares, p.chunks, shared.ordered);
    pass<K, ONE_PASS>(p, 1.0f / divisor(shares), shared);
}

template <class K>
__global__ void __launch_bounds__(BLOCK, least_blocks<K>) backward_pass(const __grid_constant__ Params p) {
    __shared__ Shared<K> shared;
    if ((p.flags & SKIP_IF_ONE) && *p.upstream == 1.0f) return;
    pass<K, BACKWARD>(p, *p.upstream / *p.denominator, shared);
}

// One block. The confusion counts of the blocks are added by a warp per pair of classes.
__global__ void __launch_bounds__(BLOCK) finish(const __grid_constant__ Params p) {
    __shared__ double ordered[BLOCK / WARP];
    const double losses = ordered_sum<BLOCK>(p.partial_losses, p.chunks, ordered);
    const double shares = p.reduction == SUM ? 1.0 : ordered_sum<BLOCK>(p.partial_shares, p.chunks, ordered);
    const float denominator = divisor(shares);
    if (threadIdx.x == 0) {
        *p.loss = static_cast<float>(losses / denominator);
        *p.denominator = denominator;
    }
    if (!p.block_confusions) return;
    const int lane = threadIdx.x % WARP;
    for (int pair = threadIdx.x / WARP; pair < p.classes * p.classes; pair += BLOCK / WARP) {
        unsigned long long total = 0;
        for (int block = lane; block < p.blocks; block += WARP)
            total += p.block_confusions[static_cast<long long>(pair) * p.blocks + block];
        total = warp_sum(total);
        if (lane == 0) p.confusion[pair] = total;
    }
}
