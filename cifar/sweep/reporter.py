"""What a trial's run reports to the study, and how the study ends it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial

from cifar.errors import UserError
from cifar.reporting import Coordinator, Interrupted, Pruned, Reporter
from cifar.signals import StopFlag
from cifar.sweep.app import Metrics
from cifar.sweep.content import ContentCheck
from cifar.sweep.lockstep import Lockstep


class TakenOver(Interrupted):
    """The heartbeat of this trial stopped (the machine slept?), and another worker resumes the trial."""


class TurnTaking(Coordinator):
    """A run takes turns with the other trials of its worker, and ends when the worker has to stop."""

    exclusive = False

    def __init__(self, stop: StopFlag, lockstep: Lockstep) -> None:
        self.stop, self.lockstep = stop, lockstep

    def yield_control(self) -> None:
        self.lockstep.yield_control()
        if self.stop.is_set():
            raise Interrupted("interrupted; the command of the search resumes it", signal.SIGTERM)

    def run_in_background(self, work: Callable[[], object]) -> None:
        self.lockstep.run_in_background(work)

    def set_capacity(self, runs: float) -> None:
        self.lockstep.set_capacity(runs)


class TrialReporter(Reporter):
    """Reports every step to the study; ends the run where it is to be pruned, and when the worker has to stop.

    `metric` is the name of the metric that the study optimises, where the run reports several. `check` compares what
    the run is trained on with what the study is about.
    """

    def __init__(
        self,
        trial: Trial,
        stop: StopFlag,
        coordinator: Coordinator,
        metric: str | None = None,
        check: ContentCheck | None = None,
    ) -> None:
        self.trial, self.stop, self.coordinator, self.metric = trial, stop, coordinator, metric
        self.check = check
        self._reported: set[int] = set()

    def identify(self, content: Mapping[str, Mapping[str, Any]]) -> None:
        if self.check is None:
            return
        try:
            self.check.identify(self.trial, content)
        except UpdateFinishedTrialError:
            raise self._taken_over() from None

    def repeat(self, history: Iterable[tuple[int, Metrics]]) -> None:
        """Report the steps of an earlier attempt, which prune nothing."""
        for step, metrics in history:
            self._report(step, self._value(metrics))

    def report(self, step: int, metrics: Metrics) -> None:
        self._report(step, self._value(metrics))
        if self.trial.should_prune():
            raise Pruned(f"pruned after epoch {step}")
        if self.stop.is_set():
            raise Interrupted(f"interrupted after epoch {step}", signal.SIGTERM)

    def _value(self, metrics: Metrics) -> float:
        if not isinstance(metrics, Mapping):
            return metrics
        if self.metric is None or self.metric not in metrics:
            allowed = self.metric or "the name of the metric to optimise in SearchedApp.metrics"
            raise UserError(
                f"reported {', '.join(metrics)}: not the metric to optimise; allowed: a number, or {allowed}"
            )
        return metrics[self.metric]

    def _report(self, step: int, value: float) -> None:
        if step in self._reported:
            return
        self._reported.add(step)
        try:
            self.trial.report(value, step)
        except UpdateFinishedTrialError:
            raise self._taken_over() from None

    def _taken_over(self) -> TakenOver:
        return TakenOver(f"trial {self.trial.number} was taken over by another worker", signal.SIGTERM)
