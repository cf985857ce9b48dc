// Watches every access to memory of kernels that are compiled with the calls of a thread sanitizer, which end here:
//   - accesses of n bytes lie on multiples of n, as a GPU demands;
//   - of the watched arrays only the bytes that belong to them are read, and only those to be written are written;
//   - shared memory: two threads do not touch a value, one of them writing, without a barrier between (atomics aside).
#include "shim.h"

namespace shim {
namespace {

enum { READ = 1, WRITE = 2 };
constexpr int MOST_ARRAYS = 32, MOST_SHARED = 64 << 10, NOBODY = -1, SEVERAL = -2;

struct Array {
    const char* begin;
    size_t bytes;
    const unsigned char* allowed;  // READ and WRITE for every byte
};

struct Cell {  // who has touched a byte of shared memory since the last barrier, and how
    int writer, reader, atomic;
};

Array arrays[MOST_ARRAYS];
int array_count;
const char* shared_begin;
size_t shared_bytes;
Cell cells[MOST_SHARED];
char found[200];

void report(const char* what, const void* at, size_t bytes) {
    if (!found[0])
        snprintf(found, sizeof found, "%s, %zu bytes at %p, by thread %u of block %u", what, bytes, at, thread_index.x,
                 block_index.x);
}

bool another(int who) { return who != NOBODY && who != current; }
void note(int& who) { who = another(who) ? SEVERAL : current; }

void touch_shared(Cell& cell, bool write, const void* at, size_t bytes) {
    if (in_atomic) {
        if (another(cell.writer)) report("an atomic operation races with a write", at, bytes);
        if (another(cell.reader)) report("an atomic operation races with a read", at, bytes);
        return note(cell.atomic);
    }
    if (another(cell.atomic)) report("an access races with an atomic operation", at, bytes);
    if (another(cell.writer)) report(write ? "two threads write without a barrier" : "a read races with a write", at, bytes);
    if (write && another(cell.reader)) report("a write races with a read", at, bytes);
    note(write ? cell.writer : cell.reader);
}

void touch(const void* address, size_t bytes, bool write) {
    const char* at = static_cast<const char*>(address);
    const size_t width = bytes < 16 ? bytes & -bytes : 16;
    if (reinterpret_cast<uintptr_t>(at) % width) report("a misaligned access", at, bytes);
    if (at >= shared_begin && at < shared_begin + shared_bytes) {
        for (size_t i = 0; i < bytes; ++i) touch_shared(cells[at - shared_begin + i], write, at, bytes);
        return;
    }
    for (int k = 0; k < array_count; ++k) {
        const Array& array = arrays[k];
        if (at + bytes <= array.begin || at >= array.begin + array.bytes) continue;
        for (size_t i = 0; i < bytes; ++i) {
            const bool inside = at + i >= array.begin && at + i < array.begin + array.bytes;
            if (!inside || !(array.allowed[at + i - array.begin] & (write ? WRITE : READ)))
                return report(write ? "a write outside an array" : "a read outside an array", at, bytes);
        }
        return;
    }
}

}  // namespace

void watch_begin(const char* shared, size_t bytes) {
    shared_begin = shared, shared_bytes = bytes < MOST_SHARED ? bytes : MOST_SHARED, found[0] = 0;
}
void watch_barrier() {
    for (size_t i = 0; i < shared_bytes; ++i) cells[i] = {NOBODY, NOBODY, NOBODY};
}
void watch_block() { watch_barrier(); }
const char* watch_end() { return found[0] ? found : nullptr; }

}  // namespace shim

extern "C" {
void watch_array(const char* begin, long long bytes, const unsigned char* allowed) {
    if (shim::array_count < shim::MOST_ARRAYS) shim::arrays[shim::array_count++] = {begin, size_t(bytes), allowed};
}
void watch_nothing() { shim::array_count = 0; }

#define ACCESS(bytes)                                                              \
    void __tsan_read##bytes(void* at) { shim::touch(at, bytes, false); }           \
    void __tsan_write##bytes(void* at) { shim::touch(at, bytes, true); }           \
    void __tsan_unaligned_read##bytes(void* at) { shim::touch(at, bytes, false); } \
    void __tsan_unaligned_write##bytes(void* at) { shim::touch(at, bytes, true); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
void __tsan_read_range(void* at, size_t bytes) { shim::touch(at, bytes, false); }
void __tsan_write_range(void* at, size_t bytes) { shim::touch(at, bytes, true); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void*, void*) {}
}
