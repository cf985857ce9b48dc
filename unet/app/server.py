"""The app's server on the loopback interface: the page, what it asks for, and the way of an image through it."""

from __future__ import annotations

import secrets
import shutil
import socket
import threading
from collections.abc import Callable
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from unet import __version__
from unet.app import files
from unet.app.guard import Guard
from unet.app.made import Made, made
from unet.app.store import Store
from unet.errors import DataError, RunError, UserError, one_line

LARGEST_MB = 4096
_ASSETS = {
    "": ("unet.app", "app.html", "text/html"),
    "drop.js": ("unet.app", "drop.js", "text/javascript"),
    "app.js": ("unet.app", "app.js", "text/javascript"),
    "app.css": ("unet.app", "app.css", "text/css"),
    "page.js": ("unet.report", "page.js", "text/javascript"),
    "page.css": ("unet.report", "page.css", "text/css"),
}


class Server:
    """One start of the app on a free port of 127.0.0.1, or on `port`; `url` lets one browser in.

    largest_mb: the largest file that is taken, in megabytes. RunError when the port is taken.
    """

    def __init__(self, store: Store, port: int = 0, largest_mb: int = LARGEST_MB) -> None:
        import uvicorn

        self._socket = _listening(port)
        self.port = int(self._socket.getsockname()[1])
        key = secrets.token_urlsafe(32)
        self.url = f"http://127.0.0.1:{self.port}/?key={key}"
        app = Guard(_application(store, largest_mb * 10**6), self.port, key)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app, log_level="warning", access_log=False, server_header=False, ws="none", lifespan="off",
                timeout_graceful_shutdown=1,
            )
        )  # fmt: skip

    def run(self) -> None:
        """Serve until `stop` or a signal; in the main thread Ctrl-C raises KeyboardInterrupt at the end."""
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """End `run`, from another thread."""
        self._server.should_exit = True


def _listening(port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.bind(("127.0.0.1", port))
        found.listen()  # a browser that comes before the server runs waits for it
    except (OSError, OverflowError) as error:
        found.close()
        raise RunError(f"--port {port}: cannot be used ({one_line(error)}); leave it out to take a free one") from None
    return found


def _application(store: Store, largest_bytes: int) -> Starlette:
    handlers = _Handlers(store, largest_bytes)
    one = "/api/images/{name}"
    return Starlette(
        routes=[
            *(Route(f"/{path}", _asset(*where)) for path, where in _ASSETS.items()),
            Route("/api/networks", handlers.networks),
            Route("/api/images", handlers.upload, methods=["POST"]),
            Route(one, handlers.state),
            Route(one, handlers.drop, methods=["DELETE"]),
            Route(f"{one}/predict", handlers.predict, methods=["POST"]),
            Route(f"{one}/objects", handlers.objects),
            Route(f"{one}/pictures/{{layer}}", handlers.picture),
            Route(f"{one}/files/{{kind}}", handlers.file),
        ],
        exception_handlers={UserError: _told, HTTPException: _told, Exception: _told},
    )


async def _told(_: Request, error: Exception) -> Response:
    """An error as one line for the page."""
    status = error.status_code if isinstance(error, HTTPException) else 400 if isinstance(error, UserError) else 500
    text = error.detail if isinstance(error, HTTPException) else one_line(error)
    return JSONResponse({"error": text[:500]}, status)


def _asset(package: str, name: str, kind: str) -> Callable[[Request], Response]:
    text = (resources.files(package) / "assets" / name).read_text(encoding="utf-8")
    return lambda _: Response(text.replace("{{version}}", __version__), media_type=kind)


class _Handlers:
    """What the page asks for. Those that compute are plain functions, which Starlette runs in threads."""

    def __init__(self, store: Store, largest_bytes: int) -> None:
        self._store, self._largest, self._uploading = store, largest_bytes, threading.Semaphore(2)

    def networks(self, _: Request) -> Response:
        """Names of the networks, the one to begin with first."""
        return JSONResponse({"networks": self._store.networks.names, "largest_bytes": self._largest})

    async def upload(self, request: Request) -> Response:
        """Take up the file that is the request's body; ?name= says what it is called."""
        length = request.headers.get("content-length", "")
        name = request.query_params.get("name", "")
        if not length.isdecimal():
            raise HTTPException(411, "the size of the file is not said")
        if int(length) > self._largest:
            raise HTTPException(413, f"{name}: larger than {self._largest / 1e6:,.0f} MB; raise --largest-mb")
        if not self._uploading.acquire(blocking=False):
            raise HTTPException(429, f"{name}: other files are on their way; wait until they are here")
        place = self._store.place(name)
        try:
            if int(length) > shutil.disk_usage(place.parent).free:
                raise DataError(f"{name}: does not fit on the disk of the temporary files; name another with TMPDIR")
            received = 0
            with place.open("wb") as file:
                async for piece in request.stream():
                    received += len(piece)
                    if received > int(length):
                        raise HTTPException(413, f"{name}: larger than its size says")
                    await run_in_threadpool(file.write, piece)
            taken = await run_in_threadpool(self._store.take, place)
        except BaseException as error:
            shutil.rmtree(place.parent, ignore_errors=True)
            if isinstance(error, ClientDisconnect):
                return Response(status_code=400)
            raise
        finally:
            self._uploading.release()
        pages, channels, height, width = self._store.find(taken).shape
        return JSONResponse({"id": taken, "name": place.name, "size": [pages, channels, height, width]})

    def predict(self, request: Request) -> Response:
        """Begin to predict with ?network=."""
        self._store.wanted(request.path_params["name"], request.query_params.get("network", ""))
        return self.state(request)

    def state(self, request: Request) -> Response:
        """How far the prediction is."""
        prediction = self._store.find(request.path_params["name"]).prediction
        if prediction is None:
            return JSONResponse({"state": "none"})
        told: dict[str, Any] = {
            "state": prediction.state, "done": prediction.done, "total": prediction.total,
            "problem": prediction.problem, "notes": prediction.notes, "network": prediction.network,
        }  # fmt: skip
        if prediction.ready is not None:
            network = prediction.ready[0]
            told["threshold"] = None if network.instances is None else network.instances.threshold
            told["without"] = network.without
        return JSONResponse(told)

    def drop(self, request: Request) -> Response:
        """Delete an image."""
        self._store.drop(request.path_params["name"])
        return Response(status_code=204)

    def objects(self, request: Request) -> Response:
        """Counts and areas of ?page= at ?threshold=."""
        return JSONResponse(self._made(request).counted(_page(request), _threshold(request)))

    def picture(self, request: Request) -> Response:
        """A layer of ?page= at ?threshold= as PNG."""
        layer = request.path_params["layer"]
        return Response(self._made(request).picture(layer, _page(request), _threshold(request)), media_type="image/png")

    def file(self, request: Request) -> Response:
        """A file to take away, at ?threshold=."""
        path, name = files.write(self._made(request), request.path_params["kind"], _threshold(request))
        return FileResponse(path, filename=name)

    def _made(self, request: Request) -> Made:
        return made(self._store.find(request.path_params["name"]))


def _page(request: Request) -> int:
    text = request.query_params.get("page", "0")
    if not text.isdecimal() or len(text) > 9:
        raise DataError(f"page {text[:20]!r} is no number")
    return int(text)


def _threshold(request: Request) -> float | None:
    text = request.query_params.get("threshold", "")
    try:
        return float(text) if text else None
    except ValueError:
        raise DataError(f"threshold {text[:20]!r} is no number") from None
