"""Ctrl-C, SIGTERM and a closed terminal (SIGHUP) as an orderly end: finish the update, write a checkpoint, leave."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupted(Exception):
    """The user (SIGINT) or the system (SIGTERM) asked the process to stop; `exit_code` is 128 and the number.

    at_once: it was raised in the middle of something, so that what is in memory must not be saved.
    """

    def __init__(self, number: int, at_once: bool = False) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number
        self.at_once = at_once


class Stopper:
    """Context manager that turns the first SIGINT, SIGTERM or SIGHUP into a flag; a further SIGINT interrupts at once.

    A SIGHUP that is ignored (nohup) stays so.

    A further SIGTERM does not: systems that end a machine send it to every process and again from parent to child,
    while the checkpoint is being written.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stopper:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if number not in (signal.SIGINT, signal.SIGTERM) and signal.getsignal(number) == signal.SIG_IGN:
                    continue
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._number is not None and number == signal.SIGINT:
            raise Interrupted(number, at_once=True)
        self._number = self._number or number

    @property
    def number(self) -> int:
        """The signal that has come, 0 for none."""
        return self._number or 0

    def check(self) -> None:
        """Raise Interrupted when a signal has come."""
        if self._number is not None:
            raise Interrupted(self._number)
