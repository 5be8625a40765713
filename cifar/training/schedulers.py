"""Learning-rate schedulers with one interface."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, OneCycleLR, ReduceLROnPlateau


class Schedule:
    """A learning-rate scheduler that is told of every step and of every epoch, and hears what it needs."""

    def __init__(self, scheduler: LRScheduler) -> None:
        self.scheduler = scheduler

    def step(self) -> None:
        """After a training step."""

    def epoch(self, val_accuracy: float) -> None:
        """After an epoch."""

    def state_dict(self) -> dict[str, Any]:
        return {"kind": type(self.scheduler).__name__, "state": self.scheduler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError for the state of another kind of scheduler."""
        if state["kind"] != type(self.scheduler).__name__:
            raise ValueError(f"the scheduler was {state['kind']}, and is {type(self.scheduler).__name__}")
        self.scheduler.load_state_dict(state["state"])


class EveryStep(Schedule):
    def step(self) -> None:
        self.scheduler.step()


class OnPlateau(Schedule):
    def epoch(self, val_accuracy: float) -> None:
        assert isinstance(self.scheduler, ReduceLROnPlateau)
        self.scheduler.step(val_accuracy)


def plateau(optimizer: Optimizer, steps: int, patience: int, factor: float) -> Schedule:
    """lr times `factor` after more than `patience` epochs without a better validation accuracy."""
    return OnPlateau(ReduceLROnPlateau(optimizer, mode="max", patience=patience, factor=factor))


def cosine(optimizer: Optimizer, steps: int) -> Schedule:
    """From lr to 0 along half a cosine over all `steps` of the run."""
    return EveryStep(CosineAnnealingLR(optimizer, T_max=steps))


def onecycle(optimizer: Optimizer, steps: int, warmup: float) -> Schedule:
    """Up to the optimizer's lr in the first `warmup` share of `steps`, then down; the momentum stays as it is."""
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    return EveryStep(OneCycleLR(optimizer, peaks, total_steps=steps + 1, pct_start=warmup, cycle_momentum=False))


def constant(optimizer: Optimizer, steps: int) -> Schedule:
    """The optimizer's lr throughout."""
    return Schedule(ConstantLR(optimizer, factor=1.0))
