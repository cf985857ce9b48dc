// Stands in for libcuda.so.1 beneath NVIDIA's Python bindings: the calls that unet/loss/driver.py makes, without a GPU.
// A kernel that is started is handed to a function of the test.
#include <stdint.h>
#include <string.h>

#include <set>
#include <string>

namespace {

using Hook = int (*)(const char* kernel, unsigned blocks, unsigned threads, unsigned long long stream, void* params);
void* current_context;
std::set<std::string> names;
Hook hook;

}  // namespace

extern "C" {

void set_hook(Hook h) { hook = h; }
void forget_context() { current_context = nullptr; }

int cuCtxGetCurrent(void** context) { return *context = current_context, 0; }
int cuCtxSetCurrent(void* context) { return current_context = context, 0; }
int cuDeviceGet(int* device, int index) { return *device = index, 0; }
int cuDevicePrimaryCtxRetain(void** context, int device) { return *context = (void*)(intptr_t)(0x1000 + device), 0; }
int cuModuleLoadData(void** module, const void* image) {
    *module = (void*)0x2000;
    return !current_context ? 201 : memcmp(image, "\x7f" "ELF", 4) != 0 ? 200 : 0;  // invalid context, invalid image
}
int cuModuleGetFunction(void** function, void*, const char* name) {
    return *function = (void*)names.insert(name).first->c_str(), 0;
}
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void*, int, size_t) { return *blocks = 2, 0; }
int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned, unsigned, unsigned,
                   void* stream, void** params, void** extra) {
    if (!current_context) return 201;
    if (y != 1 || z != 1 || extra) return 1;
    return hook((const char*)function, x, threads, (unsigned long long)(uintptr_t)stream, params[0]);
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
