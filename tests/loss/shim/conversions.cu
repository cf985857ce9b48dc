// Lets the tests call the conversions of csrc/numbers.cuh and the functions of csrc/pixel.cuh.
#include "numbers.cuh"
#include "pixel.cuh"

struct Conversion {
    const float* from;
    unsigned short* halves;
    unsigned short* bfloats;
    float* from_halves;
    float* from_bfloats;
    long long count;
};

__global__ void convert(const __grid_constant__ Conversion p) {
    for (long long i = threadIdx.x; i < p.count; i += blockDim.x) {
        Half half;
        Bfloat bfloat;
        from_float(p.from[i], half);
        from_float(p.from[i], bfloat);
        p.halves[i] = half.bits, p.bfloats[i] = bfloat.bits;
        half.bits = bfloat.bits = static_cast<unsigned short>(i);
        p.from_halves[i] = to_float(half), p.from_bfloats[i] = to_float(bfloat);
    }
}

struct Logarithm {
    const float* from;
    float* to;
    long long count;
};

__global__ void logarithm(const __grid_constant__ Logarithm p) {
    for (long long i = threadIdx.x; i < p.count; i += blockDim.x) p.to[i] = log1p_of_share(p.from[i]);
}
