"""config group scheduler: the learning rate over the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from cifar.options.fields import within
from cifar.options.option import Option


@dataclass
class Scheduler(Option):
    """A learning-rate scheduler; its target is called with the optimizer, the steps of the run and the other keys."""

    group: ClassVar[str] = "scheduler"

    _target_: str = MISSING


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


@dataclass
class Plateau(Scheduler):
    """ReduceLROnPlateau on validation accuracy: lr times factor after more than patience epochs without a new best."""

    changeable = ("patience", "factor")
    _target_: str = "cifar.training.schedulers.plateau"
    patience: int = within("[0, inf)")
    factor: float = within("(0, 1)")
