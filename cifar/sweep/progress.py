"""What is shown of a search while it runs: a live line on a terminal, and a line for each trial that ends."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable

from optuna.trial import FrozenTrial, TrialState

from cifar.sweep.outcome import best_of, parameters
from cifar.sweep.plan import Plan
from cifar.sweep.study import SharedStudy
from cifar.sweep.trials import counts, has_ended

POLL_INTERVAL = 1.0
"""Seconds between two reads of the study."""
CLEAR_LINE = "\r\x1b[K"


class View:
    """Shows the search while it runs; `on_best` is called with each new best trial."""

    def __init__(self, study: SharedStudy, on_best: Callable[[FrozenTrial], None], metric: str | None = None) -> None:
        self.study, self.on_best, self.label = study, on_best, label_of(metric)
        self.begun = time.monotonic()
        self.shown = {t.number for t in study.trials() if t.state.is_finished()}
        self.finished_before = len(self.shown)
        self.live = sys.stdout.isatty()
        best = best_of(study.study)
        self.best: int | None = None if best is None else best.number  # its settings are written when all has gone well
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> View:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()
        self.show()
        print(flush=True, end="\n" if self.live else "")

    def _run(self) -> None:
        while not self._ended.wait(POLL_INTERVAL):
            self.show()

    def show(self) -> None:
        trials = self.study.trials()
        for trial in trials:
            if trial.state.is_finished() and trial.number not in self.shown:
                self.shown.add(trial.number)
                print((CLEAR_LINE if self.live else "") + describe(trial, self.label), flush=True)
        best = best_of(self.study.study)
        if best is not None and best.number != self.best:
            self.best = best.number
            self.on_best(best)
        if self.live:
            line = status(trials, self.study.total, best, self._seconds_left(trials), self.label)
            print(CLEAR_LINE + line, end="", flush=True)

    def _seconds_left(self, trials: list[FrozenTrial]) -> float:
        """At the pace of this start so far; infinite where no trial has ended yet."""
        ended = sum(map(has_ended, trials))
        pace = (ended - self.finished_before) / (time.monotonic() - self.begun)
        return (self.study.total - ended) / pace if pace > 0 else math.inf


def label_of(metric: str | None) -> str:
    """The name of a metric before its value, as "balanced accuracy "; empty where it has none."""
    return f"{metric.replace('_', ' ')} " if metric else ""


def describe(trial: FrozenTrial, label: str = "") -> str:
    """One line for a trial that has ended."""
    success = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned"}.get(trial.state)
    outcome = success or trial.user_attrs.get("outcome", "failed")
    value = f" {label}{trial.value:.4f}" if trial.value is not None else ""
    reason = f" ({trial.user_attrs['reason']})" if "reason" in trial.user_attrs and success is None else ""
    return f"trial {trial.number} {outcome}{value} · {parameters(trial)}{reason}"


def status(trials: list[FrozenTrial], total: int, best: FrozenTrial | None, seconds: float, label: str = "") -> str:
    """Trials done, pruned, failed and running of the total, the best so far, and the time left."""

    def number(state: TrialState) -> int:
        return sum(t.state == state and counts(t) for t in trials)

    line = f"{number(TrialState.COMPLETE)} done, {number(TrialState.PRUNED)} pruned, {number(TrialState.FAIL)} failed,"
    line += f" {number(TrialState.RUNNING)} running of {total}"
    if best is not None:
        line += f" · best {label}{best.value:.4f} (trial {best.number}: {parameters(best)})"
    return line + (f" · {seconds / 60:.0f} min left" if seconds < math.inf else "")


def greeting(plan: Plan, study: SharedStudy) -> str:
    """The first line of a search."""
    begins = f"study {plan.settings.study_name} in {os.path.relpath(plan.folder)}: "
    if study.finished():
        of_confirmation = "seeds" in plan.settings
        more = "hydra.sweeper.top=N, hydra.sweeper.seeds=N" if of_confirmation else "hydra.sweeper.n_trials=N"
        return begins + f"all {study.total} trials are done; nothing is left (more: {more})"
    ended = study.ended()
    return begins + (f"{ended} of {study.total} trials are done, resuming" if ended else f"{study.total} trials")
