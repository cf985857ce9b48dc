"""Downloading one file over HTTP: resumed after a cut, bounded, checked, and never half-written under its own name."""

from __future__ import annotations

import hashlib
import http.client
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet.errors import DataError, one_line
from unet.files import sha256 as file_sha256
from unet.files import write_error

OnBytes = Callable[[int, int | None], None]
"""Called with the number of bytes newly received (negative when a download starts over) and the total if known."""


_MAX_REQUESTS = 200  # for one file, however little each of them brings


class Unavailable(DataError):
    """Something could not be downloaded. `reason`: why, in a few words; the message also says what to do instead."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


@dataclass(frozen=True)
class Limits:
    """answer_s: until a server must have answered; stall_s: longest silence in a transfer; retries: in a row without a
    new byte; pause_s: before a retry, doubled with each; max_bytes: of one file."""

    answer_s: float = 8.0
    stall_s: float = 20.0
    retries: int = 3
    pause_s: float = 0.5
    max_bytes: int = 2 * 2**30


DEFAULT_LIMITS = Limits()


class _Broken(Exception):
    """A transfer that may go on where it stopped."""


def download(
    url: str,
    path: Path,
    *,
    sha256: str = "",
    limits: Limits = DEFAULT_LIMITS,
    on_bytes: OnBytes = lambda _n, _total: None,
    reached: bool = False,
) -> None:
    """Fetch `url` into `path`, which appears only when the file is complete and, where `sha256` is known, right.

    What has arrived of a file with a known digest stays beside `path` (.part) and is continued by the next call.
    reached: the server has been reached just now; that it cannot be is then a fault that may pass, else final.
    Raises Unavailable when the server cannot be reached, refuses, stops for good or sends something else; RunError when
    the disk is full.
    """
    tag = hashlib.sha256(url.encode()).hexdigest()[:8]
    part = path.with_name(f"{path.name}.{tag}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not sha256:
            part.unlink(missing_ok=True)
        resumed = part.exists()
        _transfer(url, part, limits, on_bytes, reached)
        if sha256 and file_sha256(part) != sha256:
            on_bytes(-_size(part), None)
            part.unlink()
            if not resumed:
                raise Unavailable(f"{url}: sent another file than the published one (SHA-256 differs)", "wrong content")
            _transfer(url, part, limits, on_bytes, True)  # the piece that was continued may have been of an older file
            if file_sha256(part) != sha256:
                part.unlink()
                raise Unavailable(f"{url}: sent another file than the published one (SHA-256 differs)", "wrong content")
        part.replace(path)
    except OSError as error:
        raise write_error(path, error) from error


def _transfer(url: str, part: Path, limits: Limits, on_bytes: OnBytes, reached: bool) -> None:
    """Receive into `part` until it is complete; retries continue it."""
    state = _State(url, part, limits, on_bytes, reached)
    if state.have:
        on_bytes(state.have, None)
    failures = 0
    for _ in range(_MAX_REQUESTS):
        before = state.have
        try:
            state.receive()
            return
        except _Broken as error:
            failures = 0 if state.have > before else failures + 1
            if failures > limits.retries:
                raise Unavailable(f"{url}: {error}, {failures} times in a row", str(error)) from None
            time.sleep(limits.pause_s * 2**failures if failures else 0)
    raise Unavailable(f"{url}: not complete after {_MAX_REQUESTS} requests", "too many interruptions")


class _State:
    """One file on its way: what is there, and what the server said about the whole."""

    def __init__(self, url: str, part: Path, limits: Limits, on_bytes: OnBytes, reached: bool) -> None:
        self.url, self.part, self.limits, self.on_bytes = url, part, limits, on_bytes
        self.have = _size(part)
        self.validator = ""  # of the file that is being received; a resumed transfer must be of the same
        self.answered = reached

    def receive(self) -> None:
        """One request for what is missing. Raises _Broken when it may be continued, Unavailable when not."""
        try:
            response = self._open()
        except urllib.error.HTTPError as error:
            error.close()
            self._refused(error.code, error.reason)
            return
        with response:
            total = self._agree(response)
            self._copy(response, total)
        if total is not None and self.have != total:
            raise _Broken(f"transfer ended after {self.have:,} of {total:,} bytes")

    def _open(self) -> Any:
        headers = {"User-Agent": "unet-2015", "Accept-Encoding": "identity"}
        if self.have:
            headers["Range"] = f"bytes={self.have}-"
            if self.validator:
                headers["If-Range"] = self.validator
        try:
            response = _open_in_time(urllib.request.Request(self.url, headers=headers), self.limits)
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", error)  # URLError wraps what happened
            reason = getattr(cause, "strerror", None) or one_line(cause if isinstance(cause, Exception) else error)
            if self.answered:
                raise _Broken(reason) from None
            raise Unavailable(f"{self.url}: cannot be reached ({reason})", reason) from None
        self.answered = True
        return response

    def _refused(self, code: int, reason: str) -> None:
        self.answered = True
        if code == 416 and self.have:  # the piece is longer than the file: it is of another one
            self._start_over()
            raise _Broken("the server has no such range")
        message = f"the server answered {code} {reason}".strip()
        if code in (408, 425, 429) or code >= 500:
            raise _Broken(message)
        raise Unavailable(f"{self.url}: {message}", message)

    def _agree(self, response: Any) -> int | None:
        """Total length of the file; what is there is dropped when the answer does not continue it."""
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        self.validator = response.headers.get("ETag", "") or response.headers.get("Last-Modified", "")
        if self.validator.startswith("W/"):
            self.validator = ""
        if self.have:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if response.status == 206 and found and int(found[1]) == self.have:
                total = int(found[2]) if found[2] != "*" else total and self.have + total
            else:
                self._start_over()
                if response.status == 206:
                    raise _Broken("the server sent another range than asked for")
        if total is not None and total > self.limits.max_bytes:
            raise Unavailable(f"{self.url}: announces {total:,} bytes, more than the data set has", "wrong length")
        return total

    def _copy(self, response: Any, total: int | None) -> None:
        with self.part.open("ab") as file:
            while piece := _read(response):
                self.have += len(piece)
                if self.have > self.limits.max_bytes:
                    raise Unavailable(f"{self.url}: sends more than {self.limits.max_bytes:,} bytes", "wrong length")
                file.write(piece)
                self.on_bytes(len(piece), total)

    def _start_over(self) -> None:
        self.on_bytes(-self.have, None)
        self.part.unlink(missing_ok=True)
        self.have = 0


def _read(response: Any) -> bytes:
    """What has arrived, empty at the end; _Broken when the connection is lost or silent for too long."""
    try:
        return bytes(response.read1(1 << 16))
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"transfer broke off ({one_line(error)})") from None


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to the web only, and never from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            raise urllib.error.HTTPError(newurl, 403, f"redirect to {scheme} is not followed", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open_in_time(request: urllib.request.Request, limits: Limits) -> Any:
    """The response, or TimeoutError after `answer_s`: looking up a name has no time-out of its own."""
    outcome: list[Any] = []
    given_up = threading.Event()

    def work() -> None:
        try:
            response = urllib.request.build_opener(_WebOnly).open(request, timeout=limits.stall_s)
        except Exception as error:
            outcome.append(error)
            return
        outcome.append(response)
        if given_up.is_set():
            response.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(limits.answer_s)
    if not outcome:
        given_up.set()
        raise TimeoutError(f"no answer within {limits.answer_s:g} s")
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
