"""Who may speak to the app: its own page in the browser of the one who started it, nobody else on the machine."""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REFUSED = "refused; open the address that unet app has printed, in a new tab"
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Lets a request pass when it comes by the app's own address, from the app's own page, with the key of this start.

    The address (Host) keeps out pages whose name was made to point here (DNS rebinding), Origin and Sec-Fetch-Site
    other pages, those of other ports of this machine too, and the key, which a first visit exchanges for a cookie,
    other users and programs. https://www.w3.org/TR/fetch-metadata/
    """

    def __init__(self, app: ASGIApp, port: int, key: str) -> None:
        self._app, self._key, self._cookie = app, key, f"unet-app-{port}"
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request (ASGI)."""
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        answer = self._answer(scope)
        await (answer or self._app)(scope, receive, guarded)

    def _answer(self, scope: Scope) -> Response | None:
        """What is answered in place of the app; None lets the request pass."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        own_page = headers.get("origin", f"http://{host}") == f"http://{host}"
        if host not in self._hosts or not own_page or headers.get("sec-fetch-site", "none") not in _SITES:
            return PlainTextResponse(REFUSED, 403)
        if self._fits(parse_qs(scope["query_string"].decode("latin-1")).get("key", [""])[0]):
            entered = RedirectResponse("/", 303)
            entered.set_cookie(self._cookie, self._key, httponly=True, samesite="strict")
            return entered
        return None if self._fits(_cookie(headers, self._cookie)) else PlainTextResponse(REFUSED, 403)

    def _fits(self, key: str) -> bool:
        return hmac.compare_digest(key.encode(), self._key.encode())


_SITES = ("none", "same-origin")  # typed or opened from outside the browser; asked for by the page itself


def _cookie(headers: Headers, name: str) -> str:
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(headers.get("cookie", ""))
    except CookieError:
        return ""
    found: Any = jar.get(name)
    return "" if found is None else str(found.value)
