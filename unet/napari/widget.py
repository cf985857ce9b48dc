"""The widget of the menu Plugins: which layer, which network, and what becomes of it. Read by napari alone.

Its annotations are no strings: magicgui makes the form of them.
"""

from pathlib import Path
from typing import Any

from magicgui import magic_factory
from napari.layers import Image
from napari.qt.threading import FunctionWorker, thread_worker
from napari.types import LayerDataTuple

from unet.api import load
from unet.errors import DataError
from unet.napari.layers import predicted
from unet.prediction.shipped import shipped

_OWN = "another"
_PLACES = ("scale", "translate", "rotate", "shear", "affine", "units")


@magic_factory(  # type: ignore[untyped-decorator]
    call_button="Segment",
    network={"choices": [*shipped(), _OWN], "tooltip": "em: membranes; phc, hela: cells"},
    weights={"label": "another", "mode": "r", "filter": "*.safetensors", "tooltip": "weights.safetensors of a run"},
    averaged={"label": "average over symmetries", "tooltip": "as the network was made for; 8 times as long"},
    own_threshold={"label": "threshold of one's own"},
    threshold={"min": 0.01, "max": 0.99, "step": 0.01},
)
def segment(
    image: Image,
    network: str = next(iter(shipped())),
    weights: Path = Path(),
    averaged: bool = True,
    own_threshold: bool = False,
    threshold: float = 0.5,
) -> FunctionWorker[list[LayerDataTuple]]:
    """Run a network on an image layer, plane by plane, beside the viewer: probabilities and numbered objects."""
    if image is None:
        raise DataError("there is no image layer; open an image first")

    @thread_worker(  # type: ignore[untyped-decorator]
        start_thread=True, progress={"desc": f"segmenting {image.name}"}
    )
    def work() -> list[Any]:
        return predicted(
            load(weights if network == _OWN else network),
            image.data[0] if image.multiscale else image.data,
            image.name,
            {key: getattr(image, key) for key in _PLACES},
            rgb=image.rgb,
            symmetries=0 if averaged else 1,
            threshold=threshold if own_threshold else None,
        )

    return work()
