"""Options that are the user's: model=own, optimizer=own and scheduler=own name a function or a class of a module.

The module is called only where whoever starts the program trusts it: trust=[my_net], or CIFAR_TRUST.
"""

from __future__ import annotations

import hashlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

from cifar import trust
from cifar.options.fields import matching
from cifar.options.model import Model
from cifar.options.optimizer import Optimizer
from cifar.options.option import ConfigError, Option
from cifar.options.scheduler import Scheduler

if TYPE_CHECKING:
    from cifar.options.config import Config

FACTORY = r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*"
EPOCH, STEP = "epoch", "step"


def factory_field() -> Any:
    return matching(FACTORY, "MODULE:NAME of a function or a class, as my_net:Net")


class Own(Option):
    """What the three have in common: `factory` is called with what its group passes and with `kwargs`."""

    factory: str

    def check(self, config: Config) -> None:
        """Raises ConfigError where the module is not trusted, or not there. It is not imported yet."""
        super().check(config)
        check_trusted(f"{self.group}.factory", self.factory)
        module = self.factory.partition(":")[0]
        try:
            spec = find_spec(module)
        except ImportError:
            spec = None
        if spec is None:
            directory = trust.granted()[1]
            raise ConfigError(
                f"{self.group}.factory={self.factory}: no module {module} in {directory}, from where the program was"
                " started, nor installed; allowed: MODULE:NAME of one that is"
            )


@dataclass
class OwnModel(Own, Model):
    """A network of your module: model.factory=my_net:Net, called with num_classes and model.kwargs; trust=[my_net]."""

    _target_: str = "cifar.models.build.own_model"
    factory: str = factory_field()
    kwargs: dict[str, Any] = MISSING


@dataclass
class OwnOptimizer(Own, Optimizer):
    """An optimizer of your module, called with the parameter groups, lr, weight_decay and optimizer.kwargs."""

    _target_: str = "cifar.training.optim.own_optimizer"
    factory: str = factory_field()
    kwargs: dict[str, Any] = MISSING


@dataclass
class OwnScheduler(Own, Scheduler):
    """A scheduler of your module, called with the optimizer and scheduler.kwargs, and stepped every scheduler.interval.

    One that has a parameter `steps` gets the number of training steps of the run.
    """

    _target_: str = "cifar.training.schedulers.own_schedule"
    factory: str = factory_field()
    interval: str = matching(f"{EPOCH}|{STEP}", f"{EPOCH}, {STEP}")
    kwargs: dict[str, Any] = MISSING


def check_trusted(key: str, factory: str) -> None:
    """Raises ConfigError where nobody has said that the factory's module is trusted."""
    trust.trusted()  # from now on its modules can be found
    module = factory.partition(":")[0]
    names, _ = trust.granted()
    if not any(module == name or module.startswith(f"{name}.") for name in names):
        raise ConfigError(
            f"{key}={factory}: not called, as nobody has said that {module} is trusted; allowed, if you trust it:"
            f" trust=[{module}] on the command line (of predict, export and serve: --trust {module}), or the variable"
            f" CIFAR_TRUST={module}"
        )


def load(key: str, factory: str) -> Callable[..., Any]:
    """The function or class that `factory` names. Raises ConfigError where its module cannot be imported."""
    check_trusted(key, factory)
    try:
        loaded: Callable[..., Any] = pkgutil.resolve_name(factory)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ConfigError(f"{key}={factory}: {type(error).__name__}: {error}") from error
    return loaded


def call(key: str, factory: str, *arguments: Any, **keywords: Any) -> Any:
    """What the factory returns. Raises ConfigError for what it does not take."""
    try:
        return load(key, factory)(*arguments, **keywords)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}={factory}: {type(error).__name__}: {error}") from error


def takes(key: str, factory: str, parameter: str) -> bool:
    """Whether the factory has a parameter of this name."""
    return parameter in inspect.signature(load(key, factory)).parameters


def code_digests(config: Config) -> dict[str, str]:
    """SHA-256 of the file of each of the user's modules that a config names, by the module's name."""
    factories = [getattr(option, "factory", None) for option in (config.model, config.optimizer, config.scheduler)]
    modules = {factory.partition(":")[0] for factory in factories if factory}
    files = {name: spec.origin for name in sorted(modules) if (spec := find_spec(name)) is not None}
    return {name: hashlib.sha256(Path(file).read_bytes()).hexdigest() for name, file in files.items() if file}
