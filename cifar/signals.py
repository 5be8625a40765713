"""Ctrl-C and SIGTERM as a flag that loops check, for runs, searches and workers alike."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import FrameType

from cifar.endings import CTRL_C

POLL_INTERVAL = 0.05
"""Seconds between two checks of the flag in `wait`."""


def _no_announcement() -> None:
    pass


class StopFlag:
    """Set by the first SIGINT (Ctrl-C) or SIGTERM; a second one that is in `at_once` raises KeyboardInterrupt.

    It is a plain attribute and not a threading.Event: a signal handler may interrupt the code that holds an Event's
    lock. `announce` is called by the handler when the flag is set. `signum` is the signal that set it.
    """

    def __init__(
        self, announce: Callable[[], None] = _no_announcement, at_once: Collection[int] = (signal.SIGINT,)
    ) -> None:
        self.announce = announce
        self.at_once = at_once
        self.signum: int | None = None

    def is_set(self) -> bool:
        return self.signum is not None

    def set(self, signum: int = signal.SIGTERM) -> None:
        """Set the flag by hand; the first signal number is kept."""
        if self.signum is None:
            self.signum = signum

    def wait(self, seconds: float) -> bool:
        """Sleep until the flag is set, at most `seconds`; whether it is set."""
        end = time.monotonic() + seconds
        while not self.is_set() and (remaining := end - time.monotonic()) > 0:
            time.sleep(min(POLL_INTERVAL, remaining))
        return self.is_set()

    @contextmanager
    def handling_signals(self) -> Iterator[None]:
        """Install the handlers. Outside the main thread, which alone receives signals, this is a no-op."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {signum: signal.signal(signum, self._handle) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.is_set():
            if signum in self.at_once:
                CTRL_C(signum, frame)
            return
        self.set(signum)
        self.announce()
