"""A study's trials and what they searched, as rows."""

from __future__ import annotations

import itertools
from collections.abc import Hashable
from pathlib import Path, PurePath
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
OUTCOMES_OF_FAIL = ("failed", "diverged", "replaced", "lost", "interrupted", "withdrawn")
MAX_DECIDING = 4
"""Choices that decide together on the space, at most. Of 16 choices there are 2,500 sets of up to four, and 65,000 of
any size."""
NO_PARAMS = "no hyperparameters"
"""The branch of trials that ended before they drew any, where others did."""
MAX_SETS = 5000
"""Sets of choices that are tried, at most."""
LARGEST = 1e100
"""Values beyond are no scores, as infinity is none: their squares would not fit into a float."""
Spaces = dict[int, frozenset[tuple[str, str]]]
"""By trial, the names of its hyperparameters and their distributions as text: choices may be lists, which have no
hash, and NaN, which is not equal to itself."""


def sign_of(study: Study) -> float:
    """What turns a value of the first objective into a score, of which larger is better."""
    return -1.0 if study.directions[0] == StudyDirection.MINIMIZE else 1.0


def branches_of(trials: list[FrozenTrial]) -> dict[int, str]:
    """By trial, the options that decided what else was searched; all empty where every trial had the same space.

    They are the choices, as few as possible, whose values determine the space of every trial that has ended.
    """
    spaces = {t.number: _space_of(t) for t in trials if t.state in ENDED and t.params}
    keys = _deciding([t for t in trials if t.number in spaces], spaces)
    if keys is not None:
        branches = {t.number: _assignments(t, keys) for t in trials}
    else:
        names = {space: f"space {i}" for i, space in enumerate(dict.fromkeys(spaces.values()), 1)}
        branches = {t.number: names.get(spaces.get(t.number, frozenset()), "") for t in trials}
    without = [t.number for t in trials if t.state in ENDED and not t.params]
    return branches | dict.fromkeys(without if spaces else (), NO_PARAMS)


def _assignments(trial: FrozenTrial, keys: tuple[str, ...]) -> str:
    return " ".join(f"{key}={trial.params[key]}" for key in keys if key in trial.params)


def _space_of(trial: FrozenTrial) -> frozenset[tuple[str, str]]:
    return frozenset((key, repr(distribution)) for key, distribution in trial.distributions.items())


def _deciding(trials: list[FrozenTrial], spaces: Spaces) -> tuple[str, ...] | None:
    """The choices that all trials share and that decide on their space; None where no choices do."""
    different = set(spaces.values())
    if len(different) <= 1:
        return ()
    shared = {key for key, _ in frozenset.intersection(*different)}
    distributions = trials[0].distributions
    choices = {key: d for key in shared if isinstance(d := distributions[key], CategoricalDistribution)}
    names = sorted(choices, key=lambda key: (len(choices[key].choices), key))
    drawn = [{key: repr(trial.params[key]) for key in names} for trial in trials]
    of_trials = [spaces[trial.number] for trial in trials]
    sets = (keys for count in range(1, MAX_DECIDING + 1) for keys in itertools.combinations(names, count))
    return next((keys for keys in itertools.islice(sets, MAX_SETS) if _decide(keys, drawn, of_trials)), None)


def _decide(keys: tuple[str, ...], drawn: list[dict[str, str]], spaces: list[frozenset[tuple[str, str]]]) -> bool:
    """Whether trials with the same values of these hyperparameters always have the same space."""
    space_of_values: dict[Hashable, frozenset[tuple[str, str]]] = {}
    return all(
        space_of_values.setdefault(tuple(values[key] for key in keys), space) == space
        for values, space in zip(drawn, spaces, strict=True)
    )


def space_rows(trials: list[FrozenTrial], branches: dict[int, str]) -> list[dict[str, Any]]:
    """A row for each hyperparameter of each branch."""
    distributions: dict[tuple[str, str], BaseDistribution] = {}
    for trial in trials:
        if trial.state in ENDED:
            for key, distribution in trial.distributions.items():
                distributions.setdefault((branches[trial.number], key), distribution)
    return [{"branch": branch, "hyperparameter": key, **_range(d)} for (branch, key), d in distributions.items()]


def _range(distribution: BaseDistribution) -> dict[str, Any]:
    if isinstance(distribution, CategoricalDistribution):
        choices = tuple(map(plain_choice, distribution.choices))
        low, high = _ends(choices)
        return {"kind": "choice", "low": low, "high": high, "log": False, "whole": False, "choices": choices}
    d: Any = distribution
    whole = isinstance(distribution, IntDistribution)
    return {"kind": "number", "low": d.low, "high": d.high, "log": d.log, "whole": whole, "choices": None}


def plain_choice(value: Any) -> Any:
    """A value as frames hold it: null, a list, a dict and NaN as text, because frames compare and count values.

    In frames None is a hyperparameter that a trial does not have.
    """
    if value is None:
        return "null"
    is_plain = isinstance(value, (str, int, float))
    return value if is_plain and value == value else repr(value)


def _ends(choices: tuple[Any, ...]) -> tuple[Any, Any]:
    """The smallest and the largest of choices that are all numbers; None of others."""
    if all(isinstance(choice, (int, float)) and not isinstance(choice, bool) for choice in choices):
        return min(choices), max(choices)
    return None, None


def trial_row(trial: FrozenTrial, sign: float, branch: str, folder: Path | None) -> dict[str, Any]:
    """A trial's row; `folder` is that of its study."""
    value = trial.values[0] if trial.values and trial.state == TrialState.COMPLETE else None
    last = trial.intermediate_values.get(trial.last_step) if trial.last_step is not None else None
    score = _finite(value, sign)
    attributes = trial.user_attrs
    run = run_of(trial, folder)
    missing = run is not None and trial.state != TrialState.WAITING and not run.is_dir()
    row = {
        "number": trial.number,
        "state": trial.state.name,
        "outcome": _outcome(trial),
        "reason": attributes.get("reason"),
        "value": value,
        "score": score,
        "last_step": trial.last_step,
        "last_score": _finite(last, sign),
        "started": trial.datetime_start,
        "ended": trial.datetime_complete,
        "seconds": trial.duration.total_seconds() if trial.duration else None,
        "worker": _worker(attributes.get("worker")),
        "retry_of": number if isinstance(number := attributes.get("retry_of"), int) else None,
        "branch": branch,
        "run": run,
        "problem": "no run directory" if missing else None,
    }
    return row | {f"params.{key}": plain_choice(value) for key, value in trial.params.items()}


def _finite(value: float | None, sign: float) -> float | None:
    """A value as a score; None where there is none, or none that can be computed with."""
    return sign * value if value is not None and abs(value) < LARGEST else None


def run_of(trial: FrozenTrial, folder: Path | None) -> Path | None:
    """The run directory of a trial in the folder of its study; users may have stored anything under the same key."""
    name = trial.user_attrs.get("folder")
    if folder is None or not isinstance(name, str) or not name:
        return None
    parts = PurePath(name).parts
    is_inside = not PurePath(name).is_absolute() and ".." not in parts and all(len(part) < 256 for part in parts)
    return folder / name if is_inside else None


def _worker(attribute: Any) -> str | None:
    keys = ("host", "pid", "index")
    if not isinstance(attribute, dict) or not all(key in attribute for key in keys):
        return None
    return " ".join(str(attribute[key]) for key in keys)


def _outcome(trial: FrozenTrial) -> str:
    if trial.state == TrialState.FAIL:
        outcome = trial.user_attrs.get("outcome")
        return outcome if outcome in OUTCOMES_OF_FAIL else "failed"
    return trial.state.name.lower()
