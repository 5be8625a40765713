"""What a stored study holds, and whether a search can continue with it: checked before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, check_distribution_compatibility
from optuna.trial import FrozenTrial, TrialState

from cifar.errors import UserError
from cifar.sweep import space as spaces
from cifar.sweep.app import Invocation
from cifar.sweep.optuna_private import enqueued_values
from cifar.sweep.plan import Plan
from cifar.sweep.rehearsal import check_values
from cifar.sweep.storage import StudyError, another_study, open_study


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


def check_trials(call: Invocation, plan: Plan, study: optuna.Study) -> None:
    """Raises StudyError where the study holds trials with which the space of the plan cannot be searched."""
    distributions = {key: d for _, branch in spaces.branches(plan.space) for key, d in branch.distributions.items()}
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.WAITING:
            _check_enqueued(call, plan, trial, distributions)
        if "space" not in study.user_attrs:
            _check_kinds(study, trial, distributions, plan.folder)


def _check_enqueued(
    call: Invocation, plan: Plan, trial: FrozenTrial, distributions: dict[str, BaseDistribution]
) -> None:
    where = f"study {plan.settings.study_name}: trial {trial.number}, which waits to be run,"
    values = enqueued_values(trial)
    for key, value in values.items():
        distribution = distributions.get(key)
        if distribution is None and not plan.settings.custom_search_space:
            raise StudyError(f"{where} has {key}={value}, which is not searched; allowed: {', '.join(distributions)}")
        if isinstance(distribution, CategoricalDistribution) and value not in distribution.choices:
            raise StudyError(f"{where} has {key}={value}; allowed: {', '.join(map(str, distribution.choices))}")
    try:
        check_values(call, plan.config, plan.space, values)
    except (UserError, HydraException) as error:
        raise StudyError(f"{where} cannot be run: {error}") from None


def _check_kinds(
    study: optuna.Study, trial: FrozenTrial, distributions: dict[str, BaseDistribution], folder: Path
) -> None:
    for key, before in trial.distributions.items():
        try:
            check_distribution_compatibility(before, distributions.get(key, before))
        except ValueError:
            raise StudyError(
                f"study {study.study_name}: its trial {trial.number} has {key} from {before}, the search from"
                f" {distributions[key]}, and a study holds a key as one kind; search it as before, or begin another"
                f" study: {another_study(study.study_name, folder)}"
            ) from None
