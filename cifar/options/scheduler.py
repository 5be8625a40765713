"""config group scheduler: the learning rate over the run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from omegaconf import MISSING

from cifar.objective import OBJECTIVES
from cifar.options.fields import within
from cifar.options.option import ConfigError, Option

if TYPE_CHECKING:
    from cifar.options.config import Config


@dataclass
class Scheduler(Option):
    """A learning-rate scheduler; its target is called with the optimizer, the steps of the run and the other keys.

    Before it begins, the learning rate rises linearly for warmup_epochs, which are no more steps of its target.
    """

    group: ClassVar[str] = "scheduler"

    _target_: str = MISSING
    warmup_epochs: float = within("[0, inf)", default=0.0)

    @property
    def linear_warmup(self) -> float:
        """Epochs in which the learning rate rises before the scheduler begins."""
        return self.warmup_epochs

    def arguments(self, config: Config) -> dict[str, object]:
        """The target and what it is called with in a run, beside the optimizer and the steps."""
        settings = dataclasses.asdict(self)
        del settings["warmup_epochs"]
        return settings

    def check(self, config: Config) -> None:
        if config.time is None:
            self.check_warmup(f"epochs={config.epochs}", config.epochs)

    def check_warmup(self, setting: str, epochs: float) -> None:
        """Raises ConfigError where the warm-up is not over before the run is; `setting` is what sets its epochs."""
        if self.warmup_epochs >= epochs:
            raise ConfigError(
                f"scheduler.warmup_epochs={self.warmup_epochs:g}: the run has no more epochs ({setting});"
                " allowed: fewer than epochs, or more epochs, as a longer time has; in a search,"
                " scheduler.warmup_epochs=0 leaves it out"
            )


@dataclass
class Constant(Scheduler):
    """The same learning rate throughout."""

    _target_: str = "cifar.training.schedulers.constant"


@dataclass
class Cosine(Scheduler):
    """Cosine decay to zero, a step a batch (Loshchilov & Hutter 2017, without restarts)."""

    _target_: str = "cifar.training.schedulers.cosine"


@dataclass
class OneCycle(Scheduler):
    """One cycle: up to the optimizer's lr, then down, a step a batch (Smith & Topin 2018)."""

    changeable = ("warmup",)
    _target_: str = "cifar.training.schedulers.onecycle"
    warmup: float = within("(0, 1)")

    @property
    def linear_warmup(self) -> float:
        """None: its cycle begins with a rise."""
        return 0.0

    def arguments(self, config: Config) -> dict[str, object]:
        settings = super().arguments(config)
        if self.warmup_epochs:
            settings["warmup"] = self.warmup_epochs / config.epochs
        return settings


@dataclass
class Plateau(Scheduler):
    """ReduceLROnPlateau on the objective: lr times factor after more than patience epochs without a new best."""

    changeable = ("patience", "factor")
    _target_: str = "cifar.training.schedulers.plateau"
    patience: int = within("[0, inf)")
    factor: float = within("(0, 1)")

    def arguments(self, config: Config) -> dict[str, object]:
        return super().arguments(config) | {"direction": OBJECTIVES[config.objective].direction}


@dataclass
class Step(Scheduler):
    """Steps down: lr times gamma after every step_size epochs."""

    changeable = ("step_size", "gamma")
    _target_: str = "cifar.training.schedulers.step"
    step_size: int = within("[1, inf)")
    gamma: float = within("(0, 1]")


@dataclass
class Poly(Scheduler):
    """Polynomial decay to zero, a step a batch: lr times (1 - share of the steps done) ** power."""

    changeable = ("power",)
    _target_: str = "cifar.training.schedulers.poly"
    power: float = within("(0, inf)")
