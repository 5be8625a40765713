"""Several runs in one process, in turns: one trains at a time, and hands over after each of its steps.

On a GPU a step is launched, not awaited, so the device works for all of them at once. Each run is an ordinary one in a
thread of its own, with what torch and the system keep by thread: stream, grad mode, autocast, log.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STREAMS = 24
"""Runs at once, at most: torch has 32 CUDA streams, and each run needs one of its own."""
GRACE = 10.0
"""Seconds that the others have to end their step once one of them was stopped at once."""


class Baton:
    """Held by one thread at a time, and handed on in the order of asking."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._held = self._closed = False

    def take(self) -> None:
        """Wait for it. Raises KeyboardInterrupt once it is closed."""
        with self._mutex:
            turn = self._ask()
            if not self._held:
                self._held = True
                self._waiting.popleft().release()
        self._wait(turn)

    def give(self) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._held = False

    def pass_on(self) -> None:
        """Give it to those who wait, and take it again after them."""
        with self._mutex:
            turn = self._ask()
            self._waiting.popleft().release()
        self._wait(turn)

    def _ask(self) -> threading.Lock:
        if self._closed:
            raise KeyboardInterrupt
        turn = threading.Lock()
        turn.acquire()
        self._waiting.append(turn)
        return turn

    def _wait(self, turn: threading.Lock) -> None:
        turn.acquire()
        if self._closed:
            raise KeyboardInterrupt

    def close(self) -> None:
        """Nobody gets it any more: whoever waits for it, or asks, is to stop at once."""
        with self._mutex:
            self._closed = True
            while self._waiting:
                self._waiting.popleft().release()


class Lockstep:
    """Calls `serve` in this thread, and in up to `size` - 1 others once a run has told what the device has room for."""

    def __init__(self, size: int, serve: Callable[[], None]) -> None:
        self.size, self.serve = size, serve
        self._baton, self._threads = Baton(), list[threading.Thread]()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Return when all have ended; raises what the first of them raised, and stops the others at once then."""
        self._guarded(self._serve)
        self._guarded(lambda: self._join(None))
        if self._error is not None:
            self._join(GRACE / max(1, len(self._threads)))
            raise self._error

    def turn(self) -> None:
        """Let the others take their steps."""
        self._baton.pass_on()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """The others need not wait for what is done in here."""
        self._baton.give()
        try:
            yield
        finally:
            self._baton.take()

    def fit(self, room: float) -> None:
        """Start the others, where no more than `room` runs fit; the first to tell decides."""
        wanted, self.size = self.size, 1
        size = int(min(wanted, max(room, 1)))
        if size < wanted:
            print(f"hydra.sweeper.trials_per_worker={wanted}: the device has memory for {size} at once", flush=True)
        for _ in range(size - 1):
            target = contextvars.copy_context().run  # Hydra keeps what may be executed in a context variable
            thread = threading.Thread(target=target, args=(self._guarded, self._serve), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self) -> None:
        self._baton.take()
        try:
            self.serve()
        finally:
            self._baton.give()

    def _join(self, seconds: float | None) -> None:
        for thread in self._threads:
            thread.join(seconds)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._error = self._error or error
            self._baton.close()
