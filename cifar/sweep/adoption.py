"""Trials that were in a study before its first search here: enqueued by the user, or copied from another study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, check_distribution_compatibility
from optuna.trial import FrozenTrial, TrialState

from cifar.sweep import space as spaces
from cifar.sweep.optuna_private import enqueued_values, id_of, storage_of
from cifar.sweep.space import Space
from cifar.sweep.storage import StudyError, open_study

OF_OTHER_NUMBERS = ("retry_of", "replaces", "confirms", "resume")
"""Attributes that name a trial or a run of the study from which a trial was copied."""


def existing(url: str, name: str) -> optuna.Study | None:
    """The study as it is now; None where there is none yet."""
    try:
        return open_study(url, name)
    except StudyError:
        return None


def stored_space(study: optuna.Study | None, plain: dict[str, Any]) -> dict[str, Any]:
    """`plain`, a space as to_json gives it; or that of the study where both give trials the same values."""
    stored = study.user_attrs.get("space") if study else None
    return stored if stored and spaces.same_values(stored, plain) else plain


def check_trials(study: optuna.Study, space: Space, any_key: bool) -> None:
    """Raises StudyError where the study holds trials with which this space cannot be searched.

    `any_key`: a custom search space may add keys that are not in the space.
    """
    distributions = {key: d for _, branch in spaces.branches(space) for key, d in branch.distributions.items()}
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.WAITING:
            _check_enqueued(study, trial, distributions, any_key)
        if "space" not in study.user_attrs:
            _check_kinds(study, trial, distributions)


def _check_enqueued(
    study: optuna.Study, trial: FrozenTrial, distributions: dict[str, BaseDistribution], any_key: bool
) -> None:
    where = f"study {study.study_name}: trial {trial.number}, which waits to be run,"
    for key, value in enqueued_values(trial).items():
        distribution = distributions.get(key)
        if distribution is None and not any_key:
            raise StudyError(f"{where} has {key}={value}, which is not searched; allowed: {', '.join(distributions)}")
        if isinstance(distribution, CategoricalDistribution) and value not in distribution.choices:
            raise StudyError(f"{where} has {key}={value}; allowed: {', '.join(map(str, distribution.choices))}")


def _check_kinds(study: optuna.Study, trial: FrozenTrial, distributions: dict[str, BaseDistribution]) -> None:
    for key, before in trial.distributions.items():
        try:
            check_distribution_compatibility(before, distributions.get(key, before))
        except ValueError:
            raise StudyError(
                f"study {study.study_name}: its trial {trial.number} has {key} from {before}, the search from"
                f" {distributions[key]}, and a study holds a key as one kind; search it as before, or begin another"
                f" study: hydra.sweeper.study_name={study.study_name}-2"
            ) from None


def adopt(study: optuna.Study) -> None:
    """Take over a study which holds trials but was not begun by a search of this program, and say so.

    The attributes of its trials are of another study: those of ended trials are not read (storage.read_trials), those
    of waiting ones are taken away.
    """
    trials = study.get_trials(deepcopy=False)
    if "fixed" in study.user_attrs or not trials:
        return
    study.set_user_attr("adopted", [trial.number for trial in trials if trial.state.is_finished()])
    for trial, key in _foreign_attributes(trials):
        storage_of(study).set_trial_user_attr(id_of(trial), key, None)
    states = Counter(trial.state.name.lower() for trial in trials)
    listed = ", ".join(f"{count} {state}" for state, count in states.items())
    print(
        f"study {study.study_name} holds trials that no search of this program ran ({listed}): it takes the settings"
        " of this search; complete and pruned trials count towards hydra.sweeper.n_trials, waiting ones run first",
        flush=True,
    )


def _foreign_attributes(trials: list[FrozenTrial]) -> Iterator[tuple[FrozenTrial, str]]:
    for trial in trials:
        if not trial.state.is_finished():
            yield from ((trial, key) for key in OF_OTHER_NUMBERS if key in trial.user_attrs)
