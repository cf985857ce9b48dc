"""What the terminal shows: one-line messages, progress with the time left; plain lines where it is no terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, cast

from unet.errors import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

FIRST_LINE_AFTER_S = 2.0  # what is done sooner needs no progress
PLAIN_LINE_EVERY_S = 10.0


class Bar:
    """Progress of one long task: a live bar on a terminal, else a line after two seconds, then every ten."""

    def __init__(
        self,
        what: str,
        total: int,
        progress: Progress | None,
        quiet: bool,
        every_s: float = PLAIN_LINE_EVERY_S,
        estimate: bool = True,
    ) -> None:
        self.what, self.total, self._every_s, self._estimate = what, total, every_s, estimate
        self._progress, self._quiet = progress, quiet
        self._task: TaskID | None = None if progress is None else progress.add_task(what, total=total or None, note="")
        self._first: int | None = None
        self._started = time.monotonic()
        self._next_line = self._started + FIRST_LINE_AFTER_S

    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        """`done` of `total` steps are done; `note` is shown behind. total: where it has changed."""
        self.total = self.total if total is None else total
        if self._first is None:  # a resumed task does not begin at 0; its speed is measured from here
            self._first, self._started = done, time.monotonic()
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=self.total or None, note=note)
        elif not self._quiet and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + self._every_s
            parts = (f"{self.what}: {done}" + (f"/{self.total}" if self.total else ""), note, self._left(done))
            _message(" ".join(part for part in parts if part))

    def steps(self, done: int, total: int) -> None:
        """`update` for tasks that say themselves how many steps they have."""
        self.update(done, total=total)

    def _left(self, done: int) -> str:
        steps = done - (self._first or 0)
        if steps <= 0 or not self.total or not self._estimate:
            return ""
        seconds = (time.monotonic() - self._started) / steps * (self.total - done)
        return f"{format_seconds(seconds)} left"


class Terminal:
    """Where messages go: results to stdout, messages and progress to stderr; `quiet` keeps the results only."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    @property
    def live(self) -> bool:
        """True where a bar can move: on a terminal that is not to be quiet."""
        return not self.quiet and sys.stderr.isatty()

    def say(self, line: str) -> None:
        """A message about what is being done."""
        if not self.quiet:
            _message(printable(line))

    def result(self, text: str) -> None:
        """Something the command was run for."""
        print(printable(text, keep="\n\t"), flush=True)

    @contextmanager
    def bar(
        self, what: str, total: int = 0, *, every_s: float = PLAIN_LINE_EVERY_S, estimate: bool = True
    ) -> Iterator[Bar]:
        """A progress bar with the time left; NO_COLOR is respected.

        total: 0 while it is not known. every_s: time between lines where no bar can move. estimate: say the time left
        as the steps so far tell it; False where the notes do.
        """
        if not self.live:
            yield Bar(what, total, None, self.quiet, every_s, estimate)
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            *([TimeRemainingColumn()] if estimate else []),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(file=cast("IO[str]", _Lasting())), transient=True) as progress:
            yield Bar(what, total, progress, self.quiet)

    @contextmanager
    def task(self, what: str) -> Iterator[None]:
        """Something without countable steps: the time it takes so far, or a line when it takes longer than 2 s."""
        if not self.live:
            timer = threading.Timer(FIRST_LINE_AFTER_S, self.say, [f"{what} ..."])
            timer.daemon = True
            timer.start()
            try:
                yield
            finally:
                timer.cancel()
                timer.join()
            return
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(file=cast("IO[str]", _Lasting())), transient=True) as progress:
            progress.add_task(what, total=None)
            yield


def _message(line: str) -> None:
    """Print to stderr; one that is closed, full or whose terminal has gone never ends what the message is about."""
    with suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


class _Lasting:
    """stderr, whose errors are passed over: a terminal that has gone ends no training."""

    def __init__(self) -> None:
        self._stream = sys.stderr  # what it is now: rich puts itself in its place while a bar is shown

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def format_seconds(seconds: float) -> str:
    """5 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
