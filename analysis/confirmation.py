"""What the confirmation of a study wrote into its folder: runs on fresh seeds, and looks at the test set."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from cifar.files import CONFIRMED_TRIAL, best_trial_file
from cifar.objective import OBJECTIVES
from cifar.results import read_result
from cifar.sweep.storage import StudyError, open_study, resolve_location

from .reading import attempt, read_yaml, value_at
from .trials import run_of, sign_of

FOLDER = "confirmation"
LOOK = "test-"
"""Before the number of a look at the test set, in the name of its folder."""


def chosen_trial(folder: Path) -> int | None:
    """The number of the confirmed trial; None where there is none yet."""
    settings: dict[str, Any] = attempt(lambda: read_yaml(folder / CONFIRMED_TRIAL), {}, [])
    number: int | None = value_at(settings, "trial")
    return number


def trained_execution(folder: Path) -> dict[str, Any]:
    """The settings of the execution, such as CPU threads, with which from_study= trains; empty where none are known."""
    file = best_trial_file(folder)
    settings: dict[str, Any] = attempt(lambda: read_yaml(file), {}, []) if file else {}
    execution = value_at(settings, "execution")
    return execution if isinstance(execution, dict) else {}


def fresh_rows(folder: Path, reported: dict[int, float]) -> list[dict[str, Any]]:
    """A row for each complete run on a fresh seed; `reported` are the scores of the search by trial."""
    return [row | {"reported": reported.get(row["number"])} for row in _complete_runs(folder / FOLDER)]


def looks(folder: Path) -> list[Path]:
    """The folder of each look at the test set, without those that failed before they evaluated anything."""
    return [look for look in (folder / FOLDER).glob(f"{LOOK}*") if _has_begun(look)]


def _has_begun(look: Path) -> bool:
    """Whether a run of this look may have evaluated the test set.

    One that could not read the test images has written no result.json; one whose files were deleted is complete in the
    study.
    """
    return next(look.rglob("result.json"), None) is not None or bool(_complete_runs(look))


def look_rows(folder: Path) -> list[dict[str, Any]]:
    """A row for each run that was evaluated on the test set."""
    rows = []
    for look in looks(folder):
        number = int(look.name.removeprefix(LOOK))
        for run in _complete_runs(look):
            result: dict[str, Any] = attempt(partial(read_result, Path(run["run"])), {}, [])
            facts = {name: value_at(result, f"test.{name}") for name in (*OBJECTIVES, "images", "also_in_train")}
            facts["accuracy_without_fixes"] = value_at(result, "test.without_fixes.accuracy")
            facts["duplicates"] = value_at(result, "without_leaks.test.duplicates")
            facts["accuracy_without"] = value_at(result, "without_leaks.test.without.accuracy")
            rows.append(run | {"look": number} | facts)
    return sorted(rows, key=lambda row: (row["look"], row["seed"]))


def _complete_runs(folder: Path) -> list[dict[str, Any]]:
    """number, seed, score and run of the complete trials of a study of the confirmation; empty where there is none."""
    try:
        location = resolve_location(str(folder))
        study = open_study(location.url, location.name) if location.url else None
    except StudyError:
        return []
    if study is None:
        return []
    sign = sign_of(study)
    return [
        {
            "number": trial.user_attrs.get("confirms"),
            "seed": trial.params.get("seed"),
            "score": sign * trial.values[0],
            "run": str(run_of(trial, folder) or folder / str(trial.number)),
        }
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ]
