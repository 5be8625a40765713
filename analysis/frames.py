"""Studies, trials, runs and epochs as tidy frames, of finished and of running sweeps.

    frames = read("sweeps/NAME")        # a study's folder, a run, a grid, a folder of runs, or an Optuna URL
    frames.trials[["number", "score"]]

What cannot be read is listed with its `problem` and does not stop the reading. Columns and dtypes: schema.py.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from optuna.study import Study

from cifar.errors import UserError
from cifar.formatting import spelled
from cifar.intervals import NO_LIMITS, SHARE, Limits
from cifar.objective import ACCURACY, OBJECTIVES, Objective
from cifar.sweep.storage import StudyError, open_study, read_trials, resolve_location

from . import confirmation
from .runs import run_folders, runs_and_epochs, trial_folders
from .schema import CONFIRMATION_RUNS, SPACES, TESTS, TRIALS, table
from .trials import branches_of, sign_of, space_rows, trial_row


class FramesError(UserError):
    """A place that holds nothing to read."""


@dataclass(frozen=True)
class Frames:
    """What was read. `study` is its name, empty where the place holds runs alone; `objectives` are its directions.

    `fresh` and `tests` are of its confirmation, empty where there is none; `chosen` is the number of the confirmed
    trial, None as long as there is none, and `looks` says how often the test set was evaluated. `metric` is the name of
    what the scores are, empty where it is not known.
    """

    place: str
    study: str
    objectives: tuple[str, ...]
    spaces: pd.DataFrame
    trials: pd.DataFrame
    runs: pd.DataFrame
    epochs: pd.DataFrame
    fresh: pd.DataFrame
    tests: pd.DataFrame
    chosen: int | None = None
    looks: int = 0
    metric: str = ""

    @property
    def objective(self) -> Objective | None:
        """The objective of runs of this program; None of other studies, and of runs that have several."""
        return OBJECTIVES.get(self.metric) if len(self.runs) else None

    @property
    def minimizes(self) -> bool:
        """Whether smaller values are better, so that scores are negated values."""
        if self.objectives:
            return self.objectives == ("minimize",)
        return self.objective is not None and self.objective.direction == "minimize"

    @property
    def score_limits(self) -> Limits:
        """Between what the scores lie: shares from 0 to 1, negated losses up to 0, values of other studies anywhere."""
        if not len(self.runs) or not (self.objectives or self.objective):
            return NO_LIMITS
        return (-np.inf, 0.0) if self.minimizes else SHARE

    @property
    def value_name(self) -> str:
        """What the values are, as "validation balanced accuracy"; "value" or "score" where that is not known."""
        if self.objective is not None:
            return self.objective.label
        if self.objectives:
            return spelled(self.metric) or "value"
        return "score"


def read(place: str | Path, study: str | None = None) -> Frames:
    """All that a place holds: a study's folder, a database, an Optuna URL, a run, or a folder of runs.

    `study` names one of several in a storage. Raises FramesError where there is nothing to read.
    """
    place = str(place)
    try:
        url, folder, name = resolve_location(place)
        opened = open_study(url, study or name) if url else None
    except StudyError as error:
        raise FramesError(str(error)) from None
    if opened is not None:
        return of_study(opened, place, folder)
    return _of_runs(place, run_folders(folder) if folder else [])


def _of_runs(place: str, folders: list[Path]) -> Frames:
    """The frames of runs without a study."""
    if not folders:
        raise FramesError(
            f"{place}: neither a study nor a run; allowed: a folder of a sweep (sweeps/NAME), of a run"
            " (outputs/DATE/TIME) or of a grid (multirun/DATE/TIME), or an Optuna URL (sqlite:///FILE)"
        )
    runs, epochs = runs_and_epochs(folders)
    return Frames(
        place=place,
        study="",
        objectives=(),
        spaces=table([], SPACES),
        trials=table([], TRIALS),
        runs=runs,
        epochs=epochs,
        fresh=table([], CONFIRMATION_RUNS),
        tests=table([], TESTS),
        metric=_only(runs.objective),
    )


def of_study(study: Study, place: str = "", folder: Path | None = None) -> Frames:
    """The frames of an open study, with the runs and the confirmation in its folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of choices that are lists: the study has them, whoever reads it
        trials = read_trials(study)
    branches = branches_of(trials)
    sign = sign_of(study)
    rows = [trial_row(trial, sign, branches[trial.number], folder) for trial in trials]
    scores = {row["number"]: row["score"] for row in rows}
    runs, epochs = runs_and_epochs(trial_folders(folder, trials) if folder else [])
    return Frames(
        place=place,
        study=study.study_name,
        objectives=tuple(direction.name.lower() for direction in study.directions),
        spaces=table(space_rows(trials, branches), SPACES),
        trials=table(rows, TRIALS),
        runs=runs,
        epochs=epochs,
        fresh=table(confirmation.fresh_rows(folder, scores) if folder else [], CONFIRMATION_RUNS),
        tests=table(confirmation.look_rows(folder) if folder else [], TESTS),
        chosen=confirmation.chosen_trial(folder) if folder else None,
        looks=len(confirmation.looks(folder)) if folder else 0,
        metric=_metric_of(study, runs),
    )


def _metric_of(study: Study, runs: pd.DataFrame) -> str:
    """The name of a study's objective; studies of earlier versions have none, and searched for the accuracy."""
    name = study.user_attrs.get("metric")
    if isinstance(name, str):
        return name
    maximizes = [direction.name for direction in study.directions] == ["MAXIMIZE"]
    return ACCURACY.name if maximizes and runs.val_accuracy.notna().any() else ""


def _only(names: pd.Series[str]) -> str:
    """The name that all have; empty where they differ."""
    return str(names.iloc[0]) if names.nunique() == 1 else ""
