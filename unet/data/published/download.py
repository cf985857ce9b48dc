"""Downloading one file over HTTP: tried again after a cut, bounded, checked, and never half-written under its name."""

from __future__ import annotations

import http.client
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


class Unavailable(DataError):
    """Something could not be downloaded. `reason`: why, in a few words; the message also says what to do instead."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


@dataclass(frozen=True)
class Limits:
    """answer_s: until a server must have answered; stall_s: longest silence in a transfer; retries: of a transfer that
    broke; pause_s: before a retry, doubled with each; max_bytes: of one file."""

    answer_s: float = 8.0
    stall_s: float = 20.0
    retries: int = 5
    pause_s: float = 0.5
    max_bytes: int = 2 * 2**30


DEFAULT_LIMITS = Limits()


class _Broken(Exception):
    """A transfer that may come through when it is tried again."""


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

    reached: the server has been reached just now; that it cannot be is then a fault that may pass, else final.
    Raises Unavailable when the server cannot be reached, refuses, stops for good or sends something else; RunError when
    the disk is full.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for failures in range(limits.retries + 1):
            try:
                _transfer(url, part, limits, on_bytes, reached or failures > 0)
                break
            except _Broken as error:
                if failures == limits.retries:
                    raise Unavailable(f"{url}: {error}, {failures + 1} times in a row", str(error)) from None
                time.sleep(limits.pause_s * 2**failures)
        if sha256 and file_sha256(part) != sha256:
            raise Unavailable(f"{url}: sent another file than the published one (SHA-256 differs)", "wrong content")
        part.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def _transfer(url: str, part: Path, limits: Limits, on_bytes: OnBytes, reached: bool) -> None:
    """One request for the whole file; _Broken when another may bring it, Unavailable when none will."""
    have = 0
    with _answer(url, limits, reached) as response, part.open("wb") as file:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        try:
            while piece := _read(response):
                have += len(piece)
                if max(have, total or 0) > limits.max_bytes:
                    raise Unavailable(f"{url}: sends more than {limits.max_bytes:,} bytes", "wrong length")
                file.write(piece)
                on_bytes(len(piece), total)
            if total is not None and have != total:
                raise _Broken(f"transfer ended after {have:,} of {total:,} bytes")
        except _Broken:
            on_bytes(-have, total)
            raise


def _answer(url: str, limits: Limits, reached: bool) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": "unet-2015", "Accept-Encoding": "identity"})
    try:
        return _open_in_time(request, limits)
    except urllib.error.HTTPError as error:
        error.close()
        message = f"the server answered {error.code} {error.reason}".strip()
        if error.code in (408, 425, 429) or error.code >= 500:
            raise _Broken(message) from None
        raise Unavailable(f"{url}: {message}", message) from None
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)  # URLError wraps what happened
        reason = getattr(cause, "strerror", None) or one_line(cause if isinstance(cause, Exception) else error)
        if reached:
            raise _Broken(reason) from None
        raise Unavailable(f"{url}: cannot be reached ({reason})", reason) from None


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
