"""The settings of a study that no trial changes: a later start has to have the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cifar.errors import UserError
from cifar.overrides import canonical
from cifar.sweep import rehearsal
from cifar.sweep import space as spaces
from cifar.sweep.app import Invocation
from cifar.sweep.space import Space


class FixedSettingError(UserError):
    """A fixed setting that is not allowed in a search."""


def fixed_config(call: Invocation, config: DictConfig, space: Space) -> DictConfig:
    """The config of a trial, with the defaults in place of what is drawn."""
    overrides = [*space.fixed.values(), *rehearsal.missing_groups(config, space)]
    return call.context.config_loader.load_sweep_config(config, overrides)


def fixed_settings(call: Invocation, cfg: DictConfig, space: Space) -> dict[str, Any]:
    """The settings that no trial changes, by their present names; `cfg` is the fixed_config.

    Raises FixedSettingError for a forbidden one.
    """
    for key, reason in call.app.forbidden.items():
        value = OmegaConf.select(cfg, key)
        if value:
            raise FixedSettingError(f"{key}={value}: not in a search; {reason}")
    return _settings(call, cfg, list(space.distributions))


def option_settings(call: Invocation, config: DictConfig, space: Space, fixed: dict[str, Any]) -> dict[str, Any]:
    """By option of a config group that may be drawn, as "optimizer=adam": the settings that it adds to the fixed ones.

    Those that are searched are left out.
    """
    loader = call.context.config_loader
    settings = {}
    for options, branch in spaces.drawn_options(space, loader.get_group_options):
        drawn = [f"{group}={option}" for group, option in options.items()]
        overrides = [*space.fixed.values(), *branch.fixed.values(), *rehearsal.missing_groups(config, space), *drawn]
        cfg = loader.load_sweep_config(config, overrides)
        searched = [key for key in (*space.distributions, *branch.distributions) if key not in options]
        settings[" ".join(drawn)] = added(fixed, _settings(call, cfg, searched))
    return settings


def _settings(call: Invocation, cfg: DictConfig, searched: list[str]) -> dict[str, Any]:
    """The settings of a composed config, by their present names, without what differs between trials."""
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    settings = call.app.upgrade_settings({str(key): value for key, value in plain.items()})
    renamed = [call.app.renamed_keys[key] for key in searched if key in call.app.renamed_keys]
    return without(settings, [*searched, *renamed, *call.app.execution_keys, "hydra"])


def added(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the nested settings `now` that is not in `before`."""
    part = {}
    for key, value in now.items():
        earlier = before.get(key)
        if isinstance(value, Mapping) and isinstance(earlier, Mapping):
            below = added(earlier, value)
            if below:
                part[key] = below
        elif key not in before or value != earlier:
            part[key] = value
    return part


def without(settings: Mapping[str, Any], keys: list[str]) -> dict[str, Any]:
    """Nested settings without these keys."""
    kept = dict(settings)
    for key in keys:
        first, _, rest = canonical(key).replace("/", ".").partition(".")
        if not rest:
            kept.pop(first, None)
        elif isinstance(kept.get(first), Mapping):
            kept[first] = without(kept[first], [rest])
    return kept
