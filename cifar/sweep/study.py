"""The study that all workers of all machines share: who runs which trial, and what became of it.

Everything is derived from what the storage holds, so a kill between any two operations leaves nothing to mend:

    COMPLETE, PRUNED, RUNNING   count against the total
    FAIL                        counts too (outcome failed, diverged), unless its parameters are tried again by
                                another trial (outcome lost, interrupted) or were never needed (withdrawn)
    WAITING                     the parameters of a lost or interrupted trial; the next to be run, not counted before

Attributes of the study      fixed: the fixed settings (nested dict) · space: what is searched (space.to_json)
                             overrides: the command line of the latest start, without what is searched
Attributes of a trial        folder: its run directory, relative to the study's folder
                             worker: host, pid and index of the worker that ran it
                             outcome, reason: of a FAIL · retry_of: the number of the trial it tries again
                             confirms: the number of the trial of another study that it runs again
                             replaces: the number of a failed trial that runs again on demand
                             resume: a run directory that it goes on from, relative to the study's folder
System attribute of a trial  heartbeat: a count that its worker raises while it lives

A new trial is asked for under a lock in the study's folder. Machines that share the storage but not the folder may
still ask for one too many at the same moment: each looks again afterwards, and withdraws its trial if it is
(`withdrawal`).
"""

from __future__ import annotations

import math
import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from cifar.errors import UserError

NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "beegfs", "fuse.sshfs")
RETRIED = ("lost", "interrupted")
"""Outcomes of a FAIL whose parameters are tried again."""
KEPT = ("confirms", "resume", "replaces")
"""Attributes that a retry has too."""
ATTEMPTS = 5
"""Attempts to open a database whose tables others may be making."""
MISSED = 3
"""So many looks, a heartbeat apart, at a trial that shows no sign of life: its worker is dead."""


class StudyError(UserError):
    """A study that cannot be searched: another one of that name, or a storage that cannot hold it."""


def open_storage(url: str) -> BaseStorage:
    """An Optuna storage: a database URL, or journal:///FILE. Its tables are made if it has none: take the lock."""
    if url.startswith("journal:///"):
        return JournalStorage(JournalFileBackend(url.removeprefix("journal:///")))
    if not url.startswith("sqlite:///"):
        return _database(url)
    path = Path(url.removeprefix("sqlite:///"))
    kind = file_system(path.resolve(), Path("/proc/mounts"))
    if kind in NETWORK_FILE_SYSTEMS:
        raise StudyError(
            f"{path}: on a network file system ({kind}), where SQLite loses data; allowed: a local folder"
            " (hydra.sweep.dir=DIR), or a server (hydra.sweeper.storage=postgresql://USER@HOST/DATABASE)"
        )
    return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 120}})  # s that a writer waits for the others


def _database(url: str) -> BaseStorage:
    """A server's database. Of machines that make its tables at the same moment, all but one try again."""
    from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

    for attempt in range(1, ATTEMPTS + 1):
        try:
            return RDBStorage(url)
        except (SQLAlchemyError, StorageInternalError, ImportError) as error:
            if attempt == ATTEMPTS or not isinstance(error, (IntegrityError, ProgrammingError, StorageInternalError)):
                raise StudyError(
                    f"hydra.sweeper.storage={url}: cannot be opened ({str(error).splitlines()[0]}); allowed:"
                    " sqlite:///FILE, journal:///FILE, postgresql://USER@HOST/DATABASE and what else SQLAlchemy knows,"
                    " with its driver installed (pip install -e '.[postgresql]')"
                ) from error
            time.sleep(attempt / 2)
    raise AssertionError("unreachable")


def file_system(path: Path, mounts: Path) -> str:
    """The type of the file system that holds `path`, from a table like /proc/mounts; empty where there is none."""
    if not mounts.exists():
        return ""
    rows = [line.split()[1:3] for line in mounts.read_text("utf-8").splitlines()]
    holding = [(len(place), kind) for place, kind in rows if path.is_relative_to(place.replace("\\040", " "))]
    return max(holding, default=(0, ""), key=lambda row: row[0])[1]


def lock(folder: Path) -> FileLock:
    """Held for every decision on who runs what; the system lets go of it when its holder dies."""
    return FileLock(folder / ".lock")


def create(
    url: str, name: str, folder: Path, direction: str, settings: Mapping[str, Any], overrides: list[str] | None = None
) -> None:
    """Make the study, or check that the one of this name has the same settings. Raises StudyError where not."""
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        storage = open_storage(url)
        names = [study.study_name for study in storage.get_all_studies()]
        towards = StudyDirection[direction.upper()]
        study = optuna.create_study(study_name=name, storage=storage, direction=towards, load_if_exists=True)
        for key, value in settings.items():
            if key not in study.user_attrs and not study.get_trials(deepcopy=False):
                study.set_user_attr(key, value)
        changes = differences({key: study.user_attrs.get(key) for key in settings}, settings)
        changes += [] if study.direction == towards else [f"direction: now {direction}"]
        if not changes and overrides is not None:
            study.set_user_attr("overrides", overrides)
    if changes:
        raise StudyError(
            f"study {name} was begun with other settings: {'; '.join(changes[:5])}{' ...' if changes[5:] else ''};"
            f" use those, or begin another: hydra.sweeper.study_name={_free(name, names)}"
        )


def _free(name: str, taken: list[str]) -> str:
    stem, number = re.sub(r"-\d+$", "", name), 2
    while f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"


def enqueue(
    study: optuna.Study, params: dict[str, Any], distributions: dict[str, BaseDistribution], **attributes: Any
) -> None:
    """Have the study run a trial with these parameters next."""
    waiting = TrialState.WAITING
    study.add_trial(create_trial(state=waiting, params=params, distributions=distributions, user_attrs=attributes))


def differences(before: Any, now: Any, key: str = "") -> list[str]:
    """What differs between two nested dicts, a line for each key."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return [] if before == now else [f"{key}: was {before}, now {now}"]
    found = []
    for name in sorted({*before, *now}):
        found += differences(before.get(name), now.get(name), f"{key}.{name}" if key else str(name))
    return found


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial counts against the total."""
    if trial.state == TrialState.FAIL:
        return trial.user_attrs.get("outcome") not in (*RETRIED, "withdrawn")
    return trial.state != TrialState.WAITING


def _given_up(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and trial.user_attrs.get("outcome") in RETRIED


def failed(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and counts(trial)


def withdrawal(trial: FrozenTrial, trials: list[FrozenTrial], total: int) -> str | None:
    """The outcome of a trial just begun that is one too many, None for any other: only without a common lock is one.

    Of two begun at the same moment the one that looks later sees the other. New trials give way to lower numbers
    alone, so that not all of them do; a retry, whose number is older than its start, gives way to all.
    """
    retry_of = trial.user_attrs.get("retry_of")
    others = [t for t in trials if counts(t) and t.number != trial.number]
    if retry_of is None:
        return "withdrawn" if sum(t.number < trial.number for t in others) >= total else None
    if any(t.number < trial.number and t.user_attrs.get("retry_of") == retry_of for t in trials):
        return "withdrawn"
    return "lost" if len(others) >= total else None


class SharedStudy:
    """One process's view of the study. `total` is the number of trials that count in the end."""

    def __init__(
        self, url: str, name: str, folder: Path, total: int, pruner: optuna.pruners.BasePruner, max_deaths: int
    ) -> None:
        self.folder, self.total, self.max_deaths = folder, total, max_deaths
        self.lock = lock(folder)
        with self.lock:
            self.storage = open_storage(url)
            self.study = optuna.load_study(study_name=name, storage=self.storage, pruner=pruner)
        self.storage = self.study._storage  # with Optuna's cache of finished trials
        self._looks: dict[int, tuple[int, int]] = {}

    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def ask(self, sampler: Callable[[int], BaseSampler], worker: int) -> Trial | None:
        """The next trial to run; None where the total is reached or still running elsewhere.

        `sampler` makes the sampler of a trial from its number.
        """
        with self.lock:
            self.bury_the_dead()
            self.requeue()
            trials = self.trials()
            if sum(map(counts, trials)) >= self.total:
                return None
            self.study.sampler = sampler(len(trials))
            trial = self.study.ask()
            self._sign(trial, worker)
        frozen = self.storage.get_trial(trial._trial_id)
        outcome = withdrawal(frozen, self.trials(), self.total)
        if outcome is not None:
            self.fail(trial, outcome, "begun elsewhere at the same moment")
            return None
        return trial

    def _sign(self, trial: Trial, worker: int) -> None:
        trial.set_user_attr("folder", str(trial.number))
        trial.set_user_attr("worker", {"host": socket.gethostname(), "pid": os.getpid(), "index": worker})

    def beat(self, trial: Trial, count: int) -> None:
        """A sign of life, to be given by the worker of a trial."""
        self.storage.set_trial_system_attr(trial._trial_id, "heartbeat", count)

    def look(self) -> None:
        """Look at all running trials; to be called once a heartbeat.

        Looks are counted, not seconds: after a machine was asleep, watcher and watched wake up together.
        """
        looks = {}
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            count = trial.system_attrs.get("heartbeat", 0)
            last, missed = self._looks.get(trial.number, (count, -1))
            looks[trial.number] = (count, missed + 1 if last == count else 0)
        self._looks = looks

    def bury_the_dead(self) -> None:
        """Mark as lost the running trials that were looked at often enough. To be called under the lock."""
        dead = {number for number, (_, missed) in self._looks.items() if missed >= MISSED}
        trials = self.trials() if dead else []
        for trial in trials:
            if trial.number in dead and trial.state == TrialState.RUNNING:
                self._end(trial._trial_id, *self._verdict(trial, trials))

    def _verdict(self, trial: FrozenTrial, trials: list[FrozenTrial]) -> tuple[str, str]:
        worker = trial.user_attrs.get("worker", {})
        who = f"worker {worker.get('pid', '?')} on {worker.get('host', '?')}"
        deaths = 1 + sum(
            t.last_step == trial.last_step and t.user_attrs.get("outcome") == "lost" for t in lineage(trial, trials)
        )
        if deaths >= self.max_deaths:
            return "failed", f"{who} died; {deaths} have died at this point (out of memory?)"
        return "lost", f"{who} died"

    def _end(self, trial_id: int, outcome: str, reason: str) -> None:
        """Make a trial a FAIL. The attributes go first: they cannot be set once it has ended."""
        with suppress(UpdateFinishedTrialError):
            self.storage.set_trial_user_attr(trial_id, "outcome", outcome)
            self.storage.set_trial_user_attr(trial_id, "reason", reason)
            self.storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def requeue(self) -> None:
        """Enqueue the parameters of every lost or interrupted trial that has no successor. Under the lock."""
        trials = self.trials()
        retried = {t.user_attrs.get("retry_of") for t in trials}
        for trial in trials:
            if _given_up(trial) and trial.number not in retried:
                kept = {key: trial.user_attrs[key] for key in KEPT if key in trial.user_attrs}
                enqueue(self.study, trial.params, trial.distributions, retry_of=trial.number, **kept)

    def complete(self, trial: Trial, value: float) -> None:
        """The trial's objective; NaN makes it a FAIL."""
        if math.isnan(value):
            self.fail(trial, "diverged", "the objective is not a number")
        else:
            self._tell(trial, value)

    def prune(self, trial: Trial) -> None:
        self._tell(trial, state=TrialState.PRUNED)

    def _tell(self, trial: Trial, value: float | None = None, state: TrialState | None = None) -> None:
        """Tell the study, which does not hear of a trial that others hold to be lost."""
        try:
            self.study.tell(trial.number, value, state, skip_if_finished=True)
        except RuntimeError as error:  # the grid is exhausted, which Optuna can only say to optimize()
            if "`Study.stop` is supposed to be invoked" not in str(error):
                raise

    def fail(self, trial: Trial, outcome: str, reason: str) -> None:
        self._end(trial._trial_id, outcome, reason)

    def hand_back(self, trial: Trial, reason: str) -> None:
        """Give up a trial for others, or the next start, to go on with."""
        with self.lock:
            self._end(trial._trial_id, "interrupted", reason)
            self.requeue()

    def finished(self) -> bool:
        """Whether the total is reached and nothing runs."""
        counted = [t for t in self.trials() if counts(t)]
        return len(counted) >= self.total and all(t.state.is_finished() for t in counted)

    def failing(self, max_failure_rate: float) -> bool:
        """Whether more than this share of the total has failed."""
        return len(self.failures()) > max_failure_rate * self.total

    def failures(self) -> list[FrozenTrial]:
        """Those that failed and did not run again."""
        trials = self.trials()
        replaced = {t.user_attrs.get("replaces") for t in trials}
        return [t for t in trials if failed(t) and t.number not in replaced]


def lineage(trial: FrozenTrial, trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that this one tries again, latest first."""
    by_number = {t.number: t for t in trials}
    before = []
    while (number := trial.user_attrs.get("retry_of")) is not None:
        trial = by_number[number]
        before.append(trial)
    return before


class Branch(optuna.Study):
    """The study as the sampler of a conditional space sees it: only trials that drew the same options.

    Their keys are the same in other branches (optimizer.lr), their ranges and meaning are not.
    """

    def __init__(self, study: optuna.Study, options: Mapping[str, Any]) -> None:
        super().__init__(study.study_name, study._storage, study.sampler, study.pruner)
        self.options = options

    def _get_trials(self, *args: Any, **kwargs: Any) -> list[FrozenTrial]:
        return [
            trial
            for trial in super()._get_trials(*args, **kwargs)
            if all(trial.params.get(key) == option for key, option in self.options.items())
        ]
