"""A study's trials and what they searched, as rows."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
Spaces = dict[int, frozenset[tuple[str, BaseDistribution]]]
"""By trial, the distributions that it drew from."""


def sign_of(study: Study) -> float:
    """What turns a value of the first objective into a score, of which larger is better."""
    return -1.0 if study.directions[0] == StudyDirection.MINIMIZE else 1.0


def branches_of(trials: list[FrozenTrial]) -> dict[int, str]:
    """By trial, the options that decided what else was searched; all empty where every trial had the same space.

    They are the choices, as few as possible, whose values determine the space of every trial that has ended.
    """
    spaces = {t.number: frozenset(t.distributions.items()) for t in trials if t.state in ENDED and t.params}
    keys = _deciding([t for t in trials if t.number in spaces], spaces)
    if keys is not None:
        return {t.number: _assignments(t, keys) for t in trials}
    names = {space: f"space {i}" for i, space in enumerate(dict.fromkeys(spaces.values()), 1)}
    return {t.number: names.get(spaces.get(t.number, frozenset()), "") for t in trials}


def _assignments(trial: FrozenTrial, keys: tuple[str, ...]) -> str:
    return " ".join(f"{key}={trial.params[key]}" for key in keys if key in trial.params)


def _deciding(trials: list[FrozenTrial], spaces: Spaces) -> tuple[str, ...] | None:
    """The choices that all trials share and that decide on their space; None where no choices do."""
    different = set(spaces.values())
    shared = frozenset.intersection(*different) if different else frozenset()
    choices = sorted((len(d.choices), key) for key, d in shared if isinstance(d, CategoricalDistribution))
    names = [key for _, key in choices]
    for count in range(len(names) + 1):
        for keys in itertools.combinations(names, count):
            if _decide(keys, trials, spaces):
                return keys
    return None


def _decide(keys: tuple[str, ...], trials: list[FrozenTrial], spaces: Spaces) -> bool:
    """Whether trials with the same values of these hyperparameters always have the same space."""
    values = set()
    values_and_spaces = set()
    for trial in trials:
        drawn = tuple(trial.params[key] for key in keys)
        values.add(drawn)
        values_and_spaces.add((drawn, spaces[trial.number]))
    return len(values_and_spaces) == len(values)


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
        low, high = _ends(distribution.choices)
        choices = tuple(distribution.choices)
        return {"kind": "choice", "low": low, "high": high, "log": False, "whole": False, "choices": choices}
    d: Any = distribution
    whole = isinstance(distribution, IntDistribution)
    return {"kind": "number", "low": d.low, "high": d.high, "log": d.log, "whole": whole, "choices": None}


def _ends(choices: tuple[Any, ...]) -> tuple[Any, Any]:
    """The smallest and the largest of choices that are all numbers; None of others."""
    if all(isinstance(choice, (int, float)) and not isinstance(choice, bool) for choice in choices):
        return min(choices), max(choices)
    return None, None


def trial_row(trial: FrozenTrial, sign: float, branch: str, folder: Path | None) -> dict[str, Any]:
    """A trial's row; `folder` is that of its study."""
    value = trial.values[0] if trial.values and trial.state == TrialState.COMPLETE else None
    last = trial.intermediate_values.get(trial.last_step) if trial.last_step is not None else None
    attributes = trial.user_attrs
    run = folder / attributes["folder"] if folder and "folder" in attributes else None
    worker = attributes.get("worker")
    missing = run is not None and trial.state != TrialState.WAITING and not run.is_dir()
    row = {
        "number": trial.number,
        "state": trial.state.name,
        "outcome": _outcome(trial),
        "reason": attributes.get("reason"),
        "value": value,
        "score": sign * value if value is not None and math.isfinite(value) else None,
        "last_step": trial.last_step,
        "last_score": None if last is None else sign * last,
        "started": trial.datetime_start,
        "ended": trial.datetime_complete,
        "seconds": trial.duration.total_seconds() if trial.duration else None,
        "worker": "{host} {pid} {index}".format(**worker) if isinstance(worker, dict) else None,
        "retry_of": attributes.get("retry_of"),
        "branch": branch,
        "run": run,
        "problem": "no run directory" if missing else None,
    }
    return row | {f"params.{key}": value for key, value in trial.params.items()}


def _outcome(trial: FrozenTrial) -> str:
    if trial.state == TrialState.FAIL:
        return str(trial.user_attrs.get("outcome", "failed"))
    return trial.state.name.lower()
