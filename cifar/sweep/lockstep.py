"""Several runs in one process that take turns: one trains at a time, and hands over control after each of its steps.

On a GPU a step is launched, not awaited, so the device works for all of them at once. Each run is an ordinary function
call in a separate greenlet: all share one thread, and with it one team of OpenMP threads, for several teams would fight
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

MAX_CONCURRENT_RUNS = 24
"""Runs at once, at most: torch has 32 CUDA streams, and each run needs one for itself."""
BACKGROUND_GRACE = 10.0
"""Seconds that work in the background has to end once all runs are to stop at once."""


class Lockstep:
    """Calls `serve`, and up to `size` - 1 times more in turns once a run has said how many the device has memory for.

    The greenlet that called `run` is the scheduler: a run hands over control to it, and it switches to the next one.
    """

    def __init__(self, size: int, serve: Callable[[], None]) -> None:
        self.size, self.serve = size, serve
        self._runs: list[greenlet] = []
        self._ready: deque[greenlet] = deque()
        self._in_background: set[greenlet] = set()
        self._back: SimpleQueue[greenlet] = SimpleQueue()
        """Runs whose work in the background is done."""

    def run(self) -> None:
        """Return when all have ended. Raises what the first of them raised, and stops the others at once then."""
        self._scheduler, self._context = getcurrent(), contextvars.copy_context()
        self._start_one()
        try:
            while self._runs:
                self._next().switch()
        finally:
            self._stop()

    def yield_control(self) -> None:
        """Hand over control, so that each of the other runs takes a step."""
        if len(self._runs) > 1:
            self._ready.append(getcurrent())
            self._scheduler.switch()

    def run_in_background(self, work: Callable[[], object]) -> None:
        """Return when `work` is done. With several runs it runs in a thread, and the others take steps meanwhile."""
        if len(self._runs) < 2:
            work()
            return
        current = getcurrent()
        errors: list[BaseException] = []

        def work_and_return() -> None:
            self._in_background.add(current)
            try:
                work()
            except BaseException as error:
                errors.append(error)
            self._in_background.remove(current)
            self._back.put(current)

        # No executor or Thread: a second Ctrl-C may come at any moment, and would leave their locks taken.
        _thread.start_new_thread(contextvars.copy_context().run, (work_and_return,))
        self._scheduler.switch()
        if errors:
            raise errors[0]

    def set_capacity(self, runs: float) -> None:
        """Start the other runs, no more than `runs` in all; only the first call has an effect."""
        wanted, self.size = self.size, 1
        size = int(min(wanted, max(runs, 1)))
        if size < wanted:
            print(f"hydra.sweeper.trials_per_worker={wanted}: the device has memory for {size} at once", flush=True)
        for _ in range(size - 1):
            self._start_one()

    def _start_one(self) -> None:
        run = greenlet(self._serve, parent=self._scheduler)
        run.gr_context = self._context.copy()  # Hydra keeps what may be executed in a context variable
        self._runs.append(run)
        self._ready.append(run)

    def _serve(self) -> None:
        try:
            self.serve()
        finally:
            self._runs.remove(getcurrent())

    def _next(self) -> greenlet:
        """The run that takes the next step; waits while all of them work in the background."""
        while not self._ready or not self._back.empty():
            self._ready.append(self._back.get())
        return self._ready.popleft()

    def _stop(self) -> None:
        """Stop the runs that are left, if possible after their work in the background is done."""
        deadline = time.monotonic() + BACKGROUND_GRACE
        try:
            while self._in_background and time.monotonic() < deadline:
                time.sleep(0.01)
        finally:
            for run in tuple(self._runs):
                with suppress(BaseException):
                    run.throw(KeyboardInterrupt)
