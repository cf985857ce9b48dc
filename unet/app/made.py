"""What the app shows of a prediction: pictures, and how many objects there are and how large.

Axes: N images of a file, C channels, K maps, H rows, W columns.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.app.store import Image, Network, Prediction
from unet.data.images.tiff import read_images
from unet.errors import DataError
from unet.prediction.instances import InstanceSettings, to_instances
from unet.prediction.job import Task
from unet.prediction.objects import all_classes, reduced
from unet.prediction.output import open_map
from unet.views.display import gray_limits, object_colours, stretched, visible

LARGEST_PICTURE_PX = 2048
LISTED = 200
"""Objects in the page's table; the CSV file has all."""

LAYERS = ("image", "probability", "instances")
_OPACITY = 0.35  # of objects on their image
_KEPT = 3  # pages of objects in memory


@dataclass(frozen=True)
class Made:
    """An image and its finished prediction. DataError where a page or a layer is not there or has no objects."""

    image: Image
    prediction: Prediction
    network: Network
    task: Task
    job: dict[str, Any]

    def picture(self, layer: str, page: int, threshold: float | None) -> bytes:
        """A layer of one page as PNG, reduced by a whole factor to at most 2048 px a side."""
        from PIL import Image as Pictures

        if layer not in LAYERS:
            raise DataError(f"there is no layer {layer!r}; there are {', '.join(LAYERS)}")
        self._check(page)
        factor = -(-max(self.image.shape[2:]) // LARGEST_PICTURE_PX)
        if layer == "probability":
            maps = reduced(self._maps()[page], factor)
            colours = visible(maps if len(maps) == 1 else 1 - maps[:1]).astype(np.float64)
        else:
            gray = reduced(self.raw()[page], factor)
            colours = stretched(visible(gray), gray_limits(gray))
            if layer == "instances":
                _paint(colours, self.instances(page, self.settings(threshold))[::factor, ::factor])
        written = io.BytesIO()
        Pictures.fromarray((255 * colours).round().astype(np.uint8)).save(written, "PNG", compress_level=3)
        return written.getvalue()

    def instances(self, page: int, settings: InstanceSettings) -> NDArray[np.int32]:
        """Objects of one page, H x W; the last few are kept."""
        self._check(page)
        with self.prediction.making:
            kept = self.prediction.objects
            if (page, settings) not in kept:
                found = to_instances(all_classes(self._maps()[page], self.prediction.folder), settings)
                self.prediction.objects = kept = dict([*kept.items()][1 - _KEPT :]) | {(page, settings): found}
            return kept[page, settings]

    def counted(self, page: int, threshold: float | None) -> dict[str, Any]:
        """How many objects a page has, how large they are, and the first of them in a list; areas in pixels."""
        from skimage.measure import regionprops

        ids = self.instances(page, self.settings(threshold))
        areas = np.bincount(ids.ravel())[1:]
        listed = regionprops(np.where(ids <= LISTED, ids, 0))
        return {
            "count": len(areas),
            "covered": float(areas.sum() / ids.size),
            "areas": [float(v) for v in np.percentile(areas, (0, 50, 100))] if len(areas) else [],
            "objects": [
                [p.label, int(p.area), round(p.centroid[1], 1), round(p.centroid[0], 1), round(p.perimeter, 1)]
                for p in listed
            ],
        }

    def settings(self, threshold: float | None) -> InstanceSettings:
        """How objects are made: as the network says, with this threshold if there is one."""
        if self.network.instances is None:
            raise DataError(self.network.without)
        return self.network.instances if threshold is None else replace(self.network.instances, threshold=threshold)

    def raw(self) -> NDArray[Any]:
        """The image's gray values N x C x H x W as they are stored, mapped into memory where they can be."""
        colours = self.image.shape[1] > 1
        return read_images(self.image.source, mmap=True, palette_rgb=colours, scratch=self.prediction.folder)

    def _maps(self) -> NDArray[np.float32]:
        return open_map(self.task.probabilities.path, self.task.probabilities.shape_NKHW)

    def _check(self, page: int) -> None:
        if not 0 <= page < self.image.shape[0]:
            raise DataError(f"there is no page {page + 1}; the image has {self.image.shape[0]}")


def made(image: Image) -> Made:
    """What can be made of an image; DataError until it is predicted."""
    if image.prediction is None or image.prediction.ready is None:
        raise DataError("the prediction is not there yet; wait until it is")
    return Made(image, image.prediction, *image.prediction.ready)


def _paint(colours: NDArray[np.float64], ids_HW: NDArray[np.integer[Any]]) -> None:
    """Objects on their image H x W x 3, in place: filled faintly, their outlines in full."""
    from skimage.segmentation import find_boundaries

    ids = ids_HW[: colours.shape[0], : colours.shape[1]]
    own, inside, edge = object_colours(ids), ids > 0, find_boundaries(ids, mode="inner")
    colours[inside] += _OPACITY * (own[inside] - colours[inside])
    colours[edge] = own[edge]
