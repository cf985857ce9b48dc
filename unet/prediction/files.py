"""Prediction from file to file: images of any size, tile by tile, with memory that does not grow with the image.

The input is memory-mapped, or, where its TIFF is compressed, tiled or in pieces, first decoded strip by strip into a
nameless file beside the output that is mapped instead (PNG and JPEG are decoded in memory). The output grows under the
name `.NAME.part` and takes its own at the end. After every row of tiles the pixels and then the number of rows done are
flushed to disk, so that after a kill or a power cut at most one row is computed again.

Axes: N images of a file, C channels, K maps, H rows, W columns.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet import __version__
from unet.data.images.calibration import read_calibration
from unet.data.images.mapped import release, slabs
from unet.data.images.tiff import indexed_colours, read_images
from unet.data.rescale import fill_value, rescaling, unlike_training
from unet.errors import DataError, RunError
from unet.files import sync_folder, write_error
from unet.prediction.ensemble import Predicting
from unet.prediction.job import Output, Settings, Task, describe, job_id
from unet.prediction.output import create_map, foreground, map_bytes, open_map, software_of
from unet.prediction.overlap import predict_into
from unet.prediction.progress import Record

Prepare = Callable[[NDArray[Any]], NDArray[np.float32]]

_DIFFERENT = {
    "input": "the input file has changed or is another",
    "network": "it was begun with other networks or another precision",
    "normalisation": "it was begun with another normalisation",
    "tiles": "it was begun with another tile size, number of symmetries or average",
    "output": "it was begun with another choice of outputs",
}


def _ignore(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Watch:
    """Who is told what happens: `rows(done)` after each row of tiles, `say` a line for the user, `check` after each
    batch of tiles. What they raise stops the prediction; what is done is kept."""

    rows: Callable[[int], None] = _ignore
    check: Callable[[], None] = _ignore
    say: Callable[[str], None] = _ignore


def predict_file(
    network: Predicting,
    task: Task,
    settings: Settings,
    *,
    resume: bool = False,
    overwrite: bool = False,
    watch: Watch | None = None,
) -> bool:
    """Predict all images of a file into a float32 TIFF (K maps per image: see `foreground`); True: something was done.

    `resume` goes on with what a stopped prediction left, or finds that nothing is missing. `overwrite` replaces
    existing outputs at the end, and an unfinished prediction (on `resume` only one that does not fit). Raises RunError
    (output exists, unfinished prediction in the way or not fitting, disk full, file in use), DataError (unreadable,
    NaN).
    """
    watch = watch or Watch()
    job = describe(network, task, settings)
    if _finished(task, job, resume, overwrite):
        return False
    with Record(task.record) as record:
        done = _rows_to_keep(record, job, task, resume, overwrite)
        try:
            if done == 0:
                _create(task, job)
                record.start(job)
            watch.rows(done)
            if done < task.rows:
                _predict(network, task, settings, done, record, watch)
            for output in task.outputs:
                if output.part.exists():  # else it took its name before a crash
                    output.part.replace(output.path)
            sync_folder(task.probabilities.path.parent)
            record.forget()
        except OSError as error:
            raise write_error(task.probabilities.path, error) from error
        finally:
            if record.rows == 0:  # there is nothing to go on with
                record.forget()
                for output in task.outputs:
                    output.part.unlink(missing_ok=True)
    return True


def check_disk(tasks: Sequence[Task], resume: bool = False) -> None:
    """RunError when the outputs (on `resume` those that are not there in part or whole) do not fit on the disk."""
    outputs = [output for task in tasks for output in task.outputs if not output.part.exists()]
    missing = [output for output in outputs if not (resume and output.path.exists())]
    needed = sum(map_bytes(output.shape_NKHW, output.dtype) for output in missing)
    first = tasks[0].probabilities.path
    folder = next(parent for parent in first.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RunError(
            f"{first}: needs {needed / 1e9:,.3f} GB of disk and {free / 1e9:,.3f} GB are free in {folder}; "
            "free some space, or name a place on another disk with --out"
        )


def _finished(task: Task, job: dict[str, Any], resume: bool, overwrite: bool) -> bool:
    """Whether this very prediction is there already; RunError when something else stands in its place."""
    for output in reversed(task.outputs):
        path = output.path
        if not path.exists():
            continue
        if path.samefile(task.source):
            raise RunError(f"{path}: input and output are the same file; name another one with --out")
        fits = software_of(path).endswith(job_id(job))
        if resume and fits and output == task.probabilities:
            task.record.unlink(missing_ok=True)
            return True
        if not overwrite and not (resume and fits):
            advice = "it was made from another input or network; " if resume else ""
            raise RunError(f"{path} exists already; {advice}name another file with --out, or add --overwrite")
    return False


def _rows_to_keep(record: Record, job: dict[str, Any], task: Task, resume: bool, overwrite: bool) -> int:
    """Rows of tiles that need not be computed again; RunError when those that are there may not be used or lost."""
    if record.rows == 0 or (overwrite and not resume):
        return 0
    out = task.probabilities.path
    if not resume:
        raise RunError(
            f"{out}: an unfinished prediction ({record.rows} of {task.rows} rows of tiles) is there; "
            "add --resume to go on with it, or --overwrite to start anew"
        )
    reason = next((text for key, text in _DIFFERENT.items() if (record.job or {}).get(key) != job[key]), "")
    if not reason and not all(_usable(output, job) for output in task.outputs):
        reason = "its unfinished file is gone or damaged"
    if reason and not overwrite:
        raise RunError(f"{out}: cannot go on with the unfinished prediction: {reason}; add --overwrite to start anew")
    return 0 if reason else record.rows


def _usable(output: Output, job: dict[str, Any]) -> bool:
    """Whether an output, under the name it has now, is what this job left."""
    path = output.part if output.part.exists() else output.path
    pixels = math.prod(output.shape_NKHW) * np.dtype(output.dtype).itemsize
    return software_of(path).endswith(job_id(job)) and path.stat().st_size >= pixels


def _create(task: Task, job: dict[str, Any]) -> None:
    """Empty outputs under their temporary names, their disk space reserved."""
    for output in task.outputs:
        output.part.unlink(missing_ok=True)
    check_disk([task])
    calibration, software = read_calibration(task.source), f"unet-2015 {__version__}, job {job_id(job)}"
    for output in task.outputs:
        create_map(output.part, output.shape_NKHW, output.dtype, calibration, output.highest, software)


def _predict(network: Predicting, task: Task, settings: Settings, done: int, record: Record, watch: Watch) -> None:
    """Fill the outputs from row of tiles `done` on."""
    scratch = task.probabilities.path.parent
    raw = read_images(task.source, mmap=True, palette_rgb=settings.channels > 1, scratch=scratch)
    for advice in filter(
        None, (indexed_colours(task.source), unlike_training(raw, settings.normalisation, watch.check))
    ):
        watch.say(f"{task.source}: {advice}")
    maps = [open_map(output.part, output.shape_NKHW) for output in task.outputs]
    per_image = task.rows // len(raw)
    first_image, first_row = divmod(done, per_image)
    prepare = {n: _prepare(task, settings, raw, n, watch) for n in range(first_image, len(raw))}

    def row_done(rows: int) -> None:
        for array in (raw, *maps):
            release(array)  # first: pages that are no longer mapped are written to disk more quickly
        for array in maps:
            array.flush()
        record.advance(n * per_image + rows)
        watch.rows(record.rows)

    for n in range(first_image, len(raw)):
        predict_into(
            network,
            _Source(raw[n]),
            _Sink(maps[-1][n], maps[0][n, 0] if task.labels else None),
            settings.how,
            first_row=first_row if n == first_image else 0,
            on_tile=lambda *_: watch.check(),
            on_row=row_done,
            prepare=prepare[n],
        )


def _prepare(task: Task, settings: Settings, raw_NCHW: NDArray[Any], n: int, watch: Watch) -> Prepare:
    """What maps a window of image n to the network's input; DataError when the image holds NaN or infinite values."""
    name = task.source.name if len(raw_NCHW) == 1 else f"{task.source.name}, image {n + 1}"
    normalise = rescaling(settings.normalisation, raw_NCHW[n], name, watch.check)
    if advice := fill_value(raw_NCHW[n], settings.normalisation, watch.check):
        watch.say(f"{name}: {advice}")

    def prepare(window_CHW: NDArray[Any]) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):  # it is reported below
            image = normalise(window_CHW)
        if not np.isfinite(image).all():
            raise DataError(f"{name}: gray values are too large for 32-bit floating point; rescale the image")
        return image

    return prepare


class _Source:
    """An image C x H x W whose windows are copied out of its memory map."""

    def __init__(self, image_CHW: NDArray[Any]) -> None:
        self.shape = image_CHW.shape
        self._image = image_CHW

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[Any]:
        _, rows, columns = key
        window = np.empty((self.shape[0], rows.stop - rows.start, columns.stop - columns.start), self._image.dtype)
        for part in slabs(self._image, rows):
            window[:, part.start - rows.start : part.stop - rows.start] = self._image[:, part, columns]
        return window


class _Sink:
    """Takes class probabilities of windows and passes them on to the maps of one image."""

    def __init__(self, probabilities_KHW: NDArray[np.float32], labels_HW: NDArray[np.uint8] | None) -> None:
        self._probabilities, self._labels = probabilities_KHW, labels_HW

    def __setitem__(self, key: Any, value_KHW: NDArray[np.float32]) -> None:
        _, rows, columns = key
        for part in slabs(self._probabilities, rows):
            inside = slice(part.start - rows.start, part.stop - rows.start)
            self._probabilities[:, part, columns] = foreground(value_KHW[:, inside])
            if self._labels is not None:
                self._labels[part, columns] = value_KHW[:, inside].argmax(axis=0)
