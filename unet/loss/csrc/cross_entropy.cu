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

__device__ constexpr bool sums_losses(int pass) { return pass == FORWARD || pass == ONE_PASS; }
__device__ constexpr bool sums_shares(int pass) { return pass == SHARES || pass == FORWARD; }
__device__ constexpr bool writes(int pass) { return pass == BACKWARD || pass == ONE_PASS; }

// Counts of two classes are kept in registers: four bytes of one while a chunk is summed, four numbers beyond it.
template <class K>
constexpr bool counts_in_registers = K::classes == 2;

template <class K>
struct Shared {
    static constexpr int pairs = K::classes ? K::classes * K::classes : 1;
    double ordered[BLOCK / WARP];
    float sums[BLOCK / WARP];
    unsigned confusion[pairs];
};

// What a thread adds up.
struct Tally {
    float losses, shares;  // of a chunk
    unsigned bytes;        // of a chunk: counts of the pairs 0..3, 8 bits each
};
// Most pixels that a thread meets in a chunk (unet/loss/plan.py: MOST_ITEMS_PER_THREAD) fit into 8 bits.
constexpr int MOST_ITEMS_PER_THREAD = 16;

// What the sum of the losses is divided by; nothing valid, or weights of 0, make the loss 0.
__device__ inline float divisor(double shares) { return shares == 0 ? 1.0f : static_cast<float>(shares); }

__device__ inline float not_a_number() { return __int_as_float(0x7fffffff); }

// What the target and the mask say of a pixel.
struct Label {
    int target;    // its class, where `inside`
    bool carries;  // loss: neither ignored nor masked out
    bool inside;   // a class; a pixel that carries loss and has no class makes it NaN
};

template <class T>
__device__ inline Label label_of(const Params& p, int classes, T target, unsigned char valid) {
    if constexpr (sizeof(T) == 1) {  // not negative: 32 bits will do
        const int value = target;
        return {value, value != static_cast<int>(p.ignore_index) && valid != 0, value < classes};
    } else {
        const long long value = target;
        return {static_cast<int>(value), value != p.ignore_index && valid != 0, value >= 0 && value < classes};
    }
}

// The targets of a whole pack.
template <class K>
__device__ inline void load_targets(const typename K::Target* from, typename K::Target (&to)[K::pixels]) {
    if constexpr (sizeof(typename K::Target) == 1) {
        Bytes<K::pixels> bytes(0);
        bytes.load(from);
#pragma unroll
        for (int j = 0; j < K::pixels; ++j) to[j] = static_cast<unsigned char>(bytes[j]);
    } else {
        load_run(from, to);
    }
}

// One count of the pair (target, predicted). Beyond 16 classes the table is too large for the shared memory: every
// pixel is then one atomic addition to global memory, which is slow where most pixels are of one pair.
template <class K>
__device__ inline void count(const Params& p, Shared<K>& shared, Tally& tally, const Label& label, int predicted) {
    const bool counted = label.carries && label.inside;
    if constexpr (counts_in_registers<K>) {
        static_assert(MOST_ITEMS_PER_THREAD * K::pixels < 256, "a byte would overflow");
        tally.bytes += (predicted ? 1u << 8 : 1u) * (counted ? (label.target ? 1u << 16 : 1u) : 0u);
    } else if constexpr (K::classes > 0) {
        if (counted) atomicAdd(&shared.confusion[label.target * K::classes + predicted], 1u);
    } else {
        if (counted) atomicAdd(&p.confusion[static_cast<long long>(label.target) * p.classes + predicted], 1ull);
    }
}

// Whether a pass needs the weights: what the loss is divided by does only where it is their sum.
template <int PASS>
__device__ inline bool weighted(const Params& p) {
    return p.weight && (PASS != SHARES || p.reduction == WEIGHTED_MEAN);
}

// Adds a pixel to the sums and the counts and hands its gradient to write(c, value), class by class. Scores and weight
// of one that carries no loss are 0 (what stands there may be anything), and so is its gradient.
template <class K, int PASS, class S, class WRITE>
__device__ inline void pixel(const Params& p, Shared<K>& shared, const S& scores, const Label& label, float weight,
                             float scale, Tally& tally, const WRITE& write) {
    const bool weight_is_share = PASS == SHARES || p.reduction == WEIGHTED_MEAN;  // SHARES is given no other
    if (sums_shares(PASS)) tally.shares += !label.carries ? 0.0f : weight_is_share ? weight : 1.0f;
    if (PASS == SHARES) return;
    const float weighs = !label.carries ? 0.0f : label.inside ? weight : not_a_number();
    const auto s = softmax(scores, p.classes, label.target);
    if (sums_losses(PASS)) {
        tally.losses = fmaf(weighs, pixel_loss(s, label.target), tally.losses);
        count<K>(p, shared, tally, label, s.best);
    }
    if (writes(PASS)) pixel_gradient(s, scores, p.classes, label.target, weighs * scale, write);
}

// One pixel by itself, read and written value by value.
template <class K, int PASS>
__device__ inline void single(const Params& p, Shared<K>& shared, const Place& at, float scale, Tally& tally) {
    using Logit = typename K::Logit;
    const Label label = label_of(p, K::classes ? K::classes : p.classes,
                                 static_cast<const typename K::Target*>(p.target)[pixel_offset(at, p.target_stride)],
                                 p.valid ? p.valid[pixel_offset(at, p.valid_stride)] : 1);
    const float weight = weighted<PASS>(p) ? p.weight[pixel_offset(at, p.weight_stride)] : 1.0f;
    const Logit* from = static_cast<const Logit*>(p.logits) + pixel_offset(at, p.logits_stride);
    Logit* to = static_cast<Logit*>(p.gradient) + pixel_offset(at, p.gradient_stride);
    const auto write = [&](int c, float gradient) { from_float(gradient, to[c * p.gradient_stride[1]]); };
    if constexpr (K::classes > 0) {
        Scores<K::classes> scores;
#pragma unroll
        for (int c = 0; c < K::classes; ++c)
            scores.value[c] = PASS != SHARES && label.carries ? to_float(from[c * p.logits_stride[1]]) : 0.0f;
        pixel<K, PASS>(p, shared, scores, label, weight, scale, tally, write);
    } else {
        const ScoresInMemory<Logit> scores = {from, p.logits_stride[1]};
        if (label.carries)
            pixel<K, PASS>(p, shared, scores, label, weight, scale, tally, write);
        else if (writes(PASS))
            for (int c = 0; c < p.classes; ++c) write(c, 0.0f);
    }
}

// A whole pack, the i-th ahead: nothing branches from pixel to pixel.
template <class K, int PASS>
__device__ inline void whole(const Params& p, Shared<K>& shared, const Packs<K>& at, int i, float scale, Tally& tally) {
    typename K::Target targets[K::pixels];
    Bytes<K::pixels> valid(1);
    float weights[K::pixels], gradient[K::pixels * K::classes];
    unsigned logits[Packs<K>::words];
    load_targets<K>(at.target + i * (BLOCK * K::pixels), targets);
    if (p.valid) valid.load(at.valid + i * (BLOCK * K::pixels));
#pragma unroll
    for (int j = 0; j < K::pixels; ++j) weights[j] = 1.0f;
    if (weighted<PASS>(p)) load_run(at.weight + i * (BLOCK * K::pixels), weights);
    if (PASS != SHARES) at.load(p, i, logits);
#pragma unroll
    for (int j = 0; j < K::pixels; ++j) {
        const Label label = label_of(p, K::classes, targets[j], valid[j]);
        Scores<K::classes> scores;
#pragma unroll
        for (int c = 0; c < K::classes; ++c)
            scores.value[c] = PASS != SHARES && label.carries ? unpacked<typename K::Logit>(logits, at.index(j, c)) : 0.0f;
        pixel<K, PASS>(p, shared, scores, label, weights[j], scale, tally,
                       [&](int c, float value) { gradient[at.index(j, c)] = value; });
    }
    if (writes(PASS)) at.store(p, i, gradient);
}

// Every item of a chunk that is this thread's.
template <class K, int PASS>
__device__ inline void items(const Params& p, Shared<K>& shared, long long chunk, float scale, Tally& tally) {
    long long item = chunk * p.items_per_thread * BLOCK + threadIdx.x;
    if constexpr (K::layout == STRIDED) {
        for (int i = 0; i < p.items_per_thread && item < p.items; ++i, item += BLOCK) {
            const long long line = divide(item, p.columns), image = divide(line, p.rows);
            single<K, PASS>(p, shared, {image, line - image * p.rows, item - line * p.columns}, scale, tally);
        }
    } else {
        int left = p.items_per_thread;
        while (left > 0 && item < p.items) {
            Packs<K> at;
            at.go_to(p, item);
            const int count = at.whole(p, left);
#pragma unroll 1
            for (int i = 0; i < count; ++i) whole<K, PASS>(p, shared, at, i, scale, tally);
            if (count == 0) {  // the pixels that there are of one that is not
                const long long first = at.pack * K::pixels - p.phase;
#pragma unroll 1
                for (long long column = first; column < first + K::pixels; ++column)
                    if (column >= 0 && column < p.run_length)
                        single<K, PASS>(p, shared, {at.image, 0, column}, scale, tally);
            }
            const int done = count ? count : 1;
            left -= done, item += static_cast<long long>(done) * BLOCK;
        }
    }
}

template <class K, int PASS>
__device__ inline void pass(const Params& p, float scale, Shared<K>& shared) {
    constexpr bool counts = sums_losses(PASS) && K::classes > 0;
    unsigned counted[4] = {0, 0, 0, 0};
    if constexpr (counts) {
        for (int i = threadIdx.x; i < Shared<K>::pairs; i += BLOCK) shared.confusion[i] = 0;
        __syncthreads();
    }
#pragma unroll 1
    for (long long chunk = blockIdx.x; chunk < p.chunks; chunk += gridDim.x) {
        Tally tally = {0.0f, 0.0f, 0};
        items<K, PASS>(p, shared, chunk, scale, tally);
        if constexpr (sums_losses(PASS)) {
            const float losses = block_sum<BLOCK>(tally.losses, shared.sums);
            if (threadIdx.x == 0) p.partial_losses[chunk] = losses;
        }
        if constexpr (sums_shares(PASS)) {
            const float shares = block_sum<BLOCK>(tally.shares, shared.sums);
            if (threadIdx.x == 0) p.partial_shares[chunk] = shares;
        }
        if constexpr (counts && counts_in_registers<K>)
#pragma unroll
            for (int pair = 0; pair < 4; ++pair) counted[pair] += tally.bytes >> (8 * pair) & 255;
    }
    if constexpr (counts && counts_in_registers<K>) {
#pragma unroll
        for (int pair = 0; pair < 4; ++pair) {
            const unsigned total = warp_sum(counted[pair]);
            if (threadIdx.x % WARP == 0) atomicAdd(&shared.confusion[pair], total);
        }
        __syncthreads();
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
    if (p.skip_if_one && *p.upstream == 1.0f) return;
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
