"""Every private name of Optuna, Hydra and hydra-optuna-sweeper that the sweeper needs, behind functions.

Their versions are pinned: look here first when they are raised.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import optuna
from hydra._internal.config_repository import IConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl, create_optuna_distribution_from_override
from omegaconf import OmegaConf
from optuna.distributions import BaseDistribution
from optuna.pruners import NopPruner
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial

T = TypeVar("T")


def distribution_of_range(override: Override) -> BaseDistribution:
    """The distribution of a range or an interval.

    Raises ValueError, AssertionError or NotImplementedError for one that Optuna cannot sample.
    """
    distribution: BaseDistribution = create_optuna_distribution_from_override(override)
    return distribution


def grid_choices(distribution: BaseDistribution) -> list[Any]:
    """The values of a discrete distribution, as GridSampler takes them."""
    return list(OptunaSweeperImpl._to_grid_sampler_choices(distribution))


def load_config_file(loader: ConfigLoader, path: str) -> Mapping[str, Any]:
    """The content of a config file of the app, such as search/sgd, without its defaults list, unresolved."""
    loaded = loader.repository.load_config(path)  # type: ignore[attr-defined]
    content = OmegaConf.to_container(loaded.config, resolve=False)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


class SettingsSnapshot(IConfigRepository):
    """A repository of config files that reads each of them once: later edits have no effect on what it composes.

    `answers` holds what was read so far; it is shared by copies, and travels to other processes. Dataclasses in the
    ConfigStore are code, and stay outside.
    """

    def __init__(self, repository: IConfigRepository, answers: dict[tuple[object, ...], Any]) -> None:
        self.repository, self.answers = repository, answers

    def __deepcopy__(self, memo: dict[int, Any]) -> SettingsSnapshot:
        return SettingsSnapshot(copy.deepcopy(self.repository, memo), self.answers)

    def load_config(self, config_path: str) -> ConfigResult | None:
        loaded = self._once("config", config_path, lambda: self.repository.load_config(config_path))
        return copy.deepcopy(loaded)  # composing changes it

    def group_exists(self, config_path: str) -> bool:
        return self._once("group exists", config_path, lambda: self.repository.group_exists(config_path))

    def config_exists(self, config_path: str) -> bool:
        return self._once("config exists", config_path, lambda: self.repository.config_exists(config_path))

    def get_group_options(self, group_name: str, results_filter: ObjectType | None = ObjectType.CONFIG) -> list[str]:
        question = f"options {results_filter}"
        return list(
            self._once(question, group_name, lambda: self.repository.get_group_options(group_name, results_filter))
        )

    def get_schema_source(self) -> ConfigSource:
        return self.repository.get_schema_source()

    def get_sources(self) -> list[ConfigSource]:
        return self.repository.get_sources()

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        self.repository.initialize_sources(config_search_path)

    def _once(self, question: str, path: str, ask: Callable[[], T]) -> T:
        sources = tuple(source.full_path() for source in self.get_sources())  # hydra.searchpath adds some
        key = (sources, question, path)
        if key in self.answers:
            answer: T = self.answers[key]
            return answer
        answer = ask()
        if not (isinstance(answer, ConfigResult) and answer.path.startswith("structured://")):
            self.answers[key] = answer
        return answer


def with_snapshot(loader: ConfigLoader) -> ConfigLoader:
    """A loader like this one that reads every config file once, now or when it is first needed."""
    copied: Any = copy.copy(loader)
    answers: dict[tuple[object, ...], Any] = {}
    copied.repository = SettingsSnapshot(copied.repository, answers)
    if copied._active_repository is not None:
        copied._active_repository = SettingsSnapshot(copied._active_repository.delegate, answers)
    loader_of_snapshot: ConfigLoader = copied
    return loader_of_snapshot


def job_result(job: JobReturn) -> Any:
    """What a job returned, or the exception that it raised; its public property prints and raises that."""
    return job._return_value


def suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    """Sample a parameter from any distribution; the public methods are one for each kind."""
    return trial._suggest(name, distribution)


def id_of(trial: Trial | FrozenTrial) -> int:
    """The number by which the storage knows a trial."""
    return trial._trial_id


def enqueued_values(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters of a waiting trial, whether it was enqueued or added."""
    return {**trial.params, **trial.system_attrs.get("fixed_params", {})}


def storage_of(study: optuna.Study) -> BaseStorage:
    """The storage of a study, with Optuna's cache of finished trials."""
    return study._storage


def tell(study: optuna.Study, number: int, value: float | None, state: optuna.trial.TrialState | None) -> None:
    """Record a trial's result; a no-op where the trial has already ended, which another worker decided.

    GridSampler calls Study.stop once its grid is complete, which raises outside of Study.optimize: that is ignored.
    """
    try:
        study.tell(number, value, state, skip_if_finished=True)
    except RuntimeError as error:
        if "`Study.stop` is supposed to be invoked" not in str(error):
            raise


class Branch(optuna.Study):
    """The study as the sampler of a conditional space sees it: only trials that drew the same options.

    Other branches have parameters of the same name (optimizer.lr) with other ranges and another meaning.
    """

    def __init__(self, study: optuna.Study, options: Mapping[str, Any]) -> None:
        super().__init__(study.study_name, study._storage, study.sampler, NopPruner())  # Hyperband would show others
        self.options = options

    def _get_trials(self, *args: Any, **kwargs: Any) -> list[FrozenTrial]:
        trials = super()._get_trials(*args, **kwargs)
        return [trial for trial in trials if self._drew_the_options(trial)]

    def _drew_the_options(self, trial: FrozenTrial) -> bool:
        return all(trial.params.get(key) == option for key, option in self.options.items())


def trial_of_branch(study: optuna.Study, options: Mapping[str, Any], trial: Trial) -> Trial:
    """The same trial, which samples its other parameters from the trials that drew the same options."""
    return Trial(Branch(study, options), trial._trial_id)
