"""One start of the app with a small network that was never trained, and a client that may use it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import pytest

from tests.test_api import weights
from unet.app.store import Networks, Store

if TYPE_CHECKING:
    from unet.app.server import Server


@dataclass
class App:
    """The running app; requests bear what the own page's would."""

    server: Server
    store: Store
    files: dict[str, Path]
    headers: dict[str, str] = field(default_factory=dict)

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers (lower case) of one answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            connection.request(method, path, body, self.headers | headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
        finally:
            connection.close()

    def told(self, path: str, method: str = "GET", body: bytes | None = None, status: int = 200) -> Any:
        found, text, _ = self.ask(path, method, body)
        assert found == status, text
        return json.loads(text)

    def predicted(self, file: Path, network: str = "two") -> str:
        """Take a file up and wait for its prediction; returns the path of the image."""
        taken = self.told(f"/api/images?name={quote(file.name)}", "POST", file.read_bytes())
        path = f"/api/images/{taken['id']}"
        state = self.told(f"{path}/predict?{urlencode({'network': network})}", "POST")
        limit = time.monotonic() + 60
        while state["state"] not in ("ready", "failed"):
            assert time.monotonic() < limit
            time.sleep(0.02)
            state = self.told(path)
        return path


@pytest.fixture(scope="package")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    for package in ("starlette", "uvicorn", "roifile"):
        pytest.importorskip(package)
    from unet.app.server import Server

    folder = tmp_path_factory.mktemp("networks")
    chosen = {"threshold": 0.4, "min_area_px": 5, "connectivity": 4, "fill_holes": True, "rule": "components"}
    files = {
        "two": weights(folder / "two.safetensors", instances=chosen),
        "many": weights(folder / "many.safetensors", classes=5),
    }
    with Store(Networks(files, device="cpu", precision="fp32")) as store:
        server = Server(store, largest_mb=2)
        thread = threading.Thread(target=server.run)
        thread.start()
        started = App(server, store, files)
        try:
            _, _, headers = started.ask(urlsplit(server.url)._replace(scheme="", netloc="").geturl())
            started.headers["Cookie"] = headers["set-cookie"].split(";")[0]
            yield started
        finally:
            server.stop()
            thread.join(30)
    assert not store._folder.exists()
