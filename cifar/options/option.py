"""The base class of all options, and the registry: which options a config group has."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from omegaconf import MISSING

import cifar.options
from cifar.errors import UserError
from cifar.packages import PackageError, require

if TYPE_CHECKING:
    from cifar.options.config import Config

GROUPS: dict[str, type[Option]] = {}
"""The base class of each config group, by the group's name."""


class ConfigError(UserError):
    """A setting cannot be used. It is found before any work starts."""


class Option:
    """One option of a config group. The base class of a group names the group, an option its value of `key`."""

    group: ClassVar[str]
    key: ClassVar[str] = "_target_"
    """The key by which the options of the group differ."""
    package: ClassVar[str] = ""
    """A package that the option needs; the extra that installs it has the same name."""
    calls: ClassVar[tuple[str, ...]] = ()
    """What the target may build beside itself, as patterns of import paths."""
    changeable: ClassVar[tuple[str, ...]] = ()
    """Keys that may change when a run is resumed: they take effect from its next epoch."""
    options: ClassVar[dict[str, type[Option]]]
    """Of a group's base class: its options by their value of `key`."""

    def __init_subclass__(cls) -> None:
        if "group" in vars(cls):
            GROUPS[cls.group] = cls
            cls.options = {}
        name = vars(cls).get(cls.key, MISSING)
        if name != MISSING:
            other = cls.options.setdefault(name, cls)
            if other is not cls:
                raise TypeError(f"{cls.group}: {other.__name__} and {cls.__name__} both have {cls.key}={name}")

    def check(self, config: Config) -> None:
        """Check what needs more than one key. Raises ConfigError."""


@cache
def discover() -> None:
    """Import every module of this package, so that all options are registered."""
    for module in pkgutil.iter_modules(cifar.options.__path__):
        importlib.import_module(f"{cifar.options.__name__}.{module.name}")


def groups() -> dict[str, type[Option]]:
    """The base class of each group."""
    discover()
    return GROUPS


def whitelist() -> tuple[str, ...]:
    """The import paths that a config may name as a `_target_`: those that an option declares."""
    return tuple(target for group in groups().values() if group.key == "_target_" for target in _targets(group))


def _targets(group: type[Option]) -> Iterator[str]:
    for target, option in group.options.items():
        yield target
        yield from option.calls


def check_package(name: str, option: type[Option]) -> None:
    """Raises ConfigError where the package that the option needs is not installed."""
    try:
        require(name, option.package, *filter(None, [option.package]))
    except PackageError as error:
        raise ConfigError(str(error)) from None
