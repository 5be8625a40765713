"""Learning-rate schedulers behind one interface."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any, Literal

from hydra.utils import instantiate
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LRScheduler,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    StepLR,
)

from cifar.options.option import ConfigError, whitelist
from cifar.options.own import STEP, call, takes

RATES = frozenset({"optimizer.lr", "transfer.backbone_lr_scale"})
"""The settings that are a learning rate, or a multiple of it."""


def build_schedule(settings: Mapping[str, object], optimizer: Optimizer, steps: int, warmup: int = 0) -> Schedule:
    """The schedule that `settings` describe: a `_target_` of this file and its arguments; `steps` are of all epochs.

    In the first `warmup` of them the learning rate rises to where that schedule begins, which has the other steps.
    """
    steps_left = max(1, steps - warmup)
    schedule: Schedule = instantiate(dict(settings), optimizer, steps=steps_left, _execution_whitelist_=whitelist())
    return Warmup(schedule, warmup) if warmup else schedule


def changed_schedule(changed: Collection[str]) -> bool:
    """Whether one of these settings decides the learning rate of a step."""
    return any(key in RATES or key in ("epochs", "time") or key.startswith("scheduler.") for key in changed)


class Schedule:
    """Wraps a scheduler of PyTorch. It is called after every step and after every epoch; both are no-ops here.

    A subclass overrides the method at which its scheduler changes the learning rate.
    """

    def __init__(self, scheduler: LRScheduler) -> None:
        self.scheduler = scheduler

    def step(self) -> None:
        """Called after every training step."""

    def epoch(self, value: float) -> None:
        """Called after every epoch, with its value of the objective."""

    def state_dict(self) -> dict[str, Any]:
        return {"kind": type(self.scheduler).__name__, "state": self.scheduler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError for the state of another kind of scheduler."""
        self._check_kind(state)
        self.scheduler.load_state_dict(state["state"])

    def _check_kind(self, state: dict[str, Any]) -> None:
        kind = type(self.scheduler).__name__
        if state["kind"] != kind:
            raise ValueError(f"the state is of a {state['kind']} scheduler, and the scheduler is a {kind}")

    def follow(
        self, state: dict[str, Any], configured: list[dict[str, Any]], changed: Collection[str], steps: int
    ) -> None:
        """As load_state_dict, but with the settings that the schedule was built with where they are `changed`.

        `configured` are the hyperparameters that the optimizer had then. A changed learning rate is that of the next
        step. `steps` of this schedule are done: the state may be of a stretched one, which had others.
        """
        self.load_state_dict(state)
        if not RATES.isdisjoint(changed):
            for group, values in zip(self.scheduler.optimizer.param_groups, configured, strict=True):
                group["lr"] = values["lr"]


class StepSchedule(Schedule):
    """Changes the learning rate after every step."""

    def step(self) -> None:
        self.scheduler.step()

    def follow(
        self, state: dict[str, Any], configured: list[dict[str, Any]], changed: Collection[str], steps: int
    ) -> None:
        """From the next step on, the learning rate is that of a run with the new settings from its first step."""
        self._check_kind(state)
        for group, values in zip(self.scheduler.optimizer.param_groups, configured, strict=True):
            group.update(values)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch expects a step of the optimizer before each of these
            for _ in range(self._changes(state, steps)):
                self.scheduler.step()

    def _changes(self, state: dict[str, Any], steps: int) -> int:
        """How often the scheduler has been called."""
        return steps


class EpochSchedule(StepSchedule):
    """Changes the learning rate after every epoch."""

    def _changes(self, state: dict[str, Any], steps: int) -> int:
        epochs: int = state["state"]["last_epoch"]
        return epochs

    def step(self) -> None:
        """Called after every training step: a no-op."""

    def epoch(self, value: float) -> None:
        self.scheduler.step()


class PlateauSchedule(Schedule):
    """Changes the learning rate after an epoch, by its value of the objective."""

    def follow(
        self, state: dict[str, Any], configured: list[dict[str, Any]], changed: Collection[str], steps: int
    ) -> None:
        assert isinstance(self.scheduler, ReduceLROnPlateau)
        patience, factor = self.scheduler.patience, self.scheduler.factor
        super().follow(state, configured, changed, steps)
        self.scheduler.patience, self.scheduler.factor = patience, factor

    def epoch(self, value: float) -> None:
        assert isinstance(self.scheduler, ReduceLROnPlateau)
        self.scheduler.step(value)


class Warmup(Schedule):
    """The learning rate rises linearly over the first `steps` steps, to where `schedule` begins; then that follows.

    Step k of the warm-up (from 1) has the share k / (steps + 1). The epochs and steps of the warm-up do not count for
    `schedule`: it begins after them.
    """

    def __init__(self, schedule: Schedule, steps: int) -> None:
        super().__init__(schedule.scheduler)
        self.schedule = schedule
        self.steps = steps
        self.done = 0
        self.rates = [float(group["lr"]) for group in schedule.scheduler.optimizer.param_groups]
        self._set_rates()

    def step(self) -> None:
        if self.done >= self.steps:
            self.schedule.step()
        self.done += 1
        if self.done <= self.steps:
            self._set_rates()

    def epoch(self, value: float) -> None:
        if self.done > self.steps:
            self.schedule.epoch(value)

    def _set_rates(self) -> None:
        share = (self.done + 1) / (self.steps + 1)
        for group, rate in zip(self.scheduler.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * share

    def state_dict(self) -> dict[str, Any]:
        return {"kind": "Warmup", "done": self.done, "schedule": self.schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._take(state)
        self.schedule.load_state_dict(state["schedule"])

    def follow(
        self, state: dict[str, Any], configured: list[dict[str, Any]], changed: Collection[str], steps: int
    ) -> None:
        self._take(state)
        self.done = steps
        whole = [values | {"lr": rate} for values, rate in zip(configured, self.rates, strict=True)]
        self.schedule.follow(state["schedule"], whole, changed, max(0, steps - self.steps))
        if self.done <= self.steps:
            self._set_rates()

    def _take(self, state: dict[str, Any]) -> None:
        if state["kind"] != "Warmup":
            raise ValueError(f"the state is of a {state['kind']} scheduler without a warm-up")
        self.done = state["done"]


class Stretch:
    """Which step of a schedule of `total` steps each training step has, where their number is corrected meanwhile.

    What is left of the schedule is spread evenly over the training steps that are left, so the last one has the
    schedule's last learning rate. Without a correction, training steps and steps of the schedule are the same.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.position = 0
        """Steps of the schedule that are done."""
        self.start = 0
        """Those that were done at the latest correction."""
        self.since = 0
        """Training steps since then."""
        self.left = total
        """Training steps that were left then."""

    def correct(self, left: int) -> int:
        """From now on there are `left` training steps, 1 or more; returns the steps that the schedule takes at once."""
        self.start, self.since, self.left = self.position, 0, left
        return self._advance()

    def step(self) -> int:
        """Called after a training step; returns the steps that the schedule takes."""
        self.since += 1
        return self._advance()

    def _advance(self) -> int:
        before, self.position = self.position, self.start + self._since_start()
        return self.position - before

    def _since_start(self) -> int:
        rest = self.total - self.start
        last = max(rest - 1, 0)
        if self.since >= self.left:
            return rest
        return last if self.left == 1 else self.since * last // (self.left - 1)

    def state_dict(self) -> dict[str, int]:
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        vars(self).update(state)


def plateau(optimizer: Optimizer, steps: int, patience: int, factor: float, direction: str = "maximize") -> Schedule:
    """Multiply lr by `factor` after more than `patience` epochs without a better objective.

    `direction` says which is better: maximize or minimize.
    """
    mode: Literal["max", "min"] = "max" if direction == "maximize" else "min"
    return PlateauSchedule(ReduceLROnPlateau(optimizer, mode=mode, patience=patience, factor=factor))


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


def own_schedule(optimizer: Optimizer, steps: int, factory: str, interval: str, kwargs: Mapping[str, Any]) -> Schedule:
    """The scheduler of scheduler=own. Raises ConfigError where the factory does not make one of these arguments."""
    key = "scheduler.factory"
    of_run = {"steps": steps} if takes(key, factory, "steps") else {}
    scheduler = call(key, factory, optimizer, **of_run, **kwargs)
    if not isinstance(scheduler, LRScheduler):
        raise ConfigError(f"{key}={factory}: returned {type(scheduler).__name__}; allowed: an LRScheduler of PyTorch")
    if isinstance(scheduler, ReduceLROnPlateau):
        return PlateauSchedule(scheduler)
    return StepSchedule(scheduler) if interval == STEP else EpochSchedule(scheduler)


def step(optimizer: Optimizer, steps: int, step_size: int, gamma: float) -> Schedule:
    """Multiply lr by `gamma` after every `step_size` epochs."""
    return EpochSchedule(StepLR(optimizer, step_size, gamma))


def poly(optimizer: Optimizer, steps: int, power: float) -> Schedule:
    """From lr to 0 as (1 - share of the steps done) ** power, over all `steps` of the run."""
    return StepSchedule(PolynomialLR(optimizer, total_iters=steps, power=power))
