"""Trials composed before the first one runs, so that a wrong space or folder is one error and costs no trial."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from optuna.samplers import RandomSampler

from cifar.errors import UserError
from cifar.overrides import canonical
from cifar.sweep import space as spaces
from cifar.sweep.app import Invocation
from cifar.sweep.components import ComponentError, custom_space
from cifar.sweep.optuna_private import suggest
from cifar.sweep.space import Space, SpaceError

NOT_OF_A_TRIAL = ("confirmation", "report")
"""Folders in that of a study which hold something else."""


def check_space(call: Invocation, config: DictConfig, space: Space) -> None:
    """Compose and check every end of every range, in every branch. Raises SpaceError for the first that is wrong."""
    compose = call.context.config_loader.load_sweep_config
    for options, branch in spaces.branches(space):
        left, params = spaces.firsts(space, options)
        drawn = [f"{group}={option}" for group, option in params.items() if group not in left.distributions]
        common = [*left.fixed.values(), *drawn, *missing_groups(config, left)]
        where = f" with {' '.join(drawn)}" if drawn else ""
        try:
            common += missing_values(compose(config, common), left, params)
        except HydraException as error:
            raise SpaceError(f"no trial{where} can be composed: {error}") from error
        for end in spaces.ends(branch):
            try:
                call.app.check(compose(config, [*common, end]))
            except (UserError, HydraException) as error:
                raise SpaceError(f"the search would try {end}{where}: {error}") from error


def check_values(call: Invocation, config: DictConfig, space: Space, values: Mapping[str, Any]) -> None:
    """Compose and check a trial that has some of its values; the others are the first. Raises what either raises."""
    left, params = spaces.firsts(space, {key: str(value) for key, value in values.items()})
    call.app.check(call.context.config_loader.load_sweep_config(config, spaces.drawn(left, {**params, **values})))


def missing_groups(config: DictConfig, space: Space) -> list[str]:
    """The first option of each searched config group that has no default (???): nothing is composed without one."""
    choices = config.hydra.runtime.choices
    _, params = spaces.firsts(space, {})
    return [space.override(key, value) for key, value in params.items() if choices.get(canonical(key)) == "???"]


def missing_values(cfg: DictConfig, space: Space, params: Mapping[str, Any]) -> list[str]:
    """The first value of each searched key that must be given (???): nothing else can be checked without one."""
    overrides = []
    for key in space.distributions:
        parent, _, name = canonical(key).rpartition(".")
        node = OmegaConf.select(cfg, parent) if parent else cfg
        if isinstance(node, DictConfig) and OmegaConf.is_missing(node, name):
            overrides.append(space.override(key, params[key]))
    return overrides


def check_custom_space(call: Invocation, config: DictConfig, space: Space) -> None:
    """Have hydra.sweeper.custom_search_space extend a trial that no study holds, and check what it suggests.

    Raises ComponentError where it raises, SpaceError where what it suggests is not allowed.
    """
    extend = custom_space(config.hydra.sweeper)
    if extend is None:
        return
    trial = optuna.create_study(sampler=RandomSampler(seed=0)).ask()
    left = spaces.active(space, functools.partial(suggest, trial))
    for key, distribution in left.distributions.items():
        suggest(trial, key, distribution)
    name = f"hydra.sweeper.custom_search_space={config.hydra.sweeper.custom_search_space}"
    try:
        extend(config, trial)
    except Exception as error:
        raise ComponentError(f"{name}: raised {type(error).__name__}: {error}") from error
    overrides = spaces.drawn(left, trial.params)
    try:
        call.app.check(call.context.config_loader.load_sweep_config(config, overrides))
    except (UserError, HydraException) as error:
        raise SpaceError(f"{name}: the search would try {' '.join(overrides)}: {error}") from error


def check_subdir(call: Invocation, config: DictConfig, space: Space) -> None:
    """Raises SpaceError where hydra.sweep.subdir does not give each trial a separate folder in that of the study."""
    left, params = spaces.firsts(space, {})
    cfg = call.context.config_loader.load_sweep_config(config, spaces.drawn(left, params))
    text = OmegaConf.to_container(cfg.hydra.sweep, resolve=False)["subdir"]  # type: ignore[index, call-overload]
    allowed = "allowed: a folder in that of the study which names the trial, as run_${hydra.job.num}"
    try:
        folders = {folder_of_trial(cfg, number) for number in range(2)}
    except OmegaConfBaseException as error:
        raise SpaceError(f"hydra.sweep.subdir={text}: {str(error).splitlines()[0]}; {allowed}") from error
    if len(folders) < 2:
        raise SpaceError(f"hydra.sweep.subdir={text}: several trials would share this folder; {allowed}")
    for folder in folders:
        first = next(iter(PurePath(folder).parts), "")
        if first.startswith((".", "/")) or ".." in PurePath(folder).parts or first in NOT_OF_A_TRIAL:
            raise SpaceError(f"hydra.sweep.subdir={text}: not a folder for trials; {allowed}")


def folder_of_trial(cfg: DictConfig, number: int) -> str:
    """What hydra.sweep.subdir says for a trial of this number."""
    instance = HydraConfig.instance()
    before, cfg = instance.cfg, copy.deepcopy(cfg)
    with open_dict(cfg):
        cfg.hydra.job.id, cfg.hydra.job.num = str(number), number
    instance.set_config(cfg)  # for the resolver hydra:
    try:
        return str(cfg.hydra.sweep.subdir)
    finally:
        instance.cfg = before
