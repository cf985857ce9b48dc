"""What is made of an image layer of napari: layers of probabilities and of labels, as plain tuples.

Axes: P planes (all leading axes of a stack, one after the other), C channels, K classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unet.api import Model
from unet.prediction.instances import InstanceSettings, to_instances
from unet.prediction.objects import check_classes

LayerData = tuple[NDArray[Any], dict[str, Any], str]


def predicted(
    model: Model,
    image: ArrayLike,
    name: str,
    place: dict[str, Any],
    *,
    rgb: bool = False,
    symmetries: int = 0,
    threshold: float | None = None,
    on_plane: Callable[[int, int], None] = lambda *_: None,
) -> list[LayerData]:
    """A layer of probabilities for every class but the first, and one of objects, numbered through all planes.

    image: ... x H x W, or ... x H x W x C where `rgb`; one plane of it is read at a time. place: scale, translation and
    units of the layer, which the new ones get. symmetries: as of `Model.predict`. threshold: of objects; None: as the
    network chose. on_plane(done, total) is called after each plane; what it raises ends the work. ConfigError when no
    objects can be made of the network's classes, DataError as from `Model.predict`.
    """
    check_classes(model.class_names)
    source: Any = image if hasattr(image, "shape") else np.asarray(image)  # a lazy array stays one
    leading = source.shape[: -3 if rgb else -2]
    side = source.shape[len(leading) : len(leading) + 2]
    settings = model.instances or InstanceSettings()
    settings = settings if threshold is None else replace(settings, threshold=threshold)
    probabilities = np.empty((len(model.class_names) - 1, *leading, *side), np.float32)
    labels = np.zeros((*leading, *side), np.int32)
    places, last = list(np.ndindex(*leading)), 0
    for done, at in enumerate(places, start=1):
        found = model.predict(np.asarray(source[at]), symmetries=symmetries)
        probabilities[(slice(None), *at)] = found[1:]
        objects = to_instances(found, settings)
        labels[at] = np.where(objects > 0, objects + last, 0)
        last = max(last, int(labels[at].max(initial=0)))
        on_plane(done, len(places))
    shown = {"contrast_limits": (0.0, 1.0), "colormap": "magma", "visible": False}
    made: list[LayerData] = [
        (values, {"name": f"{name}: probability of {kind}", **shown, **place}, "image")
        for kind, values in zip(model.class_names[1:], probabilities, strict=True)
    ]
    return [*made, (labels, {"name": f"{name}: objects", **place}, "labels")]
