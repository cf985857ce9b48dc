"""Images on their way through the app: taken up, predicted in the background one after another, and deleted again."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.data.images.tiff import image_shape
from unet.errors import DataError, UserError, one_line, printable
from unet.prediction.files import Watch, check_disk, predict_file
from unet.prediction.instances import InstanceSettings
from unet.prediction.job import Settings, Task, describe, make_task, settings_of
from unet.prediction.objects import check_classes
from unet.prediction.trained import Trained, chosen_settings, load_trained

KEPT = 3
"""Images that are kept at a time; with a further one the oldest is deleted."""

_LONGEST_NAME = 100
_KEPT_NETWORKS = 4


class Stopped(Exception):
    """The prediction is no longer wanted."""


@dataclass(frozen=True)
class Network:
    """A network made ready, and how objects are made of what it predicts; `without` says why there are none."""

    trained: Trained
    settings: Settings
    instances: InstanceSettings | None
    without: str = ""


class Networks:
    """Networks by name; each is loaded when it is first wanted. Errors as from `load_trained`."""

    def __init__(self, paths: dict[str, Path], device: str = "auto", precision: str = "auto") -> None:
        self.names = list(paths)

        def load(name: str) -> Network:
            trained = load_trained([paths[name]], device, precision)
            chosen, without = chosen_settings(paths[name]) or InstanceSettings(), ""
            try:
                check_classes(trained.class_names)
            except UserError as error:
                without = str(error)
            return Network(trained, settings_of(trained), None if without else chosen, without)

        self.load: Callable[[str], Network] = lru_cache(_KEPT_NETWORKS)(load)


@dataclass
class Prediction:
    """One image as one network sees it, from the wish until it is there; `state` as `Store.wanted` describes."""

    folder: Path
    network: str
    state: str = "waiting"
    done: int = 0
    total: int = 0
    problem: str = ""
    notes: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    ready: tuple[Network, Task, dict[str, Any]] | None = None
    making: threading.RLock = field(default_factory=threading.RLock)  # held while objects are made
    objects: dict[tuple[int, InstanceSettings], NDArray[np.int32]] = field(default_factory=dict)  # the last few

    def check(self) -> None:
        """Raise Stopped when it is no longer wanted."""
        if self.stop.is_set():
            raise Stopped


@dataclass
class Image:
    """An image that was taken up: its file, N x C x H x W, and what was last wanted of it."""

    source: Path
    shape: tuple[int, int, int, int]
    prediction: Prediction | None = None
    count: int = 0

    def line(self, text: str) -> str:
        """A message without the folders of the app, which say nothing to who reads it."""
        return printable(
            text.replace(f"{self.source.parent}/", "").replace(str(self.source.parent), "the app's folder")
        )


class Store:
    """The images of one start of the app, in a folder of their own that is deleted at the end (a context manager)."""

    def __init__(self, networks: Networks) -> None:
        self.networks = networks
        self._folder = Path(tempfile.mkdtemp(prefix="unet-app-"))
        self._images: dict[str, Image] = {}
        self._next, self._lock = 0, threading.Lock()
        self._worker = ThreadPoolExecutor(1, "prediction")

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._images):
            self.drop(name)
        self._worker.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    def place(self, name: str) -> Path:
        """Where a file of this name may be written to: its name without what files cannot be called, a new folder."""
        plain = re.sub(r"[^\w .,()+-]+", "_", printable(name.replace("\\", "/").rpartition("/")[2])).lstrip(".")
        suffix = Path(plain).suffix[:10]
        with self._lock:
            self._next += 1
            folder = self._folder / str(self._next)
        folder.mkdir()
        return folder / f"{plain.removesuffix(suffix)[:_LONGEST_NAME] or 'image'}{suffix}"

    def take(self, source: Path) -> str:
        """Take up a file that lies at its place; returns its name here. DataError, and no file, when it is none."""
        try:
            image = Image(source, image_shape(source))
        except UserError as error:
            shutil.rmtree(source.parent)
            raise DataError(str(error).replace(f"{source.parent}/", "")) from None
        name = source.parent.name
        with self._lock:
            self._images[name] = image
            oldest = list(self._images)[:-KEPT]
        for old in oldest:
            self.drop(old)
        return name

    def drop(self, name: str) -> None:
        """Delete an image and all that was made of it, a prediction that is running first stopped."""
        with self._lock:
            image = self._images.pop(name, None)
        if image is not None:
            if image.prediction is not None:
                image.prediction.stop.set()
            self._worker.submit(shutil.rmtree, image.source.parent, ignore_errors=True)

    def find(self, name: str) -> Image:
        """DataError when it is not, or no longer, there."""
        image = self._images.get(name)
        if image is None:
            raise DataError("this image is no longer here; drop it again")
        return image

    def wanted(self, name: str, network: str) -> None:
        """Predict an image: its state becomes waiting, loading (of the network), predicting, then ready or failed.

        What was made of it before is deleted. DataError for an image or a network that is not there.
        """
        image = self.find(name)
        if network not in self.networks.names:
            raise DataError(f"there is no network {network}; choose one of {', '.join(self.networks.names)}")
        with self._lock:
            image.count += 1
            before = image.prediction
            image.prediction = Prediction(image.source.parent / str(image.count), network)
        if before is not None:
            before.stop.set()
            self._worker.submit(shutil.rmtree, before.folder, ignore_errors=True)
        self._worker.submit(self._predict, image, image.prediction)

    def _predict(self, image: Image, prediction: Prediction) -> None:
        try:
            prediction.check()
            prediction.state = "loading"
            network = self.networks.load(prediction.network)
            prediction.folder.mkdir()
            out = prediction.folder / f"{image.source.stem}-probabilities.tif"
            predicting = network.trained.network
            task = make_task(predicting, image.source, out, network.settings)
            prediction.total, prediction.state = task.rows, "predicting"
            check_disk([task])

            def rows(done: int) -> None:
                prediction.done = done

            watch = Watch(rows, prediction.check, lambda text: prediction.notes.append(image.line(text)))
            predict_file(predicting, task, network.settings, watch=watch)
            prediction.ready = (network, task, describe(predicting, task, network.settings))
            prediction.state = "ready"
        except Stopped:
            prediction.state, prediction.problem = "failed", "stopped"
        except Exception as error:
            if not isinstance(error, UserError):
                traceback.print_exc(file=sys.stderr)
            prediction.problem = image.line(one_line(error))[:500]
            prediction.state = "failed"
