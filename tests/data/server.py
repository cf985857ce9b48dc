"""A web server on 127.0.0.1 that misbehaves on request, for the tests of downloading."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.loopback import serving


@dataclass
class Site:
    """What is served. files: content by path. faults: by path, what goes wrong, one item per request, then all is well.

    Faults: "cut" (the connection ends half-way), "stall" (it falls silent half-way), "500", "404", "ignore range",
    "wrong range", "longer" (a length is announced that is never sent), "shorter" (too small a length is announced),
    "wrong" (other bytes), "silent" (no answer), "redirect:URL". `requests`: the Range header of every request, by path.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    requests: dict[str, list[str]] = field(default_factory=dict)
    address: str = ""
    stop: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str) -> str:
        """Address of a path."""
        return f"{self.address}{path}"


@contextmanager
def serve(site: Site) -> Iterator[Site]:
    """Run the site for the length of the block."""

    class Handler(_Handler):
        pass

    Handler.site = site
    with serving(Handler, site.stop) as site.address:
        yield site


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, *_args: Any) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.site.requests.setdefault(self.path, []).append(asked)
        faults = self.site.faults.get(self.path, [])
        fault = faults.pop(0) if faults else ""
        if fault == "silent":
            self.site.stop.wait(5)
            return
        if fault.isdigit():
            self.send_error(int(fault))
            return
        if fault.startswith("redirect:"):
            self.send_response(302)
            self.send_header("Location", fault.removeprefix("redirect:"))
            self.end_headers()
            return
        content = self.site.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self._answer(content, asked, fault)

    def _answer(self, content: bytes, asked: str, fault: str) -> None:
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and fault != "ignore range" else 0
        if start > len(content):
            self.send_error(416)
            return
        body = bytes(255 - b for b in content[start:]) if fault == "wrong" else content[start:]
        announced = len(body) + {"longer": 1000, "shorter": -1000}.get(fault, 0)
        if start:
            self.send_response(206)
            said = start + (7 if fault == "wrong range" else 0)
            self.send_header("Content-Range", f"bytes {said}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        try:
            if fault in ("cut", "stall"):
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                if fault == "stall":
                    self.site.stop.wait(5)
                return
            self.wfile.write(body)
            self.wfile.flush()
        except OSError:
            time.sleep(0)  # the client went away, as it should
