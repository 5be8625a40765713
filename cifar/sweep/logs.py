"""The logs of a worker: each trial's messages go to a file in its folder, whichever thread works for the trial."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

CURRENT_TRIAL: ContextVar[int | None] = ContextVar("CURRENT_TRIAL", default=None)
"""The number of the trial that runs."""


class TrialLogs(logging.Handler):
    """Routes each message by the trial that runs: to the trial's log file, or where none runs to that of the worker.

    `handlers` are those that Hydra made for the worker. A trial's file has the name and the format of the worker's
    log file. Where the app logs to no file, messages go to the worker's handlers, trials' too.
    """

    def __init__(self, handlers: list[logging.Handler]) -> None:
        super().__init__()
        files = [handler for handler in handlers if isinstance(handler, logging.FileHandler)]
        self._template = files[0] if files else None
        self._of_worker = files or handlers
        self._of_trials: dict[int | None, logging.Handler] = {}

    def emit(self, record: logging.LogRecord) -> None:
        of_trial = self._of_trials.get(CURRENT_TRIAL.get())
        for handler in [of_trial] if of_trial else self._of_worker:
            if record.levelno >= handler.level:
                handler.handle(record)

    def open(self, number: int, folder: Path) -> None:
        """Log trial `number` to a file in `folder` from now on."""
        if self._template is None:
            return
        name = Path(self._template.baseFilename).name
        file = logging.FileHandler(folder / name, encoding=self._template.encoding)
        file.setFormatter(self._template.formatter)
        file.setLevel(self._template.level)
        self._of_trials[number] = file

    def close_trial(self, number: int) -> None:
        """Close the log of trial `number`, if it has one."""
        file = self._of_trials.pop(number, None)
        if file is not None:
            file.close()


@contextmanager
def trial_logs() -> Iterator[TrialLogs]:
    """Put a TrialLogs in the place of the worker's handlers, for as long as it runs trials."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    logs = TrialLogs(handlers)
    root.handlers[:] = [logs]
    try:
        yield logs
    finally:
        root.handlers[:] = handlers


@contextmanager
def of_trial(number: int) -> Iterator[None]:
    """What is logged from here, and from threads started in a copy of this context, belongs to trial `number`."""
    token = CURRENT_TRIAL.set(number)
    try:
        yield
    finally:
        CURRENT_TRIAL.reset(token)
