"""Which way a score points, and the worst it can be."""

from __future__ import annotations

ON_TEST = "test_"
"""Begins the names of scores on the EM challenge's test slices."""

HIGHER_IS_BETTER = {
    "mean_iou_last5": True, "mean_iou": True, "pixel_accuracy": True, "blog_iou": True, "seg": True,
    "seg_components": True, "objects_found": True, "det": True,
    "vi_split": False, "vi_merge": False, "expected_calibration_error": False,
    "foreground_iou": True, "foreground_dice": True, "ap": True, "ap_50": True, "ap_75": True, "pq": True,
    "v_rand": True, "v_info": True,
    "pq_segmentation": True, "pq_recognition": True,
    "pixel_error": False, "misclassification": False, "rand_error": False, "rand_error_before_2015": False,
    "warping_error": False, "warping_error_classic": False,
    "loss": False, "loss_last5": False, "spikes": False, "train_loss": False,
    "det_splits": False, "det_false_negatives": False, "det_false_positives": False,
    "objects_missed": False, "objects_merged": False, "objects_split": False, "objects_spurious": False,
}  # fmt: skip
_WITHOUT_WORST = (  # no worst value that a diverged run could stand for
    "loss", "loss_last5", "spikes", "train_loss", "det_splits", "det_false_negatives", "det_false_positives",
    "objects_missed", "objects_merged", "objects_split", "objects_spurious", "vi_split", "vi_merge",
    "expected_calibration_error",
)  # fmt: skip
WORST = {name: 0.0 if better else 1.0 for name, better in HIGHER_IS_BETTER.items() if name not in _WITHOUT_WORST}
"""The worst value of every score that has one."""


def higher_is_better(score: str) -> bool | None:
    """Whether more of a score is better; None where it is not known or neither (the number of objects)."""
    score = score.removeprefix(ON_TEST)
    return HIGHER_IS_BETTER.get(score, True if score.startswith(("iou_", "dice_", "precision_", "recall_")) else None)
