"""Clocks for tests of what is measured: no test waits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cifar.training.schedulers import Schedule
from cifar.training.trainer import Trainer


class Clock:
    """A clock that stands still until it is set forward."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Ticking(Clock):
    """A clock that is later by `tick` whenever it is read."""

    def __init__(self, tick: float) -> None:
        super().__init__()
        self.tick = tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


class Slow:
    """A step or a score that takes `seconds` by a clock."""

    def __init__(self, eager: Any, clock: Clock, seconds: Callable[[float], float]) -> None:
        self.eager, self.clock, self.seconds, self.model = eager, clock, seconds, eager.model
        self.calls = 0

    def __call__(self, images: Tensor, labels: Tensor) -> Any:
        self.clock.now += self.seconds(self.clock.now)
        self.calls += 1
        return self.eager(images, labels)


def slowed(
    trainer: Trainer,
    clock: Clock,
    step: float,
    score: float,
    slowness: Callable[[float], float] = lambda now: 1.0,
) -> Trainer:
    """The trainer with steps and scores that take so many seconds, times `slowness` of the time."""
    slow: Any = {
        "step": Slow(trainer.step, clock, lambda now: step * slowness(now)),
        "score": Slow(trainer.score, clock, lambda now: score * slowness(now)),
    }
    return dataclasses.replace(trainer, clock=clock, **slow)


def planning(trainer: Trainer, schedule: Callable[..., Schedule], **settings: Any) -> Trainer:
    """The trainer, whose number of steps, and so its schedule, is still to be planned."""

    def build(total: int) -> Schedule:
        for group in trainer.optimizer.param_groups:
            group["lr"] = 0.1
        return schedule(trainer.optimizer, total, **settings)

    return dataclasses.replace(trainer, schedule_of=build)


def planned(trainer: Trainer, schedule: Callable[..., Schedule], steps: int, **settings: Any) -> Trainer:
    """The trainer with a plan of so many steps."""
    timed = planning(trainer, schedule, **settings)
    timed.plan(steps)
    return timed


def assert_equal(one: Any, other: Any) -> None:
    """Bit for bit, at any depth."""
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_equal(*pair)
    else:
        assert one == other
