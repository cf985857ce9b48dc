// Stands in for libcuda.so.1 beneath NVIDIA's Python bindings: the calls that unet/loss/driver.py makes, without a GPU.
// It refuses what a GPU would refuse. A kernel that is started is handed to a function of the test, if there is one.
#include <stdint.h>
#include <string.h>

#include <set>
#include <string>
#include <utility>

namespace {

using Hook = int (*)(const char* kernel, int device, unsigned blocks, unsigned threads, void* params);
using Function = std::pair<std::string, uintptr_t>;  // its name, the context it was loaded into

enum { INVALID_VALUE = 1, INVALID_IMAGE = 200, INVALID_CONTEXT = 201, INVALID_HANDLE = 400 };

// The handles of a device: its context, modules and stream. No two devices share any.
constexpr uintptr_t CONTEXT = 0x1000, MODULE = 0x2000, STREAM = 0x3000, OF = 0xfff, NONE = 0;

uintptr_t current_context;
std::set<Function> functions;
Hook hook;

}  // namespace

extern "C" {

void set_hook(Hook h) { hook = h; }
unsigned long long stream_of(int device) { return STREAM + device; }
// What torch does when it makes a device the current one. A thread without a context stays so, unless `always`.
void use_context_of(int device, bool always) {
    if (always || current_context != NONE) current_context = CONTEXT + device;
}
void forget_context() { current_context = NONE; }

int cuCtxGetCurrent(void** context) { return *context = (void*)current_context, 0; }
int cuCtxSetCurrent(void* context) { return current_context = (uintptr_t)context, 0; }
int cuDeviceGet(int* device, int index) { return *device = index, 0; }
int cuDevicePrimaryCtxRetain(void** context, int device) { return *context = (void*)(CONTEXT + device), 0; }
int cuModuleLoadData(void** module, const void* image) {
    if (current_context == NONE) return INVALID_CONTEXT;
    *module = (void*)(MODULE + (current_context & OF));
    return memcmp(image, "\x7f" "ELF", 4) != 0 ? INVALID_IMAGE : 0;
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
    return *function = (void*)&*functions.emplace(name, CONTEXT + ((uintptr_t)module & OF)).first, 0;
}
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void*, int, size_t) { return *blocks = 2, 0; }
int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                   unsigned block_y, unsigned block_z, unsigned dynamic_shared_bytes, void* stream, void** params,
                   void** extra) {
    if (current_context == NONE) return INVALID_CONTEXT;
    const auto& [name, context] = *(const Function*)function;
    const uintptr_t device = current_context & OF;
    if (context != current_context || (uintptr_t)stream != STREAM + device) return INVALID_HANDLE;
    // The kernels count along one axis and declare all their shared memory.
    if (grid_y != 1 || grid_z != 1 || block_y != 1 || block_z != 1 || dynamic_shared_bytes || !params || extra)
        return INVALID_VALUE;
    return hook ? hook(name.c_str(), (int)device, grid_x, block_x, params[0]) : 0;
}

int cuGetProcAddress_v2(const char* name, void** function, int, uint64_t, int* status) {
    static const struct {
        const char* name;
        void* function;
    } known[] = {
        {"cuCtxGetCurrent", (void*)cuCtxGetCurrent},
        {"cuCtxSetCurrent", (void*)cuCtxSetCurrent},
        {"cuDeviceGet", (void*)cuDeviceGet},
        {"cuDevicePrimaryCtxRetain", (void*)cuDevicePrimaryCtxRetain},
        {"cuModuleLoadData", (void*)cuModuleLoadData},
        {"cuModuleGetFunction", (void*)cuModuleGetFunction},
        {"cuOccupancyMaxActiveBlocksPerMultiprocessor", (void*)cuOccupancyMaxActiveBlocksPerMultiprocessor},
        {"cuLaunchKernel", (void*)cuLaunchKernel},
        {"cuGetProcAddress", (void*)cuGetProcAddress_v2},
        {"cuGetProcAddress_v2", (void*)cuGetProcAddress_v2},
    };
    *function = nullptr;
    for (const auto& k : known)
        if (!strcmp(name, k.name)) *function = k.function;
    if (status) *status = *function ? 0 : 1;
    return 0;
}
}
