"""The networks and the scores from Python: `unet.load("em").predict(image)`, `unet.evaluate(prediction, labels)`."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from unet.data.rescale import rescaling, unlike_training
from unet.data.stack import IGNORE, Frame, Kind, Normalisation, Stack
from unet.errors import ConfigError, DataError, RunError, nearest
from unet.evaluation.comparison import object_values
from unet.evaluation.frames import FramePrediction
from unet.evaluation.scoring import score
from unet.evaluation.strangers import as_objects, as_probabilities, is_mask, numbered
from unet.prediction.instances import InstanceSettings, to_instances
from unet.prediction.objects import check_classes
from unet.prediction.overlap import predict_image
from unet.prediction.shipped import find_network, shipped
from unet.prediction.trained import Trained, chosen_settings, load_trained

_SCORES = ("auto", "classes", "membranes", "objects")


@dataclass(frozen=True)
class Model:
    """A trained network, or several that predict as one.

    instances: how objects are made; None where that was never chosen (the defaults are taken).
    """

    trained: Trained
    instances: InstanceSettings | None = None

    @property
    def class_names(self) -> list[str]:
        """The classes in the order of the probabilities, background first."""
        return self.trained.class_names

    def predict(self, image: ArrayLike, *, symmetries: int = 0) -> NDArray[np.float32]:
        """Class probabilities K x H x W float32 of one image of any size.

        image: H x W, or with channels H x W x C or C x H x W, gray values as they come from the file: they are brought
        to those of the training images here. symmetries: 1, 4 (flips) or 8 are averaged; 0: as the network was made
        for. DataError when the image does not fit the network, holds NaN or masked pixels; a warning when its gray
        values can hardly be those the network knows.
        """
        normalisation, how = self.trained.normalisation, self.trained.how
        raw_CHW = _channels_first(_array(image, "image"), self.trained.metadata["channels"])
        if advice := unlike_training(raw_CHW[None], normalisation):
            warnings.warn(f"the image {advice}", stacklevel=2)
        return predict_image(
            self.trained.network,
            rescaling(normalisation, raw_CHW, "image")(raw_CHW),
            len(self.class_names),
            replace(how, symmetries=symmetries or how.symmetries),  # type: ignore[arg-type]  # refuses others
        )

    def segment(self, image: ArrayLike, *, symmetries: int = 0) -> NDArray[np.int32]:
        """The objects of one image, H x W int32: 0 background, 1..N the objects. Arguments and errors as `predict`.

        ConfigError when no objects can be made of the network's classes.
        """
        check_classes(self.class_names)
        return to_instances(self.predict(image, symmetries=symmetries), self.instances or InstanceSettings())


def load(*networks: str | os.PathLike[str], device: str = "auto", precision: str = "auto") -> Model:
    """A network that comes with the package ("em", "phc", "hela"), of a run folder, of a weights file, or several as
    one.

    device: "cpu", "cuda", "cuda:1", ...; precision: "fp32" or "bf16"; "auto" as `unet predict`. RunError when there is
    no such network.
    """
    if not networks:
        raise RunError(f"name a network to load: a run folder, a weights file or one of {', '.join(shipped())}")
    found = [_found(os.fspath(name)) for name in networks]
    return Model(load_trained(found, device, precision), chosen_settings(found[0]))


def evaluate(
    prediction: ArrayLike, labels: ArrayLike, scores: Literal["auto", "classes", "membranes", "objects"] = "auto"
) -> dict[str, float]:
    """Scores of the prediction of one image, by the names of scores.json; a score that is not defined is NaN.

    labels: H x W integers, 0 background, or a mask of 0 and 255; else 255 carries no score, except of objects.
    prediction: numbered objects H x W (integers), or probabilities K x H x W, or of the foreground alone H x W (floats
    in 0..1), or class numbers or a mask H x W. scores: objects (SEG and others), classes (pixels), membranes (the EM
    challenge's too; class 1 is the cell); auto: classes for floats and where both are masks, else objects. DataError
    when they do not fit together, ConfigError for other scores.
    """
    if scores not in _SCORES:
        raise ConfigError(f"scores {scores!r} are unknown{nearest(scores, _SCORES)}; use {', '.join(_SCORES)}")
    predicted, known = _array(prediction, "prediction"), _array(labels, "labels")
    if known.ndim != 2 or known.dtype.kind not in "bui":
        raise DataError(f"the labels are {known.dtype} of shape {known.shape}; they are H x W integers")
    if known.min() < 0:
        raise DataError(f"the labels hold {known.min()}; classes and objects count from 0, the background")
    maps = predicted[None] if predicted.ndim == 2 else predicted
    if maps.ndim != 3 or maps.shape[1:] != known.shape:
        raise DataError(
            f"the prediction has shape {predicted.shape}, the labels {known.shape}; their sides must agree, and "
            "probabilities of several classes are K x H x W"
        )
    whole = predicted.dtype.kind in "bui"
    masks = [whole and is_mask([array]) for array in (maps[0], known)]
    bare = all(mask or array.dtype == np.bool_ for mask, array in zip(masks, (maps, known), strict=True))
    if scores == "objects" or (scores == "auto" and whole and not bare):
        if any(masks):
            raise DataError(
                f"the {'prediction is' if masks[0] else 'labels are'} a mask of two values, no numbered objects; "
                "number them (skimage.measure.label), or ask for scores='classes'"
            )
        reference, result = numbered(known), as_objects(Path("prediction"), [maps])[0]
        return object_values(["image"], [reference], [result])[0]
    label = _classes(known)
    classes = max(2, len(maps), int(label[label != IGNORE].max(initial=1)) + 1)
    probabilities = as_probabilities(Path("prediction"), [maps], classes).maps[0]
    frame = FramePrediction.of(Frame("image", "", probabilities[:1], label), probabilities)
    names = ("membrane", "cell") if scores == "membranes" else tuple(map(str, range(classes)))
    kind: Kind = "membranes" if scores == "membranes" else "classes"
    if kind == "membranes" and classes != 2:
        raise DataError(f"scores of membranes need two classes; there are {classes}")
    found = score([frame], Stack("image", (frame.frame,), names, Normalisation(), "", kind, own=True), {}).values
    return {name: math.nan if value is None else value for name, value in found.items()}


def _array(value: ArrayLike, what: str) -> NDArray[Any]:
    """What was handed over, a tensor of any device and type too, as an array; DataError unless it holds numbers, all
    of which count."""
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        value = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    if np.ma.is_masked(value):
        raise DataError(f"the {what}: some pixels are masked; give them a value first (.filled(VALUE))")
    try:
        array = np.asarray(value)
    except ValueError:
        raise DataError(f"the {what}: rows of unequal length are no image") from None
    if array.dtype.kind not in "buif" or array.size == 0:
        raise DataError(f"the {what}: {array.dtype} of shape {array.shape}; an array of numbers is needed")
    return array


def _classes(known_HW: NDArray[Any]) -> NDArray[np.uint8]:
    """Labels as class numbers: those of a mask of 0 and 255 are 0 and 1. DataError for larger numbers."""
    values = np.unique(known_HW)
    if values[-1] > IGNORE:
        raise DataError(
            f"the labels hold {values[-1]}; classes end at 254 and {IGNORE} carries no score. Numbered objects are "
            "scored by scores='objects', with a prediction of numbered objects"
        )
    return np.asarray(known_HW == IGNORE if values.tolist() == [0, IGNORE] else known_HW, np.uint8)


def _found(name: str) -> Path:
    path = find_network(name)
    if path is None:
        if Path(name).exists():
            raise RunError(f"{name}: holds no network; name a run folder or its weights.safetensors")
        there = ", ".join(shipped()) or "none in this installation"
        raise RunError(f"{name}: no run folder, weights file or network of the package ({there}); check the name")
    return path


def _channels_first(raw: NDArray[Any], channels: int) -> NDArray[Any]:
    """One image C x H x W; DataError when its axes do not fit the number of channels."""
    if raw.ndim == 2:
        raw = raw[None]
    elif raw.ndim == 3 and raw.shape[0] != channels and raw.shape[2] == channels:
        raw = np.moveaxis(raw, 2, 0)
    if raw.ndim != 3 or raw.shape[0] != channels:
        wanted = "H x W" if channels == 1 else f"H x W x {channels}"
        raise DataError(f"the image is {raw.dtype} of shape {raw.shape}; the network takes one image {wanted}, numbers")
    return raw
