"""The study that all workers of all machines share: who runs which trial, and how each trial ended.

Everything is derived from what the storage holds, so a kill between any two operations leaves nothing to repair.

Attributes of the study      fixed: the fixed settings (nested dict) · space: what is searched (space.to_json)
                             options: what each option that may be drawn adds to the fixed settings
                             overrides: the command line of the latest start, without what is searched
                             adopted: the trials that had ended before the first search of this program
                             metric: the name of the objective, where it has one
Attributes of a trial        folder: its run directory, relative to the study's folder
                             worker: host, pid and index of the worker that ran it
                             outcome, reason: of a FAIL · retry_of: the number of the trial that it retries
                             confirms: the number of the trial of another study that it runs again
                             replaces: the number of a failed trial that runs again on demand
                             resume: a run directory that it resumes, relative to the study's folder
                             content: what it was trained on (content.py)
                             execution: settings of how its run was executed, on which its figures depend
System attributes of a trial heartbeat: a count that its worker raises while it lives, and at what interval in seconds
                             grid_id, search_space: its point of a grid, by Optuna's GridSampler

A new trial is asked for under a lock in the study's folder. Machines that share the storage but not the folder may
still begin a trial over the quota at the same moment: each reads the storage again afterwards, and withdraws its trial
if it is over (`trials.withdrawal`).
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from cifar.sweep.adoption import adopt
from cifar.sweep.app import unchanged
from cifar.sweep.optuna_private import id_of, storage_of, tell
from cifar.sweep.storage import StudyError, another_study, folder_lock, open_storage, read_trials
from cifar.sweep.trials import counts, failed, has_ended, lineage, to_retry, withdrawal

LATER_SETTINGS = ("options",)
"""Settings that studies of earlier versions do not hold: they take those of their next start."""
INHERITED = ("confirms", "resume", "replaces", "execution")
"""Attributes that a retry has too."""
MISSED_HEARTBEATS = 3
"""After so many intervals without a new heartbeat a running trial is stale: its worker is dead."""
OF_GRID = ("grid_id", "search_space")
NO_POINT = -1
"""The grid_id of a trial that leaves its point to another."""

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]


def create(
    url: str,
    name: str,
    folder: Path,
    direction: str,
    settings: Mapping[str, Any],
    upgrade: Upgrade = unchanged,
    metric: str | None = None,
) -> None:
    """Create the study, or check that the one of this name has the same settings.

    Overrides are no settings: data may move. A study none of whose trials counts takes the settings of this start.
    `upgrade` gives the fixed settings of the stored study their present names, `metric` is the name of its value.
    Raises StudyError where the settings or the direction differ.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder):
        storage = open_storage(url)
        names = [study.study_name for study in storage.get_all_studies()]
        wanted = StudyDirection[direction.upper()]
        study = optuna.create_study(study_name=name, storage=storage, direction=wanted, load_if_exists=True)
        changes = [] if study.directions == [wanted] else [f"direction: now {direction}"]
        if not changes:
            adopt(study)
            _complete(study, settings)
        if not changes or "fixed" in study.user_attrs:
            compared = {key: value for key, value in settings.items() if key != "overrides"}
            changes += differences(_stored_settings(study, compared, upgrade), compared)
        if not changes and metric is not None:
            study.set_user_attr("metric", metric)
    if changes:
        more = " ..." if changes[5:] else ""
        raise StudyError(
            f"study {name} was started with other settings: {'; '.join(changes[:5])}{more};"
            f" use those, or start another: {another_study(name, folder, names)}"
        )


def _complete(study: optuna.Study, settings: Mapping[str, Any]) -> None:
    """Store the settings of a new study, or those that a kill kept from being stored before any trial began."""
    trials = read_trials(study)
    begun = bool(trials) and "adopted" not in study.user_attrs
    is_empty = bool(trials) and not any(counts(t) or t.state == TrialState.WAITING or to_retry(t) for t in trials)
    for key, value in settings.items():
        if is_empty or (key not in study.user_attrs and (key in LATER_SETTINGS or not begun)):
            study.set_user_attr(key, value)


def _stored_settings(study: optuna.Study, settings: Mapping[str, Any], upgrade: Upgrade) -> dict[str, Any]:
    stored = {key: study.user_attrs.get(key) for key in settings}
    composed = {
        key: upgraded(stored[key] or {}, settings[key], upgrade) for key in ("fixed", "options") if key in stored
    }
    return stored | composed


def upgraded(stored: dict[str, Any], now: Mapping[str, Any], upgrade: Upgrade) -> dict[str, Any]:
    """Stored settings by their present names.

    What `upgrade` adds, as earlier versions lacked it, is left out where it is not among the settings `now`: it is
    searched, and so it was in the study.
    """
    return _without_additions(upgrade(stored), stored, now)


def _without_additions(
    settings: Mapping[str, Any], stored: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, Any]:
    kept = {}
    for key, value in settings.items():
        before, after = stored.get(key), now.get(key)
        if isinstance(value, Mapping) and isinstance(after, Mapping):
            kept[key] = _without_additions(value, before if isinstance(before, Mapping) else {}, after)
        elif key in stored or key in now:
            kept[key] = value
    return kept


def enqueue(
    study: optuna.Study,
    params: dict[str, Any],
    distributions: dict[str, BaseDistribution],
    system_attrs: dict[str, Any] | None = None,
    **attributes: Any,
) -> None:
    """Have the study run a trial with these parameters next."""
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=params,
            distributions=distributions,
            user_attrs=attributes,
            system_attrs=system_attrs,
        )
    )


def enqueue_again(study: optuna.Study, trial: FrozenTrial, **attributes: Any) -> None:
    """Have the study run a trial with the parameters of this one next: of a grid, at the same point."""
    of_grid = {key: trial.system_attrs[key] for key in OF_GRID if key in trial.system_attrs}
    enqueue(study, trial.params, trial.distributions, of_grid, **attributes)


def heartbeat_of(trial: FrozenTrial) -> tuple[int, float]:
    """The count of its heartbeat, and its interval in seconds, which earlier versions did not record: 0."""
    beat = trial.system_attrs.get("heartbeat", 0)
    return (beat[0], beat[1]) if isinstance(beat, list) else (beat, 0.0)


def differences(before: Any, now: Any, key: str = "") -> list[str]:
    """What differs between two nested dicts, a line for each key; no dict is the same as an empty one."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return [] if before == now or (before or None) is (now or None) is None else [f"{key}: was {before}, now {now}"]
    lines = []
    for name in sorted({*before, *now}):
        lines += differences(before.get(name), now.get(name), f"{key}.{name}" if key else str(name))
    return lines


class SharedStudy:
    """One process's view of the study. `total` is the number of trials that count in the end."""

    def __init__(
        self, url: str, name: str, folder: Path, total: int, pruner: optuna.pruners.BasePruner, max_deaths: int
    ) -> None:
        self.folder, self.total, self.max_deaths = folder, total, max_deaths
        self.lock = folder_lock(folder)
        with self.lock:
            self.study = optuna.load_study(study_name=name, storage=open_storage(url), pruner=pruner)
        self.storage = storage_of(self.study)
        self.adopted = frozenset(self.study.user_attrs.get("adopted", ()))
        self._polls: dict[int, tuple[int, float]] = {}
        """Of each running trial: its heartbeat, and the number of its intervals that were polled without a new one."""

    def trials(self) -> list[FrozenTrial]:
        return read_trials(self.study, self.adopted)

    def ask(self, make_sampler: Callable[[int], BaseSampler], worker: int) -> Trial | None:
        """The next trial to run; None where the total is reached or the rest runs elsewhere.

        `make_sampler` makes the sampler of a trial from its number.
        """
        with self.lock:
            self.fail_stale_trials()
            self.requeue()
            trials = self.trials()
            if sum(map(counts, trials)) >= self.total:
                return None
            self.study.sampler = make_sampler(len(trials))
            trial = self.study.ask()
            self._sign(trial, worker)
        outcome = withdrawal(self.frozen(trial), self.trials(), self.total)
        if outcome is not None:
            self.fail(trial, outcome, "begun elsewhere at the same moment")
            return None
        return trial

    def _sign(self, trial: Trial, worker: int) -> None:
        trial.set_user_attr("folder", str(trial.number))
        trial.set_user_attr("worker", {"host": socket.gethostname(), "pid": os.getpid(), "index": worker})

    def set_folder(self, trial: Trial, folder: Path) -> None:
        """Record where the trial runs: hydra.sweep.subdir may name the folder by what it drew."""
        relative = os.path.relpath(folder.resolve(), self.folder)
        if relative != str(trial.number):
            trial.set_user_attr("folder", relative)

    def frozen(self, trial: Trial) -> FrozenTrial:
        """The trial as the storage holds it now."""
        return self.storage.get_trial(id_of(trial))

    def record_heartbeat(self, trial: Trial, count: int, interval: float) -> None:
        """Called by the worker of a trial at every interval (seconds), with a count that grows."""
        self.storage.set_trial_system_attr(id_of(trial), "heartbeat", [count, interval])

    def poll_heartbeats(self, interval: float) -> None:
        """Read the heartbeats of all running trials; called once an interval (seconds), which others may have longer.

        Polls are counted, not seconds: after a machine was asleep, all of its workers wake up together.
        """
        polls = {}
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            count, others = heartbeat_of(trial)
            share = interval / max(interval, others)
            last_count, missed = self._polls.get(trial.number, (count, -share))
            polls[trial.number] = (count, missed + share if last_count == count else 0.0)
        self._polls = polls

    def fail_stale_trials(self) -> None:
        """End the running trials whose heartbeat has stopped, as lost. Call it under the lock."""
        stale = {number for number, (_, missed) in self._polls.items() if missed >= MISSED_HEARTBEATS - 1e-9}
        if not stale:
            return
        trials = self.trials()
        for trial in trials:
            if trial.number in stale and trial.state == TrialState.RUNNING:
                outcome, reason = self._why_stale(trial, trials)
                self._end(id_of(trial), outcome, reason)

    def _why_stale(self, trial: FrozenTrial, trials: list[FrozenTrial]) -> tuple[str, str]:
        """The outcome and the reason of a stale trial: failed after too many deaths at the same step, else lost."""
        worker = trial.user_attrs.get("worker", {})
        name = f"worker {worker.get('pid', '?')} on {worker.get('host', '?')}"
        deaths = self._deaths(trial, trials)
        if deaths >= self.max_deaths:
            return "failed", f"{name} died; {deaths} have died at this point (out of memory?)"
        return "lost", f"{name} died"

    def _deaths(self, trial: FrozenTrial, trials: list[FrozenTrial]) -> int:
        """How often a trial has been lost at the step where it is now, this time included."""
        earlier = [t for t in lineage(trial, trials) if t.user_attrs.get("outcome") == "lost"]
        return 1 + sum(t.last_step == trial.last_step for t in earlier)

    def _end(self, trial_id: int, outcome: str, reason: str) -> None:
        """Make a trial a FAIL. The attributes go first: they cannot be set once it has ended."""
        with suppress(UpdateFinishedTrialError):
            self.storage.set_trial_user_attr(trial_id, "outcome", outcome)
            if outcome == "withdrawn" and "grid_id" in self.storage.get_trial_system_attrs(trial_id):
                self.storage.set_trial_system_attr(trial_id, "grid_id", NO_POINT)
            self.storage.set_trial_user_attr(trial_id, "reason", reason)
            self.storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def requeue(self) -> None:
        """Enqueue the parameters of every lost or interrupted trial that has no retry yet. Call it under the lock."""
        trials = self.trials()
        retried = {t.user_attrs.get("retry_of") for t in trials}
        for trial in trials:
            if to_retry(trial) and trial.number not in retried:
                attributes = {key: trial.user_attrs[key] for key in INHERITED if key in trial.user_attrs}
                enqueue_again(self.study, trial, retry_of=trial.number, **attributes)

    def complete(self, trial: Trial, value: float) -> None:
        """Record the trial's objective; NaN makes it a FAIL."""
        if math.isnan(value):
            self.fail(trial, "diverged", "the objective is not a number")
        else:
            tell(self.study, trial.number, value, None)

    def prune(self, trial: Trial) -> None:
        tell(self.study, trial.number, None, TrialState.PRUNED)

    def fail(self, trial: Trial, outcome: str, reason: str) -> None:
        self._end(id_of(trial), outcome, reason)

    def lose(self, trial: Trial, reason: str) -> None:
        """End a trial as lost, which is retried, unless it was lost at this step too often."""
        too_often = self._deaths(self.frozen(trial), self.trials()) >= self.max_deaths
        self.fail(trial, "failed" if too_often else "lost", reason)

    def release(self, trial: Trial, reason: str) -> None:
        """End a trial as interrupted, so that another worker, or the next start, resumes it."""
        with self.lock:
            self._end(id_of(trial), "interrupted", reason)
            self.requeue()

    def finished(self) -> bool:
        """Whether the total is reached and nothing runs."""
        counted = [t for t in self.trials() if counts(t)]
        return len(counted) >= self.total and all(t.state.is_finished() for t in counted)

    def ended(self) -> int:
        """How many trials have ended, of those that count."""
        return sum(map(has_ended, self.trials()))

    def failing(self, max_failure_rate: float) -> bool:
        """Whether more than this share of the total has failed."""
        return len(self.failures()) > max_failure_rate * self.total

    def failures(self) -> list[FrozenTrial]:
        """The trials that failed and were not replaced by another."""
        return [t for t in self.trials() if failed(t)]

    def replace_failed(self) -> int:
        """Enqueue the parameters of every failed trial once more, in a trial that counts in its place; how many."""
        with self.lock:
            failures = self.failures()
            for trial in failures:
                enqueue_again(self.study, trial, replaces=trial.number)
        return len(failures)
