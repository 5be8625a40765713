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
    """Compose and check a trial with every option that can be drawn, and with every end of every range.

    Each has a value of every key that it would draw. Raises SpaceError for the first that is wrong.
    """
    group_options = call.context.config_loader.get_group_options
    for options, branch in [({}, space), *spaces.drawn_options(space, group_options)]:
        left, params = spaces.firsts(space, options)
        params |= options  # of a group that adds nothing to the space
        shown = " ".join(f"{group}={option}" for group, option in options.items())
        where = f" with {shown}" if shown else ""
        _check_trial(call, config, left, params, f"no trial{where} can be composed")
        for key, value in spaces.ends(branch):
            if key in params and params[key] is value:  # composed above
                continue
            what = f"the search would try {branch.override(key, value)}{where}"
            _check_trial(call, config, left, params | {key: value}, what)


def _check_trial(call: Invocation, config: DictConfig, left: Space, params: Mapping[str, Any], what: str) -> None:
    """Raises SpaceError, beginning with `what`, where a trial with these values is not allowed."""
    overrides = [*missing_groups(config, left), *spaces.drawn(left, params)]
    try:
        call.app.check(call.context.config_loader.load_sweep_config(config, overrides))
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise SpaceError(
            f"{what}: {reason} A key that only some options have belongs into conf/search/OPTION.yaml of these"
        ) from error
    except UserError as error:
        raise SpaceError(f"{what}: {error}") from error


def check_values(call: Invocation, config: DictConfig, space: Space, values: Mapping[str, Any]) -> None:
    """Compose and check a trial that has some of its values; the others are the first. Raises what either raises."""
    left, params = spaces.firsts(space, {key: str(value) for key, value in values.items()})
    call.app.check(call.context.config_loader.load_sweep_config(config, spaces.drawn(left, {**params, **values})))


def missing_groups(config: DictConfig, space: Space) -> list[str]:
    """The first option of each searched config group that has no default (???): nothing is composed without one."""
    choices = config.hydra.runtime.choices
    _, params = spaces.firsts(space, {})
    return [space.override(key, value) for key, value in params.items() if choices.get(canonical(key)) == "???"]


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
