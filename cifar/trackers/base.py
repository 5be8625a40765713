"""What a tracker is: it receives the settings, every row of metrics.csv, and how the run ended."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cifar.files import write_atomically
from cifar.reporting import EpochMetrics

log = logging.getLogger(__name__)
IDENTITY = "tracker.id"
"""The file in a run's or a study's folder by which the servers' run and this one stay the same."""


@dataclass(frozen=True)
class Run:
    """A run at its start, or where it goes on: its settings by full key, and its epochs so far.

    `study` is the folder of the sweep that it is a trial of, `resumed` the run directory that it goes on with.
    """

    directory: Path
    study: Path | None
    resumed: Path | None
    settings: dict[str, Any]
    history: list[EpochMetrics]

    @property
    def identity(self) -> str:
        """Kept when a run goes on in its folder, and when a sweep goes on with a trial in the folder of another."""
        retried = self.resumed is not None and self.study in self.resumed.parents
        return identity(self.directory, self.resumed if retried else None)


class Tracker:
    """Hears of a run from its start to its end; this one tells nobody."""

    def start(self, run: Run) -> None:
        """Begin a run, or go on with the one of that identity."""

    def epoch(self, metrics: EpochMetrics) -> None:
        """Take note of an epoch that comes after those of the run's history."""

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        """The run has ended, with a status of cifar.results, and so well."""


class FailSafeTracker(Tracker):
    """Passes all on to another tracker, until that fails."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def start(self, run: Run) -> None:
        self._tell("start", run)

    def epoch(self, metrics: EpochMetrics) -> None:
        self._tell("epoch", metrics)

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        self._tell("end", status, figures)

    def _tell(self, what: str, *about: Any) -> None:
        try:
            getattr(self.tracker, what)(*about)
        except Exception as error:
            name, reason = type(self.tracker).__name__, f"{type(error).__name__}: {error}".splitlines()[0]
            log.warning("%s failed, so this run is not tracked any further; its own files are whole (%s)", name, reason)
            self.tracker = Tracker()


def measured(metrics: EpochMetrics) -> dict[str, float]:
    """What was measured in an epoch, by the columns of metrics.csv."""
    return {name: value for name, value in asdict(metrics).items() if name != "epoch"}


def identity(folder: Path, inherited: Path | None = None) -> str:
    """The name, unique in the world, of the run or study in a folder: its own, that of another folder, or a new one."""
    files = [place / IDENTITY for place in (folder, inherited) if place]
    found = next((file.read_text("utf-8") for file in files if file.exists()), uuid.uuid4().hex)
    write_atomically(files[0], found.encode())
    return found


def shown(folder: Path) -> str:
    """A folder as one in the working directory names it."""
    return str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)
