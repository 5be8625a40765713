"""Where the time of a run goes: seconds by what was done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

COUNTED = ("measuring", "training", "validation", "saving")
"""What the setting `time` covers; the rest is before or after it."""


class Durations:
    """Seconds by name, in the order in which these came first."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = {}

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    @contextmanager
    def measuring(self, name: str) -> Iterator[None]:
        """Add the seconds of the block."""
        start = self.clock()
        try:
            yield
        finally:
            self.add(name, self.clock() - start)

    def resume(self, seconds: Mapping[str, float]) -> None:
        """Add those of the run that is resumed."""
        for name, value in seconds.items():
            self.add(name, value)
