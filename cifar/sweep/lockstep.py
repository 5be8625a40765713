"""Several runs in one process, in turns: one trains at a time, and hands over after each of its steps.

On a GPU a step is launched, not awaited, so the device works for all of them at once. Each run is an ordinary one in a
greenlet of its own: all share one thread, and with it one team of OpenMP threads, for teams of their own would fight
for the cores.
"""

from __future__ import annotations

import _thread
import contextvars
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

from greenlet import getcurrent, greenlet

STREAMS = 24
"""Runs at once, at most: torch has 32 CUDA streams, and each run needs one of its own."""
GRACE = 10.0
"""Seconds that work aside has to end once all are to stop at once."""


class Lockstep:
    """Calls `serve`, and up to `size` - 1 times more beside it once a run has told what the device has room for."""

    def __init__(self, size: int, serve: Callable[[], None]) -> None:
        self.size, self.serve = size, serve
        self._all = list[greenlet]()
        self._ready, self._returned, self._aside = deque[greenlet](), SimpleQueue[greenlet](), set[greenlet]()

    def run(self) -> None:
        """Return when all have ended; raises what the first of them raised, and stops the others at once then."""
        self._hub, self._context = getcurrent(), contextvars.copy_context()
        self._begin()
        try:
            while self._all:
                self._next().switch()
        finally:
            self._stop()

    def yield_control(self) -> None:
        """Let the others take their steps."""
        if len(self._all) > 1:
            self._ready.append(getcurrent())
            self._hub.switch()

    def run_in_background(self, work: Callable[[], object]) -> None:
        """Return when `work` is done; the others take their steps meanwhile, and it has a thread of its own then."""
        if len(self._all) < 2:
            work()
            return
        me, failed = getcurrent(), list[BaseException]()

        def do() -> None:
            self._aside.add(me)
            try:
                work()
            except BaseException as error:
                failed.append(error)
            self._aside.remove(me)
            self._returned.put(me)

        # No executor or Thread: a second Ctrl-C may come at any moment, and would leave their locks taken.
        _thread.start_new_thread(contextvars.copy_context().run, (do,))
        self._hub.switch()
        if failed:
            raise failed[0]

    def set_capacity(self, runs: float) -> None:
        """Start the others, where no more than `runs` fit; the first to tell decides."""
        wanted, self.size = self.size, 1
        size = int(min(wanted, max(runs, 1)))
        if size < wanted:
            print(f"hydra.sweeper.trials_per_worker={wanted}: the device has memory for {size} at once", flush=True)
        for _ in range(size - 1):
            self._begin()

    def _begin(self) -> None:
        one = greenlet(self._serve, parent=self._hub)
        one.gr_context = self._context.copy()  # Hydra keeps what may be executed in a context variable
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

    def _stop(self) -> None:
        """Stop those there still are, if possible not before what they do aside is done."""
        until = time.monotonic() + GRACE
        try:
            while self._aside and time.monotonic() < until:
                time.sleep(0.01)
        finally:
            for one in tuple(self._all):
                with suppress(BaseException):
                    one.throw(KeyboardInterrupt)
