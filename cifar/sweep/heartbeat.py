"""The heartbeat of a worker: a background thread that shows the study that its trials are alive."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial

from cifar.signals import StopFlag
from cifar.sweep.study import SharedStudy

log = logging.getLogger(__name__)
STOP_POLL_INTERVAL = 0.5
"""Seconds between two checks of whether the worker has to stop."""


class Heartbeat:
    """Records the heartbeats of a worker's trials every `interval` seconds, and polls those of all other trials.

    It sets `stop` when `should_stop` says so.
    """

    def __init__(self, study: SharedStudy, interval: float, should_stop: Callable[[], bool]) -> None:
        self.study, self.interval, self.should_stop = study, interval, should_stop
        self.stop = StopFlag()
        self._trials: list[Trial] = []
        self._last_error = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the thread. SIGTERM and Ctrl-C set `stop`; a second Ctrl-C raises KeyboardInterrupt."""
        with self.stop.handling_signals():
            self._thread.start()
            try:
                yield
            finally:
                self._ended.set()
                self._thread.join()

    @contextmanager
    def of(self, trial: Trial) -> Iterator[None]:
        """Record the heartbeat of this trial too."""
        self._trials.append(trial)
        try:
            yield
        finally:
            self._trials.remove(trial)

    def _run(self) -> None:
        due, count = 0.0, 0
        while not self._ended.wait(min(STOP_POLL_INTERVAL, self.interval)):
            self._attempt(self._look)
            if time.monotonic() >= due:
                due = time.monotonic() + self.interval
                count += 1
                self._attempt(partial(self._beat, count))

    def _attempt(self, act: Callable[[], None]) -> None:
        """Warn where the storage, or the folder on a network, fails: it is tried again."""
        try:
            act()
        except Exception as error:
            if str(error) != self._last_error:
                log.warning("no heartbeat, or none seen (%s); trying again", error)
            self._last_error = str(error)

    def _look(self) -> None:
        if self.should_stop():
            self.stop.set()

    def _beat(self, count: int) -> None:
        for trial in tuple(self._trials):
            with suppress(UpdateFinishedTrialError):  # it has just ended
                self.study.record_heartbeat(trial, count, self.interval)
        self.study.poll_heartbeats(self.interval)
