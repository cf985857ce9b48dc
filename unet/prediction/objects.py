"""From the probability maps that prediction has written to files of objects: label masks and outlines on the image.

Objects need a whole map at once. Maps are memory-mapped, and so is what is made on the way where it is not small.

Axes: N images of a file, C channels, K classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet import __version__
from unet.data.images.calibration import read_calibration
from unet.data.images.mapped import release, scratch_map, slabs
from unet.data.images.tiff import read_images
from unet.data.masks import Target
from unet.errors import ConfigError, RunError
from unet.files import atomic_write, write_error
from unet.prediction.instances import InstanceSettings, to_instances
from unet.prediction.job import Task, job_id
from unet.prediction.output import create_map, open_map, software_of
from unet.views.display import gray_limits, object_colours, stretched, visible

LARGEST_OVERLAY_PX = 4096
_SIXTEEN_BITS = 2**16 - 1


def check_classes(names: Sequence[str]) -> None:
    """ConfigError unless the classes of a network are background, cell and perhaps border, as objects need them."""
    if len(names) != 2 and tuple(names) != Target("cell-border").class_names:
        raise ConfigError(
            f"objects are made of two classes or of background, cell and border; the network has {', '.join(names)}"
        )


@dataclass(frozen=True)
class Objects:
    """The objects of one predicted file: how they are made, and whether their outlines are drawn."""

    task: Task
    job: dict[str, Any]  # what determined the probabilities
    settings: InstanceSettings
    overlay: bool = False

    @property
    def masks(self) -> Path:
        """NAME-masks.tif beside the probabilities."""
        return self._beside("-masks.tif")

    @property
    def overlays(self) -> list[Path]:
        """NAME-overlay.png, of a stack NAME-overlay-0000.png, ... for each image; none when they are not asked for."""
        if not self.overlay:
            return []
        images = self.task.shape_NCHW[0]
        return [self._beside("-overlay" + (f"-{n:04}" if images > 1 else "") + ".png") for n in range(images)]

    @property
    def paths(self) -> list[Path]:
        """All files that are written."""
        return [self.masks, *self.overlays]

    @property
    def finished(self) -> bool:
        """Whether these very objects are there."""
        there = all(path.is_file() for path in self.paths)
        return there and software_of(self.masks).endswith(self._id)

    @property
    def _id(self) -> str:
        return job_id(self.job | {"instances": self.settings.to_dict()})

    def _beside(self, ending: str) -> Path:
        path = self.task.probabilities.path
        return path.with_name(path.stem.removesuffix("-probabilities") + ending)

    def write(self, check: Callable[[], None]) -> int:
        """Make the objects of each image by itself; returns their number. `check` is called before each image.

        The masks are 16-bit, 32-bit where an image has more than 65535 objects. RunError when they cannot be written.
        """
        images, _, height, width = self.task.shape_NCHW
        scratch = self.task.probabilities.path.parent
        maps = open_map(self.task.probabilities.path, self.task.probabilities.shape_NKHW)
        found = scratch_map(scratch, (images, height, width), np.int32)
        counts = []
        for n in range(images):
            check()
            found[n] = to_instances(all_classes(maps[n], scratch), self.settings)
            counts.append(int(found[n].max()))
            for array in (maps, found):
                release(array)
        self._write_masks(found, np.uint16 if max(counts) <= _SIXTEEN_BITS else np.uint32)
        if self.overlay:
            self._write_overlays(found, check)
        return sum(counts)

    def _write_masks(self, found_NHW: NDArray[np.int32], dtype: type[np.unsignedinteger[Any]]) -> None:
        shape, part = (len(found_NHW), 1, *found_NHW.shape[1:]), self.masks.with_name(f".{self.masks.name}.part")
        highest = max(1.0, float(found_NHW.max()))
        software = f"unet-2015 {__version__}, job {self._id}"
        create_map(part, shape, dtype, read_calibration(self.task.source), highest, software)
        try:
            masks = open_map(part, shape)
            for n, ids in enumerate(found_NHW):
                masks[n, 0] = ids
                for array in (masks, found_NHW):
                    release(array)
            masks.flush()
            part.replace(self.masks)
        except OSError as error:
            raise write_error(self.masks, error) from error
        finally:
            part.unlink(missing_ok=True)

    def _write_overlays(self, found_NHW: NDArray[np.int32], check: Callable[[], None]) -> None:
        colours = self.task.shape_NCHW[1] > 1
        scratch = self.task.probabilities.path.parent
        raw = read_images(self.task.source, mmap=True, palette_rgb=colours, scratch=scratch)
        for image_CHW, ids_HW, path in zip(raw, found_NHW, self.overlays, strict=True):
            check()
            write_overlay(path, image_CHW, ids_HW)


def all_classes(maps_KHW: NDArray[np.float32], scratch: Path) -> NDArray[np.float32]:
    """Probabilities of all classes, K x H x W: of two, only that of the foreground has been written."""
    if len(maps_KHW) > 1:
        return maps_KHW
    both = scratch_map(scratch, (2, *maps_KHW.shape[1:]), np.float32)
    for rows in slabs(maps_KHW, slice(0, maps_KHW.shape[1])):
        both[1, rows] = maps_KHW[0, rows]
        both[0, rows] = 1 - maps_KHW[0, rows]
    release(both)
    return both


def write_overlay(path: Path, image_CHW: NDArray[Any], ids_HW: NDArray[np.integer[Any]]) -> None:
    """The outlines of objects on their image as PNG, reduced by a whole factor to at most 4096 px a side.

    RunError when it cannot be written.
    """
    from PIL import Image
    from skimage.segmentation import find_boundaries

    factor = -(-max(ids_HW.shape) // LARGEST_OVERLAY_PX)
    image = reduced(image_CHW, factor)
    ids = ids_HW[::factor, ::factor][: image.shape[1], : image.shape[2]]
    picture = stretched(visible(image), gray_limits(image))
    outlines = find_boundaries(ids, mode="inner")
    picture[outlines] = object_colours(ids)[outlines]
    with atomic_write(path) as file:
        Image.fromarray((255 * picture).round().astype(np.uint8)).save(file, "PNG")


def reduced(image_CHW: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Means over squares of factor x factor pixels (over what there is, where the image is thinner than that)."""
    channels, height, width = image_CHW.shape
    fy, fx = min(factor, height), min(factor, width)
    result = np.empty((channels, height // fy, width // fx), np.float32)
    for y in range(result.shape[1]):
        rows = image_CHW[:, y * fy : (y + 1) * fy, : result.shape[2] * fx].astype(np.float32)
        result[:, y] = rows.reshape(channels, fy, -1, fx).mean(axis=(1, 3))
        if y % 256 == 255:
            release(image_CHW)
    return result


def refuse_others(objects: Sequence[Objects], resume: bool, overwrite: bool) -> None:
    """RunError when other files stand where objects are to be written."""
    for one in objects:
        there = next((path for path in one.paths if path.exists()), None)
        if there is not None and not overwrite and not (resume and one.finished):
            raise RunError(f"{there} exists already; name another place with --out, or add --overwrite")
