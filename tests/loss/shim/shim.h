// Runs CUDA kernel source on the CPU, for tests: the part of the language that unet/loss/csrc uses, as plain C++.
//
// The threads of a block are fibers of one host thread. A fiber runs until it meets a barrier or a warp operation;
// which one runs next is the schedule, so that code that relies on an order it has not asked for gives another result
// under another schedule: the first warp, or the last, runs as far ahead of the others as it can, or chance decides at
// every step. Blocks run one after the other, in such an order too.
// Shared memory is filled with garbage before every block. A barrier that some live thread never reaches, or a warp
// operation in which the lanes disagree, ends the launch with a message instead of hanging.
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define __device__
#define __global__ static
#define __grid_constant__
#define __launch_bounds__(...)
// A segment of its own, which can be found and filled; "used": other threads may change it at any call.
#define __shared__ static thread_local __attribute__((used))

namespace shim {

struct Dim {
    unsigned x = 1, y = 1, z = 1;
};

enum Wait { RUNNABLE, AT_BARRIER, IN_WARP, DONE };

constexpr int LARGEST_BLOCK = 1024, LANES = 32, STACK_BYTES = 128 << 10;

struct Slot {  // what a lane brings to a warp operation
    unsigned char bytes[16];
};

extern Dim thread_index, block_index, block_size, grid_size;
extern int current;                    // thread in the block
extern Slot slots[LARGEST_BLOCK];
extern uint64_t launch_number;

extern long long barriers_met, shuffles_met;    // by the first thread of every block, in all launches
extern volatile bool in_atomic;                 // the running thread is within an atomic operation

inline void fence() { asm volatile("" ::: "memory"); }  // for the compiler: no access moves across

void barrier();
void meet(unsigned mask, int operation);  // all lanes of the mask, at the same operation

// A run of a kernel: blocks first..last-1 of a grid, in the order of the schedule.
struct Launch {
    long long grid, first, last;
    int threads;
    int schedule;  // 0 forward, 1 backward, 2 random
    uint64_t seed;
    long long params_bytes;  // size the caller thinks the kernel's structure has
};
const char* run(const Launch& launch, void (*body)(const void* kernel, void* params), const void* kernel, void* params);

// Runs a kernel; null, or what went wrong.
template <class P>
const char* call(void (*kernel)(P), void* params, const Launch* launch) {
    if (launch->params_bytes != sizeof(P)) return "the caller's structure has another size than the kernel's";
    auto body = [](const void* k, void* p) { reinterpret_cast<void (*)(P)>(const_cast<void*>(k))(*static_cast<P*>(p)); };
    return run(*launch, body, reinterpret_cast<const void*>(kernel), params);
}

template <class T, class Pick>
T exchange(unsigned mask, T value, int operation, Pick pick) {
    static_assert(sizeof(T) <= sizeof(Slot), "too large for a lane");
    shuffles_met += thread_index.x == 0;
    memcpy(slots[current].bytes, &value, sizeof(T));
    meet(mask, operation);
    const int lane = current % LANES, source = pick(lane);
    const bool readable = source >= 0 && source < LANES && (mask >> source & 1);
    T result;
    memcpy(&result, slots[readable ? current - lane + source : current].bytes, sizeof(T));
    meet(mask, operation + 1);  // nobody may overwrite what another lane has still to read
    return result;
}

// For watch.cpp: called before a launch, between barriers, and at the end for what was found (null: nothing).
void watch_begin(const char* shared_memory, size_t bytes);
void watch_block();
void watch_barrier();
const char* watch_end();

float half_to_float(unsigned short bits);
unsigned short float_to_half(float x);

}  // namespace shim

#define threadIdx ::shim::thread_index
#define blockIdx ::shim::block_index
#define blockDim ::shim::block_size
#define gridDim ::shim::grid_size
using shim::float_to_half;
using shim::half_to_float;

inline void __syncthreads() {
    shim::fence();
    shim::barriers_met += shim::thread_index.x == 0;
    shim::barrier();
    shim::fence();
}
inline void __syncwarp(unsigned mask = 0xffffffffu) { shim::meet(mask, 2); }

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
    return shim::exchange(mask, value, 10, [=](int lane) { return lane ^ lanes; });
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int lanes) {
    return shim::exchange(mask, value, 20, [=](int lane) { return lane + lanes; });
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source) {
    return shim::exchange(mask, value, 30, [=](int) { return source % shim::LANES; });
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
    unsigned votes = 0;
    for (int lane = 0; lane < shim::LANES; ++lane)
        if (mask >> lane & 1) votes |= (shim::exchange(mask, predicate != 0, 40, [=](int) { return lane; }) ? 1u : 0u) << lane;
    return votes;
}

// One host thread runs everything, so that a plain addition cannot be interrupted.
template <class T>
T atomicAdd(T* at, T value) {
    shim::in_atomic = true;
    shim::fence();
    const T before = *at;
    *at = before + value;
    shim::fence();
    shim::in_atomic = false;
    return before;
}

inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
inline float __int_as_float(int bits) { return __uint_as_float(static_cast<unsigned>(bits)); }
inline float __fdividef(float a, float b) { return a / b; }
