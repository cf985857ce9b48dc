// The fibers, their schedule, and the conversions of 16-bit numbers.
#include "shim.h"

#include <link.h>
#include <sys/mman.h>
#if !(defined(__x86_64__) && defined(__GNUC__)) || defined(SHIM_UCONTEXT)
#include <ucontext.h>
#define SHIM_PORTABLE
#endif

namespace shim {

Dim thread_index, block_index, block_size, grid_size;
int current;
Slot slots[LARGEST_BLOCK];
long long barriers_met, shuffles_met;
volatile bool in_atomic;

namespace {

struct Fiber {
    Wait wait;
    int operation;
    unsigned mask;
#ifdef SHIM_PORTABLE
    ucontext_t context;
#else
    void* stack_pointer;
#endif
};

Fiber fibers[LARGEST_BLOCK];
char* stacks;
void (*kernel_body)(const void*, void*);
const void* kernel;
void* kernel_params;
uint64_t random_state;

uint64_t draw() {  // splitmix64 (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195)
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

// The thread-local segment of this library: all shared memory of its kernels, and the anchor by which it is found.
thread_local char anchor;
char* shared_memory;
size_t shared_bytes;

int find_shared_memory(dl_phdr_info* info, size_t, void* wanted) {
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const auto& header = info->dlpi_phdr[i];
        auto* data = static_cast<char*>(info->dlpi_tls_data);
        if (header.p_type != PT_TLS || !data || wanted < data || wanted >= data + header.p_memsz) continue;
        shared_memory = data, shared_bytes = header.p_memsz;
        return 1;
    }
    return 0;
}

void body() {
    kernel_body(kernel, kernel_params);
    fibers[current].wait = DONE;
}

#ifdef SHIM_PORTABLE
ucontext_t scheduler;

void begin(int thread) {
    Fiber& fiber = fibers[thread];
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stacks + static_cast<size_t>(thread) * STACK_BYTES;
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    fiber.context.uc_link = &scheduler;
    makecontext(&fiber.context, body, 0);
}
void enter(int thread) { swapcontext(&scheduler, &fibers[thread].context); }
void leave() { swapcontext(&fibers[current].context, &scheduler); }
#else
void* scheduler;

extern "C" void shim_switch(void** save, void* load);
asm(R"(
.text
.type shim_switch, @function
shim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size shim_switch, .-shim_switch
)");

void enter(int thread) { shim_switch(&scheduler, fibers[thread].stack_pointer); }
void leave() { shim_switch(&fibers[current].stack_pointer, scheduler); }

void first_frame() {
    body();
    leave();
    abort();
}

void begin(int thread) {
    void** top = reinterpret_cast<void**>(stacks + static_cast<size_t>(thread + 1) * STACK_BYTES);
    *--top = nullptr;  // the stack's alignment at the entry of a function
    *--top = reinterpret_cast<void*>(first_frame);
    for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
    fibers[thread].stack_pointer = top;
}
#endif

void pause(Wait wait, int operation, unsigned mask) {
    Fiber& fiber = fibers[current];
    fiber.wait = wait, fiber.operation = operation, fiber.mask = mask;
    leave();
}

void visit_order(int* order, int count, int schedule) {
    for (int i = 0; i < count; ++i) order[i] = schedule == 1 ? count - 1 - i : i;
    if (schedule == 2)
        for (int i = count - 1; i > 0; --i) {
            const int j = static_cast<int>(draw() % (i + 1)), kept = order[i];
            order[i] = order[j], order[j] = kept;
        }
}

// Lets the lanes of a warp go on whose operation all lanes of its mask have reached; false when there are none.
bool release_warp(int first, int threads) {
    bool freed = false;
    for (int t = first; t < threads && t < first + LANES; ++t) {
        if (fibers[t].wait != IN_WARP) continue;
        const unsigned mask = fibers[t].mask;
        bool complete = true;
        for (int lane = 0; lane < LANES && first + lane < threads; ++lane) {
            const Fiber& other = fibers[first + lane];
            if (mask >> lane & 1)
                complete &= other.wait == IN_WARP && other.mask == mask && other.operation == fibers[t].operation;
        }
        if (!complete) continue;
        for (int lane = 0; lane < LANES && first + lane < threads; ++lane)
            if (mask >> lane & 1) fibers[first + lane].wait = RUNNABLE;
        freed = true;
    }
    return freed;
}

// Lets all threads go on when all that have not ended are at the barrier.
bool release_barrier(int threads) {
    for (int t = 0; t < threads; ++t)
        if (fibers[t].wait != DONE && fibers[t].wait != AT_BARRIER) return false;
    for (int t = 0; t < threads; ++t)
        if (fibers[t].wait == AT_BARRIER) fibers[t].wait = RUNNABLE;
    watch_barrier();
    return true;
}

// Runs a warp up to a barrier or its end, or, with `steps`, over that many warp operations at most. A warp so runs ahead
// of all others, as far as nothing holds it.
bool run_warp(int first, int threads, int schedule, int steps) {
    int order[LANES];
    const int lanes = threads - first < LANES ? threads - first : LANES;
    bool ran = false;
    for (int step = 0; step < steps || steps == 0; ++step) {
        visit_order(order, lanes, schedule);
        bool progress = false;
        for (int i = 0; i < lanes; ++i) {
            if (fibers[first + order[i]].wait != RUNNABLE) continue;
            current = first + order[i], thread_index.x = current;
            enter(current);
            progress = true;
        }
        progress |= release_warp(first, threads);
        if (!progress) break;
        ran = true;
    }
    return ran;
}

const char* run_block(int threads, int schedule) {
    int order[LARGEST_BLOCK / LANES];
    const int warps = (threads + LANES - 1) / LANES;
    for (int t = 0; t < threads; ++t) fibers[t].wait = RUNNABLE, begin(t);
    for (;;) {
        bool ran = false, live = false;
        visit_order(order, warps, schedule);
        for (int i = 0; i < warps; ++i) {
            const int steps = schedule == 2 ? static_cast<int>(draw() % 4) + 1 : 0;
            ran |= run_warp(order[i] * LANES, threads, schedule, steps);
        }
        for (int t = 0; t < threads; ++t) live |= fibers[t].wait != DONE;
        if (!live) return nullptr;
        if (!release_barrier(threads) && !ran)
            return "threads wait for one another: a barrier or warp operation that not all reach";
    }
}

}  // namespace

void barrier() { pause(AT_BARRIER, 0, 0); }

void meet(unsigned mask, int operation) {
    if (!(mask >> (current % LANES) & 1)) {
        fprintf(stderr, "a lane takes part in a warp operation whose mask leaves it out\n");
        abort();
    }
    pause(IN_WARP, operation, mask);
}

const char* run(const Launch& launch, void (*body)(const void*, void*), const void* function, void* params) {
    if (!stacks) {
        stacks = static_cast<char*>(mmap(nullptr, static_cast<size_t>(LARGEST_BLOCK) * STACK_BYTES,
                                         PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (stacks == MAP_FAILED) return "no memory for the stacks";
    }
    anchor = 1;  // brings the segment into being
    dl_iterate_phdr(find_shared_memory, &anchor);
    if (!shared_bytes) return "the kernels' shared memory was not found";
    kernel_body = body, kernel = function, kernel_params = params, random_state = launch.seed;
    grid_size.x = static_cast<unsigned>(launch.grid), block_size.x = launch.threads;
    watch_begin(shared_memory, shared_bytes);
    const long long count = launch.last - launch.first;
    const long long offset = launch.schedule == 2 && count ? static_cast<long long>(draw() % count) : 0;
    for (long long i = 0; i < count; ++i) {
        const long long position = launch.schedule == 1 ? count - 1 - i : (i + offset) % count;
        block_index.x = static_cast<unsigned>(launch.first + position);
        memset(shared_memory, 0xff, shared_bytes);  // NaN, and -1
        watch_block();
        if (const char* fault = run_block(launch.threads, launch.schedule)) return fault;
    }
    return watch_end();
}

extern "C" void barriers_and_shuffles(long long* to) { to[0] = barriers_met, to[1] = shuffles_met; }

float half_to_float(unsigned short bits) {
    const unsigned exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float sign = bits >> 15 ? -1.0f : 1.0f;
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexpf(static_cast<float>(fraction + 1024), static_cast<int>(exponent) - 25)
                            : ldexpf(static_cast<float>(fraction), -24));
}

unsigned short float_to_half(float x) {
    const unsigned short sign = signbit(x) ? 0x8000 : 0;
    if (x != x) return 0x7fff;
    const float size = fabsf(x);
    if (size >= 65520.0f) return sign | 0x7c00;
    int exponent;
    frexpf(size, &exponent);
    const int scale = size < 0x1p-14f ? 24 : 11 - exponent;  // so that one unit of the result is 1
    const unsigned units = static_cast<unsigned>(lrintf(ldexpf(size, scale)));  // nearest, ties to even
    if (scale == 24) return sign | static_cast<unsigned short>(units);
    return sign | static_cast<unsigned short>((static_cast<unsigned>(exponent + 13) << 10) + units);
}

}  // namespace shim
