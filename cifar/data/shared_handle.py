"""An open file that several threads read: it is closed when none of them reads, and opened again for the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Generic, Protocol, TypeVar


class Closeable(Protocol):
    def close(self) -> None: ...


Handle = TypeVar("Handle", bound=Closeable)


class SharedHandle(Generic[Handle]):
    """What `make` opens, when it is first used."""

    def __init__(self, make: Callable[[], Handle]) -> None:
        self._make = make
        self._handle: Handle | None = None
        self._users = 0
        self._closing = False
        self._lock = Lock()

    def set(self, handle: Handle) -> None:
        """One that is open already."""
        self._handle = handle

    @contextmanager
    def used(self) -> Iterator[Handle]:
        """The open file: it stays so within the block. Raises as `make` does."""
        with self._lock:
            handle = self._handle = self._handle or self._make()
            self._users += 1
        try:
            yield handle
        finally:
            with self._lock:
                self._users -= 1
                self._close_unused()

    def close(self) -> None:
        """Close it as soon as nobody uses it."""
        with self._lock:
            self._closing = True
            self._close_unused()

    def _close_unused(self) -> None:
        if self._closing and not self._users:
            self._closing = False
            if self._handle is not None:
                self._handle.close()
            self._handle = None
