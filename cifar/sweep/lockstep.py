"""Several runs in one process, in turns: one trains at a time, and hands over after each of its steps.

On a GPU a step is launched, not awaited, so the device works for all of them at once. Each run is an ordinary one in a
greenlet of its own: all share one thread, and with it one team of OpenMP threads, for teams of their own would fight
for the cores.
"""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue

from greenlet import getcurrent, greenlet

STREAMS = 24
"""Runs at once, at most: torch has 32 CUDA streams, and each run needs one of its own."""


class Lockstep:
    """Calls `serve`, and up to `size` - 1 times more beside it once a run has told what the device has room for."""

    def __init__(self, size: int, serve: Callable[[], None]) -> None:
        self.size, self.serve = size, serve
        self._all = list[greenlet]()
        self._ready, self._returned = deque[greenlet](), SimpleQueue[greenlet]()

    def run(self) -> None:
        """Return when all have ended; raises what the first of them raised, and stops the others at once then."""
        self._hub = getcurrent()
        with ThreadPoolExecutor(self.size) as self._threads:
            self._begin()
            try:
                while self._all:
                    self._next().switch()
            finally:
                for other in tuple(self._all):
                    with suppress(BaseException):
                        other.throw(KeyboardInterrupt)

    def turn(self) -> None:
        """Let the others take their steps."""
        if len(self._all) > 1:
            self._ready.append(getcurrent())
            self._hub.switch()

    def aside(self, work: Callable[[], object]) -> None:
        """Return when `work` is done; the others take their steps meanwhile, and it has a thread of its own then."""
        if len(self._all) < 2:
            work()
            return
        me, context = getcurrent(), contextvars.copy_context()
        done: Future[object] = self._threads.submit(context.run, work)
        done.add_done_callback(lambda _: self._returned.put(me))
        self._hub.switch()
        done.result()

    def fit(self, room: float) -> None:
        """Start the others, where no more than `room` runs fit; the first to tell decides."""
        wanted, self.size = self.size, 1
        size = int(min(wanted, max(room, 1)))
        if size < wanted:
            print(f"hydra.sweeper.trials_per_worker={wanted}: the device has memory for {size} at once", flush=True)
        for _ in range(size - 1):
            self._begin()

    def _begin(self) -> None:
        one = greenlet(self._serve, parent=self._hub)
        one.gr_context = contextvars.copy_context()  # Hydra keeps what may be executed in a context variable
        self._all.append(one)
        self._ready.append(one)

    def _serve(self) -> None:
        try:
            self.serve()
        finally:
            self._all.remove(getcurrent())

    def _next(self) -> greenlet:
        """Whose turn it is; waits where all are aside."""
        while not self._ready or not self._returned.empty():
            self._ready.append(self._returned.get())
        return self._ready.popleft()
