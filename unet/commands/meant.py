"""Options that other programs have, and what they are called here."""

from __future__ import annotations

from collections.abc import Collection

_MEANT = {
    "--train.updates": "epochs epoch iterations iters steps max-steps max-epochs num-epochs n-epochs",
    "--train.batch": "batch-size bs batchsize",
    "--train.seed": "seed random-seed",
    "--train.device": "gpu gpus cuda",
    "--train.precision": "amp fp16 half mixed-precision dtype",
    "--train.workers": "num-workers n-workers",
    "--optim.lr": "learning-rate learningrate",
    "--optim.name": "optimizer optimiser optim",
    "--optim.schedule": "scheduler lr-schedule lr-scheduler",
    "--data.folder": "data data-dir dataset input input-dir images image-dir train-dir path",
    "--data.folds": "val-split validation-split val-percent k-folds n-folds",
    "--data.held-out": "val val-dir validation test-set",
    "--data.label-map": "num-classes n-classes classes labels-map",
    "--tile.input-px": "patch-size crop-size crop tile-size image-size img-size imgsz size scale",
    "--model.base-channels": "filters base-filters features width channels",
    "--model.depth": "levels n-levels num-layers layers",
    "--train.parent": "pretrained weights checkpoint load init finetune model",
    "--run": "name run-name exp experiment",
    "--out": "output output-dir out-dir save-dir save-path output-file",
    "--threshold": "thresh conf",
    "--symmetries": "tta augment",
    "--overwrite": "force",
    "--quiet": "silent",
}
_KEY = {word: flag for flag, words in _MEANT.items() for word in words.split()}
_OTHERS = {"--out": "--run", "--data.folder": "--labels"}  # where a command has no such flag


def meant(flag: str, accepted: Collection[str]) -> str:
    """The accepted flag that means what `flag` does elsewhere; empty when none does."""
    word = flag.lstrip("-").replace("_", "-").lower()
    found = _KEY.get(word, "")
    return next((known for known in (found, _OTHERS.get(found, "")) if known and known in accepted), "")
