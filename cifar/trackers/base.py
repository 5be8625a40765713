"""The interface of a tracker: it receives the settings of a run, every row of metrics.csv, and how the run ended."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cifar.files import write_atomically
from cifar.reporting import EpochMetrics

log = logging.getLogger(__name__)
ID_FILE = "tracker.id"
"""The file in the folder of a run or study that keeps its id, so that a resumed run continues the same tracked run."""


@dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker receives it, when it starts or resumes.

    `settings` are by full key ("optimizer.lr"); each value is a bool, a number or a text. `history` holds the epochs
    that are already done. `study` is the folder of the sweep that the run is a trial of. `resumed` is the run directory
    that the run resumes; it may be another one than `directory`.
    """

    directory: Path
    study: Path | None
    resumed: Path | None
    settings: Mapping[str, bool | float | str]
    history: list[EpochMetrics]

    @property
    def identity(self) -> str:
        """The id of the run, written to ID_FILE in its directory.

        It stays the same when the run resumes in its directory, and when a trial is retried in another folder of the
        same study. A run that resumes another one outside a study is a new run with a new id.
        """
        retried = self.resumed is not None and self.study in self.resumed.parents
        return identity(self.directory, self.resumed if retried else None)


class Tracker:
    """Records runs in an experiment tracker. This one is a no-op, for runs that are not tracked."""

    def start(self, run: TrackedRun) -> None:
        """Create the tracked run, or continue the one that has the same identity, and log the epochs of its history."""

    def epoch(self, metrics: EpochMetrics) -> None:
        """Log one epoch. It follows those of the run's history."""

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        """Close the tracked run. `status` is one of cifar.results.STATUSES.

        `figures` are final metrics by name: "best/..." of the best epoch, "test/..." where the test set was evaluated.
        """


class FailSafeTracker(Tracker):
    """Passes every call on to another tracker. When that one raises, it logs a warning and calls it no more."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def start(self, run: TrackedRun) -> None:
        with self._stop_on_error():
            self.tracker.start(run)

    def epoch(self, metrics: EpochMetrics) -> None:
        with self._stop_on_error():
            self.tracker.epoch(metrics)

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        with self._stop_on_error():
            self.tracker.end(status, figures)

    @contextmanager
    def _stop_on_error(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            name = type(self.tracker).__name__
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            log.warning("%s failed (%s); the run continues without it, and its own files are complete", name, reason)
            self.tracker = Tracker()


def measured(metrics: EpochMetrics) -> dict[str, float]:
    """The values of an epoch by their column in metrics.csv, without the epoch's number and what is not known."""
    return {name: value for name, value in asdict(metrics).items() if name != "epoch" and value is not None}


def identity(folder: Path, inherited: Path | None = None) -> str:
    """The id of the run or study in `folder`, written to ID_FILE there.

    It is the one that `folder` already has, else the one of the folder `inherited`, else a new one.
    """
    file = folder / ID_FILE
    folder_id = _read_id(file)
    if folder_id is None and inherited is not None:
        folder_id = _read_id(inherited / ID_FILE)
    if folder_id is None:
        folder_id = uuid.uuid4().hex
    write_atomically(file, folder_id.encode())
    return folder_id


def _read_id(file: Path) -> str | None:
    return file.read_text("utf-8") if file.exists() else None


def display_name(folder: Path) -> str:
    """The path of `folder`, relative to the working directory where it is inside."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)
