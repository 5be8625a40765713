"""What is shown of a search while it runs: a live line on a terminal, and a line for each trial that ends."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from cifar.formatting import count_of, format_value
from cifar.overrides import canonical
from cifar.sweep import space as spaces
from cifar.sweep.outcome import best_of, parameters
from cifar.sweep.plan import Plan
from cifar.sweep.space import Space
from cifar.sweep.study import SharedStudy
from cifar.sweep.trials import counts, has_ended

log = logging.getLogger(__name__)
POLL_INTERVAL = 1.0
"""Seconds between two reads of the study."""
CLEAR_LINE = "\r\x1b[K"


class View:
    """Shows the search while it runs; `on_best` is called with each new best trial."""

    def __init__(self, study: SharedStudy, on_best: Callable[[FrozenTrial], None], metric: str | None = None) -> None:
        self.study, self.on_best, self.label = study, on_best, label_of(metric)
        self.begun = time.monotonic()
        before = study.trials()
        self.shown = {t.number for t in before if t.state.is_finished()}
        self.ended_before = sum(map(has_ended, before))
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
        last_error = ""
        while not self._ended.wait(POLL_INTERVAL):
            try:
                self.show()
            except Exception as error:  # of the storage, or of the disk: the trials run on
                if str(error) != last_error:
                    log.warning("the progress cannot be shown (%s); trying again", error)
                last_error = str(error)

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
            line = status(trials, self.study.total, best, self.seconds_left(trials), self.label)
            print(CLEAR_LINE + line, end="", flush=True)

    def seconds_left(self, trials: list[FrozenTrial]) -> float:
        """At the pace of this start so far; infinite where no trial has ended yet."""
        ended = sum(map(has_ended, trials))
        pace = (ended - self.ended_before) / (time.monotonic() - self.begun)
        return (self.study.total - ended) / pace if pace > 0 else math.inf


def label_of(metric: str | None) -> str:
    """The name of a metric before its value, as "balanced accuracy "; empty where it has none."""
    return f"{metric.replace('_', ' ')} " if metric else ""


def describe(trial: FrozenTrial, label: str = "") -> str:
    """One line for a trial that has ended."""
    success = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned"}.get(trial.state)
    outcome = success or trial.user_attrs.get("outcome", "failed")
    value = f" {label}{trial.value:.4f}" if trial.value is not None else ""
    earlier = trial.user_attrs.get("retry_of")
    notes = [] if earlier is None else [f"retry of trial {earlier}"]
    if success is None and "reason" in trial.user_attrs:
        notes.append(trial.user_attrs["reason"].removeprefix(f"{outcome}; "))
    return f"trial {trial.number} {outcome}{value} · {parameters(trial)}" + (f" ({'; '.join(notes)})" if notes else "")


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
    """The first lines of a search; a confirmation, or a search that has ended, has only the first."""
    begins = f"study {plan.settings.study_name} in {os.path.relpath(plan.folder)}: "
    of_confirmation = "seeds" in plan.settings
    if study.finished():
        more = "hydra.sweeper.top=N, hydra.sweeper.seeds=N" if of_confirmation else "hydra.sweeper.n_trials=N"
        return begins + f"all {study.total} trials are done; nothing is left (more: {more})"
    ended = study.ended()
    begins += f"{ended} of {study.total} trials are done, resuming" if ended else count_of(study.total, "trial")
    return begins if of_confirmation else "\n".join([begins, *searched(plan.space)])


def searched(space: Space) -> Iterator[str]:
    """What trials draw: a line of what all draw, and one for each option that adds to it."""
    for options, branch in spaces.branches(space):
        where = "".join(f", with {group}={option}" for group, option in options.items())
        if branch.distributions:
            ranges = "; ".join(f"{canonical(key)} {range_of(d)}" for key, d in branch.distributions.items())
            yield f"searched{where}: {ranges}"


def range_of(distribution: BaseDistribution) -> str:
    """As 0.001 to 0.1 (log), or 16, 32."""
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(map(format_value, distribution.choices))
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    step = distribution.step if distribution.step != 1 or isinstance(distribution, FloatDistribution) else None
    notes = [*(["log"] if distribution.log else []), *([f"in steps of {format_value(step)}"] if step else [])]
    text = f"{format_value(distribution.low)} to {format_value(distribution.high)}"
    return text + (f" ({', '.join(notes)})" if notes else "")
