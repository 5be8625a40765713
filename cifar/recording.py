"""result.json while a run lasts: how it stands at the start and how it ended, for its directory and its tracker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cifar import metadata
from cifar.objective import ACCURACY, Objective
from cifar.reporting import Diverged, EpochMetrics, Pruned
from cifar.results import RunDirectory, summary
from cifar.trackers.base import Tracker

STATUS_OF_ERROR = {Pruned: "pruned", KeyboardInterrupt: "interrupted", Diverged: "diverged"}
"""The status of a run that an exception of this type ended; of any other type: "failed"."""


@contextmanager
def recording(
    directory: RunDirectory,
    facts: dict[str, Any],
    history: list[EpochMetrics],
    tracker: Tracker,
    objective: Objective = ACCURACY,
) -> Iterator[None]:
    """Write result.json at the start and at the end of the block, and pass the final status on to the tracker.

    `facts` and `history` may grow meanwhile. An exception that leaves the block decides the status.
    """

    def write(status: str, message: str | None = None) -> None:
        directory.write_result(result_of(status, message, history, facts, objective))

    def end(status: str, message: str | None = None) -> None:
        write(status, message)
        tracker.end(status, metadata.final_metrics(history, facts, objective))

    write("running")
    try:
        yield
    except BaseException as error:
        end(_status_of(error), f"{type(error).__name__}: {error}")
        raise
    end("finished")


def result_of(
    status: str,
    message: str | None,
    history: list[EpochMetrics],
    facts: Mapping[str, Any],
    objective: Objective = ACCURACY,
) -> dict[str, Any]:
    """The content of result.json."""
    return {"status": status, "message": message, **summary(history, objective), **facts}


def _status_of(error: BaseException) -> str:
    statuses = (status for kind, status in STATUS_OF_ERROR.items() if isinstance(error, kind))
    return next(statuses, "failed")
