"""What the settings of a search name and Hydra builds: sampler, pruner, custom search space; all checked beforehand."""

from __future__ import annotations

import functools
import inspect
import random
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, CmaEsSampler, GridSampler, QMCSampler
from optuna.trial import Trial

from cifar import trust
from cifar.errors import UserError
from cifar.packages import require
from cifar.sweep.optuna_private import grid_choices
from cifar.sweep.plugin import ConfirmSweeperConf, PullSweeperConf
from cifar.sweep.space import Space

SAMPLERS = ("hydra_plugins.hydra_optuna_sweeper.*", "optuna.samplers.*")
PRUNERS = ("optuna.pruners.*",)
GET_FUNCTION = "hydra.utils.get_method"
"""Returns the function that its `path` names, which has to be trusted as well."""
OF_HYDRA = {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"}
PACKAGES = {CmaEsSampler: "cmaes"}
"""The package that a sampler imports when it is first asked."""

Extender = Callable[[DictConfig, Trial], object]
"""Suggests more parameters, from the config of the search and a trial that has drawn the others."""


class ComponentError(UserError):
    """A setting of the sweeper, its sampler or its pruner that does not exist, or with which these cannot be made."""


def trusted() -> tuple[str, ...]:
    """What may be called beside the program's own components: the modules that the user trusts."""
    modules = trust.trusted()
    return (*modules, GET_FUNCTION) if modules else ()


def make_pruner(settings: DictConfig) -> BasePruner:
    pruner: BasePruner = instantiate(settings.pruner, _execution_whitelist_=(*PRUNERS, *trusted()))
    return pruner


def make_sampler(settings: DictConfig, space: Space, number: int, stage: str, index: int) -> BaseSampler:
    """The sampler of one trial, seeded by its number: a search that was stopped resumes as if it had not been."""
    make = _partial(settings.sampler, (*SAMPLERS, *trusted()))
    seed = settings.sampler.get("seed")
    if make.func is GridSampler:
        sampler = make(grid(space), seed=seed or 0)  # all workers must have the same order of the grid
    elif make.func is QMCSampler or seed is None:
        sampler = make()
    else:
        sampler = make(seed=random.Random(f"{seed} {number} {stage} {index}").getrandbits(32))
    assert isinstance(sampler, BaseSampler)
    return sampler


def grid(space: Space) -> dict[str, list[Any]]:
    """The values of every key of a discrete space, as GridSampler takes them."""
    return {key: grid_choices(distribution) for key, distribution in space.distributions.items()}


def custom_space(settings: DictConfig) -> Extender | None:
    """The function that hydra.sweeper.custom_search_space names."""
    if not settings.custom_search_space:
        return None
    target = {"_target_": settings.custom_search_space, "_partial_": True}
    extend: Extender = instantiate(target, _execution_whitelist_=trusted() or None)
    return extend


def _partial(node: DictConfig, whitelist: tuple[str, ...]) -> functools.partial[Any]:
    """What a node with a _target_ builds, before it is called; nested nodes are built."""
    plain = OmegaConf.to_container(node, resolve=True)
    assert isinstance(plain, dict)
    make: functools.partial[Any] = instantiate(plain | {"_partial_": True}, _execution_whitelist_=whitelist)
    return make


def check(settings: DictConfig, space: Space) -> None:
    """Build everything once. Raises ComponentError for what cannot be built, PackageError for what is not installed."""
    _check_node("hydra.sweeper.pruner", settings.pruner, (*PRUNERS, *trusted()))
    _check_node("hydra.sweeper.sampler", settings.sampler, (*SAMPLERS, *trusted()))
    _built("hydra.sweeper.pruner", lambda: make_pruner(settings))
    sampler = _built("hydra.sweeper.sampler", lambda: make_sampler(settings, space, 0, "options", 0))
    package = PACKAGES.get(type(sampler))
    if package:
        name = f"hydra/sweeper/sampler: {type(sampler).__name__}"
        require(name, package, package, alternative=", or take another sampler: tpe, gp, random")
    key = f"hydra.sweeper.custom_search_space={settings.custom_search_space}"
    _built(key, lambda: custom_space(settings))


def check_known(settings: DictConfig) -> None:
    """Raises ComponentError for a key below hydra.sweeper that is not one of its settings."""
    schema = OmegaConf.get_type(settings)
    if not is_dataclass(schema):
        confirms = str(settings.get("_target_", "")).endswith("ConfirmSweeper")
        schema = ConfirmSweeperConf if confirms else PullSweeperConf
    names = {field.name for field in fields(schema)} - {"defaults"}
    _refuse_unknown("hydra.sweeper", settings, names)


def _check_node(key: str, node: DictConfig, whitelist: tuple[str, ...]) -> None:
    for name in map(str, node):
        nested = None if OmegaConf.is_missing(node, name) else node[name]
        if isinstance(nested, DictConfig) and "_target_" in nested:
            _check_node(f"{key}.{name}", nested, whitelist)
    without_nested = OmegaConf.create({"_target_": node["_target_"]})
    make = _built(key, lambda: _partial(without_nested, whitelist))
    _refuse_unknown(key, node, _parameters(make.func))


def _parameters(function: Callable[..., Any]) -> set[str] | None:
    """The names of the arguments of a function; None where it takes any."""
    parameters = inspect.signature(function).parameters.values()
    names = {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    if all(p.kind != p.VAR_KEYWORD for p in parameters):
        return names
    result = typing.get_type_hints(function).get("return")  # a function that passes its arguments to a class
    of_result = _parameters(result) if isinstance(result, type) else None
    return None if of_result is None else names | of_result


def _refuse_unknown(key: str, node: Mapping[Any, Any], names: Collection[str] | None) -> None:
    if names is None:
        return
    for name in node:
        if name not in {*names, *OF_HYDRA}:
            allowed = sorted(name for name in names if name not in OF_HYDRA)
            raise ComponentError(f"{key}.{name}: no such setting; allowed: {', '.join(allowed) or 'none'}")


def _built(key: str, build: Callable[[], Any]) -> Any:
    try:
        return build()
    except HydraException as error:
        if "is not in the Hydra execution whitelist" not in str(error):
            raise ComponentError(f"{key}: {_reason(error)}") from error
        target = str(error).split("'")[1]
        raise ComponentError(
            f"{key}: {target} is not called, as nobody has said that its module is trusted; allowed, if you trust it:"
            f" trust=[{target.rpartition('.')[0]}] on the command line, or CIFAR_TRUST={target.rpartition('.')[0]}"
        ) from error
    except (TypeError, ValueError, AttributeError, ImportError) as error:
        raise ComponentError(f"{key}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """The message of an error and of what caused it, in one line."""
    messages = [" ".join(str(e).split()) for e in (error, error.__cause__) if e is not None and str(e)]
    return "; ".join(messages) or type(error).__name__
