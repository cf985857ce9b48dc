"""Faults of csrc/layout.cuh, numbers.cuh and reduce.cuh."""

from __future__ import annotations

from tests.loss.mutants.mutant import Mutant

_LAYOUT, _NUMBERS, _SUM = "layout.cuh", "numbers.cuh", "reduce.cuh"
_BARRIER = "__syncthreads();"

FOUND_BY: dict[str, tuple[Mutant, ...]] = {
    "other_ignored_targets": (
        Mutant("shuffle stops early", _SUM, "offset > 0; offset /= 2", "offset > 1; offset /= 2"),
        Mutant("shuffle starts late", _SUM, "offset = WIDTH / 2", "offset = WIDTH / 4"),
        Mutant("the sum of the first lane only", _SUM, "__shfl_xor_sync", "__shfl_down_sync"),
        Mutant("one warp is left out", _SUM, "shared[threadIdx.x % warps]", "shared[threadIdx.x % (warps - 1)]"),
        Mutant("access j at the first", _LAYOUT, "static_cast<long long>(j) * K::elements :", "0LL * j :"),
        Mutant(
            "packs transposed",
            _LAYOUT,
            "K::layout == CHANNELS_LAST ? pixel * K::classes + c : c * K::pixels + pixel",
            "c * K::pixels + pixel",
        ),
        Mutant("only the first access of a run", _NUMBERS, "from + i);", "from);"),
        Mutant("bytes of the first word", _NUMBERS, "word[i / 4] >>", "word[0] >>"),
    ),
    "only_their_arrays_are_touched": (
        Mutant("sums read before they are written", _SUM, _BARRIER, ""),
        Mutant("packs before the first whole", _LAYOUT, "pack < p.whole_begin || ", ""),
        Mutant("packs behind the last whole", _LAYOUT, "pack >= p.whole_end) return 0", "false) return left"),
    ),
    "grids_and_schedules_give_the_same_bits": (Mutant("sums overwritten before they are read", _SUM, _BARRIER, "", 1),),
    "several_items_per_thread": (
        Mutant("one whole pack too many", _LAYOUT, "p.whole_end - 1 - pack", "p.whole_end + BLOCK - 1 - pack"),
        Mutant(
            "whole packs in one bound too many",
            _LAYOUT,
            "behind >= static_cast<long long>(left) * BLOCK ? left",
            "behind >= 0 ? left",
        ),
        Mutant(
            "all whole packs at a time",
            _LAYOUT,
            "static_cast<int>(behind) / BLOCK + 1",
            "static_cast<int>(behind) / BLOCK + 2",
        ),
        Mutant(
            "next pack at the block's distance in pixels",
            _LAYOUT,
            "const auto* from = logits + access(j, p.logits_stride) + i * (BLOCK * logits_step);",
            "const auto* from = logits + access(j, p.logits_stride) + i * BLOCK;",
        ),
        Mutant(
            "gradient of the next pack over this one's",
            _LAYOUT,
            "auto* to = gradient + access(j, p.gradient_stride) + i * (BLOCK * logits_step);",
            "auto* to = gradient + access(j, p.gradient_stride);",
        ),
    ),
    "agrees_with_the_reference": (
        Mutant("phase ignored", _LAYOUT, "pack * K::pixels - p.phase", "pack * K::pixels"),
        Mutant("phase of the logits ignored", _LAYOUT, "pack * logits_step - p.phase * ", "pack * logits_step - 0 * "),
        Mutant("phase of one value for every class", _LAYOUT, "(K::layout == CHANNELS_LAST ? K::classes : 1)", "1"),
        Mutant(
            "gradient has the logits' image stride",
            _LAYOUT,
            "image * p.gradient_stride[0]",
            "image * p.logits_stride[0]",
        ),
        Mutant(
            "target has the weight's image stride", _LAYOUT, "image * p.target_stride[0]", "image * p.weight_stride[0]"
        ),
        Mutant(
            "gradient's classes at the logits' strides",
            _LAYOUT,
            "access(j, p.gradient_stride)",
            "access(j, p.logits_stride)",
        ),
        Mutant("stride of the images", _LAYOUT, "at.image * stride[0] + at.row * stride[2]", "at.row * stride[2]"),
        Mutant("stride of the rows", _LAYOUT, "at.row * stride[1] + ", ""),
        Mutant("division of what is equal", _LAYOUT, "if (a < b) return 0;", "if (a <= b) return 0;"),
        Mutant("second value of a word as the first", _NUMBERS, "words[i / 2] & 0xffff0000u", "words[i / 2] << 16"),
        Mutant("second half of a word as the first", _NUMBERS, "words[i / 2] >> (16 * (i % 2))", "words[i / 2]"),
        Mutant(
            "values of a word change places",
            _NUMBERS,
            "static_cast<unsigned>(high.bits) << 16 | low.bits",
            "static_cast<unsigned>(low.bits) << 16 | high.bits",
        ),
        Mutant("two bytes read as one", _NUMBERS, "*reinterpret_cast<const unsigned short*>(from)", "*from"),
        Mutant("mask of the first byte", _NUMBERS, "all * 0x01010101u", "all"),
    ),
    "items_beyond_32_bits": (Mutant("division of 32 bits", _LAYOUT, "if (((a | b) >> 32) == 0)", "if (true)"),),
    "finish_adds_in_the_documented_order": (
        Mutant("partial results added in float32", _SUM, "sum += values[i];", "sum = float(sum + values[i]);"),
    ),
    "sums_in_the_documented_order": (
        Mutant(
            "pairs in another order",
            _SUM,
            "int offset = WIDTH / 2; offset > 0; offset /= 2",
            "int offset = 1; offset < WIDTH; offset *= 2",
        ),
        Mutant(
            "partial results beyond a block lost",
            _SUM,
            "i < count; i += THREADS",
            "i < THREADS && i < count; i += THREADS",
        ),
    ),
    "weights_and_masks_of_other_shapes_and_types": (
        Mutant(
            "weight has the target's image stride", _LAYOUT, "image * p.weight_stride[0]", "image * p.target_stride[0]"
        ),
        Mutant(
            "mask has the target's image stride", _LAYOUT, "image * p.valid_stride[0]", "image * p.target_stride[0]"
        ),
    ),
    "offsets_beyond_32_bits": (
        Mutant("class offsets of 32 bits", _LAYOUT, ": j * stride[1];", ": int(j * stride[1]);"),
        Mutant(
            "offsets of 32 bits",
            _LAYOUT,
            "return at.image * stride[0] + at.row * stride[2] + at.column * stride[3];",
            "return int(at.image * stride[0] + at.row * stride[2] + at.column * stride[3]);",
        ),
        Mutant(
            "offsets of pixels of 32 bits",
            _LAYOUT,
            "return at.image * stride[0] + at.row * stride[1] + at.column * stride[2];",
            "return int(at.image * stride[0] + at.row * stride[1] + at.column * stride[2]);",
        ),
        Mutant(
            "images of packs of 32 bits",
            _LAYOUT,
            "(image * p.logits_stride[0] + value)",
            "static_cast<int>(image * p.logits_stride[0] + value)",
        ),
        Mutant(
            "targets of packs of 32 bits",
            _LAYOUT,
            "(image * p.target_stride[0] + pixel)",
            "static_cast<int>(image * p.target_stride[0] + pixel)",
        ),
        Mutant(
            "weights of packs of 32 bits",
            _LAYOUT,
            "weight = p.weight + (image",
            "weight = p.weight + static_cast<int>(image",
        ),
    ),
    "to_bfloat16_rounds_as_torch": (
        Mutant("bfloat16 cut off", _NUMBERS, "(bits + 0x7fff + ((bits >> 16) & 1)) >> 16", "bits >> 16"),
        Mutant("bfloat16 ties away from zero", _NUMBERS, "0x7fff + ((bits >> 16) & 1)", "0x8000"),
        Mutant("bfloat16 NaN rounded", _NUMBERS, "x != x ? 0x7fff : ", ""),
    ),
}
