"""A web server on 127.0.0.1 that misbehaves on request, for the tests of downloading."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.loopback import serving


@dataclass
class Site:
    """What is served. files: content by path. faults: by path, what goes wrong, one item per request, then all is well.

    Faults: "cut" (the connection ends half-way), "stall" (it falls silent half-way), "500", "404", "longer" (a length
    is announced that is never sent), "shorter" (too small a length is announced), "wrong" (other bytes), "silent" (no
    answer), "redirect:URL". requests: how many there were, by path.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
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
        self.site.requests[self.path] += 1
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
        self._answer(content, fault)

    def _answer(self, content: bytes, fault: str) -> None:
        body = bytes(255 - b for b in content) if fault == "wrong" else content
        announced = len(body) + {"longer": 1000, "shorter": -1000}.get(fault, 0)
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
