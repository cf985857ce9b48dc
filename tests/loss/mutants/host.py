"""Faults of the plan that the kernels are given, and of what starts them."""

from __future__ import annotations

from tests.loss.mutants.mutant import Mutant

_PLAN, _LAUNCH = "plan.py", "launch.py"

FOUND_BY: dict[str, tuple[Mutant, ...]] = {
    "other_ignored_targets": (
        Mutant(
            "shares where the losses stand",
            _LAUNCH,
            "params.partial_shares = place + 4 * (1 + chunks)",
            "params.partial_shares = place + 4",
        ),
        Mutant("ignored byte as it is", _LAUNCH, "ignore_index &= 255", "ignore_index &= 127"),
    ),
    "only_their_arrays_are_touched": (
        Mutant(
            "class planes of the gradient off its packs", _PLAN, "if runs.layout == PLANAR else []", "if False else []"
        ),
        Mutant(
            "images of the gradient off its packs",
            _PLAN,
            "if runs.length == gradient.shape[2] * gradient.shape[3] else []",
            "if False else []",
        ),
        Mutant(
            "alignment of later images unchecked",
            _PLAN,
            "(array_NHW.data_ptr() - runs.phase * element) % width == 0 and between % width == 0",
            "(array_NHW.data_ptr() - runs.phase * element) % width == 0",
        ),
        Mutant(
            "alignment of first images unchecked",
            _PLAN,
            "(array_NHW.data_ptr() - runs.phase * element) % width == 0 and between % width == 0",
            "between % width == 0",
        ),
        Mutant(
            "later images of the logits unchecked",
            _PLAN,
            "if not merged and (_stride(logits, 0, 0) * element) % access:",
            "if False:",
        ),
        Mutant(
            "class planes of the logits unchecked",
            _PLAN,
            "if (logits.stride(1) * element) % access or (_stride(logits, 0, 0) * element) % access:",
            "if False:",
        ),
        Mutant("a head counted as whole", _PLAN, "int(runs.phase > 0)", "0"),
        Mutant(
            "a tail counted as whole",
            _PLAN,
            "covered // runs.pixels) if aligned",
            "-(-covered // runs.pixels)) if aligned",
        ),
        Mutant("alignment not in the key", _LAUNCH, "logits.stride(), logits.data_ptr() & 15", "logits.stride()"),
        Mutant(
            "alignment of targets not in the key", _LAUNCH, "target.stride(), target.data_ptr() & 15", "target.stride()"
        ),
        Mutant(
            "alignment of weights not in the key",
            _LAUNCH,
            "(weight.stride(), weight.data_ptr() & 15)",
            "(weight.stride(),)",
        ),
        Mutant(
            "alignment of masks not in the key", _LAUNCH, "(valid.stride(), valid.data_ptr() & 15)", "(valid.stride(),)"
        ),
    ),
    "several_items_per_thread": (
        Mutant(
            "half as many shares",
            _LAUNCH,
            "params.partial_shares = place + 4 * (1 + chunks)",
            "params.partial_shares = place + 4 + 2 * chunks",
        ),
    ),
    "agrees_with_the_reference": (
        Mutant(
            "the phase's pack not counted",
            _PLAN,
            "per_run = -(-covered // runs.pixels)",
            "per_run = -(-runs.length // runs.pixels)",
        ),
        Mutant(
            "images merged that lie apart",
            _PLAN,
            "merged = all(_stride(a, 0, area) == area for a in pixel_arrays)",
            "merged = True",
        ),
    ),
    "more_chunks_than_threads": (
        Mutant(
            "grid of another kernel",
            _LAUNCH,
            "params.blocks = kernels[-1][1]",
            "params.blocks = kernels[0][1] + (len(kernels) > 1)",
        ),
        Mutant(
            "counts of the first pass's grid",
            _LAUNCH,
            "params.blocks = kernels[-1][1]",
            "params.blocks = kernels[0][1]",
        ),
    ),
    "weights_and_masks_of_other_shapes_and_types": (
        Mutant(
            "masks of numbers cut to a byte", _LAUNCH, "valid.to(torch.bool).view(torch.uint8)", "valid.to(torch.uint8)"
        ),
    ),
    "plans_are_not_mixed_up": (
        Mutant("strides not in the key", _LAUNCH, "logits.dtype, logits.stride(), logits", "logits.dtype, logits"),
        Mutant(
            "strides of targets not in the key",
            _LAUNCH,
            "target.dtype, target.stride(), target",
            "target.dtype, target",
        ),
        Mutant(
            "strides of weights not in the key",
            _LAUNCH,
            "(weight.stride(), weight.data_ptr() & 15)",
            "(weight.data_ptr() & 15,)",
        ),
        Mutant(
            "strides of masks not in the key",
            _LAUNCH,
            "(valid.stride(), valid.data_ptr() & 15)",
            "(valid.data_ptr() & 15,)",
        ),
        Mutant("passes not in the key", _LAUNCH, "(launcher.holds, passes, reduction", "(launcher.holds, reduction"),
        Mutant(
            "reduction not in the key",
            _LAUNCH,
            "passes, reduction, written",
            "passes, written",
        ),
        Mutant(
            "ignored target not in the key", _LAUNCH, "target.data_ptr() & 15, ignore_index)", "target.data_ptr() & 15)"
        ),
        Mutant(
            "type of the targets not in the key",
            _LAUNCH,
            "*(target.dtype, target.stride()",
            "*(target.stride()",
        ),
        Mutant(
            "type of the logits not in the key",
            _LAUNCH,
            "logits.shape, logits.dtype, logits.stride()",
            "logits.shape, logits.stride()",
        ),
        Mutant("shape not in the key", _LAUNCH, "(logits.shape, logits.dtype,", "(logits.dtype,"),
    ),
}
