"""The application as a process: uvicorn, with limits of time and of connections."""

from __future__ import annotations

import asyncio

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from cifar.serve.limits import HEADER_BYTES, HEADER_SECONDS, MAX_CONNECTIONS

SHUTDOWN_SECONDS = 3
"""In which requests may end after Ctrl-C."""


class TimedProtocol(H11Protocol):
    """HTTP/1.1; the headers of a connection's first request have to arrive in time. The guard allows no second."""

    header_seconds = HEADER_SECONDS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(self.header_seconds, self.close_without_request)

    def close_without_request(self) -> None:
        if self.cycle is None:
            self.transport.close()


def make_server(app: ASGIApp, protocol: type[TimedProtocol] = TimedProtocol) -> uvicorn.Server:
    """Its run([socket]) answers requests until Ctrl-C or SIGTERM, which are raised again at the end."""
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(config)
