"""What Hydra sees of the sweeper: its typed settings and its class. Light, for run.py imports it at every start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_optuna_sweeper.config import (
    Direction,
    OptunaSweeperConf,
    TPESamplerConfig,
)
from omegaconf import MISSING, DictConfig


@dataclass
class TPE(TPESamplerConfig):
    """TPE with Optuna 5's own defaults, which the stock plugin switches off."""

    multivariate: bool = True
    constant_liar: bool = True  # a running trial counts as a bad one: workers do not try the same place at once


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
    """Asynchronous successive halving: only the best 1/reduction_factor go on from each rung."""

    _target_: str = "optuna.pruners.SuccessiveHalvingPruner"
    min_resource: Any = 1
    reduction_factor: int = 3
    min_early_stopping_rate: int = 0
    bootstrap_count: int = 0


@dataclass
class Hyperband(Pruner):
    """Successive halving in several brackets, from eager to patient."""

    _target_: str = "optuna.pruners.HyperbandPruner"
    min_resource: int = 1
    max_resource: Any = "${epochs}"
    reduction_factor: int = 3
    bootstrap_count: int = 0


@dataclass
class Patient(Pruner):
    """Median, but only for a trial that has not got better for `patience` epochs."""

    _target_: str = "optuna.pruners.PatientPruner"
    wrapped_pruner: Median = field(default_factory=Median)
    patience: int = 2
    min_delta: float = 0.0


@dataclass
class PullSweeperConf(OptunaSweeperConf):
    """The stock sweeper's settings, and: heartbeat in seconds, max_failure_rate a share of n_trials.

    A worker, of which there are n_jobs, runs trials_per_worker trials in turns, a step each.
    """

    _target_: str = "cifar.sweep.plugin.PullSweeper"
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}, {"pruner": "percentile"}])
    pruner: Pruner = MISSING
    direction: Any = Direction.maximize
    n_jobs: int = 1
    trials_per_worker: int = 1
    max_failure_rate: float = 0.5
    max_deaths: int = 5
    heartbeat: float = 10.0


@dataclass
class ConfirmSweeperConf(PullSweeperConf):
    """`study`: the folder of a search · `top`: trials that run again, each on `seeds` fresh seeds · `test`: evaluate
    the test set for the chosen one · `force`: also where it was evaluated before."""

    _target_: str = "cifar.sweep.plugin.ConfirmSweeper"
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "random"}, {"pruner": "none"}])
    study: str = MISSING
    top: int = 3
    seeds: int = 5
    test: bool = True
    force: bool = False


class PullSweeper(Sweeper):
    """Pulls trials from a study that outlives every process: cifar.sweep.sweeper does the work."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> None:
        assert self.hydra_context is not None and self.config is not None
        from cifar.sweep.sweeper import sweep  # not before it is needed: Optuna takes a third of a second

        sweep(self.hydra_context, self.task_function, self.config, arguments)


class ConfirmSweeper(PullSweeper):
    """Runs the best trials of a search again: cifar.sweep.confirm does the work."""

    def sweep(self, arguments: list[str]) -> None:
        assert self.hydra_context is not None and self.config is not None
        from cifar.sweep.confirm import confirm

        confirm(self.hydra_context, self.task_function, self.config, arguments)


def register() -> None:
    """Make `hydra/sweeper=optuna` and `=confirm` these sweepers, and their pruners known. Before hydra.main runs."""
    Plugins.instance().register(PullSweeper)
    Plugins.instance().register(ConfirmSweeper)
    store = ConfigStore.instance()
    for name, conf in {"pull": PullSweeperConf, "confirmation": ConfirmSweeperConf}.items():
        store.store(group="hydra/sweeper", name=name, node=conf, provider="cifar", replace=True)
    store.store(group="hydra/sweeper/sampler", name="tpe", node=TPE, provider="cifar", replace=True)
    pruners = {
        "none": NoPruner,
        "median": Median,
        "percentile": Percentile,
        "successive_halving": SuccessiveHalving,
        "hyperband": Hyperband,
        "patient": Patient,
    }
    for name, node in pruners.items():
        store.store(group="hydra/sweeper/pruner", name=name, node=node, provider="cifar", replace=True)
