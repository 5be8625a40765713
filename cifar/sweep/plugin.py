"""What Hydra sees of the sweeper: settings and classes. Apps import this at every start: it imports no Optuna."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_optuna_sweeper.config import OptunaSweeperConf, TPESamplerConfig
from omegaconf import MISSING, DictConfig, OmegaConf

from cifar.sweep.app import Invocation, SearchedApp
from cifar.sweep.lockstep import MAX_CONCURRENT_RUNS


def setting(default: Any, text: str, low: float | None = None, high: float = math.inf) -> Any:
    """A field with what it does, for --help, and the least and the greatest number that it may be."""
    metadata: dict[str, Any] = {"help": text}
    if low is not None:
        right = ")" if high == math.inf else "]"
        metadata |= {"limits": (low, high), "allowed": f"a number in [{low:g}, {high:g}{right}"}
    return field(default=default, metadata=metadata)


@dataclass
class TPE(TPESamplerConfig):
    """TPE with Optuna 5's own defaults, which the stock plugin switches off."""

    seed: int | None = setting(None, "of what it draws; null: another one at each start")
    multivariate: bool = True
    constant_liar: bool = True  # a running trial counts as a bad one, so that workers do not try the same place at once


@dataclass
class Pruner:
    _target_: str = MISSING


@dataclass
class NoPruner(Pruner):
    """Stops no trial early."""

    _target_: str = "optuna.pruners.NopPruner"


@dataclass
class Median(Pruner):
    """Stops a trial whose best so far is below the median of the others at the same epoch."""

    _target_: str = "optuna.pruners.MedianPruner"
    n_startup_trials: int = setting(5, "no trial is stopped before so many are complete")
    n_warmup_steps: int = setting(0, "no trial is stopped before this epoch")
    interval_steps: int = setting(1, "epochs between two decisions")
    n_min_trials: int = setting(1, "no trial is stopped in an epoch that fewer others have reached")


@dataclass
class Percentile(Median):
    """As Median, but below this percentile."""

    _target_: str = "optuna.pruners.PercentilePruner"
    percentile: float = setting(25.0, "of the others' values: the best so many per cent pass")


@dataclass
class SuccessiveHalving(Pruner):
    """Asynchronous successive halving: only the best 1/reduction_factor pass each rung."""

    _target_: str = "optuna.pruners.SuccessiveHalvingPruner"
    min_resource: Any = setting(1, "the epoch of the first rung; auto: by the first trials")
    reduction_factor: int = setting(3, "of so many trials, one passes a rung")
    min_early_stopping_rate: int = setting(0, "the first rung is at min_resource * reduction_factor to this power")
    bootstrap_count: int = setting(0, "trials that must have reached a rung before one may pass it")


@dataclass
class Hyperband(Pruner):
    """Successive halving in several brackets, which prune early or late."""

    _target_: str = "optuna.pruners.HyperbandPruner"
    min_resource: int = setting(1, "the epoch of the first rung")
    max_resource: Any = setting("auto", "the last epoch; auto: that of the first trial that completes")
    reduction_factor: int = setting(3, "of so many trials, one passes a rung")
    bootstrap_count: int = setting(0, "trials that must have reached a rung before one may pass it")


@dataclass
class Patient(Pruner):
    """Median, but only for a trial that has not improved for `patience` epochs."""

    _target_: str = "optuna.pruners.PatientPruner"
    wrapped_pruner: Median = field(default_factory=Median, metadata={"help": "the pruner that then decides"})
    patience: int = setting(2, "epochs in a row without a new best that it waits for")
    min_delta: float = setting(0.0, "a smaller improvement is none")


@dataclass
class PullSweeperConf(OptunaSweeperConf):
    """The settings of the stock sweeper, and those for resuming, workers and failures."""

    _target_: str = "cifar.sweep.plugin.PullSweeper"
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}, {"pruner": "percentile"}])
    pruner: Pruner = MISSING
    direction: Any = setting(None, "maximize or minimize; null: that of the objective")
    storage: Any = setting(None, "a database, as postgresql://USER@HOST/DATABASE; null: study.db in its folder")
    study_name: str | None = setting(None, "null: made of the data and of the options that are chosen")
    n_trials: int = setting(20, "trials in all; the same command again resumes up to this number", 1)
    n_jobs: int = setting(1, "workers, each of which takes the next trial as soon as it is free", 1)
    trials_per_worker: int = setting(1, "trials of a worker in turns, a step each: for a GPU", 1, MAX_CONCURRENT_RUNS)
    params: dict[str, Any] | None = setting(None, "what is searched, where no command line says it: see conf/search/")
    custom_search_space: str | None = setting(None, "a function of a module that trust= names")
    max_failure_rate: float = setting(0.5, "the search ends where more of n_trials have failed", 0, 1)
    max_deaths: int = setting(5, "workers that may die at one step of a trial before the trial fails", 1)
    heartbeat: float = setting(10.0, "seconds between two heartbeats of a worker", 0.1, 3600)
    retry_failed: bool = setting(False, "each trial that has failed so far runs once more")


@dataclass
class ConfirmSweeperConf(PullSweeperConf):
    """The settings of a search, and those of its confirmation."""

    _target_: str = "cifar.sweep.plugin.ConfirmSweeper"
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "random"}, {"pruner": "none"}])
    study: str = setting(MISSING, "the folder of a search, as sweeps/NAME")
    top: int = setting(3, "so many of its best trials run again", 1)
    seeds: int = setting(5, "fresh seeds, on each of which every one of them runs", 1)
    test: bool = setting(True, "evaluate the test set for the chosen trial")
    force: bool = setting(False, "even if it was evaluated before")


LIMITS = {each.name: each.metadata["limits"] for each in fields(ConfirmSweeperConf) if "limits" in each.metadata}
"""The least and the greatest value of settings below hydra.sweeper."""


class PullSweeper(Sweeper):
    """A sweeper whose workers pull trials from a study that outlives every process; cifar.sweep.launch does the work.

    `app` is the one that was registered last.
    """

    app: ClassVar[SearchedApp] = SearchedApp()

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def invocation(self, arguments: list[str]) -> Invocation:
        assert self.hydra_context is not None and self.task_function is not None and self.config is not None
        return Invocation(self.hydra_context, self.task_function, self.config, arguments, PullSweeper.app)

    def sweep(self, arguments: list[str]) -> None:
        from cifar.sweep.launch import sweep  # not before it is needed: Optuna takes a third of a second

        sweep(self.invocation(arguments))


class ConfirmSweeper(PullSweeper):
    """Runs the best trials of a search again; cifar.sweep.confirm does the work."""

    def sweep(self, arguments: list[str]) -> None:
        from cifar.sweep.confirm import confirm

        confirm(self.invocation(arguments))


def register(app: SearchedApp | None = None) -> None:
    """Make `hydra/sweeper=optuna` and `=confirm` these sweepers, for this app. Call it before hydra.main runs.

    A config of the app, such as conf/hydra/sweeper/optuna.yaml, extends them with `defaults: [pull, _self_]` and
    `[confirmation, _self_]`.
    """
    PullSweeper.app = app or SearchedApp()
    Plugins.instance().register(PullSweeper)
    Plugins.instance().register(ConfirmSweeper)
    for name in ("pull", "optuna"):
        _store("hydra/sweeper", name, PullSweeperConf)
    for name in ("confirmation", "confirm"):
        _store("hydra/sweeper", name, ConfirmSweeperConf)
    _store("hydra/sweeper/sampler", "tpe", TPE)
    OmegaConf.register_resolver("sweep_steps", steps_known, replace=True)
    pruners: dict[str, Any] = {
        "none": NoPruner,
        "median": Median,
        "percentile": Percentile,
        "successive_halving": SuccessiveHalving,
        "hyperband": Hyperband(max_resource=max_resource(PullSweeper.app)),
        "patient": Patient,
    }
    for name, node in pruners.items():
        _store("hydra/sweeper/pruner", name, node)


def max_resource(app: SearchedApp) -> str:
    """The last step of a trial, as an interpolation where a key of the app says it."""
    if app.epochs_key is None:
        return "auto"
    if app.time_key is None:
        return f"${{{app.epochs_key}}}"
    return f"${{sweep_steps:${{{app.epochs_key}}},${{{app.time_key}}}}}"


def steps_known(steps: Any, time: Any) -> Any:
    """The number of steps of every trial; auto where a time sets it, which is known once a trial is complete."""
    return steps if time is None else "auto"


def _store(group: str, name: str, node: Any) -> None:
    ConfigStore.instance().store(group=group, name=name, node=node, provider="cifar", replace=True)
