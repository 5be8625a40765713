"""Learning-rate schedulers behind one interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.utils import instantiate
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from cifar.options.option import whitelist


def build_schedule(settings: Mapping[str, object], optimizer: Optimizer, steps: int) -> Schedule:
    """The schedule that `settings` describe: a `_target_` of this file and its arguments; `steps` are of all epochs."""
    schedule: Schedule = instantiate(dict(settings), optimizer, steps=steps, _execution_whitelist_=whitelist())
    return schedule


class Schedule:
    """Wraps a scheduler of PyTorch. It is called after every step and after every epoch; both are no-ops here.

    A subclass overrides the method at which its scheduler changes the learning rate.
    """

    def __init__(self, scheduler: LRScheduler) -> None:
        self.scheduler = scheduler

    def step(self) -> None:
        """Called after every training step."""

    def epoch(self, val_accuracy: float) -> None:
        """Called after every epoch, with its validation accuracy."""

    def state_dict(self) -> dict[str, Any]:
        return {"kind": type(self.scheduler).__name__, "state": self.scheduler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError for the state of another kind of scheduler."""
        kind = type(self.scheduler).__name__
        if state["kind"] != kind:
            raise ValueError(f"the state is of a {state['kind']} scheduler, and the scheduler is a {kind}")
        self.scheduler.load_state_dict(state["state"])


class StepSchedule(Schedule):
    """Changes the learning rate after every step."""

    def step(self) -> None:
        self.scheduler.step()


class PlateauSchedule(Schedule):
    """Changes the learning rate after an epoch, by its validation accuracy."""

    def epoch(self, val_accuracy: float) -> None:
        assert isinstance(self.scheduler, ReduceLROnPlateau)
        self.scheduler.step(val_accuracy)


def plateau(optimizer: Optimizer, steps: int, patience: int, factor: float) -> Schedule:
    """Multiply lr by `factor` after more than `patience` epochs without a better validation accuracy."""
    return PlateauSchedule(ReduceLROnPlateau(optimizer, mode="max", patience=patience, factor=factor))


def cosine(optimizer: Optimizer, steps: int) -> Schedule:
    """From lr to 0 along half a cosine over all `steps` of the run."""
    return StepSchedule(CosineAnnealingLR(optimizer, T_max=steps))


def onecycle(optimizer: Optimizer, steps: int, warmup: float) -> Schedule:
    """Rise to the optimizer's lr in the first `warmup` (a share of 1) of `steps`, then fall; momentum is constant."""
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    return StepSchedule(OneCycleLR(optimizer, peaks, total_steps=steps + 1, pct_start=warmup, cycle_momentum=False))


def constant(optimizer: Optimizer, steps: int) -> Schedule:
    """Keep the optimizer's lr."""
    return Schedule(ConstantLR(optimizer, factor=1.0))
