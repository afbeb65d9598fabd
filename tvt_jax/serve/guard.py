"""What keeps other sites out: a page anywhere can have its visitor's browser ask a server on loopback."""

import socket
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:;"
    " frame-ancestors 'none'; form-action 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Nor does a browser's disk keep what its visitor looked at.
    "Cache-Control": "no-store",
}
_READING = ("GET", "HEAD")


class Guard:
    """Refuses what another site asks for, and adds headers that browsers take as orders."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        machine = socket.gethostname().lower()
        self._names = {"localhost", host.lower(), machine, f"{machine}.local"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refusal = self._refusal(Headers(scope=scope), scope["method"], scope["path"])
        answer = JSONResponse({"error": refusal}, 403) if refusal else self._app
        await answer(scope, receive, send_on)

    def _refusal(self, headers: Headers, method: str, path: str) -> str:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_ours(host):
            return f"this page is not served as '{host}': use its address in numbers, or start tvt serve --host {host}"
        if origin is not None and urlsplit(origin).netloc != host:
            return f"another site, {origin}, may not ask this one for anything"
        linked = method in _READING and path == "/"
        if not linked and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return "another site may not ask this one for anything"
        return ""

    def _is_ours(self, host: str) -> bool:
        """Tell this machine's names, and addresses in numbers, from names that a stranger may have pointed at it."""
        name = None
        with suppress(ValueError):
            name = urlsplit(f"//{host}").hostname
        if not name:
            return False
        with suppress(ValueError):
            ip_address(name)
            return True
        return name in self._names
