"""The mirror of a run on W&B. Training never waits for it and never fails by it.

Everything that talks to W&B, the connection included, happens in one thread, in order. What that thread is given must
not change afterwards. The run folder is the truth; the mirror may fall silent at any time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from unet.config import Config
from unet.errors import one_line
from unet.runs import wandb_client
from unet.runs.wandb_client import JobType, Mode, Picture, Start, resolve_mode


class Dashboard:
    """Sends to W&B when there is one, and does nothing otherwise. After the first error it falls silent.

    say: where its few lines go. job_type: what the run is listed as. connect: opens the W&B run (another one in tests).
    As a context manager it closes the run at the end, as failed after an exception.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        job_type: JobType = "train",
        connect: Callable[[Start], Any] | None = None,
    ) -> None:
        self._say, self._job_type, self._connect = say, job_type, connect or wandb_client.connect
        self._thread: threading.Thread | None = None
        self._waiting: deque[tuple[str, Callable[[Any], None]]] = deque()  # (kind of work, action)
        self._changed = threading.Condition()
        self._connected = threading.Event()
        self._closing = self._left_out = False
        self._run: Any = None
        self._timeout_s = 0.0

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(0 if error is None else int(getattr(error, "exit_code", 1)))

    def open(self, config: Config, folder: Path, environment: Mapping[str, Any]) -> None:
        """Begin to mirror the run, in the mode of `config.wandb`; returns at once, asks nothing, raises nothing.

        mode "auto" is online with a key ($WANDB_API_KEY or a netrc entry) and offline without; $WANDB_MODE goes first.
        When the server cannot be reached within `config.wandb.timeout_s` the run is mirrored offline, and one line says
        so. Opening it again does nothing.
        """
        mode = resolve_mode(config.wandb.mode)
        if mode == "disabled" or self._thread is not None:
            return
        self._timeout_s = config.wandb.timeout_s
        start = Start(config, folder, environment, self._job_type, mode)
        self._thread = threading.Thread(target=self._work, args=(start,), daemon=True, name="dashboard")
        self._thread.start()

    @property
    def active(self) -> bool:
        """Whether anything is sent; where not, nothing needs to be computed for it."""
        return self._thread is not None and not self._closing and not (self._connected.is_set() and self._run is None)

    @property
    def mode(self) -> Mode:
        """online, offline or disabled; waits for the connection to be made or given up."""
        if self._thread is None:
            return "disabled"
        self._connected.wait()
        if self._run is None:
            return "disabled"
        return "offline" if self._run.settings.mode == "offline" else "online"

    # -- what can be sent --------------------------------------------------------------------------------------------

    def log(self, row: Mapping[str, Any]) -> None:
        """Send one row; it holds its place on the axes (`updates`, `pixels_seen`)."""
        values = dict(row)
        self._do(lambda run: run.log(values))

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set final values of the run."""
        kept = dict(values)
        self._do(lambda run: run.summary.update(kept))

    def pictures(self, key: str, pictures: Sequence[Picture], row: Mapping[str, Any]) -> None:
        """Send pictures as one panel, at the place on the axes that `row` holds."""
        place = dict(row)
        self._do(lambda run: run.log({key: [wandb_client.image(picture) for picture in pictures], **place}))

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Send a table."""
        self._do(lambda run: run.log({key: wandb_client.table(columns, rows)}))

    def image(self, key: str, path: Path) -> None:
        """Send a picture file."""
        self._do(lambda run: run.log({key: wandb_client.image_file(path)}))

    def file(self, path: Path, kind: str, metadata: Mapping[str, Any]) -> None:
        """Send a file as the newest version of an artifact of this kind, named after the run."""
        self._do(lambda run: wandb_client.send_artifact(run, path, kind, dict(metadata)))

    def later(self, kind: str, work: Callable[[], None]) -> None:
        """Do work in the dashboard's thread that computes something and sends it.

        When the thread is behind, only the newest piece of work of a kind is done. After an error in such work there is
        no more of it, but rows are sent on.
        """

        def guarded(_: Any) -> None:
            if self._left_out:
                return
            try:
                work()
            except Exception as error:
                self._left_out = True
                self._say(f"W&B: rows only from here on ({one_line(error)[:120]})")

        self._do(guarded, kind)

    def finish(self, exit_code: int = 0) -> None:
        """Send what waits and close the run; waits twice `timeout_s` at most, then leaves the rest behind."""
        thread = self._thread
        if thread is None or self._closing:
            return
        self._do(lambda run: run.finish(exit_code=exit_code))
        with self._changed:
            self._closing = True
            self._changed.notify()
        thread.join(2 * self._timeout_s)
        if thread.is_alive():
            self._say(f"W&B: still busy after {2 * self._timeout_s:g} s and left; send the rest with `wandb sync`")
            self._say = lambda _: None  # whatever else it runs into, this was said

    # -- the thread --------------------------------------------------------------------------------------------------

    def _do(self, action: Callable[[Any], None], kind: str = "") -> None:
        if threading.current_thread() is self._thread:  # work that sends: in its place, errors go to the thread's loop
            action(self._run)
        elif self.active:
            with self._changed:
                if kind:
                    self._waiting = deque(item for item in self._waiting if item[0] != kind)
                self._waiting.append((kind, action))
                self._changed.notify()

    def _work(self, start: Start) -> None:
        self._run = self._open(start)
        self._connected.set()
        while self._run is not None and (action := self._next()) is not None:
            try:
                action(self._run)
            except TimeoutError as error:
                self._stopped(f"not everything was sent ({one_line(error)[:120]}); the rest with `wandb sync`")
            except Exception as error:
                self._stopped(f"stopped ({one_line(error)[:120]}); the run goes on, its folder is complete")
        self._waiting.clear()

    def _next(self) -> Callable[[Any], None] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            return self._waiting.popleft()[1] if self._waiting else None

    def _stopped(self, why: str) -> None:
        self._say(f"W&B: {why}")
        run, self._run = self._run, None
        with suppress(Exception):
            if not getattr(run, "_is_finished", True):
                run.finish(exit_code=1)

    def _open(self, start: Start) -> Any:
        try:
            return self._connect(start)
        except Exception as error:
            if start.mode != "online":
                self._say(f"W&B: off for this run ({one_line(error)})")
                return None
            self._say(f"W&B: not reachable ({one_line(error)[:120]}); offline, send later with `wandb sync`")
        try:
            return self._connect(replace(start, mode="offline"))
        except Exception as error:
            self._say(f"W&B: off for this run ({one_line(error)})")
            return None


@contextmanager
def mirrored(dashboard: Dashboard | None, say: Callable[[str], None]) -> Iterator[Dashboard]:
    """The dashboard given, which its owner closes, or a new one for the length of the block."""
    if dashboard is not None:
        yield dashboard
        return
    with Dashboard(say) as own:
        yield own
