"""From a composed config to checked settings, or to one error that names the key, the value and what is allowed."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from cifar.options.config import Config
from cifar.options.fields import allows, describe
from cifar.options.former import RENAMED_KEYS, upgrade_settings
from cifar.options.option import ConfigError, Option, check_package, groups


def check(cfg: DictConfig) -> Config:
    """The typed settings of a composed config.

    Raises ConfigError for an unknown key, a wrong type, a value out of range, settings that do not go together, and a
    package that is missing.
    """
    if "trust" in cfg:
        raise ConfigError("trust: not in a file; allowed: trust=[my_module] on the command line, or CIFAR_TRUST")
    plain = _up_to_date(cfg)
    for former, key in RENAMED_KEYS.items():
        if OmegaConf.select(plain, former) is not None:
            raise ConfigError(
                f"{former}={OmegaConf.select(plain, former)}: a former name of {key}, which is"
                f" {OmegaConf.select(plain, key)}; allowed: {key} alone"
            )
    config = typed(plain)
    for key, value, place in _fields(config):
        if not allows(place, value):
            raise ConfigError(f"{key}={value}: not allowed; allowed: {describe(place)}")
    for name in groups():
        option: Option = getattr(config, name)
        option.check(config)
        check_package(f"{name}={type(option).__name__.lower()}", type(option))
    return config


def typed(plain: DictConfig) -> Config:
    """The settings as the dataclasses of their options, with what suits the data in place of null.

    Raises ConfigError for unknown keys and wrong types.
    """
    schema = OmegaConf.structured(Config)
    for name, group in groups().items():
        schema[name] = OmegaConf.structured(option_of(group, OmegaConf.select(plain, name)))
    config = _typed(schema, plain)
    return dataclasses.replace(config, augment=config.augment.suited(config.data))


def as_used(cfg: DictConfig, config: Config) -> DictConfig:
    """A composed config as it is recorded: the checked settings `config` of augmentation, under today's keys alone."""
    recorded = copy.deepcopy(cfg)
    with open_dict(recorded):
        recorded.augment = dataclasses.asdict(config.augment)
        for former in RENAMED_KEYS:
            group, _, name = former.partition(".")
            recorded[group].pop(name, None)
    return recorded


def _up_to_date(cfg: DictConfig) -> DictConfig:
    """The settings of the run, without Hydra's; what an earlier version wrote (a resumed run) is brought up to date."""
    settings = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    return OmegaConf.create(upgrade_settings(OmegaConf.to_container(settings, resolve=False)))  # type: ignore[arg-type]


def option_of(group: type[Option], node: Any) -> type[Option]:
    """The option that a node of the config is of. Raises ConfigError where the group has no such option."""
    name = node.get(group.key, "") if isinstance(node, DictConfig) else None
    option = group.options.get(name or "")
    if option is not None:
        return option
    shown = f"{group.group}={node}" if name is None else f"{group.group}.{group.key}={name}"
    raise ConfigError(f"{shown}: not allowed; allowed: {', '.join(group.options)}")


def _typed(schema: DictConfig, plain: DictConfig) -> Config:
    """The settings of `plain` as the dataclasses of the schema."""
    _check_mappings(schema, plain)
    try:
        merged = OmegaConf.merge(schema, plain)
        OmegaConf.resolve(merged)
        config = OmegaConf.to_object(merged)
    except ValidationError as error:
        key = re.sub(r"\[\d+]$", "", error.full_key or str(error.key))
        raise ConfigError(
            f"{key}={OmegaConf.select(plain, key)}: not allowed; allowed: {_allowed(schema, key)}"
        ) from None
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from None
    assert isinstance(config, Config)
    return config


def _check_mappings(schema: DictConfig, plain: DictConfig, prefix: str = "") -> None:
    """Raises ConfigError for a value in the place of further keys: OmegaConf's own error does not say where it is."""
    for name in map(str, plain):
        nested = None if OmegaConf.is_missing(schema, name) else schema.get(name)
        if not isinstance(nested, DictConfig) or OmegaConf.is_missing(plain, name):
            continue
        if not isinstance(plain[name], DictConfig):
            keys = [f"{prefix}{name}.{key}=VALUE" for key in map(str, nested) if key != "_target_"]
            allowed = ", ".join(keys) or "a mapping, as {key: value}"
            raise ConfigError(f"{prefix}{name}={plain[name]}: not allowed, it holds further keys; allowed: {allowed}")
        _check_mappings(nested, plain[name], f"{prefix}{name}.")


def _fields(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field[Any]]]:
    """Every field of a config and of the configs in it: full key, value, field."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value, field


def _allowed(schema: DictConfig, key: str) -> str:
    """What the schema allows at `key`, in words."""
    *group, name = key.split(".")
    kind: Any = OmegaConf.get_type(OmegaConf.select(schema, group[0]) if group else schema)
    return describe(next(field for field in dataclasses.fields(kind) if field.name == name))


def explain(error: OmegaConfBaseException) -> str:
    """One line for an error of OmegaConf: the key, what is wrong, and what is allowed there."""
    key = error.full_key or str(error.key)
    if isinstance(error, (ConfigKeyError, ConfigAttributeError)):
        names = sorted(str(name) for name in error.parent_node or () if name != "_target_")
        is_of_option = key.count(".") == 1 and "_target_" in (error.parent_node or ())  # as model.width
        other = "none with this option; leave it out" if is_of_option else f"a new key, as +{key}=VALUE"
        allowed = ", ".join(names) or other
        return f"{key}: no such key; allowed: {allowed}{of_another_option(key)}{of_launcher(key)}"
    if isinstance(error, (MissingMandatoryValue, InterpolationToMissingValueError)):
        return f"{key}: must be given, as {key}=VALUE"
    reason = str(error.msg).splitlines()[0]
    if reason.endswith("is not Optional"):
        return f"{key}=null: not allowed; allowed: a value, or leave it out for the default"
    if reason.startswith("Cannot assign ") and " to Dict" in reason:
        return f"{key}: {reason}; allowed: a mapping, as {key}={{name: value}}"
    return f"{key}: {reason}"


def of_another_option(key: str) -> str:
    """What to add to the message of an unknown key: the options of its group that have it, where these have names."""
    group, _, name = key.partition(".")
    base = groups().get(group)
    if base is None or base.key == "_target_":
        return ""
    kinds: dict[str, Any] = dict(base.options)
    having = [option for option, kind in kinds.items() if name in {field.name for field in dataclasses.fields(kind)}]
    return f"; it is a key of {', '.join(f'{group}={option}' for option in having)}" if having else ""


def of_launcher(key: str) -> str:
    """What to add to the message of an unknown key: hydra.sweeper.n_jobs chooses joblib after the keys are composed."""
    return "; those of joblib: with hydra/launcher=joblib" if key.startswith("hydra.launcher.") else ""
