"""What is checked of every request before anything else, and what every answer says to the browser."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cifar.serve.address import Hosts

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
ANSWER_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Connection": "close",  # the limits of time are of a connection's first request
}


class Guard:
    """ASGI middleware: it refuses requests by other names (421) and posts from other web pages (403)."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(ANSWER_HEADERS)
            await send(message)

        answer = self.app
        problem = self._problem(scope["method"], Headers(scope=scope))
        if problem is not None:
            status, text = problem
            answer = JSONResponse({"error": text}, status)
        await answer(scope, receive, send_with_headers)

    def _problem(self, method: str, headers: Headers) -> tuple[int, str] | None:
        """Status and message of a request that is refused."""
        names = headers.getlist("host")
        if len(names) != 1 or not self.hosts.allow(names[0]):
            name = ", ".join(names)[:100] or "none"
            return 421, f"Host: {name}; allowed: {self.hosts}, and what --allowed-host NAME adds"
        if method in SAFE_METHODS:
            return None
        origin = headers.get("origin")
        is_own = origin is None or origin.lower() in (f"{scheme}://{names[0].lower()}" for scheme in ("http", "https"))
        if not is_own or headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return 403, "sent by another web page; allowed: the page of this server, and programs that are no browser"
        return None
