"""What Hydra sees of the sweeper: settings and classes. Apps import this at every start: it imports no Optuna."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_optuna_sweeper.config import OptunaSweeperConf, TPESamplerConfig
from omegaconf import MISSING, DictConfig

from cifar.sweep.app import Invocation, SearchedApp


@dataclass
class TPE(TPESamplerConfig):
    """TPE with Optuna 5's own defaults, which the stock plugin switches off."""

    multivariate: bool = True
    constant_liar: bool = True  # a running trial counts as a bad one, so that workers do not try the same place at once


@dataclass
class Pruner:
    _target_: str = MISSING


@dataclass
class NoPruner(Pruner):
    _target_: str = "optuna.pruners.NopPruner"


@dataclass
class Median(Pruner):
    """Stops a trial whose best so far is below the median of the others at the same epoch."""

    _target_: str = "optuna.pruners.MedianPruner"
    n_startup_trials: int = 5
    n_warmup_steps: int = 0
    interval_steps: int = 1
    n_min_trials: int = 1


@dataclass
class Percentile(Median):
    """As Median, but below this percentile."""

    _target_: str = "optuna.pruners.PercentilePruner"
    percentile: float = 25.0


@dataclass
class SuccessiveHalving(Pruner):
    """Asynchronous successive halving: only the best 1/reduction_factor pass each rung."""

    _target_: str = "optuna.pruners.SuccessiveHalvingPruner"
    min_resource: Any = 1
    reduction_factor: int = 3
    min_early_stopping_rate: int = 0
    bootstrap_count: int = 0


@dataclass
class Hyperband(Pruner):
    """Successive halving in several brackets, which prune early or late."""

    _target_: str = "optuna.pruners.HyperbandPruner"
    min_resource: int = 1
    max_resource: Any = "auto"  # a number of steps; auto: that of the first trial that completes
    reduction_factor: int = 3
    bootstrap_count: int = 0


@dataclass
class Patient(Pruner):
    """Median, but only for a trial that has not improved for `patience` epochs."""

    _target_: str = "optuna.pruners.PatientPruner"
    wrapped_pruner: Median = field(default_factory=Median)
    patience: int = 2
    min_delta: float = 0.0


@dataclass
class PullSweeperConf(OptunaSweeperConf):
    """The settings of the stock sweeper, and these.

    direction: null is that of the app's metric · max_failure_rate: of n_trials · heartbeat: an interval in seconds ·
    n_jobs: workers, each of which runs trials_per_worker trials in turns, a step each · max_deaths: of workers, at one
    step of a trial, before the trial fails · retry_failed: each trial that has failed so far runs once more.
    """

    _target_: str = "cifar.sweep.plugin.PullSweeper"
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}, {"pruner": "percentile"}])
    pruner: Pruner = MISSING
    direction: Any = None
    params: dict[str, Any] | None = None
    n_jobs: int = 1
    trials_per_worker: int = 1
    max_failure_rate: float = 0.5
    max_deaths: int = 5
    heartbeat: float = 10.0
    retry_failed: bool = False


@dataclass
class ConfirmSweeperConf(PullSweeperConf):
    """The settings of a search, and these.

    study: the folder of a search · top: how many of its trials run again, each on `seeds` fresh seeds · test: evaluate
    the test set for the chosen one · force: even if it was evaluated before.
    """

    _target_: str = "cifar.sweep.plugin.ConfirmSweeper"
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "random"}, {"pruner": "none"}])
    study: str = MISSING
    top: int = 3
    seeds: int = 5
    test: bool = True
    force: bool = False


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
    epochs_key = PullSweeper.app.epochs_key
    pruners: dict[str, Any] = {
        "none": NoPruner,
        "median": Median,
        "percentile": Percentile,
        "successive_halving": SuccessiveHalving,
        "hyperband": Hyperband(max_resource=f"${{{epochs_key}}}") if epochs_key else Hyperband,
        "patient": Patient,
    }
    for name, node in pruners.items():
        _store("hydra/sweeper/pruner", name, node)


def _store(group: str, name: str, node: Any) -> None:
    ConfigStore.instance().store(group=group, name=name, node=node, provider="cifar", replace=True)
