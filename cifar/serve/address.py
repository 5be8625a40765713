"""Where the server listens, and by which names browsers may call it."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from cifar.errors import UserError

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
HTTP_PORT = 80
"""Meant by a Host header without a port."""


class AddressError(UserError):
    """An address at which the server cannot listen."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; clients wait until it is served. Raises AddressError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        both = is_everywhere(host) and family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        return socket.create_server(address[:2], family=family, backlog=128, dualstack_ipv6=both)
    except (OSError, UnicodeError) as error:
        raise AddressError(_reason(host, port, error)) from None


def _reason(host: str, port: int, error: OSError | UnicodeError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return (
            f"--port {port}: in use by another program, maybe by this one started before; stop that, or take another"
            f" port (--port {port + 1 if port < 65535 else port - 1}), or any free one (--port 0)"
        )
    if number == errno.EACCES:
        return f"--port {port}: not allowed for this user; take one from 1024 to 65535, or any free one (--port 0)"
    reason = os.strerror(number) if number and number > 0 else str(error)
    return (
        f"--host {host}: cannot listen there ({reason}); allowed: 127.0.0.1 (this machine alone), an address of this"
        " machine, 0.0.0.0 (all of them)"
    )


@dataclass(frozen=True)
class Hosts:
    """The values of a Host header that are answered. Others may be of a web page whose name was made to point here.

    (DNS rebinding: the browser takes this server for that page's own, and lets the page read the answers.)
    `names`: as "localhost:8000", or without a port for any. `any_address`: addresses in digits are answered too, with
    this port; no name can be made to be one.
    """

    names: frozenset[str]
    any_address: int | None = None

    def allow(self, header: str) -> bool:
        """Whether a request with this Host header is answered."""
        parts = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::(\d{1,5}))?", header.lower())
        if parts is None:
            return False
        name, port = parts[1], int(parts[2] or HTTP_PORT)
        is_named = name in self.names or f"{name}:{port}" in self.names
        return is_named or (port == self.any_address and _is_address(name))

    def __str__(self) -> str:
        others = ["any IP address"] if self.any_address else []
        return ", ".join([*sorted(self.names), *others])


def hosts(host: str, port: int, others: Iterable[str]) -> Hosts:
    """Those of a server that listens at `host` and `port`, and `others`, which the user has allowed."""
    listening = f"[{host}]" if ":" in host else host
    names = {f"{name.lower()}:{port}" for name in (*LOOPBACK, listening)}
    return Hosts(frozenset(names | {name.lower() for name in others}), port if is_everywhere(host) else None)


def is_everywhere(host: str) -> bool:
    """Whether `host` means all addresses of this machine."""
    return _is_address(host) and ipaddress.ip_address(host).is_unspecified


def url(host: str, port: int) -> str:
    """Of the page, for a browser on this machine."""
    if is_everywhere(host):
        host = "::1" if ":" in host and not socket.has_dualstack_ipv6() else LOOPBACK[1]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
