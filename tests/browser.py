"""A headless Chromium for the tests, spoken to over a pipe in the DevTools protocol; nothing is installed for it.

https://chromedevtools.github.io/devtools-protocol/ (messages are JSON, each ended by a NUL byte; the browser reads from
descriptor 3 and writes to descriptor 4).
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--no-first-run", "--no-default-browser-check", "--disable-extensions", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--mute-audio", "--hide-scrollbars",
)  # fmt: skip
ANSWER_S = 60.0
_LAUNCH = (
    "import os, sys; r, w = int(sys.argv[1]), int(sys.argv[2]); a, b = os.dup(r), os.dup(w); "
    "os.dup2(a, 103); os.dup2(b, 104); os.dup2(103, 3); os.dup2(104, 4); os.execvp(sys.argv[3], sys.argv[3:])"
)


def find() -> str | None:
    """Chromium's program: $CHROMIUM, else one of the usual names; None when there is none."""
    named = os.environ.get("CHROMIUM", "")
    return next((found for name in (named, *NAMES) if name and (found := shutil.which(name))), None)


class Browser:
    """One browser with one page. Use it as a context manager."""

    def __init__(self, program: str, profile: Path) -> None:
        here, there = os.pipe(), os.pipe()
        command = [sys.executable, "-S", "-E", "-c", _LAUNCH, str(here[0]), str(there[1]), program, *FLAGS,
                   f"--user-data-dir={profile}", "about:blank"]  # fmt: skip
        self._process = subprocess.Popen(
            command, pass_fds=(here[0], there[1]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, env=os.environ | {"HOME": str(profile)},
        )  # fmt: skip
        os.close(here[0])
        os.close(there[1])
        self._write, self._read = here[1], there[0]
        self._buffer, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        targets = self._call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._write)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    def open(self, page: Path | str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Show a file, or an address, at this width in CSS pixels, in the light or the dark scheme, and forget earlier
        events."""
        phone = width < 600
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self._call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = "dark" if dark else "light"
        self._call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"},
        ])  # fmt: skip
        self.events.clear()
        self._call("Page.navigate", url=page if isinstance(page, str) else page.resolve().as_uri())
        self._until("Page.loadEventFired")
        self.run("Promise.all([...document.images].map((image) => image.decode().catch(() => null)))")

    def run(self, script: str) -> Any:
        """The value of an expression (a promise is awaited); AssertionError when it throws."""
        made = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in made, made["exceptionDetails"]
        return made["result"].get("value")

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width, height of the first such element, which is brought into the window."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{found}.scrollIntoView({{block: 'center'}}); 1")
        x, y, w, h = self.run(f"((b) => [b.x, b.y, b.width, b.height])({found}.getBoundingClientRect())")
        return x, y, w, h

    def set(self, selector: str, value: float, event: str) -> None:
        """Give the first such element a value, as a reader would."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.run(f"((s) => {{ s.value = {value}; s.dispatchEvent(new Event('{event}')) }})({found})")

    def drag(self, x: float, y: float, to_x: float) -> None:
        """Press at a point of the window, move sideways, let go."""
        common: dict[str, Any] = {"button": "left", "buttons": 1, "clickCount": 1}
        self._call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **common)
        for step in (0.5, 1.0):
            self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x + step * (to_x - x), y=y, **common)
        self._call("Input.dispatchMouseEvent", type="mouseReleased", x=to_x, y=y, **common)

    def drop(self, selector: str, *files: Path) -> None:
        """Let go of files that were dragged from the desktop over the first such element."""
        x, y, w, h = self.box(selector)
        data = {"items": [], "files": [str(file.resolve()) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self._call("Input.dispatchDragEvent", type=kind, x=x + w / 2, y=y + h / 2, data=data)

    def downloaded(self, selector: str, folder: Path, name: str) -> Path:
        """The file that a click on the first such element saves."""
        self._call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder.resolve()))
        self.run(f"document.querySelector({json.dumps(selector)}).click()")
        limit = time.monotonic() + ANSWER_S
        while not (folder / name).exists():
            assert time.monotonic() < limit, sorted(folder.iterdir())
            time.sleep(0.05)
        return folder / name

    def wait(self, script: str, seconds: float = ANSWER_S) -> Any:
        """The value of an expression once it is true; AssertionError when it does not become so."""
        limit = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < limit, script
            time.sleep(0.05)
        return value

    def point(self, x: float, y: float) -> None:
        """Move the pointer."""
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def shot(self, path: Path, whole: bool = True, quality: int = 80) -> Path:
        """A JPEG of the page (or of what the window shows)."""
        made = self._call("Page.captureScreenshot", format="jpeg", quality=quality, captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(made["data"]))
        return path

    def requests(self) -> list[str]:
        """Addresses the page asked for since it was opened, but for itself and what it holds."""
        asked = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in asked[1:] if not url.startswith("data:")]

    def complaints(self) -> list[str]:
        """What the page wrote to the console, exceptions, and entries of the browser's log."""
        found = []
        for event in self.events:
            told = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(told["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled":
                found.append(json.dumps(told["args"]))
            elif event["method"] == "Log.entryAdded":
                found.append(told["entry"]["text"])
        return found

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answer = self._next(lambda found: found.get("id") == number, method)
        assert "error" not in answer, (method, answer["error"])
        return dict(answer["result"])

    def _until(self, event: str) -> None:
        if not any(found["method"] == event for found in self.events):
            self._next(lambda found: found.get("method") == event, event)

    def _next(self, wanted: Any, what: str) -> dict[str, Any]:
        limit = time.monotonic() + ANSWER_S
        while True:
            while b"\0" in self._buffer:
                raw, self._buffer = self._buffer.split(b"\0", 1)
                found = json.loads(raw)
                if "method" in found:
                    self.events.append(found)
                if wanted(found):
                    return dict(found)
            ready, _, _ = select.select([self._read], [], [], max(0.0, limit - time.monotonic()))
            piece = os.read(self._read, 1 << 20) if ready else b""
            if not piece:
                raise TimeoutError(f"the browser did not answer to {what}")
            self._buffer += piece
