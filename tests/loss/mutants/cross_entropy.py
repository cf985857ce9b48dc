"""Faults of csrc/cross_entropy.cu."""

from __future__ import annotations

from tests.loss.mutants.mutant import Mutant

_KERNEL = "cross_entropy.cu"
_BARRIER = "__syncthreads();"

FOUND_BY: dict[str, tuple[Mutant, ...]] = {
    "targets_outside_the_classes_are_seen": (
        Mutant("targets outside are counted", _KERNEL, "label.carries && label.inside;", "label.carries;"),
        Mutant("targets above the classes pass", _KERNEL, "value < classes}", "value <= classes}"),
        Mutant(
            "wide targets above the classes pass",
            _KERNEL,
            "value >= 0 && value < classes}",
            "value >= 0 && value <= classes}",
        ),
        Mutant("negative targets pass", _KERNEL, "value >= 0 && value < classes", "value < classes"),
        Mutant("targets outside weigh as others", _KERNEL, "label.inside ? weight : not_a_number()", "weight"),
        Mutant(
            "targets outside weigh nothing",
            _KERNEL,
            "label.inside ? weight : not_a_number()",
            "label.inside ? weight : 0.0f",
        ),
    ),
    "other_ignored_targets": (
        Mutant("ignored pixels are counted", _KERNEL, "label.carries && label.inside;", "label.inside;"),
        Mutant(
            "pairs written by a block's first threads",
            _KERNEL,
            "i < Shared<K>::pairs; i += BLOCK",
            "i < Shared<K>::pairs - 1; i += BLOCK",
            1,
        ),
        Mutant("counts not cleared", _KERNEL, "shared.confusion[i] = 0;", ";"),
        Mutant(
            "one warp's counts alone",
            _KERNEL,
            "if (threadIdx.x % WARP == 0) atomicAdd",
            "if (threadIdx.x == 0) atomicAdd",
        ),
        Mutant("every lane adds the warp's counts", _KERNEL, "if (threadIdx.x % WARP == 0) atomicAdd", "atomicAdd"),
        Mutant("predicted pair in the target's byte", _KERNEL, "predicted ? 1u << 8 : 1u", "predicted ? 1u << 16 : 1u"),
        Mutant("target's byte one too low", _KERNEL, "label.target ? 1u << 16 : 1u", "label.target ? 1u << 8 : 1u"),
        Mutant(
            "three pairs of four",
            _KERNEL,
            "for (int pair = 0; pair < 4; ++pair) counted",
            "for (int pair = 0; pair < 3; ++pair) counted",
        ),
        Mutant(
            "confusion transposed",
            _KERNEL,
            "label.target * K::classes + predicted",
            "predicted * K::classes + label.target",
        ),
        Mutant(
            "confusion transposed, many classes",
            _KERNEL,
            "static_cast<long long>(label.target) * p.classes + predicted",
            "static_cast<long long>(predicted) * p.classes + label.target",
        ),
        Mutant("last item lost", _KERNEL, "item < p.items", "item < p.items - 1"),
        Mutant("last item of packs lost", _KERNEL, "left > 0 && item < p.items", "left > 0 && item < p.items - 1"),
        Mutant("items beyond the last", _KERNEL, "item < p.items", "item <= p.items"),
        Mutant("packs beyond the last", _KERNEL, "left > 0 && item < p.items", "left > 0 && item <= p.items"),
        Mutant(
            "tally not begun anew for each chunk",
            _KERNEL,
            "Tally tally = {0.0f, 0.0f, 0};",
            "static thread_local Tally tally;",
        ),
        Mutant(
            "mask dropped",
            _KERNEL,
            "static_cast<int>(p.ignore_index) && valid != 0",
            "static_cast<int>(p.ignore_index)",
        ),
        Mutant(
            "mask dropped, wide targets", _KERNEL, "value != p.ignore_index && valid != 0", "value != p.ignore_index"
        ),
        Mutant(
            "mask inverted",
            _KERNEL,
            "static_cast<int>(p.ignore_index) && valid != 0",
            "static_cast<int>(p.ignore_index) && valid == 0",
        ),
        Mutant("ignored targets count", _KERNEL, "value != static_cast<int>(p.ignore_index) && ", ""),
        Mutant("ignored targets count, wide", _KERNEL, "value != p.ignore_index && ", ""),
        Mutant(
            "ignored target of 32 bits", _KERNEL, "value != p.ignore_index &&", "int(value) != int(p.ignore_index) &&"
        ),
        Mutant("wide targets cut to 32 bits", _KERNEL, "const long long value = target;", "const int value = target;"),
        Mutant(
            "masked pixels keep their weight",
            _KERNEL,
            "const float weighs = !label.carries ? 0.0f : label.inside ?",
            "const float weighs = label.inside ?",
        ),
        Mutant("masked pixels keep theirs, many classes", _KERNEL, "write(c, 0.0f)", ";"),
        Mutant("weight dropped from the loss", _KERNEL, "fmaf(weighs, pixel_loss", "fmaf(1.0f, pixel_loss"),
        Mutant("weight dropped from the gradient", _KERNEL, "weighs * scale", "scale"),
        Mutant("scale dropped from the gradient", _KERNEL, "weighs * scale", "weighs"),
        Mutant(
            "mean over all pixels",
            _KERNEL,
            "tally.shares += !label.carries ? 0.0f : weight_is_share",
            "tally.shares += weight_is_share",
        ),
        Mutant("shares are never weights", _KERNEL, "weight_is_share ? weight : 1.0f", "1.0f"),
        Mutant("gradient of one pass not divided", _KERNEL, "1.0f / divisor(shares)", "1.0f"),
        Mutant(
            "other array's loss sums", _KERNEL, "p.partial_shares[chunk] = shares", "p.partial_losses[chunk] = shares"
        ),
    ),
    "only_their_arrays_are_touched": (
        Mutant("counts started before they are cleared", _KERNEL, _BARRIER, ""),
        Mutant("counts read before all are added", _KERNEL, _BARRIER, "", 1),
        Mutant(
            "one pair too many written",
            _KERNEL,
            "i < Shared<K>::pairs; i += BLOCK",
            "i <= Shared<K>::pairs; i += BLOCK",
            1,
        ),
        Mutant("one pair too many added", _KERNEL, "pair < p.classes * p.classes;", "pair <= p.classes * p.classes;"),
    ),
    "one_pair_many_times": (
        Mutant(
            "counts of a chunk of 7 bits", _KERNEL, "tally.bytes >> (8 * pair) & 255", "tally.bytes >> (8 * pair) & 127"
        ),
        Mutant(
            "counts of 16 bits in shared memory",
            _KERNEL,
            "atomicAdd(&shared.confusion[label.target * K::classes + predicted], 1u)",
            "atomicAdd((unsigned short*)&shared.confusion[label.target * K::classes + predicted], (unsigned short)1)",
        ),
    ),
    "several_items_per_thread": (
        Mutant("counts of the last chunk alone", _KERNEL, "counted[pair] += tally", "counted[pair] = tally"),
        Mutant("chunks skipped", _KERNEL, "chunk += gridDim.x", "chunk += gridDim.x + 1"),
        Mutant(
            "floating-point atomics",
            _KERNEL,
            "if (threadIdx.x == 0) p.partial_losses[chunk] = losses;",
            "if (threadIdx.x == 0) p.partial_losses[chunk] = 0; atomicAdd(&p.partial_losses[chunk], tally.losses);",
        ),
        Mutant("one pack forward too many", _KERNEL, "count ? count : 1", "count ? count + 1 : 1"),
        Mutant("one pack forward too few", _KERNEL, "count ? count : 1", "count > 1 ? count - 1 : 1"),
        Mutant(
            "counts of the blocks side by side",
            _KERNEL,
            "static_cast<long long>(i) * gridDim.x + blockIdx.x",
            "static_cast<long long>(blockIdx.x) * Shared<K>::pairs + i",
        ),
        Mutant(
            "next target at a pack's distance",
            _KERNEL,
            "at.target + i * (BLOCK * K::pixels)",
            "at.target + i * K::pixels",
        ),
        Mutant(
            "next weight at a pack's distance",
            _KERNEL,
            "at.weight + i * (BLOCK * K::pixels)",
            "at.weight + i * K::pixels",
        ),
        Mutant(
            "next mask at a pack's distance", _KERNEL, "at.valid + i * (BLOCK * K::pixels)", "at.valid + i * K::pixels"
        ),
    ),
    "masked_pixels_may_hold_anything": (
        Mutant(
            "masked pixels keep their scores",
            _KERNEL,
            "PASS != SHARES && label.carries ? unpacked",
            "PASS != SHARES ? unpacked",
        ),
        Mutant(
            "masked pixels keep their scores, one by one",
            _KERNEL,
            "PASS != SHARES && label.carries ? to_float",
            "PASS != SHARES ? to_float",
        ),
    ),
    "agrees_with_the_reference": (
        Mutant("shares are always weights", _KERNEL, "weight_is_share ? weight : 1.0f", "weight"),
        Mutant(
            "weights taken for shares of a mean",
            _KERNEL,
            "p.weight && (PASS != SHARES || p.reduction == WEIGHTED_MEAN)",
            "p.weight",
        ),
        Mutant("upstream gradient dropped", _KERNEL, "*p.upstream / *p.denominator", "1.0f / *p.denominator"),
        Mutant("columns behind the run", _KERNEL, "column >= 0 && column < p.run_length", "column >= 0"),
        Mutant("a run's first column lost", _KERNEL, "column >= 0 && column", "column > 0 && column"),
        Mutant("a run's last column lost", _KERNEL, "column < p.run_length)", "column < p.run_length - 1)"),
        Mutant("rows and columns mixed up", _KERNEL, "divide(line, p.rows)", "divide(line, p.columns)"),
        Mutant(
            "class of the gradient at the logits' strides",
            _KERNEL,
            "to[c * p.gradient_stride[1]]",
            "to[c * p.logits_stride[1]]",
        ),
        Mutant(
            "gradient one by one has the logits' strides",
            _KERNEL,
            "pixel_offset(at, p.gradient_stride)",
            "pixel_offset(at, p.logits_stride)",
        ),
    ),
    "more_chunks_than_threads": (
        Mutant(
            "divisor from the first 256 chunks",
            _KERNEL,
            "ordered_sum<BLOCK>(p.partial_shares, p.chunks, shared.ordered)",
            "ordered_sum<BLOCK>(p.partial_shares, p.chunks < 256 ? p.chunks : 256, shared.ordered)",
        ),
        Mutant(
            "denominator from the first 256 chunks",
            _KERNEL,
            "ordered_sum<BLOCK>(p.partial_shares, p.chunks, ordered)",
            "ordered_sum<BLOCK>(p.partial_shares, p.chunks < 256 ? p.chunks : 256, ordered)",
        ),
    ),
    "weights_may_be_negative": (
        Mutant("negative denominators taken for 1", _KERNEL, "shares == 0 ? 1.0f", "shares <= 0 ? 1.0f"),
    ),
    "nothing_valid_is_zero": (
        Mutant("division by zero", _KERNEL, "shares == 0 ? 1.0f : ", ""),
        Mutant("writing skipped for 1", _KERNEL, "p.skip_if_one && ", ""),
    ),
    "digits_of_confident_pixels": (
        Mutant("sum is divided", _KERNEL, "p.reduction == SUM ? 1.0 : ", "", 1),
        Mutant("sum's gradient is divided", _KERNEL, "p.reduction == SUM ? 1.0 : ", ""),
    ),
    "ways_give_the_same_bits": (
        Mutant("rewriting always skipped", _KERNEL, " && *p.upstream == 1.0f) return", ") return"),
        Mutant("denominator dropped", _KERNEL, "*p.upstream / *p.denominator", "*p.upstream"),
        Mutant("columns before the run", _KERNEL, "column >= 0 && column < p.run_length", "column < p.run_length"),
        Mutant("a pack's last column lost", _KERNEL, "column < first + K::pixels", "column < first + K::pixels - 1"),
        Mutant("phase ignored one by one", _KERNEL, "at.pack * K::pixels - p.phase", "at.pack * K::pixels"),
    ),
    "items_beyond_32_bits": (
        Mutant(
            "items of 32 bits",
            _KERNEL,
            "long long item = chunk * p.items_per_thread * BLOCK + threadIdx.x;",
            "int item = chunk * p.items_per_thread * BLOCK + threadIdx.x;",
        ),
        Mutant(
            "chunks depend on the grid",
            _KERNEL,
            "long long item = chunk * p.items_per_thread * BLOCK + threadIdx.x;",
            "long long item = (chunk % gridDim.x + chunk / gridDim.x * gridDim.x) * BLOCK + threadIdx.x;",
        ),
    ),
    "finish_adds_in_the_documented_order": (
        Mutant("partial counts of 32 bits", _KERNEL, "unsigned long long total = 0;", "unsigned total = 0;"),
        Mutant(
            "counts of the first 32 blocks",
            _KERNEL,
            "block < p.blocks; block += WARP",
            "block < p.blocks && block < WARP; block += WARP",
        ),
        Mutant("pairs beyond the first eight lost", _KERNEL, "pair += BLOCK / WARP)", "pair += 4096)"),
    ),
    "class_offsets_beyond_32_bits": (
        Mutant(
            "class offsets of 32 bits in the gradient",
            _KERNEL,
            "to[c * p.gradient_stride[1]]",
            "to[static_cast<int>(c * p.gradient_stride[1])]",
        ),
    ),
}
