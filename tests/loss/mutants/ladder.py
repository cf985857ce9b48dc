"""Faults of the reduction ladder's kernels."""

from __future__ import annotations

from tests.loss.mutants.mutant import Mutant

_LADDER, _BARRIER = "ladder.cu", "__syncthreads();"

FOUND_BY: dict[str, tuple[Mutant, ...]] = {
    "the_ladder_touches_its_arrays_only": (
        Mutant("small tree without barriers", _LADDER, _BARRIER, ""),
        Mutant("tree without barriers", _LADDER, _BARRIER, "", 1),
        Mutant("tile overwritten before it is read", _LADDER, _BARRIER, "", 2),
        Mutant("strided tree begun too early", _LADDER, _BARRIER, "", 3),
        Mutant("registers' tree begun too early", _LADDER, _BARRIER, "", 4),
        Mutant("shuffles' tree begun too early", _LADDER, _BARRIER, "", 5),
        Mutant(
            "tile read beyond the vector",
            _LADDER,
            "start + i < p.length ? values[start + i] : 0.0f",
            "values[start + i]",
        ),
        Mutant("reading beyond the last pack", _LADDER, "i < count; i += step", "i <= count; i += step"),
        Mutant("addition beyond the last pack", _LADDER, "i >= p.count / 8", "i > p.count / 8"),
        Mutant("addition beyond the last value", _LADDER, "if (i < p.count)", "if (i <= p.count)"),
    ),
    "every_step_sums": (
        Mutant("second tile lost", _LADDER, "start < p.length; start += TILE", "start < TILE; start += TILE"),
        Mutant("tree stops early", _LADDER, "half > 0; half /= 2", "half > 1; half /= 2"),
        Mutant("last 32 lost", _LADDER, "fold(partial, WARP)", "fold(partial, 2 * WARP)"),
        Mutant("small tree stops early", _LADDER, "half >= last", "half > last"),
        Mutant(
            "a strided share begun anew",
            _LADDER,
            "partial[threadIdx.x] += values[i];",
            "partial[threadIdx.x] = values[i];",
        ),
        Mutant("rest of a share lost", _LADDER, "for (; i < length; i += THREADS) sum += values[i];", ""),
        Mutant(
            "rest of the packs lost", _LADDER, "for (; i < p.length / 4; i += THREADS) sum += sum_of(packs[i]);", ""
        ),
        Mutant("one of four values lost", _LADDER, "(pack.value[2] + pack.value[3])", "pack.value[2]"),
        Mutant("tail of a vector lost", _LADDER, "for (; i < count; i += WARP) sum += sum_of(packs[i]);", ""),
        Mutant(
            "vectors beyond the first round lost",
            _LADDER,
            "v < p.vectors; v += warps",
            "v < p.vectors && v < warps; v += warps",
        ),
    ),
    "everything_is_read": (
        Mutant("rest not read", _LADDER, "for (; i < count; i += step)", "for (; false; i += step)"),
        Mutant("a quarter not read", _LADDER, " ^ loaded[k].value[3]", ""),
    ),
    "additions_are_torchs": (
        Mutant(
            "difference for sum",
            _LADDER,
            "to_float(a.value[k]) + to_float(b.value[k])",
            "to_float(a.value[k]) - to_float(b.value[k])",
        ),
        Mutant("last pack not added", _LADDER, "i >= p.count / 8", "i + 1 >= p.count / 8"),
        Mutant("last pair not added", _LADDER, "i >= p.count / 2", "i + 1 >= p.count / 2"),
        Mutant(
            "values of a pair change places",
            _LADDER,
            "packed<Bfloat>(to_float(a.value[0]) + to_float(b.value[0]), to_float(a.value[1])",
            "packed<Bfloat>(to_float(a.value[1]) + to_float(b.value[0]), to_float(a.value[0])",
        ),
    ),
    "figures_are_those_of_the_kernels": (
        Mutant("a barrier too many", _LADDER, "fold(partial, WARP);", "fold(partial, WARP); __syncthreads();"),
    ),
    "far_vectors_and_elements": (
        Mutant(
            "vectors at offsets of 32 bits",
            _LADDER,
            "p.values + blockIdx.x * static_cast<long long>(p.length)",
            "p.values + static_cast<int>(blockIdx.x * p.length)",
        ),
        Mutant(
            "shares at offsets of 32 bits",
            _LADDER,
            "strided_sum(p.values + blockIdx.x * static_cast<long long>(p.length), p.length)",
            "strided_sum(p.values + static_cast<int>(blockIdx.x * p.length), p.length)",
        ),
        Mutant(
            "warps' vectors at offsets of 32 bits",
            _LADDER,
            "p.values + v * p.length",
            "p.values + static_cast<int>(v * p.length)",
        ),
        Mutant(
            "reading at offsets of 32 bits",
            _LADDER,
            "const long long count = p.vectors * p.length / 4",
            "const long long count = static_cast<int>(p.vectors * p.length) / 4",
        ),
        Mutant(
            "additions at offsets of 32 bits",
            _LADDER,
            "const long long i = blockIdx.x * static_cast<long long>(THREADS) + threadIdx.x;\n    if (i < p.count)",
            "const int i = blockIdx.x * THREADS + threadIdx.x;\n    if (i < p.count)",
        ),
        Mutant(
            "pairs at offsets of 32 bits",
            _LADDER,
            "reinterpret_cast<unsigned*>(p.sum)[i]",
            "reinterpret_cast<unsigned*>(p.sum)[static_cast<int>(2 * i) / 2]",
        ),
        Mutant(
            "packs at offsets of 32 bits",
            _LADDER,
            "reinterpret_cast<Pack<Bfloat, 8>*>(p.sum)[i]",
            "reinterpret_cast<Pack<Bfloat, 8>*>(p.sum)[static_cast<int>(8 * i) / 8]",
        ),
    ),
}
