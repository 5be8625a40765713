"""config group optimizer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from omegaconf import MISSING

from cifar.options.fields import restricted, within
from cifar.options.left_open import AUTO
from cifar.options.option import ConfigError, Option

if TYPE_CHECKING:
    from cifar.options.config import Config


@dataclass
class Optimizer(Option):
    """An optimizer; its target is called with the parameter groups and the other keys, except those named here.

    Weight decay belongs to the parameter groups: with decay_norms_and_biases=false, norms and biases have none.
    Gradients whose length, all parameters together, is above clip_norm are scaled to it before every step.
    """

    group: ClassVar[str] = "optimizer"
    extra: ClassVar[Mapping[str, object]] = {}
    """Further arguments of the target, which are no settings."""
    changeable: ClassVar[tuple[str, ...]] = ("lr", "weight_decay", "clip_norm")
    """A subclass adds keys that its target reads anew in every step, whatever its state holds."""

    _target_: str = MISSING
    lr: float = within("(0, inf)")
    weight_decay: float = within("[0, inf)")
    decay_norms_and_biases: bool = MISSING
    clip_norm: float | None = within("(0, inf)", default=None)

    @property
    def decay(self) -> float:
        """The weight decay, as a number."""
        return self.weight_decay

    def arguments(self) -> dict[str, object]:
        """The target and what it is called with, beside the parameter groups."""
        settings = dataclasses.asdict(self) | {"weight_decay": self.decay}
        for name in ("decay_norms_and_biases", "clip_norm"):  # of the parameter groups, and of the trainer
            del settings[name]
        return {**settings, **self.extra}


USUAL_DECAY = 8e-4
"""The weight decay for optimizer.weight_decay=auto, but for many images: cifar.auto."""


def _is_decay(value: Any) -> bool:
    return value == AUTO or (type(value) in (int, float) and 0 <= value < math.inf)


@dataclass
class SGD(Optimizer):
    """SGD with momentum; its weight decay is the L2 term (lambda/2 * ||w||^2) by its gradient."""

    changeable = (*Optimizer.changeable, "momentum", "nesterov")
    extra = {"fused": True}  # noqa: RUF012
    _target_: str = "torch.optim.SGD"
    weight_decay: Any = restricted("auto, or a number in [0, inf)", _is_decay)
    momentum: float = within("[0, 1)")
    nesterov: bool = MISSING

    @property
    def decay(self) -> float:
        """The usual one where it is auto: cifar.auto decides that of a run."""
        return USUAL_DECAY if self.weight_decay == AUTO else float(self.weight_decay)

    def check(self, config: Config) -> None:
        if self.nesterov and self.momentum == 0:
            raise ConfigError("optimizer.nesterov=true: needs optimizer.momentum above 0")


@dataclass
class _WithBetas(Optimizer):
    """`betas`: the decay rates of the running means of the gradient and of its square."""

    changeable = (*Optimizer.changeable, "betas", "eps")
    betas: list[float] = within("[0, 1)")
    eps: float = within("(0, inf)")

    def check(self, config: Config) -> None:
        if len(self.betas) != 2:
            raise ConfigError(f"optimizer.betas={self.betas}: allowed: two numbers in [0, 1)")


@dataclass
class Adam(_WithBetas):
    """Adam; its weight decay is an L2 term in the gradient (Kingma & Ba 2015)."""

    extra = {"fused": True}  # noqa: RUF012
    _target_: str = "torch.optim.Adam"


@dataclass
class AdamW(_WithBetas):
    """AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    extra = {"fused": True}  # noqa: RUF012
    _target_: str = "torch.optim.AdamW"


@dataclass
class NAdam(_WithBetas):
    """NAdam: Adam with Nesterov momentum (Dozat 2016)."""

    changeable = (*_WithBetas.changeable, "momentum_decay", "decoupled_weight_decay")
    _target_: str = "torch.optim.NAdam"
    momentum_decay: float = within("[0, inf)")
    decoupled_weight_decay: bool = MISSING


@dataclass
class RAdam(_WithBetas):
    """RAdam: Adam whose step size is rectified in the first steps (Liu et al. 2020)."""

    changeable = (*_WithBetas.changeable, "decoupled_weight_decay")
    _target_: str = "torch.optim.RAdam"
    decoupled_weight_decay: bool = MISSING


@dataclass
class RMSprop(Optimizer):
    """RMSprop: the gradient divided by a running mean of its size (Tieleman & Hinton 2012)."""

    changeable = (*Optimizer.changeable, "alpha", "eps")
    _target_: str = "torch.optim.RMSprop"
    alpha: float = within("[0, 1)")
    eps: float = within("(0, inf)")
    momentum: float = within("[0, 1)")
    centered: bool = MISSING


@dataclass
class Adagrad(Optimizer):
    """Adagrad: the gradient divided by the root of the sum of its squares so far (Duchi et al. 2011)."""

    changeable = (*Optimizer.changeable, "lr_decay", "eps")
    _target_: str = "torch.optim.Adagrad"
    lr_decay: float = within("[0, inf)")
    initial_accumulator_value: float = within("[0, inf)")
    eps: float = within("(0, inf)")
