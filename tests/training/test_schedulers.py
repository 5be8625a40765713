"""The schedules: the learning rate of every step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from torch import nn
from torch.optim import SGD

from cifar.models.resnet import BottleneckResNet
from cifar.training import optim, schedulers
from cifar.training.schedulers import build_schedule


def rates(schedule: Callable[..., Any], accuracies: list[float], steps: int = 5, **settings: Any) -> list[float]:
    """The lr of every step of len(accuracies) epochs of `steps` steps, and the one after the last; from lr 0.4."""
    optimizer = SGD([nn.Parameter(torch.ones(1))], lr=0.4, momentum=0.9)
    scheduler = schedule(optimizer, steps * len(accuracies), **settings)
    seen = []
    for accuracy in accuracies:
        for _ in range(steps):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        scheduler.epoch(accuracy)
    assert optimizer.param_groups[0]["momentum"] == 0.9
    return [*seen, optimizer.param_groups[0]["lr"]]


def test_plateau_reduces_after_more_than_patience_epochs_without_a_better_accuracy() -> None:
    seen = rates(schedulers.plateau, [0.5, 0.6, 0.6, 0.5, 0.4, 0.3], steps=1, patience=2, factor=0.1)
    assert seen == pytest.approx([0.4] * 5 + [0.04, 0.04])


def test_plateau_with_patience_0_reduces_after_the_first_bad_epoch() -> None:
    assert rates(schedulers.plateau, [0.5, 0.4], steps=1, patience=0, factor=0.5) == pytest.approx([0.4, 0.4, 0.2])


def test_plateau_keeps_the_rate_while_the_accuracy_rises() -> None:
    assert set(rates(schedulers.plateau, [0.1 * k for k in range(1, 9)], patience=0, factor=0.1)) == {0.4}


def test_cosine_falls_from_lr_to_zero() -> None:
    seen = rates(schedulers.cosine, [0.0] * 4)
    expected = [0.2 * (1 + torch.cos(torch.tensor(torch.pi * k / 20)).item()) for k in range(21)]
    assert seen == pytest.approx(expected, abs=1e-6)
    assert seen[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("warmup", [0.3, 0.5])
def test_onecycle_peaks_at_the_optimizers_lr(warmup: float) -> None:
    seen = rates(schedulers.onecycle, [0.0] * 4, warmup=warmup)
    top = max(range(len(seen)), key=seen.__getitem__)
    assert seen[top] == pytest.approx(0.4, rel=0.02)
    assert top == pytest.approx(warmup * 20, abs=1)
    assert seen[:top] == sorted(seen[:top]) and seen[top:] == sorted(seen[top:], reverse=True)
    assert seen[0] < 0.1 and seen[-1] < 0.001


def test_step_multiplies_every_step_size_epochs() -> None:
    seen = rates(schedulers.step, [0.0] * 5, steps=2, step_size=2, gamma=0.5)
    assert seen == pytest.approx([0.4] * 4 + [0.2] * 4 + [0.1] * 3)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_poly_falls_from_lr_to_zero(power: float) -> None:
    expected = [0.4 * (1 - k / 20) ** power for k in range(21)]
    assert rates(schedulers.poly, [0.0] * 4, power=power) == pytest.approx(expected, abs=1e-9)


WARMED = [
    (schedulers.constant, {}),
    (schedulers.cosine, {}),
    (schedulers.poly, {"power": 1.0}),
    (schedulers.step, {"step_size": 1, "gamma": 0.5}),
    (schedulers.plateau, {"patience": 0, "factor": 0.5}),
]


@pytest.mark.parametrize("schedule, settings", WARMED)
def test_a_warm_up_rises_to_where_the_schedule_begins_which_then_has_the_other_steps(
    schedule: Callable[..., Any], settings: Any
) -> None:
    """Two epochs of 5 steps of warm-up, then the schedule as in a run of the other three."""

    def warmed(optimizer: SGD, steps: int, **settings: Any) -> schedulers.Schedule:
        return schedulers.Warmup(schedule(optimizer, steps - 10, **settings), 10)

    accuracies = [0.3, 0.2, 0.5, 0.4, 0.6]
    seen = rates(warmed, accuracies, **settings)
    assert seen[:10] == pytest.approx([0.4 * k / 11 for k in range(1, 11)])
    assert seen[10:] == rates(schedule, accuracies[2:], **settings)


def test_plateau_of_a_loss_reduces_where_it_does_not_fall() -> None:
    """A relative threshold needs the loss itself: its negative would rise above its own multiple in every epoch."""
    settings = {"patience": 0, "factor": 0.5, "direction": "minimize"}
    assert rates(schedulers.plateau, [0.9, 0.8, 0.8, 0.7], steps=1, **settings) == pytest.approx([0.4] * 3 + [0.2] * 2)


def test_constant_stays() -> None:
    assert set(rates(schedulers.constant, [0.1, 0.1, 0.1, 0.1, 0.1])) == {0.4}


@pytest.mark.parametrize(
    "schedule, settings",
    [
        (schedulers.plateau, {"patience": 1, "factor": 0.1}),
        (schedulers.cosine, {}),
        (schedulers.onecycle, {"warmup": 0.3}),
        (schedulers.constant, {}),
    ],
)
def test_every_group_keeps_its_decay_and_has_the_same_rate(schedule: Callable[..., Any], settings: Any) -> None:
    groups = optim.parameter_groups(BottleneckResNet([1], width=2, num_classes=3), 0.1, norms_and_biases=False)
    optimizer = SGD(groups, lr=0.05, momentum=0.9, nesterov=True)
    scheduler = schedule(optimizer, 6, **settings)
    for _ in range(6):
        optimizer.step()
        scheduler.step()
        scheduler.epoch(0.5)
    first, second = optimizer.param_groups
    assert first["lr"] == second["lr"]
    assert (first["weight_decay"], second["weight_decay"]) == (0.1, 0.0)


def test_a_schedule_is_built_from_its_settings() -> None:
    optimizer = SGD([nn.Parameter(torch.ones(1))], lr=0.4)
    settings = {"_target_": "cifar.training.schedulers.plateau", "patience": 3, "factor": 0.5}
    schedule = build_schedule(settings, optimizer, steps=10)
    assert isinstance(schedule, schedulers.PlateauSchedule)
    assert (schedule.scheduler.patience, schedule.scheduler.factor) == (3, 0.5)


def test_what_is_not_allowed_is_not_called(tmp_path: Path) -> None:
    optimizer = SGD([nn.Parameter(torch.ones(1))], lr=0.4)
    settings = {"_target_": "os.system", "command": f"touch {tmp_path / 'marker'}"}
    with pytest.raises(InstantiationException, match="whitelist"):
        build_schedule(settings, optimizer, steps=10)
    assert not (tmp_path / "marker").exists()


def test_the_state_of_another_kind_of_scheduler_is_refused() -> None:
    optimizer = SGD([nn.Parameter(torch.ones(1))], lr=0.4)
    state = schedulers.constant(optimizer, 10).state_dict()
    with pytest.raises(ValueError, match=r"ConstantLR scheduler.* is a CosineAnnealingLR"):
        schedulers.cosine(optimizer, 10).load_state_dict(state)


@pytest.mark.parametrize(("position", "done"), [(3, 8), (8, 3), (7, 9), (2, 4)])
def test_a_stretched_schedule_with_a_warm_up_follows_as_one_of_so_many_steps(position: int, done: int) -> None:
    """`position`: steps of the schedule, of which the warm-up has 5; `done`: those of training."""

    def stepped(steps: int) -> schedulers.Schedule:
        optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = build_schedule({"_target_": "cifar.training.schedulers.cosine"}, optimizer, 20, warmup=5)
        for _ in range(steps):
            optimizer.step()
            schedule.step()
        return schedule

    def rate(schedule: schedulers.Schedule) -> float:
        return float(schedule.scheduler.optimizer.param_groups[0]["lr"])

    followed = stepped(0)
    configured = [{"lr": 1.0, "initial_lr": 1.0}]
    followed.follow(stepped(position).state_dict(), configured, (), done)
    assert rate(followed) == pytest.approx(rate(stepped(done)))
