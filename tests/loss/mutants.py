"""Faults planted into the CUDA sources and what starts them, one at a time, under the demand that must find each."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import NamedTuple


class Mutant(NamedTuple):
    """Replace the `which`-th occurrence of `old` in a file by `new`."""

    name: str
    file: str
    old: str
    new: str
    which: int = 0

    def plant(self, path: Path) -> str:
        """The text of a file with the fault in it."""
        parts = path.read_text().split(self.old)
        at = self.which + 1
        if len(parts) <= at:
            raise ValueError(f"{self.name}: {self.file} no longer holds {self.old!r}")
        return self.old.join(parts[:at]) + self.new + self.old.join(parts[at:])


def execute(module: ModuleType, mutant: Mutant | None = None) -> None:
    """Define a module's functions anew: with a fault, or as they are. Who has imported one of them calls its old self,
    which looks up the others as they are now."""
    path = Path(str(module.__file__))
    exec(compile(mutant.plant(path) if mutant else path.read_text(), str(path), "exec"), vars(module))


_SUM, _PIXEL, _LAYOUT, _NUMBERS, _KERNEL = "reduce.cuh", "pixel.cuh", "layout.cuh", "numbers.cuh", "cross_entropy.cu"
_LADDER, _PLAN, _DRIVER, _BARRIER = "ladder.cu", "plan.py", "driver.py", "__syncthreads();"

FOUND_BY: dict[str, tuple[Mutant, ...]] = {
    "only_their_arrays_are_touched": (
        Mutant("targets outside are counted", _KERNEL, "if (inside) count<K>", "count<K>"),
        Mutant("sums read before they are written", _SUM, "__syncthreads();", ""),
        Mutant("counts started before they are cleared", _KERNEL, "__syncthreads();", ""),
        Mutant("phase ignored", _LAYOUT, "* K::pixels - p.phase", "* K::pixels"),
        Mutant("alignment of targets ignored", _NUMBERS, "aligned && begin == 0", "begin == 0"),
        Mutant("head and tail read as a whole", _NUMBERS, "aligned && begin == 0 && end == COUNT", "aligned"),
        Mutant("values before the head read", _NUMBERS, "i >= begin && i < end ? from[i]", "i < end ? from[i]"),
        Mutant(
            "gradient has the logits' strides",
            _LAYOUT,
            "pixel_offset(at, p.gradient_stride)",
            "pixel_offset(at, p.logits_stride)",
        ),
        Mutant(
            "one pair too many written",
            _KERNEL,
            "i < Shared<K>::pairs; i += BLOCK",
            "i <= Shared<K>::pairs; i += BLOCK",
            1,
        ),
        Mutant("one pair too many added", _KERNEL, "pair < p.classes * p.classes;", "pair <= p.classes * p.classes;"),
        Mutant(
            "class planes of the gradient off its packs", _PLAN, "if runs.layout == PLANAR else []", "if False else []"
        ),
        Mutant(
            "images of the gradient off its packs",
            _PLAN,
            "if runs.length == gradient.shape[2] * gradient.shape[3] else []",
            "if False else []",
        ),
    ),
    "grids_and_schedules_give_the_same_bits": (
        Mutant("sums overwritten before they are read", _SUM, "__syncthreads();", "", 1),
    ),
    "other_ignored_targets": (
        Mutant("counts not cleared", _KERNEL, "shared.confusion[i] = 0;", ";"),
        Mutant("shuffle stops early", _SUM, "offset > 0; offset /= 2", "offset > 1; offset /= 2"),
        Mutant("shuffle starts late", _SUM, "offset = WIDTH / 2", "offset = WIDTH / 4"),
        Mutant("the sum of the first lane only", _SUM, "__shfl_xor_sync", "__shfl_down_sync"),
        Mutant("one warp is left out", _SUM, "shared[threadIdx.x % warps]", "shared[threadIdx.x % (warps - 1)]"),
        Mutant("last item lost", _KERNEL, "if (index < p.items)", "if (index < p.items - 1)"),
        Mutant("items beyond the last", _KERNEL, "if (index < p.items)", "if (index <= p.items)"),
        Mutant(
            "sums not begun anew for each chunk", _KERNEL, "Sums sums = {0.0f, 0.0f};", "static thread_local Sums sums;"
        ),
        Mutant("mask dropped", _LAYOUT, "(!p.valid || valid[i])", "true"),
        Mutant("mask inverted", _LAYOUT, "(!p.valid || valid[i])", "(!p.valid || !valid[i])"),
        Mutant("ignored targets count", _LAYOUT, "target != p.ignore_index", "true"),
        Mutant("ignored target of 32 bits", _LAYOUT, "target != p.ignore_index", "int(target) != int(p.ignore_index)"),
        Mutant(
            "targets cut to 32 bits",
            _LAYOUT,
            "const long long target = static_cast<long long>(targets[i]);",
            "const int target = static_cast<int>(targets[i]);",
        ),
        Mutant("masked pixels keep their gradient", _KERNEL, "logits.set(i, c, 0.0f)", ";"),
        Mutant("masked pixels keep theirs, many classes", _KERNEL, "write(c, 0.0f)", ";"),
        Mutant("tail lost", _LAYOUT, "left < K::pixels ? static_cast<int>(left) : K::pixels}", "K::pixels}"),
        Mutant("only the first access of a run", _NUMBERS, "from + i);", "from);"),
        Mutant(
            "gradient's tail written as a whole",
            _LAYOUT,
            "(at.begin == 0 && at.end == K::pixels && (p.flags & GRADIENT_ALIGNED))",
            "(p.flags & GRADIENT_ALIGNED)",
        ),
        Mutant(
            "gradient beyond the tail", _LAYOUT, "if (pixel >= at.begin && pixel < at.end)", "if (pixel >= at.begin)", 1
        ),
        Mutant("tail of the logits not read", _LAYOUT, "if (pixel >= at.begin && pixel < at.end)", "if (false)"),
        Mutant(
            "packs transposed",
            _LAYOUT,
            "K::layout == CHANNELS_LAST ? pixel * K::classes + c : c * K::pixels + pixel",
            "c * K::pixels + pixel",
        ),
        Mutant("stride of the images", _LAYOUT, "at.image * stride[0] + at.row * stride[2]", "at.row * stride[2]"),
        Mutant("stride of the rows", _LAYOUT, "at.row * stride[1] + ", ""),
        Mutant("weight dropped from the loss", _KERNEL, "weight * pixel_loss(s)", "pixel_loss(s)"),
        Mutant("weight dropped from the gradient", _KERNEL, "weight * scale", "scale"),
        Mutant("mean over all pixels", _KERNEL, "if (targets[i] != IGNORED) sums.shares", "sums.shares"),
        Mutant("gradient of one pass not divided", _KERNEL, "1.0f / divisor(shares)", "1.0f"),
        Mutant("gradient without its digits", _PIXEL, "c == s.best ? -s.rest * inverse : term", "term"),
        Mutant("no maximum is subtracted", _PIXEL, "larger ? result.top - score : score - result.top", "score"),
        Mutant("sum not rescaled", _PIXEL, "(result.rest + 1.0f) * term", "result.rest + 1.0f"),
        Mutant("old maximum forgotten", _PIXEL, "(result.rest + 1.0f) * term", "result.rest * term"),
        Mutant("last of equal scores predicted", _PIXEL, "!(score <= result.top)", "!(score < result.top)"),
        Mutant("target's one dropped", _PIXEL, "if (c != target) return", "return"),
        Mutant("target's score of the first class", _PIXEL, "if (c == target) result.target = score;", ""),
        Mutant("rest taken for three classes too", _PIXEL, "KNOWN_CLASSES == 2 ?", "KNOWN_CLASSES >= 2 ?"),
        Mutant("confusion transposed", _KERNEL, "target * K::classes + predicted", "predicted * K::classes + target"),
        Mutant(
            "confusion transposed, many classes",
            _KERNEL,
            "static_cast<long long>(target) * p.classes + predicted",
            "static_cast<long long>(predicted) * p.classes + target",
        ),
        Mutant(
            "pairs written by a block's first threads",
            _KERNEL,
            "i < Shared<K>::pairs; i += BLOCK",
            "i < Shared<K>::pairs - 1; i += BLOCK",
            1,
        ),
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
    "finish_adds_in_the_documented_order": (
        Mutant("partial results added in float32", _SUM, "sum += values[i];", "sum = float(sum + values[i]);"),
        Mutant("counts of one block only", _KERNEL, "block < p.blocks; block += WARP", "block < 1; block += WARP"),
        Mutant(
            "counts of 32 blocks only",
            _KERNEL,
            "block < p.blocks; block += WARP",
            "block < p.blocks && block < WARP; block += WARP",
        ),
        Mutant("pairs beyond the first eight lost", _KERNEL, "pair += BLOCK / WARP)", "pair += 4096)"),
    ),
    "items_beyond_32_bits": (
        Mutant(
            "chunks depend on the grid",
            _KERNEL,
            "(chunk * p.items_per_thread + i) * BLOCK",
            "(chunk + i * p.chunks) * BLOCK",
        ),
        Mutant("division of 32 bits", _LAYOUT, "if (((a | b) >> 32) == 0)", "if (true)"),
        Mutant("items of 32 bits", _KERNEL, "const long long index =", "const int index ="),
    ),
    "several_items_per_thread": (
        Mutant("chunks skipped", _KERNEL, "chunk += gridDim.x", "chunk += gridDim.x + 1"),
        Mutant(
            "floating-point atomics",
            _KERNEL,
            "if (threadIdx.x == 0) p.partial_losses[chunk] = losses;",
            "if (threadIdx.x == 0) p.partial_losses[chunk] = 0; atomicAdd(&p.partial_losses[chunk], sums.losses);",
        ),
    ),
    "targets_outside_the_classes_are_seen": (
        Mutant("targets above the classes pass", _LAYOUT, "target < classes", "target <= classes"),
        Mutant("negative targets pass", _LAYOUT, "target >= 0 && ", ""),
        Mutant(
            "targets outside have a loss",
            _KERNEL,
            "inside ? weight * pixel_loss(s) :",
            "true ? weight * pixel_loss(s) :",
        ),
        Mutant("targets outside have a gradient", _KERNEL, "inside ? weight * scale :", "true ? weight * scale :"),
        Mutant("head lost", _LAYOUT, "first < 0 ? static_cast<int>(-first) : 0", "0"),
        Mutant(
            "gradient before the head", _LAYOUT, "if (pixel >= at.begin && pixel < at.end)", "if (pixel < at.end)", 1
        ),
    ),
    "ways_give_the_same_bits": (
        Mutant(
            "pixels before the head count", _LAYOUT, "i >= at.begin && i < at.end && target", "i < at.end && target"
        ),
        Mutant(
            "pixels behind the tail count", _LAYOUT, "i >= at.begin && i < at.end && target", "i >= at.begin && target"
        ),
        Mutant("denominator dropped", _KERNEL, "*p.upstream / *p.denominator", "*p.upstream"),
        Mutant("rewriting always skipped", _KERNEL, " && *p.upstream == 1.0f) return", ") return"),
    ),
    "agrees_with_the_reference": (
        Mutant(
            "gradient's classes at the logits' strides",
            _LAYOUT,
            "to + step(j, p.gradient_stride)",
            "to + step(j, p.logits_stride)",
        ),
        Mutant("rows and columns mixed up", _LAYOUT, "divide(line, p.rows)", "divide(line, p.columns)"),
    ),
    "offsets_beyond_32_bits": (
        Mutant("upstream gradient dropped", _KERNEL, "*p.upstream / *p.denominator", "1.0f / *p.denominator"),
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
        Mutant("class offsets of 32 bits", _LAYOUT, ": j * stride[1];", ": int(j * stride[1]);"),
    ),
    "class_offsets_beyond_32_bits": (
        Mutant("class offsets of 32 bits, many classes", _PIXEL, "    long long stride;", "    int stride;"),
        Mutant(
            "class offsets of 32 bits in the gradient, many classes",
            _KERNEL,
            "c * p.gradient_stride[1]]",
            "static_cast<int>(c * p.gradient_stride[1])]",
        ),
    ),
    "nothing_valid_is_zero": (
        Mutant(
            "shares are always weights",
            _KERNEL,
            "sums.shares += p.reduction == WEIGHTED_MEAN ? weights[i] : 1.0f",
            "sums.shares += weights[i]",
        ),
        Mutant("division by zero", _KERNEL, "shares == 0 ? 1.0f : ", ""),
        Mutant("writing skipped for 1", _KERNEL, "(p.flags & SKIP_IF_ONE) && ", ""),
    ),
    "digits_of_confident_pixels": (
        Mutant("sum is divided", _KERNEL, "p.reduction == SUM ? 1.0 : ", "", 1),
        Mutant("sum's gradient is divided", _KERNEL, "p.reduction == SUM ? 1.0 : ", ""),
        Mutant("loss without its logarithm's digits", _PIXEL, "log1pf(s.rest)", "logf(1.0f + s.rest)"),
    ),
    "special_values_propagate_as_in_torch": (
        Mutant(
            "NaN is not the largest", _PIXEL, "!(score <= result.top) && result.top == result.top", "score > result.top"
        ),
        Mutant("last NaN predicted", _PIXEL, " && result.top == result.top", ""),
        Mutant("equal infinities subtracted", _PIXEL, "score == result.top ? 0.0f : (", "("),
        Mutant("infinite maximum gives an infinite loss", _PIXEL, " + (s.top - s.top);", ";"),
        Mutant("infinite maximum gives a gradient", _PIXEL, "1.0f + s.rest + (s.top - s.top)", "1.0f + s.rest"),
        Mutant("infinite weight gives an infinite gradient", _PIXEL, " + (factor - factor)", ""),
    ),
    "to_bfloat16_rounds_as_torch": (
        Mutant("bfloat16 cut off", _NUMBERS, "(bits + 0x7fff + ((bits >> 16) & 1)) >> 16", "bits >> 16"),
        Mutant("bfloat16 ties away from zero", _NUMBERS, "0x7fff + ((bits >> 16) & 1)", "0x8000"),
        Mutant("bfloat16 NaN rounded", _NUMBERS, "x != x ? 0x7fff : ", ""),
    ),
    "the_ladder_touches_its_arrays_only": (
        Mutant("tree without barriers", _LADDER, _BARRIER, ""),
        Mutant("tile overwritten before it is read", _LADDER, _BARRIER, "", 1),
        Mutant("registers' tree begun too early", _LADDER, _BARRIER, "", 2),
        Mutant("registers' tree without barriers", _LADDER, _BARRIER, "", 3),
        Mutant("shuffles' tree begun too early", _LADDER, _BARRIER, "", 4),
        Mutant("shuffles' tree without barriers", _LADDER, _BARRIER, "", 5),
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
        Mutant("last 32 lost", _LADDER, "half >= WARP", "half > WARP"),
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
    ),
}

WITH_A_DRIVER = (
    Mutant("twice as many threads", _DRIVER, "threads, 1, 1, 0, stream", "threads, 2, 1, 0, stream"),
    Mutant("shared memory nobody uses", _DRIVER, "threads, 1, 1, 0, stream", "threads, 1, 1, 60000, stream"),
    Mutant("stream of the current device", _DRIVER, "current_stream(index)", "current_stream()"),
    Mutant("loaded onto the current device", _DRIVER, "with torch.cuda.device(index):", "if True:"),
    Mutant("started on the current device", _DRIVER, "with torch.cuda.device(index):", "if True:", 1),
    Mutant("context of the first device", _DRIVER, "cuDeviceGet(index)", "cuDeviceGet(0)"),
    Mutant("launcher of the first device", _DRIVER, "else device.index", "else 0"),
)
"""Faults that the trial of driver_trial.py must find."""

BEYOND_THE_CPU = (
    Mutant("float16 cut off", _NUMBERS, "cvt.rn.f16", "cvt.rz.f16"),
    Mutant("bfloat16 cut off by the GPU", _NUMBERS, "cvt.rn.bf16", "cvt.rz.bf16"),
)
"""Faults of what only a GPU compiles; test_compile.py must find them."""
