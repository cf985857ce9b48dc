"""A warm start: the weights of an earlier run as the initial ones of a new run.

Another number of input channels or of classes is allowed: the first or the last layer then keeps its random weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from unet.config import Config, to_dict
from unet.data.stack import Stack
from unet.errors import RunError
from unet.files import sha256
from unet.prediction.shipped import find_network
from unet.prediction.trained import weights_file
from unet.runs.checkpoint import load_weights

_FREE = ("dropout", "dropout_at")  # settings of the network that its weights do not depend on


def warm_start(model: nn.Module, config: Config, stack: Stack, say: Callable[[str], None]) -> dict[str, Any]:
    """Copy the weights of the run (or weights file) `config.train.parent` into a model of `config`, in place.

    Returns what the new run's record says of its parent: path, SHA-256 of the weights, layers that began at random.
    RunError when there are no such weights or they belong to another architecture.
    """
    file = weights_file(find_network(config.train.parent) or Path(config.train.parent))
    if not file.is_file():
        raise RunError(f"{config.train.parent}: holds no weights to start from; finish its training, or name weights")
    weights, metadata = load_weights(file)
    theirs, ours = metadata.get("model"), to_dict(config.model)
    if not isinstance(theirs, dict):
        raise RunError(f"{file}: does not say what network it holds; use weights that unet train has written")
    other = [key for key, value in ours.items() if key not in _FREE and theirs.get(key) != value]
    if other:
        flags = " ".join(f"--model.{key.replace('_', '-')} {theirs.get(key)}" for key in other)
        raise RunError(f"{file}: holds another network; to start from it say {flags}")
    anew = []
    for name, what, then, now in (
        ("down.0.0.weight", "input channels", metadata.get("channels"), stack.channels),
        ("head.weight", "classes", ", ".join(map(str, metadata.get("class_names", []))), ", ".join(stack.class_names)),
    ):
        layer = name.rpartition(".")[0]
        if then != now:
            same = name in weights and weights[name].shape == model.state_dict()[name].shape
            say(f"{file}: has the {what} {then}, this run {now}: {layer} {'is kept' if same else 'begins at random'}")
            if not same:
                anew.append(layer)
    kept = {name: value for name, value in weights.items() if name.rpartition(".")[0] not in anew}
    missing = set(model.state_dict()) - set(kept)
    try:
        model.load_state_dict(kept, strict=False)
    except RuntimeError:
        missing.add("a layer of another shape")
    if any(name.rpartition(".")[0] not in anew for name in missing) or set(kept) - set(model.state_dict()):
        raise RunError(f"{file}: holds another network than it says; use the original file")
    before = metadata.get("normalisation")
    if before != vars(stack.normalisation):
        say(f"{file}: saw gray values normalised as {before}, this run's are {vars(stack.normalisation)}")
    return {"path": str(file), "sha256": sha256(file), "at_random": anew}
